#include "training/train_code.h"

#include <algorithm>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestPackage = 300;

std::unexpected<Error> damaged_code() {
  return fail(Code::DataLoss, "the plan of the training is damaged: code");
}

}  // namespace

std::vector<std::string> packages_of(std::string_view lock) {
  std::vector<std::string> packages;
  while (!lock.empty() && packages.size() < kMostPackages) {
    const std::size_t end = std::min(lock.find('\n'), lock.size());
    std::string_view line = lock.substr(0, end);
    lock.remove_prefix(std::min(end + 1, lock.size()));
    if (line.starts_with("# ")) line.remove_prefix(2);
    line = line.substr(0, std::min(line.find(" sha256:"), line.find(" --hash=")));
    if (!line.empty()) packages.emplace_back(line.substr(0, kLongestPackage));
  }
  return packages;
}

TrainCode train_code(std::string function, const Manifest& manifest) {
  return {.function = std::move(function),
          .artifact = artifact_digest(manifest.files),
          .environment = manifest.environment.digest,
          .packages = packages_of(manifest.environment.lock)};
}

Json to_json_value(const TrainCode& code) {
  return {{"function", code.function},
          {"artifact", code.artifact},
          {"environment", code.environment},
          {"packages", code.packages}};
}

Result<TrainCode> read_train_code(const Json& json) {
  TrainCode code;
  JsonReader reader(json, "code", reason::kInternal);
  reader.text("function", code.function)
      .text("artifact", code.artifact)
      .text("environment", code.environment);
  const Json* packages = reader.value("packages");
  TRY(reader.finish());
  if (packages == nullptr || !packages->is_array()) return damaged_code();
  for (const Json& package : *packages) {
    if (!package.is_string()) return damaged_code();
    code.packages.push_back(package.get<std::string>());
  }
  return code;
}

}  // namespace mayfly
