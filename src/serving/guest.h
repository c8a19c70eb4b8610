// Processes that run what can wait: of shadows, of events. In dispatch each kind is a function of
// its own, so that nothing is shared with the processes that answer callers, and a guest
// (dispatch/policy.h): it takes what nobody else wants.
#pragma once

#include <cstdint>
#include <memory>

#include "core/settings.h"
#include "dispatch/version_runtime.h"

namespace mayfly {

enum class GuestKind : std::uint8_t { Shadow, Event };

FunctionId guest_id(FunctionId function, GuestKind kind);
std::shared_ptr<const VersionRuntime> guest_of(const VersionRuntime& version, GuestKind kind);
// They need not stay hot.
std::shared_ptr<const FunctionSettings> guest_settings(GuestKind kind);

}  // namespace mayfly
