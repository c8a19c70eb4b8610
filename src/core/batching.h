// Which requests of a version may be run as one: options of a version, fixed at deploy.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "core/tensor.h"

namespace mayfly {

enum class BatchMode : std::uint8_t {
  Off,
  Fixed,  // up to max_rows
  Auto,   // up to what is found to give the most throughput within `target`
};

inline constexpr std::uint32_t kLargestBatch = 4096;  // rows

struct Batching {
  BatchMode mode = BatchMode::Off;
  std::uint32_t max_rows = 1;  // kLargestBatch with Auto
  // How long the oldest request may wait for others although an instance is idle. Auto: not at all.
  Duration max_delay{};
  // Sizes that a batch has if it can before max_delay is over; ascending. Empty: the fuller, the
  // better.
  std::vector<std::uint32_t> preferred;
  Duration target = std::chrono::milliseconds(50);  // of a batch's run, with Auto
  bool operator==(const Batching&) const = default;
};

// Rows that a batch of the version is expected to have under load: what its form is chosen by. 1
// without batching.
std::uint32_t usual_rows(const Batching& batching);

// The keys max_batch ("off", "auto" or rows), max_delay, preferred_batch and batch_latency.
void read_batching(JsonReader& reader, Batching& batching);
void add_batching(Json& options, const Batching& batching);

// Every input and output must have a first dimension of any extent, which is taken for the batch's.
Status check_batchable(const Signature& signature);

}  // namespace mayfly
