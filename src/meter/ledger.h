// The ledger: an append-only file of invocation records, written before a reply is released.
//
// What survives: a batch whose append() has returned survives the death of the process (kill -9)
// and is there exactly once. With LedgerSync::Interval a power cut may take the records of the last
// 100 ms; with Always it takes none, at the price of one fdatasync per append on the loop thread.
//
// append() and probe() belong to the loop thread. The fdatasync of Interval runs on a thread of the
// ledger's own. maintain() blocks and is called from a pool, now and then.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace mayfly {

enum class LedgerSync : std::uint8_t { Interval, Always };

struct LedgerOptions {
  LedgerSync sync = LedgerSync::Interval;
  // Bytes written are synced at the latest this long after append(), so that, with the disk's own
  // time, a power cut takes at most 100 ms.
  Duration sync_interval = std::chrono::milliseconds(50);
  Bytes segment_size = mib(64);  // a segment ends at this size, and at midnight UTC
};

struct LedgerRetention {
  Duration max_age = std::chrono::days(90);
  Bytes max_bytes = gib(4);  // of all segments
};

class Ledger {
 public:
  // `clock` outlives me. Cuts a torn tail off the newest segment. One Ledger a folder: the data
  // folder's lock sees to that.
  static Result<std::unique_ptr<Ledger>> open(const Path& folder, const Clock& clock,
                                              const LedgerOptions& options);
  ~Ledger();  // synced, as far as the disk allows
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // One write(2) for the frames of a batch (encode_record). On an error, storage_full above all,
  // none of the batch is kept and healthy() is false until an append or a probe succeeds.
  Status append(std::string_view frames);

  bool healthy() const { return healthy_ && !sync_failed_; }
  // Tries whether there is room again, so that readiness can return without a request at risk. A
  // failed fdatasync is final: what the kernel dropped then cannot be known (the process restarts).
  Status probe();

  // Everything appended so far is on the disk. Any thread.
  Status sync();

  // Seals the hourly totals of complete segments, then removes old segments beyond the retention.
  // Can be cut off anywhere and run again. Any one thread at a time.
  Status maintain(const LedgerRetention& retention);

  const Path& folder() const { return folder_; }

 private:
  struct Segment {
    std::uint64_t number = 0;
    Fd log;
  };

  Ledger(Path folder, const Clock& clock, const LedgerOptions& options)
      : folder_(std::move(folder)), clock_(clock), options_(options) {}
  Status start();
  Status continue_segment(std::uint64_t number);
  Status begin_segment(std::uint64_t number);
  bool wants_rotation() const;
  void use(std::shared_ptr<Segment> segment, std::uint64_t size);
  Status write_whole(std::string_view bytes);
  Status mark_written();
  void sync_loop();
  std::int64_t today() const;

  const Path folder_;
  const Clock& clock_;
  const LedgerOptions options_;

  // Loop thread.
  std::shared_ptr<Segment> active_;
  std::uint64_t size_ = 0;  // of the active log, intact frames only
  std::int64_t day_ = 0;    // of the active log's first record, since 1970

  std::atomic<std::uint64_t> active_number_ = 0;
  std::atomic<bool> healthy_ = true;
  std::atomic<bool> sync_failed_ = false;
  std::atomic<bool> dirty_ = false;  // written and not yet synced

  std::mutex mutex_;
  std::condition_variable wake_;
  std::shared_ptr<Segment> current_;               // under mutex_: what the syncer sees of active_
  std::vector<std::shared_ptr<Segment>> retired_;  // under mutex_: complete, perhaps not synced
  bool stopping_ = false;                          // under mutex_
  std::mutex sync_mutex_;                          // one sync at a time
  std::thread syncer_;
};

}  // namespace mayfly
