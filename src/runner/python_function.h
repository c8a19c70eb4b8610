// A Python function as what answers requests: CPython, embedded.
//
// The interpreter is in a library of its own, libmayfly-python.so, which only Python's jails open
// (at /runtime): a node without Python functions never pays for it. There the folder is
//
//   function.json   how it is called: core/function_options.h
//   function/       what was uploaded; at the head of sys.path
//   warmup.bin      optional: a request to warm it with
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "core/function_options.h"
#include "core/python_version.h"
#include "core/tensor.h"
#include "runner/backend.h"

namespace mayfly {

// What a function says of itself once it is imported.
struct FunctionFacts {
  std::string python;            // "3.11.2"
  bool takes_documents = false;  // no declared types: JSON, or any bytes, in and out
  bool streams = false;          // predict is a generator
  Signature signature;
};

class PythonFunction : public Backend {
 public:
  virtual const FunctionFacts& facts() const = 0;
};

// Starts the interpreter of this process (once), imports the function and runs its load(). What the
// code is to blame for is an Error of reason invalid_model, with its traceback on the log.
Result<std::unique_ptr<PythonFunction>> load_python_function(const Path& artifact,
                                                             std::uint32_t threads);
// The same with the uploaded folder elsewhere, before there is an artifact.
Result<std::unique_ptr<PythonFunction>> load_python_function(const Path& code,
                                                             const FunctionOptions& options,
                                                             std::uint32_t threads);

// What the library exports, under kPythonEntry: null and a complaint when it fails.
struct PythonTask {
  std::string code;  // the uploaded folder
  std::string plan;  // function.json
  std::uint32_t threads = 1;
};
using PythonEntry = PythonFunction* (*)(const PythonTask& task, std::string* complaint);
inline constexpr const char* kPythonEntry = "mayfly_load_python_function";
inline constexpr const char* kPythonLibrary = "/runtime/libmayfly-python.so";

}  // namespace mayfly
