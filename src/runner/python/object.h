// References to Python objects, owned. The interpreter's lock is held wherever one is used.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <utility>

namespace mayfly {

class PyRef {
 public:
  PyRef() = default;
  explicit PyRef(PyObject* owned) : object_(owned) {}
  PyRef(PyRef&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  PyRef& operator=(PyRef&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~PyRef() { Py_XDECREF(object_); }
  static PyRef borrowed(PyObject* object) { return PyRef(Py_XNewRef(object)); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// The lock, for a scope.
class PyLock {
 public:
  explicit PyLock(PyThreadState*& thread) : thread_(thread) { PyEval_RestoreThread(thread_); }
  ~PyLock() { thread_ = PyEval_SaveThread(); }
  PyLock(const PyLock&) = delete;
  PyLock& operator=(const PyLock&) = delete;

 private:
  PyThreadState*& thread_;
};

}  // namespace mayfly
