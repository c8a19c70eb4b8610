// A prediction whose function may call others, as the invocations that it makes know it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "dispatch/calls.h"
#include "serving/serving.h"

namespace mayfly {

struct Invocation;

struct ServedOrigin final : CallOrigin {
  ServingRef serving;
  std::string caller;  // of the callees' records
  std::string source;  // whose deaths count together
  std::string request_id;
  std::optional<std::string> key;    // Mayfly-Key: chooses the callees' versions too
  std::optional<std::string> trace;  // traceparent; nullopt: nothing is recorded
};

// Null where the version calls nothing.
std::shared_ptr<ServedOrigin> origin_of(const Invocation& tried);
// Of a copy for a shadow.
std::shared_ptr<ServedOrigin> shadow_origin(ServingRef shadow, std::string request_id);

}  // namespace mayfly
