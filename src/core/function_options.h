// What a deployer says of a Python function: keys of mayfly.toml beside those that every version
// has (core/manifest.h).
//
//   handler = "function.py"                 the file with predict(), and load() where there is one
//   secrets = ["API_KEY"]                   what it may know (core/secret.h); names only
//   calls = ["scale"]                       functions of its project that ctx.call() may ask
//   build = true                            packages without a wheel are built from their sources
//   debian = ["python3-scipy"]              the system's packages that it gets, or "name=version"
//   [env]         MODE = "fast"             variables of its process; part of the version
//   [parameters]  threshold = 0.5           ctx.parameters; any JSON values
//   [inputs]      x = "FP32[-1,30]"         types of what it takes and gives, where its annotations
//   [outputs]     score = "FP32[-1]"        do not say; neither: JSON, or any bytes
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"
#include "core/tensor.h"

namespace mayfly {

inline constexpr std::size_t kMostCalls = 64;

struct FunctionOptions {
  std::string handler = "function.py";
  std::vector<std::string> secrets;  // sorted
  std::vector<std::string> calls;    // sorted
  bool build = false;
  std::vector<std::string> debian;  // sorted
  std::map<std::string, std::string> env;
  std::string parameters = "{}";  // a JSON object
  Signature types;                // empty lists: not declared
  bool operator==(const FunctionOptions&) const = default;
};

void read_function_options(JsonReader& reader, FunctionOptions& options);
void add_function_options(Json& json, const FunctionOptions& options);

// As an object of its own: function.json of a compiled artifact.
std::string to_json(const FunctionOptions& options);
Result<FunctionOptions> parse_function_options(std::string_view json);

// What a function without types has for a signature: the body of a request and its content type,
// and the same of the reply, each a BYTES of shape [1].
Signature document_signature();

}  // namespace mayfly
