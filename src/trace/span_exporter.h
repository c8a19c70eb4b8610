// Spans on their way to a collector: gathered in memory, sent in batches on a thread of their own.
// Loop thread.
//
// A batch goes when it is full or kLongestWait after its first span. What the collector does not
// take because it is away or busy is tried again with the next batch; what it refuses is dropped.
// Beyond kMostSpans that wait new ones are dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/result.h"
#include "trace/otlp.h"
#include "trace/span.h"

namespace mayfly {

class SpanExporter {
 public:
  static constexpr std::size_t kBatch = 512;
  static constexpr std::size_t kMostSpans = 8192;
  static constexpr Duration kLongestWait = std::chrono::seconds(2);
  static constexpr Duration kRetry = std::chrono::seconds(5);
  static constexpr Duration kPatience = std::chrono::seconds(3);

  enum class Taken : std::uint8_t { Yes, Later, Never };
  // Blocks; called on the exporter's own thread, one call at a time.
  using Send = std::function<Taken(const std::string& otlp)>;

  struct Counts {
    std::uint64_t sent = 0;
    std::uint64_t dropped = 0;
  };

  // `loop` outlives me.
  SpanExporter(Loop& loop, OtlpResource resource, Send send);

  void offer(std::vector<Span> spans);
  Counts counts() const { return counts_; }
  bool busy() const { return sending_; }  // a batch is on its way
  // Sends what waits, for kPatience at most, and takes no more.
  Task<void> close();

 private:
  void begin_sending();
  Task<void> send();
  std::vector<Span> take_batch();
  Task<Taken> hand_over(std::span<const Span> batch);

  Loop& loop_;
  OtlpResource resource_;
  Send send_;
  Pool pool_;
  std::deque<Span> waiting_;
  bool sending_ = false;
  std::size_t sent_now_ = 0;  // spans of the batch on its way
  Timer timer_;
  Counts counts_;
  Gate inside_;
};

// Over HTTP to a collector: `endpoint` is "http[s]://host:4318[/prefix]", to which /v1/traces is
// appended. invalid_setting.
Result<SpanExporter::Send> send_to_collector(const std::string& endpoint);

}  // namespace mayfly
