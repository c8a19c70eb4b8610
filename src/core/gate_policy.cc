#include "core/gate_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::pair<std::string_view, GateRequire>, 3> kRequires = {
    {{"better", GateRequire::Better},
     {"not_worse", GateRequire::NotWorse},
     {"nothing", GateRequire::Nothing}}};
constexpr std::size_t kMaxSliceName = 256;

void read_number(JsonReader& reader, std::string_view key, double& out, double low, double high) {
  const Json* found = reader.value(key);
  if (found == nullptr) return;
  const double value = found->is_number() ? found->get<double>() : std::nan("");
  if (value >= low && value <= high) {
    out = value;
  } else {
    reader.error(key, fmt::format("must be a number from {} to {}", low, high));
  }
}

void read_columns(JsonReader& reader, std::vector<std::string>& out) {
  const Json* found = reader.value("slices");
  if (found == nullptr) return;
  bool good = found->is_array() && found->size() <= kMaxGateSlices;
  out.clear();
  for (std::size_t i = 0; good && i < found->size(); ++i) {
    const Json& name = (*found)[i];
    good = name.is_string() && !name.get_ref<const std::string&>().empty() &&
           name.get_ref<const std::string&>().size() <= kMaxSliceName;
    if (good) out.push_back(name.get<std::string>());
  }
  if (!good)
    reader.error("slices", fmt::format("must be a list of at most {} columns", kMaxGateSlices));
}

}  // namespace

std::string_view to_string(GateRequire require) {
  return kRequires.at(static_cast<std::size_t>(require)).first;
}

Json to_json_value(const GatePolicy& policy) {
  return {{"require", to_string(policy.require)},
          {"margin", policy.margin},
          {"alpha", policy.alpha},
          {"min_rows", policy.min_rows},
          {"slices", policy.slices},
          {"min_slice_rows", policy.min_slice_rows},
          {"max_run", to_string(policy.max_run)},
          {"max_slowdown", policy.max_slowdown},
          {"max_size", to_string(policy.max_size)}};
}

Result<GatePolicy> read_gate_policy(const Json& json) {
  GatePolicy policy;
  JsonReader reader(json, "gate", reason::kInvalidSetting);
  std::string require(to_string(policy.require));
  reader.text("require", require);
  const auto* known =
      std::ranges::find(kRequires, require, [](const auto& one) { return one.first; });
  if (known == kRequires.end()) {
    reader.error("require", "is better, not_worse or nothing");
  } else {
    policy.require = known->second;
  }
  read_number(reader, "margin", policy.margin, 0, 1e9);
  read_number(reader, "alpha", policy.alpha, 1e-9, 0.5);
  reader.integer("min_rows", policy.min_rows, 1U, 1'000'000'000U);
  read_columns(reader, policy.slices);
  reader.integer("min_slice_rows", policy.min_slice_rows, 2U, 1'000'000'000U)
      .duration("max_run", policy.max_run, 0s, 1h);
  read_number(reader, "max_slowdown", policy.max_slowdown, 0, 1e6);
  reader.bytes("max_size", policy.max_size, Bytes{}, gib(1024));
  if (policy.require == GateRequire::Better && policy.margin > 0)
    reader.error("margin", "is of require = \"not_worse\"");
  TRY(reader.finish());
  return policy;
}

}  // namespace mayfly
