// What is counted of an object store since the node began: requests by what they were and how they
// ended, bytes, and what the caches before it spared it. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mayfly {

struct StoreCounts {
  enum class Ask : std::uint8_t { Get, Head, Put, Delete, List, Multipart };
  // Absent: 404. Refused: an answer that stays. Busy: one that passes by itself. Away: none.
  enum class Outcome : std::uint8_t { Done, Absent, Refused, Busy, Away };
  static constexpr std::size_t kAsks = 6;
  static constexpr std::size_t kOutcomes = 5;

  void count(Ask ask, Outcome outcome) {
    ++requests[static_cast<std::size_t>(ask)][static_cast<std::size_t>(outcome)];
  }

  std::array<std::array<std::atomic<std::uint64_t>, kOutcomes>, kAsks> requests{};
  std::atomic<std::uint64_t> again = 0;               // of them, after one that failed
  std::atomic<std::uint64_t> sent = 0, received = 0;  // bytes of bodies
  std::atomic<std::uint64_t> hits = 0, misses = 0;    // blobs that were wanted on this machine
  std::atomic<std::uint64_t> cached = 0;              // bytes that are there now
};

// `of_bucket`: it names no object.
StoreCounts::Ask kind_of(std::string_view method, bool of_bucket);

// Prometheus text. `away`: the store did not answer when it was asked last.
std::string metrics_of(const StoreCounts& counts, bool away);

}  // namespace mayfly
