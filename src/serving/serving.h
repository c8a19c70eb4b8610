// What the data plane needs to serve a version: an immutable value, shared by all requests of it,
// made from the registry by Catalog.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/manifest.h"
#include "core/names.h"
#include "core/project.h"
#include "core/settings.h"
#include "core/traffic.h"
#include "dispatch/version_runtime.h"

namespace mayfly {

struct Serving {
  std::string function;
  VersionNumber version;
  std::shared_ptr<const Manifest> manifest;
  std::shared_ptr<const FunctionSettings> settings;
  std::shared_ptr<const Routing> routing;
  std::uint64_t sequence = 0;  // of the registry when the settings were read
  std::shared_ptr<const VersionRuntime> runtime;
  std::uint64_t output_bytes = 0;  // what the outputs are expected to need: a hint for regions

  // As its project's callers know it.
  std::string_view name() const { return local_name(function); }
  const Signature& signature() const { return manifest->signature; }
};

using ServingRef = std::shared_ptr<const Serving>;

}  // namespace mayfly
