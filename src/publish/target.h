// What a compiled artifact depends on: the same artifact, compiled for another runtime, CPU or with
// other options, is another compiled artifact.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"

namespace mayfly {

struct CompileTarget {
  std::string runtime;  // the version of ONNX Runtime
  std::string cpu;      // architecture and features, sorted: "x86_64 avx2 fma …"
  bool operator==(const CompileTarget&) const = default;
};

// The architecture and the sorted features of the first processor in the text of /proc/cpuinfo
// ("flags" on x86-64, "Features" on arm64). Only features that a compiler or a kernel of a model
// may use; what describes power, virtualisation or errata says nothing about code.
std::string cpu_features(std::string_view architecture, std::string_view cpuinfo);

// This machine, with the runtime's version as the blank reports it.
Result<CompileTarget> this_machine(std::string runtime_version);

// ARTIFACT-TARGET: 64 hexadecimal digits of the artifact's digest, 32 of what it is compiled for:
// the target, and the options that change what publishing makes (model, example, threads, memory)
// or which forms it has the room and the time to try (publish_memory, timeout). Of each project its
// own: a deploy that finds its work done would tell that somebody else has the same files.
std::string compiled_key(std::string_view project, const std::vector<ArtifactFile>& files,
                         const VersionOptions& options, const CompileTarget& target,
                         std::string_view environment = {});

}  // namespace mayfly
