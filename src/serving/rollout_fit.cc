#include "serving/rollout_fit.h"

#include <fmt/format.h>

#include "core/reason.h"

namespace mayfly {
namespace {

Status check_alike(const FunctionEntry& function, const Serving& champion,
                   const Serving& challenger) {
  if (champion.signature() == challenger.signature()) return {};
  return refuse(
      reason::kConflict,
      fmt::format("version {} has other inputs or outputs than version {}, so what clients send or "
                  "read may not fit it; mayfly traffic {} moves requests to it by hand",
                  challenger.version.value, champion.version.value, function.name.str()));
}

// A range that nothing is held to would guard nothing.
Status check_ranges(const Serving& challenger, const rollout::RolloutPlan& plan) {
  const Signature& signature = challenger.signature();
  for (const auto& [name, range] : plan.ranges) {
    const auto index = signature.output_index(name);
    if (index && signature.outputs[*index].type != DataType::Bytes) continue;
    return refuse(reason::kInvalidSetting,
                  fmt::format("ranges: version {} has no output '{}' of numbers",
                              challenger.version.value, name));
  }
  return {};
}

}  // namespace

Task<Status> check_rollout_fit(Catalog& catalog, FunctionTable::Entry function,
                               VersionNumber champion, VersionNumber version,
                               const rollout::RolloutPlan& plan) {
  for (const VersionNumber number : {champion, version}) {
    if (function->find(number) != nullptr) continue;
    co_return refuse(reason::kUnknownVersion, fmt::format("function '{}' has no version {}",
                                                          function->name.str(), number.value));
  }
  CO_TRY(const ServingRef before, co_await catalog.find({function, function->find(champion)}));
  CO_TRY(const ServingRef after, co_await catalog.find({function, function->find(version)}));
  CO_TRY_STATUS(check_alike(*function, *before, *after));
  co_return check_ranges(*after, plan);
}

}  // namespace mayfly
