// Python's values as ours, and back. The interpreter's lock is held wherever these are used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "core/tensor.h"
#include "runner/python/interpreter.h"
#include "runner/python/object.h"

namespace mayfly {

// Bytes of Python's, kept until they are copied.
class HeldBytes {
 public:
  static Result<HeldBytes> of(PyObject* object) {
    HeldBytes bytes;
    if (PyObject_GetBuffer(object, &bytes.buffer_, PyBUF_SIMPLE) != 0)
      return fail(Code::Internal, take_exception());
    bytes.held_ = true;
    return bytes;
  }
  HeldBytes(HeldBytes&& other) noexcept
      : buffer_(other.buffer_), held_(std::exchange(other.held_, false)) {}
  HeldBytes& operator=(HeldBytes&&) = delete;
  ~HeldBytes() {
    if (held_) PyBuffer_Release(&buffer_);
  }
  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(buffer_.buf), static_cast<std::size_t>(buffer_.len)};
  }

 private:
  HeldBytes() = default;
  Py_buffer buffer_{};
  bool held_ = false;
};

// The object, or the exception that there is instead.
Result<PyRef> checked(PyObject* owned);
std::string text_of(PyObject* object);
Result<PyRef> to_python(std::span<const std::int64_t> shape);
Result<Shape> read_shape(PyObject* tuple);
Result<DataType> read_type(PyObject* name);

}  // namespace mayfly
