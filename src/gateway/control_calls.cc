// What deploys and deletions mean for functions that call functions.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/project.h"
#include "core/reason.h"
#include "gateway/control_api.h"

namespace mayfly {
namespace {

constexpr std::size_t kNamedCallers = 5;  // in a message

}  // namespace

// A function may name itself before it exists.
Status ControlApi::check_calls(const FunctionName& function, const VersionOptions& options) const {
  const std::string_view project = project_of(function.str());
  for (const std::string& called : options.function.calls) {
    const std::string name = qualified_name(project, called);
    if (name == function.str() || parts_.catalog.table()->find(name)) continue;
    return refuse(reason::kInvalidManifest,
                  fmt::format("calls: there is no function '{}' in the project; deploy it first, "
                              "or take it out of calls",
                              called));
  }
  return {};
}

Result<std::vector<std::string>> ControlApi::callers_of(const FunctionName& called) const {
  std::vector<std::string> callers;
  const Registry::Snapshot table = parts_.registry.snapshot();
  for (const auto& function : table->all()) {
    const std::string& name = function->name.str();
    if (function->name == called || project_of(name) != project_of(called.str())) continue;
    for (const VersionEntry& version : function->versions) {
      const auto manifest = TRY(parts_.registry.manifest(version.content->manifest));
      const std::vector<std::string>& calls = manifest->options.function.calls;
      if (std::ranges::binary_search(calls, local_name(called.str())))
        callers.push_back(fmt::format("{}@{}", local_name(name), version.number.value));
    }
  }
  return callers;
}

Task<Status> ControlApi::check_callers(FunctionName called) {
  CO_TRY(const std::vector<std::string> callers,
         co_await parts_.pool.run([&] { return callers_of(called); }));
  if (callers.empty()) co_return Status{};
  const std::span<const std::string> shown(callers.data(), std::min(callers.size(), kNamedCallers));
  co_return refuse(reason::kConflict,
                   fmt::format("{} is called by {}{}, whose calls would fail; --yes (or "
                               "?force=true) deletes it all the same",
                               local_name(called.str()), fmt::join(shown, ", "),
                               callers.size() > kNamedCallers ? ", …" : ""));
}

}  // namespace mayfly
