// The third thing that libmayfly-python.so does: a slice of a function's run() or
// train() (mayfly_job.py).
#include "core/function_options.h"
#include "core/reason.h"
#include "runner/python/interpreter.h"
#include "runner/python_packages.h"

namespace mayfly {
namespace {

Status run_slice(const PythonTask& task, const std::string& request) {
  const FunctionOptions plan = TRY(parse_function_options(task.plan));
  TRY(start_interpreter({.env = plan.env, .threads = task.threads, .has_children = true}));
  const PyRef module(PyImport_ImportModule("mayfly_job"));
  if (!module) return fail(Code::Internal, take_exception());
  const PyRef done(
      PyObject_CallMethod(module.get(), "run", "ss", task.plan.c_str(), request.c_str()));
  if (!done) return fail(Code::Internal, take_exception());
  return {};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) bool mayfly_run_job(const PythonTask& task,
                                                                      const std::string& request,
                                                                      std::string* complaint) {
  const Status done = run_slice(task, request);
  if (!done) *complaint = done.error().message;
  return done.has_value();
}

}  // namespace mayfly
