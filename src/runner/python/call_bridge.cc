#include "runner/python/call_bridge.h"

#include <string>
#include <utility>
#include <vector>

#include "runner/python/interpreter.h"
#include "runner/python/values.h"

namespace mayfly {
namespace {

constexpr const char* kCapsule = "mayfly.CallPort";

// What Python gives, held for as long as it is read.
struct GivenCall {
  CallMessage message;
  std::vector<HeldBytes> bytes;
};

Result<GivenCall> given_call(PyObject* arguments) {
  unsigned int kind = 0;
  PyObject* name = nullptr;
  PyObject* text = nullptr;
  PyObject* parts = nullptr;
  if (PyArg_ParseTuple(arguments, "IUUO!", &kind, &name, &text, &PyList_Type, &parts) == 0)
    return fail(Code::Internal, take_exception());
  GivenCall given;
  given.message = {
      .kind = static_cast<CallKind>(kind), .name = text_of(name), .text = text_of(text)};
  if (static_cast<std::size_t>(PyList_GET_SIZE(parts)) > kMaxTensors)
    return fail(Code::InvalidArgument, "too many tensors");
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts); ++i) {
    PyObject* part = PyList_GET_ITEM(parts, i);
    if (PyTuple_Check(part) == 0 || PyTuple_GET_SIZE(part) != 4)
      return fail(Code::Internal, "a tensor must be four things");
    given.bytes.push_back(TRY(HeldBytes::of(PyTuple_GET_ITEM(part, 3))));
    given.message.parts.push_back({.name = text_of(PyTuple_GET_ITEM(part, 0)),
                                   .type = TRY(read_type(PyTuple_GET_ITEM(part, 1))),
                                   .shape = TRY(read_shape(PyTuple_GET_ITEM(part, 2))),
                                   .bytes = given.bytes.back().bytes()});
    if (given.message.parts.back().shape.size() > kMaxRank)
      return fail(Code::InvalidArgument, "a tensor has too many dimensions");
  }
  return given;
}

// Copied: the region is the next call's too.
Result<PyRef> python_part(const CallPart& part) {
  const PyRef shape = TRY(to_python(part.shape));
  const PyRef bytes =
      TRY(checked(PyByteArray_FromStringAndSize(reinterpret_cast<const char*>(part.bytes.data()),
                                                static_cast<Py_ssize_t>(part.bytes.size()))));
  const std::string_view type = to_string(part.type);
  return checked(Py_BuildValue("(s#s#OO)", part.name.data(),
                               static_cast<Py_ssize_t>(part.name.size()), type.data(),
                               static_cast<Py_ssize_t>(type.size()), shape.get(), bytes.get()));
}

// A cut text may end inside a character.
Result<PyRef> python_text(const std::string& text) {
  return checked(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

Result<PyRef> python_answer(const CallMessage& answer) {
  const PyRef parts = TRY(checked(PyList_New(0)));
  for (const CallPart& part : answer.parts) {
    const PyRef item = TRY(python_part(part));
    if (PyList_Append(parts.get(), item.get()) != 0) return fail(Code::Internal, take_exception());
  }
  const PyRef name = TRY(python_text(answer.name));
  const PyRef text = TRY(python_text(answer.text));
  return checked(Py_BuildValue("(IIOOO)", static_cast<unsigned int>(answer.kind), answer.status,
                               name.get(), text.get(), parts.get()));
}

Result<PyRef> call_through(CallPort& port, PyObject* arguments) {
  const GivenCall given = TRY(given_call(arguments));
  PyThreadState* thread = PyEval_SaveThread();
  const Result<CallMessage> answer = port.call(given.message);
  PyEval_RestoreThread(thread);
  if (!answer) return std::unexpected(answer.error());
  return python_answer(*answer);
}

PyObject* call_from_python(PyObject* capsule, PyObject* arguments) {
  auto* port = static_cast<CallPort*>(PyCapsule_GetPointer(capsule, kCapsule));
  if (port == nullptr) return nullptr;
  Result<PyRef> answer = call_through(*port, arguments);
  if (answer) return answer->release();
  PyErr_SetString(PyExc_RuntimeError, answer.error().message.c_str());
  return nullptr;
}

PyMethodDef bridge = {"call", &call_from_python, METH_VARARGS, nullptr};

}  // namespace

Result<PyRef> make_call_bridge(CallPort& port) {
  const PyRef capsule = TRY(checked(PyCapsule_New(&port, kCapsule, nullptr)));
  return checked(PyCFunction_New(&bridge, capsule.get()));
}

}  // namespace mayfly
