// What dispatch looks like at one moment, for `mayfly top`, `status`, `describe` and /metrics.
// Values without ties to the dispatcher: they may be formatted on another thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "dispatch/batch_tuner.h"
#include "dispatch/policy.h"
#include "dispatch/version_runtime.h"

namespace mayfly {

// Decisions of a kind in a row are one record.
struct DecisionRecord {
  TimePoint at{};  // the last one
  Action action = Action::None;
  Why why = Why::NothingWanted;
  std::uint32_t times = 1;
};

// The last N; nothing is allocated.
template <std::size_t N>
class DecisionLog {
 public:
  // Whether it is a record of its own, not one more of the last kind.
  bool add(TimePoint now, Action action, Why why) {
    DecisionRecord& last = records_[(next_ + N - 1) % N];
    if (count_ > 0 && last.action == action && last.why == why) {
      last.at = now;
      ++last.times;
      return false;
    }
    records_[next_] = {.at = now, .action = action, .why = why, .times = 1};
    next_ = (next_ + 1) % N;
    if (count_ < N) ++count_;
    return true;
  }
  std::vector<DecisionRecord> records() const {  // the newest first
    std::vector<DecisionRecord> list;
    list.reserve(count_);
    for (std::size_t i = 1; i <= count_; ++i) list.push_back(records_[(next_ + N - i) % N]);
    return list;
  }

 private:
  std::array<DecisionRecord, N> records_{};
  std::size_t next_ = 0;
  std::size_t count_ = 0;
};

struct TemplateStatus {
  TemplateState state = TemplateState::None;
  Bytes bytes{};
  Duration build_time{};
  std::uint32_t failures = 0;
  Duration retry_in{};  // while BackingOff
  std::string cause{};  // of the last failure
};

// What batching has come to; nothing while it is off for good.
struct BatchStatus {
  std::uint32_t cap = 1;  // rows; 1: requests run one by one for now
  Duration alone{};       // of a request that ran so, under load; 0: not measured
  std::vector<BatchTuner::Size> sizes{};
};

struct VersionStatus {
  VersionKey key{};
  std::string label{};
  std::uint32_t queued = 0;
  std::uint32_t starting = 0;
  std::uint32_t idle = 0;
  std::uint32_t running = 0;
  std::uint32_t ending = 0;
  TemplateStatus tmpl{};
  double calls_per_second = 0;
  Duration mean_run{};
  std::optional<BatchStatus> batching{};
  Bytes instance_bytes{};    // of the largest instance so far, or expected
  Bytes memory{};            // charged to the node by all its processes
  std::uint32_t tokens = 0;  // that its busy instances hold
  std::vector<DecisionRecord> decisions{};
};

// Environment templates: not of a version yet.
struct EnvironmentsStatus {
  std::uint32_t ready = 0;
  std::uint32_t preparing = 0;
  Bytes memory{};  // charged, of the node's
};

struct NodeStatus {
  std::uint32_t tokens = 0;
  std::uint32_t tokens_used = 0;
  std::uint32_t builds = 0;
  Bytes memory{};
  Bytes memory_used{};
  EnvironmentsStatus environments{};
  std::uint32_t queued = 0;
  std::uint32_t functions_waiting_for_memory = 0;
  // Since the node started, by action and reason: counters for metrics. Waits count when they
  // begin.
  std::array<std::array<std::uint64_t, kWhys>, kActions> decisions{};
};

struct DispatchStatus {
  TimePoint at{};
  NodeStatus node{};
  std::vector<VersionStatus> versions{};  // those with work or processes, by label
};

}  // namespace mayfly
