// A version that was trained on this node, as its record has it: what a comparison must know of it.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "core/names.h"
#include "lineage/training_record.h"
#include "registry/registry.h"
#include "store/blob_store.h"
#include "store/digest.h"

namespace mayfly {

inline constexpr std::string_view kModelFile = "model.onnx";

struct TrainedVersion {
  Json record;
  RecordOrigin origin;
  Digest model{};
  std::uint64_t size = 0;
  Duration run{};  // as publishing measured it; 0: it did not
};

// conflict, in words: nobody knows which rows it learned from. `blobs`: of versions. Blocking.
Result<TrainedVersion> find_trained_version(Registry& registry, const BlobStore& blobs,
                                            const FunctionName& function, VersionNumber version);

}  // namespace mayfly
