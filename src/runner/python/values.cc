#include "runner/python/values.h"

namespace mayfly {

Result<PyRef> checked(PyObject* owned) {
  if (owned == nullptr) return fail(Code::Internal, take_exception());
  return PyRef(owned);
}

std::string text_of(PyObject* object) {
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &size);
  if (text == nullptr) return take_exception();
  return {text, static_cast<std::size_t>(size)};
}

Result<PyRef> to_python(std::span<const std::int64_t> shape) {
  PyRef tuple = TRY(checked(PyTuple_New(static_cast<Py_ssize_t>(shape.size()))));
  for (std::size_t i = 0; i < shape.size(); ++i)
    PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(shape[i]));
  return tuple;
}

Result<Shape> read_shape(PyObject* tuple) {
  const PyRef items = TRY(checked(PySequence_Fast(tuple, "a shape must be a sequence")));
  Shape shape;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i)
    shape.push_back(PyLong_AsLongLong(PySequence_Fast_GET_ITEM(items.get(), i)));
  if (PyErr_Occurred() != nullptr) return fail(Code::Internal, take_exception());
  return shape;
}

Result<DataType> read_type(PyObject* name) {
  const auto type = parse_data_type(text_of(name));
  if (!type) return fail(Code::Internal, "an unknown datatype");
  return *type;
}

}  // namespace mayfly
