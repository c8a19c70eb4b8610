// A Python function as what answers requests: CPython, embedded.
//
// The interpreter is in a library of its own, libmayfly-python.so, which only Python's jails open
// (at /runtime): a node without Python functions never pays for it. There the folder is
//
//   function.json   how it is called: core/function_options.h
//   function/       what was uploaded; at the head of sys.path
//   warmup.bin      optional: a request to warm it with
//   imports.txt     optional: kImportsFile
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/function_options.h"
#include "core/python_version.h"
#include "core/tensor.h"
#include "runner/backend.h"

namespace mayfly {

// What a function says of itself once it is imported.
struct FunctionFacts {
  std::string python;                // "3.11.2"
  bool takes_documents = false;      // no declared types: JSON, or any bytes, in and out
  bool streams = false;              // predict is a generator
  std::vector<std::string> entries;  // of predict, run and train what it has
  Signature signature;
};

class PythonFunction : public Backend {
 public:
  virtual const FunctionFacts& facts() const = 0;
  // The modules of its environment and of the standard library that are imported, in the order in
  // which that began, a name a line.
  virtual std::string imports() const = 0;
};

// Starts the interpreter of this process (once), imports the function and runs its load(). What the
// code is to blame for is an Error of reason invalid_model, with its traceback on the log.
Result<std::unique_ptr<PythonFunction>> load_python_function(const Path& artifact,
                                                             std::uint32_t threads);
// The same with the uploaded folder elsewhere, before there is an artifact.
Result<std::unique_ptr<PythonFunction>> load_python_function(const Path& code,
                                                             const FunctionOptions& options,
                                                             std::uint32_t threads);

// Before there is a function: starts the interpreter of this process with the environment variables
// of the text's first line (function options, as JSON), and imports the modules that its further
// lines name, as far as they can be. Functions loaded afterwards have these options; Aborted: they
// bring a module of their own of such a name.
Status prepare_python(std::string_view environment, std::uint32_t threads);

// What the library exports, under kPythonEntry: null and a complaint when it fails.
struct PythonTask {
  std::string code;  // the uploaded folder
  std::string plan;  // function.json
  std::uint32_t threads = 1;
};
using PythonEntry = PythonFunction* (*)(const PythonTask& task, std::string* complaint);
inline constexpr const char* kPythonEntry = "mayfly_load_python_function";
using PrepareEntry = bool (*)(const PythonTask& task, const std::string& imports,
                              std::string* complaint);
inline constexpr const char* kPrepareEntry = "mayfly_prepare_python";
// What load says before its words where the modules that were prepared do not suit the function.
inline constexpr std::string_view kUnfit = "unfit: ";
inline constexpr const char* kPythonLibrary = "/runtime/libmayfly-python.so";

}  // namespace mayfly
