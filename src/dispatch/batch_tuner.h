// How many rows a batch of a version may have, and what batches of which size take. A value with a
// clock of its own making: it is told of every run and knows no other.
//
// Auto is AIMD (additive increase, multiplicative decrease; Chiu and Jain 1989; for batches under a
// latency target Crankshaw et al. 2017, "Clipper", NSDI): while requests wait for a full batch, its
// size grows by kStep as long as a row gets no dearer, and shrinks by a quarter when a batch takes
// longer than the target, when rows get dearer, or when a batch dies. It begins with batching off
// (requests one by one, in bursts), and goes back to that where batches save less than what
// composing them costs the server, to look again after kLookAgain runs.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/clock.h"
#include "core/batching.h"

namespace mayfly {

class BatchTuner {
 public:
  static constexpr std::uint32_t kStep = 2;
  // What composing a batch and cutting its reply apart may cost for each request: an allowance on
  // the side of bursts.
  static constexpr Duration kComposing = std::chrono::microseconds(4);
  static constexpr std::uint32_t kMeasured = 256;  // runs that show what a way takes
  static constexpr std::uint32_t kLookAgain = 20'000;

  explicit BatchTuner(const Batching& batching)
      : batching_(batching), cap_(batching.mode == BatchMode::Fixed ? batching.max_rows : 1) {}

  // 1: requests run one by one.
  std::uint32_t cap() const { return cap_; }
  const Batching& batching() const { return batching_; }

  enum class Load : std::uint8_t {
    Light,  // nobody waited when it was put together
    Heavy,  // more waited than it could hold
  };
  // `rows` ran together, in `run`.
  void ran(std::uint64_t rows, Duration run, Load load);
  // While cap() is 1: the time of one row that ran by itself, in a burst or not.
  void ran_alone(Duration share, Load load);
  // A batch of `rows` broke: it crashed, did not fit memory, or gave no rows.
  void failed(std::uint64_t rows);

  // Of a batch of `rows`, kLargestBatch at most; 0: unknown.
  Duration expected(std::uint64_t rows) const;

  struct Size {
    std::uint32_t rows = 0;  // this many to the next size's
    std::uint64_t batches = 0;
    Duration row{};  // time of one row, of late
  };
  std::vector<Size> sizes() const;  // ascending
  Duration alone() const { return alone_; }

 private:
  static std::uint32_t bin_of(std::uint64_t rows);
  void grow_or_shrink(std::uint64_t rows, Duration run, Load load);
  void shrink(std::uint64_t from);
  const Size& cheapest() const;

  Batching batching_;
  std::uint32_t cap_;
  std::map<std::uint32_t, Size> sizes_;
  Duration alone_{};         // of a request in a burst, under load
  std::uint32_t tried_ = 0;  // batches since it was off, or runs since it is
};

}  // namespace mayfly
