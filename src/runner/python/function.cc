// libmayfly-python.so: a user's function as a Backend. What Python does with it is in
// mayfly_runtime.py; here requests become its arguments, memory stays where it is, and results
// become outputs.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "runner/python/call_bridge.h"
#include "runner/python/interpreter.h"
#include "runner/python/object.h"
#include "runner/python/values.h"
#include "runner/python_function.h"

namespace mayfly {
namespace {

// A view of a request's memory. A function that keeps an array beyond its request sees the next
// one's bytes, or dies: docs/functions.md tells it not to.
class InputMemory {
 public:
  explicit InputMemory(std::span<std::byte> bytes)
      : view_(PyMemoryView_FromMemory(reinterpret_cast<char*>(bytes.data()),
                                      static_cast<Py_ssize_t>(bytes.size()), PyBUF_READ)) {}
  PyObject* get() const { return view_.get(); }

 private:
  PyRef view_;
};

// [(name, datatype, shape), …]
Result<std::vector<TensorSpec>> read_specs(PyObject* list) {
  const PyRef items = TRY(checked(PySequence_Fast(list, "types must be a list")));
  std::vector<TensorSpec> specs;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items.get(), i);
    if (PyTuple_Check(item) == 0 || PyTuple_GET_SIZE(item) != 3)
      return fail(Code::Internal, "a type must be three things");
    specs.push_back({.name = text_of(PyTuple_GET_ITEM(item, 0)),
                     .type = TRY(read_type(PyTuple_GET_ITEM(item, 1))),
                     .shape = TRY(read_shape(PyTuple_GET_ITEM(item, 2)))});
  }
  return specs;
}

class Function final : public PythonFunction {
 public:
  // Called with the interpreter's lock, which I give back.
  static Result<std::unique_ptr<Function>> create(PyRef function) {
    std::unique_ptr<Function> self(new Function(std::move(function)));
    TRY(self->read_facts());
    self->thread_ = PyEval_SaveThread();
    return self;
  }

  const Signature& signature() const override { return facts_.signature; }
  const FunctionFacts& facts() const override { return facts_; }

  std::string imports() const override {
    const PyLock lock(thread_);
    const PyRef names(PyObject_CallMethod(function_.get(), "imports", nullptr));
    return names ? text_of(names.get()) : take_exception();
  }

  Result<const RunResults*> run(const RequestView& request, RequestSpan /*memory*/,
                                std::uint64_t /*outputs_begin*/) override {
    const PyLock lock(thread_);
    const PyRef called = TRY(call(request));
    wanted_ = request.outputs.size();
    return take(called.get());
  }

  bool streams() const override { return facts_.streams; }

  Result<const RunResults*> next_chunk() override {
    const PyLock lock(thread_);
    const PyRef chunk = TRY(checked(PyObject_CallMethod(function_.get(), "next_chunk", nullptr)));
    return take(chunk.get());
  }

  void close_stream() override {
    const PyLock lock(thread_);
    tell("close_stream");
  }

  Status copy_results(const OutputPlacement& placement, RequestSpan target) const override {
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const auto bytes = outputs_[i].bytes();
      std::ranges::copy(bytes, target.subspan(placement.offsets.at(i), bytes.size()).begin());
    }
    return {};
  }

  std::string take_traceback() override { return std::exchange(traceback_, {}); }

  void release_results() override {
    if (outputs_.empty()) return;
    const PyLock lock(thread_);
    outputs_.clear();
  }

  void set_call_port(CallPort& port) override {
    const PyLock lock(thread_);
    const auto bridge = make_call_bridge(port);
    const PyRef done(bridge ? PyObject_CallMethod(function_.get(), "set_bridge", "O", bridge->get())
                            : nullptr);
    if (!done) PyErr_Print();
  }

  void before_fork() override {
    PyEval_RestoreThread(thread_);
    if (!std::exchange(frozen_, true)) tell("freeze");
    PyOS_BeforeFork();
  }
  void after_fork_in_parent() override {
    PyOS_AfterFork_Parent();
    thread_ = PyEval_SaveThread();
  }
  void after_fork_in_child() override {
    // Loaded after the fork: there was none to come back from.
    if (frozen_) {
      PyOS_AfterFork_Child();
    } else {
      PyEval_RestoreThread(thread_);
    }
    tell("begin_serving");
    thread_ = PyEval_SaveThread();
  }

 private:
  explicit Function(PyRef function) : function_(std::move(function)) {}

  Status read_facts() {
    const PyRef documents =
        TRY(checked(PyObject_GetAttrString(function_.get(), "takes_documents")));
    const PyRef inputs = TRY(checked(PyObject_GetAttrString(function_.get(), "inputs")));
    const PyRef outputs = TRY(checked(PyObject_GetAttrString(function_.get(), "outputs")));
    const PyRef streams = TRY(checked(PyObject_GetAttrString(function_.get(), "streams")));
    facts_.takes_documents = documents.get() == Py_True;
    facts_.streams = streams.get() == Py_True;
    const PyRef entries = TRY(checked(PyObject_CallMethod(function_.get(), "entries", nullptr)));
    std::istringstream names(text_of(entries.get()));
    for (std::string name; std::getline(names, name);) facts_.entries.push_back(name);
    facts_.signature = facts_.takes_documents
                           ? document_signature()
                           : Signature{.inputs = TRY(read_specs(inputs.get())),
                                       .outputs = TRY(read_specs(outputs.get()))};
    const std::string_view version = Py_GetVersion();
    facts_.python = version.substr(0, version.find(' '));
    return {};
  }

  // What it complains of is on the log, and no reason to stop.
  void tell(const char* method) {
    const PyRef done(PyObject_CallMethod(function_.get(), method, nullptr));
    if (!done) PyErr_Print();
  }

  // (index, is document, datatype, shape, memory)
  Result<PyRef> argument(const InputView& input) {
    const InputMemory memory(input.bytes);
    if (memory.get() == nullptr) return fail(Code::Internal, take_exception());
    const PyRef shape = TRY(to_python(input.shape));
    const std::string_view type = to_string(input.type);
    return checked(Py_BuildValue(
        "(IOs#OO)", input.index, input.form == InputForm::Document ? Py_True : Py_False,
        type.data(), static_cast<Py_ssize_t>(type.size()), shape.get(), memory.get()));
  }

  Result<PyRef> call(const RequestView& request) {
    const PyRef inputs = TRY(checked(PyList_New(0)));
    for (const InputView& input : request.inputs) {
      if (input.index >= facts_.signature.inputs.size())
        return refuse(reason::kInvalidInput, fmt::format("no input has index {}", input.index));
      const PyRef item = TRY(argument(input));
      if (PyList_Append(inputs.get(), item.get()) != 0)
        return fail(Code::Internal, take_exception());
    }
    const PyRef wanted = TRY(checked(PyList_New(0)));
    for (const std::uint32_t output : request.outputs) {
      const PyRef number = TRY(checked(PyLong_FromUnsignedLong(output)));
      if (output >= facts_.signature.outputs.size() ||
          PyList_Append(wanted.get(), number.get()) != 0) {
        return refuse(reason::kInvalidInput, fmt::format("no output has index {}", output));
      }
    }
    const std::string invocation = to_string(request.invocation);
    return checked(PyObject_CallMethod(function_.get(), "call", "OOsL", inputs.get(), wanted.get(),
                                       invocation.c_str(),
                                       static_cast<long long>(request.deadline)));
  }

  // [(datatype, shape, bytes), …], (reason, message, traceback), or None.
  Result<const RunResults*> take(PyObject* called) {
    outputs_.clear();
    results_.plans.clear();
    traceback_.clear();
    if (called == Py_None) return nullptr;
    if (PyTuple_Check(called) != 0 && PyTuple_GET_SIZE(called) == 3) {
      traceback_ = text_of(PyTuple_GET_ITEM(called, 2));
      const std::string why = text_of(PyTuple_GET_ITEM(called, 0));
      std::string words = text_of(PyTuple_GET_ITEM(called, 1));
      for (const std::string_view known : {reason::kInvalidInput, reason::kUnsupported}) {
        if (why == known) return refuse(known, std::move(words));
      }
      return refuse(reason::kFunctionError, std::move(words));
    }
    if (PyList_Check(called) == 0 || static_cast<std::size_t>(PyList_GET_SIZE(called)) != wanted_) {
      return fail(Code::Internal, "another number of outputs");
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(called); ++i) {
      PyObject* item = PyList_GET_ITEM(called, i);
      HeldBytes bytes = TRY(HeldBytes::of(PyTuple_GET_ITEM(item, 2)));
      results_.plans.push_back({.type = TRY(read_type(PyTuple_GET_ITEM(item, 0))),
                                .shape = TRY(read_shape(PyTuple_GET_ITEM(item, 1))),
                                .bytes = bytes.bytes().size()});
      outputs_.push_back(std::move(bytes));
    }
    return &results_;
  }

  PyRef function_;
  mutable PyThreadState* thread_ = nullptr;  // while the lock is not held
  bool frozen_ = false;                      // it has been forked
  FunctionFacts facts_;
  RunResults results_;
  std::vector<HeldBytes> outputs_;
  std::string traceback_;
  std::size_t wanted_ = 0;  // outputs of the run
};

Status prepare(const PythonTask& task, const std::string& imports) {
  const FunctionOptions plan = TRY(parse_function_options(task.plan));
  TRY(start_interpreter({.env = plan.env, .threads = task.threads}));
  const PyRef runtime = TRY(checked(PyImport_ImportModule("mayfly_runtime")));
  const PyRef done =
      TRY(checked(PyObject_CallMethod(runtime.get(), "prepare", "s", imports.c_str())));
  return {};
}

Status check_suits(const PyRef& runtime, const std::string& code) {
  const PyRef shadowed =
      TRY(checked(PyObject_CallMethod(runtime.get(), "shadowed", "s", code.c_str())));
  const std::string names = text_of(shadowed.get());
  if (names.empty()) return {};
  return fail(Code::Aborted, fmt::format("{}the function has its own {}", kUnfit, names));
}

Result<std::unique_ptr<Function>> load(const PythonTask& task) {
  const FunctionOptions plan = TRY(parse_function_options(task.plan));
  // By prepare(), of which this thread has kept the lock.
  const bool prepared = Py_IsInitialized() != 0;
  if (!prepared) TRY(start_interpreter({.env = plan.env, .threads = task.threads}));
  const PyRef runtime = TRY(checked(PyImport_ImportModule("mayfly_runtime")));
  if (prepared) TRY(check_suits(runtime, task.code));
  PyRef loaded = TRY(checked(
      PyObject_CallMethod(runtime.get(), "load", "ss", task.code.c_str(), task.plan.c_str())));
  if (PyUnicode_Check(loaded.get()) != 0)
    return refuse(reason::kInvalidModel, text_of(loaded.get()));
  return Function::create(std::move(loaded));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) PythonFunction* mayfly_load_python_function(
    const PythonTask& task, std::string* complaint) {
  auto loaded = load(task);
  if (loaded) return loaded->release();
  *complaint = std::move(loaded).error().message;
  return nullptr;
}

extern "C" __attribute__((visibility("default"))) bool mayfly_prepare_python(
    const PythonTask& task, const std::string& imports, std::string* complaint) {
  const Status done = prepare(task, imports);
  if (!done) *complaint = done.error().message;
  return done.has_value();
}

}  // namespace mayfly
