// The other thing that libmayfly-python.so does: install packages, by pip (mayfly_resolver.py).
#include "core/reason.h"
#include "runner/python/interpreter.h"
#include "runner/python_packages.h"

namespace mayfly {
namespace {

Status run(const std::string& request) {
  TRY(start_interpreter({}));
  const PyRef resolver(PyImport_ImportModule("mayfly_resolver"));
  if (!resolver) return fail(Code::Internal, take_exception());
  const PyRef done(PyObject_CallMethod(resolver.get(), "resolve", "s", request.c_str()));
  if (!done) return fail(Code::Internal, take_exception());
  return {};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) bool mayfly_install_packages(
    const std::string& request, std::string* complaint) {
  const Status done = run(request);
  if (!done) *complaint = done.error().message;
  return done.has_value();
}

}  // namespace mayfly
