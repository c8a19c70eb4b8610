#include "publish/target.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <ranges>
#include <set>

#include "core/project.h"
#include "core/python_version.h"

namespace mayfly {
namespace {

// Raised when publishing makes something else of the same input.
constexpr int kPipeline = 1;

// x86: vector, matrix and bit-manipulation extensions. arm64: likewise.
constexpr std::array<std::string_view, 12> kPrefixes = {
    "sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "gfni", "sve", "asimd", "vaes", "sme"};
constexpr std::array<std::string_view, 10> kExact = {
    "popcnt", "movbe", "vpclmulqdq", "aes", "i8mm", "bf16", "fp", "fphp", "dcpop", "atomics"};

bool matters(std::string_view feature) {
  return std::ranges::any_of(kPrefixes, [&](auto prefix) { return feature.starts_with(prefix); }) ||
         std::ranges::find(kExact, feature) != kExact.end();
}

}  // namespace

std::string cpu_features(std::string_view architecture, std::string_view cpuinfo) {
  std::set<std::string_view> features;
  for (const auto part : std::views::split(cpuinfo, '\n')) {
    const std::string_view line(part);
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    const std::size_t colon = std::min(line.find(':'), line.size());
    for (const auto word : std::views::split(line.substr(colon), ' ')) {
      if (const std::string_view feature(word); matters(feature)) features.insert(feature);
    }
    break;
  }
  if (features.empty()) return std::string(architecture);
  return fmt::format("{} {}", architecture, fmt::join(features, " "));
}

Result<CompileTarget> this_machine(std::string runtime_version) {
  utsname names{};
  if (::uname(&names) != 0) return fail_errno("uname");
  const std::string cpuinfo = TRY(read_file("/proc/cpuinfo"));
  return CompileTarget{std::move(runtime_version), cpu_features(names.machine, cpuinfo)};
}

std::string compiled_key(std::string_view project, const std::vector<ArtifactFile>& files,
                         const VersionOptions& options, const CompileTarget& target,
                         std::string_view environment) {
  nlohmann::ordered_json made_for = {{"pipeline", kPipeline},
                                     {"runtime", target.runtime},
                                     {"cpu", target.cpu},
                                     {"model", options.model},
                                     {"example", options.example},
                                     {"threads", options.threads},
                                     {"memory", options.memory.count},
                                     {"publish_memory", options.publish_memory.count},
                                     {"timeout", options.timeout.count()}};
  if (project != kDefaultProject) made_for["project"] = project;
  if (is_python(options)) {
    made_for["python"] = kPythonVersion;
    made_for["function"] = to_json(options.function);
    made_for["environment"] = environment;
  }
  if (const auto rows = usual_rows(options.batching); rows > 1) made_for["batch_rows"] = rows;
  return fmt::format("{}-{}", artifact_digest(files), sha256_hex(made_for.dump()).substr(0, 32));
}

}  // namespace mayfly
