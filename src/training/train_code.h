// The code that a training runs, where it is a Python function's: a version, and what it consists
// of, so that a record says the same when the version is gone. Values only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"
#include "core/manifest.h"

namespace mayfly {

struct TrainCode {
  std::string function;               // "mytrainer@3", of the training's project
  std::string artifact;               // SHA-256 over its files
  std::string environment;            // of its packages; empty: it has none
  std::vector<std::string> packages;  // "numpy==2.2.6"; Debian's: "debian: libc6 2.36-9 amd64"
  bool operator==(const TrainCode&) const = default;
};
TrainCode train_code(std::string function, const Manifest& manifest);
Json to_json_value(const TrainCode& code);
// As to_json_value() wrote it; data_loss.
Result<TrainCode> read_train_code(const Json& json);

// Of a lock, without its digests; at most kMostPackages.
inline constexpr std::size_t kMostPackages = 1000;
std::vector<std::string> packages_of(std::string_view lock);

}  // namespace mayfly
