// Garbage collection: mark what versions need, sweep the rest. Blocking; any one thread at a time.
//
// Kept: what a version of a live function names; what is pinned; what is younger than the grace, so
// that a deploy cut off by a restart finds its uploads. First rows go, then bytes: a collection
// that is cut off leaves garbage for the next one, never a version without its bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "registry/pins.h"
#include "registry/registry.h"
#include "store/blob_store.h"
#include "store/data_dir.h"

namespace mayfly {

enum class GcMode : std::uint8_t { DryRun, Collect };

struct GcOptions {
  GcMode mode = GcMode::Collect;
  Duration grace = std::chrono::hours(1);
  Duration partial_grace = std::chrono::days(7);  // unfinished uploads
  // What follows the artifact's digest in the name of a compiled form that this build and CPU can
  // use ("-ort1.31-avx2"); others are removed. Empty: all forms of live artifacts are kept.
  std::string compiled_suffix = {};
};

struct GcReport {
  std::vector<FunctionVersion> versions;  // retired by keep_versions
  std::vector<BlobInfo> blobs;
  std::vector<BlobInfo> partials;
  std::vector<std::string> compiled;  // names of folders
  Bytes freed;                        // or that would be, in a dry run
  std::uint64_t kept_blobs = 0;
  // Needed by nobody, but younger than the grace: a deploy that uses them may be under way.
  std::uint64_t young_blobs = 0;
};

struct GcScope {  // all outlive the call
  const DataDir& data;
  Registry& registry;
  BlobStore& blobs;
  Pins& pins;
  const Clock& clock;
};

// conflict: another collection or a backup is under way.
Result<GcReport> collect_garbage(const GcScope& scope, const GcOptions& options);

}  // namespace mayfly
