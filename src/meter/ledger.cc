#include "meter/ledger.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "core/reason.h"
#include "meter/segment.h"
#include "store/storage_error.h"

namespace mayfly {
namespace {

constexpr std::size_t kProbeBytes = 4096;

std::int64_t day_of(WallTime time) {
  return std::chrono::floor<std::chrono::days>(time).time_since_epoch().count();
}

std::unexpected<Error> ledger_failed(const Error& cause) {
  return refuse(reason::kStorageFull,
                fmt::format("the ledger cannot be written: {}", cause.message));
}

// Totals whose writing was cut off before their rename.
Status remove_leftovers(const Path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".tmp") std::filesystem::remove(entry.path(), error);
    if (error) break;
  }
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  return {};
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::open(const Path& folder, const Clock& clock,
                                             const LedgerOptions& options) {
  TRY(as_storage(make_directories(folder)));
  std::unique_ptr<Ledger> ledger(new Ledger(folder, clock, options));
  TRY(ledger->start());
  return ledger;
}

Status Ledger::start() {
  const auto segments = TRY(list_segments(folder_));
  TRY(remove_leftovers(folder_));
  const bool open_end = !segments.empty() && !segments.back().has_totals;
  if (open_end) {
    TRY(continue_segment(segments.back().number));
  } else {
    TRY(begin_segment(segments.empty() ? 1 : segments.back().number + 1));
  }
  TRY(sync());
  syncer_ = std::thread([this] { sync_loop(); });
  return {};
}

Ledger::~Ledger() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (syncer_.joinable()) syncer_.join();
  if (auto synced = sync(); !synced) {
    LOG(error, "the ledger's end is not synced", {"error", synced.error().message});
  }
}

std::int64_t Ledger::today() const { return day_of(clock_.wall_now()); }

// Behind the last intact frame there is only what a kill or a power cut tore: no reply was released
// for it.
Status Ledger::continue_segment(std::uint64_t number) {
  const Path path = log_path(folder_, number);
  SegmentReader reader = TRY(SegmentReader::open(path));
  while (TRY(reader.next())) {
  }
  auto segment = std::make_shared<Segment>(number, TRY(open_file(path, O_WRONLY | O_APPEND)));
  struct stat status{};
  if (::fstat(segment->log.get(), &status) != 0) return fail_errno(path.native());
  const std::uint64_t end = reader.intact_end();
  if (static_cast<std::uint64_t>(status.st_size) > end) {
    LOG(warn, "cutting a torn tail off the ledger", {"segment", number},
        {"bytes", static_cast<std::uint64_t>(status.st_size) - end});
    if (::ftruncate(segment->log.get(), static_cast<off_t>(end)) != 0) {
      return fail_storage(path.native());
    }
  }
  use(std::move(segment), end);
  day_ = day_of(WallTime(std::chrono::seconds(status.st_mtim.tv_sec)));
  if (end == 0) TRY(write_whole(kSegmentMagic));
  return {};
}

Status Ledger::begin_segment(std::uint64_t number) {
  const Path path = log_path(folder_, number);
  auto segment = std::make_shared<Segment>(
      number, TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600)));
  if (auto written = write_all(segment->log.get(), kSegmentMagic); !written) {
    ::unlink(path.c_str());
    return as_storage(std::move(written));
  }
  use(std::move(segment), kSegmentMagic.size());
  return {};
}

void Ledger::use(std::shared_ptr<Segment> segment, std::uint64_t size) {
  active_ = segment;
  active_number_ = segment->number;
  size_ = size;
  day_ = today();
  const std::scoped_lock lock(mutex_);
  if (current_) retired_.push_back(std::move(current_));
  current_ = std::move(segment);
}

bool Ledger::wants_rotation() const {
  if (size_ == kSegmentMagic.size()) return false;
  return size_ >= options_.segment_size.count || day_ != today();
}

Status Ledger::append(std::string_view frames) {
  if (sync_failed_) return ledger_failed({Code::DataLoss, "an earlier fdatasync failed"});
  if (wants_rotation()) {
    // Without room for a new file the old one goes on; the write below tells how bad it is.
    if (auto begun = begin_segment(active_->number + 1); !begun) {
      LOG(warn, "the ledger's segment is not rotated", {"error", begun.error().message});
    }
  }
  if (auto written = write_whole(frames); !written) return ledger_failed(written.error());
  if (auto marked = mark_written(); !marked) {
    // The caller refuses the requests of this batch: a restart should not find them served.
    size_ -= frames.size();
    if (::ftruncate(active_->log.get(), static_cast<off_t>(size_)) != 0) healthy_ = false;
    return ledger_failed(marked.error());
  }
  healthy_ = true;
  return {};
}

// All or nothing: a batch that does not fit is cut off again, and if even that fails, before the
// next write.
Status Ledger::write_whole(std::string_view bytes) {
  const int log = active_->log.get();
  if (!healthy_ && ::ftruncate(log, static_cast<off_t>(size_)) != 0) {
    return fail_storage("truncate the ledger");
  }
  auto written = write_all(log, bytes);
  if (!written) {
    healthy_ = false;
    if (::ftruncate(log, static_cast<off_t>(size_)) != 0) {
      LOG(warn, "a torn batch stays for now", {"segment", active_->number});
    }
    return written;
  }
  size_ += bytes.size();
  return {};
}

Status Ledger::mark_written() {
  if (options_.sync == LedgerSync::Always) return sync();
  if (dirty_.exchange(true)) return {};
  // Once per interval: the lock orders this with the syncer going to sleep.
  const std::scoped_lock lock(mutex_);
  wake_.notify_all();
  return {};
}

Status Ledger::probe() {
  if (sync_failed_) return ledger_failed({Code::DataLoss, "an earlier fdatasync failed"});
  if (healthy_) return {};
  // Zeros are no frame: a reader skips them, and a restart cuts them off.
  constexpr std::array<char, kProbeBytes> kZeros{};
  const std::uint64_t end = size_;
  if (auto tried = write_whole({kZeros.data(), kZeros.size()}); !tried) {
    return ledger_failed(tried.error());
  }
  size_ = end;
  if (::ftruncate(active_->log.get(), static_cast<off_t>(end)) != 0) {
    return ledger_failed(errno_error("truncate the ledger", errno));
  }
  healthy_ = true;
  return {};
}

Status Ledger::sync() {
  const std::scoped_lock one_at_a_time(sync_mutex_);
  std::vector<std::shared_ptr<Segment>> segments;
  std::size_t retired = 0;
  dirty_ = false;  // before the sync: what is written from here on is for the next one
  {
    const std::scoped_lock lock(mutex_);
    segments = std::exchange(retired_, {});
    retired = segments.size();
    segments.push_back(current_);
  }
  for (const auto& segment : segments) {
    if (::fdatasync(segment->log.get()) == 0) continue;
    sync_failed_ = true;
    return fail_storage(fmt::format("sync ledger segment {}", segment->number));
  }
  if (retired > 0 || !syncer_.joinable()) TRY(sync_directory(folder_));
  return {};
}

void Ledger::sync_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || dirty_; });
    // Collect what comes within the interval: one fdatasync serves it all.
    wake_.wait_for(lock, options_.sync_interval, [this] { return stopping_; });
    if (stopping_) return;
    lock.unlock();
    if (auto synced = sync(); !synced) {
      LOG(error, "the ledger cannot be synced", {"error", synced.error().message});
      return;
    }
    lock.lock();
  }
}

Status Ledger::maintain(const LedgerRetention& retention) {
  auto segments = TRY(list_segments(folder_));
  // The active segment and anything newer (a rotation meanwhile) are not complete.
  const std::uint64_t active = active_number_;
  std::erase_if(segments, [&](const SegmentInfo& info) { return info.number >= active; });
  std::uint64_t bytes = 0;
  for (const SegmentInfo& info : segments) {
    bytes += info.log_size.count;
    if (info.has_totals) continue;
    const std::string totals = encode_totals(TRY(total_up(folder_, info.number)));
    TRY(as_storage(write_file_durably(totals_path(folder_, info.number), totals)));
  }
  for (const SegmentInfo& info : segments) {
    if (!info.has_log) continue;
    const SegmentTotals totals = TRY(read_totals(folder_, info.number));
    const bool old = totals.records == 0 || totals.latest < clock_.wall_now() - retention.max_age;
    if (!old && bytes <= retention.max_bytes.count) break;
    if (::unlink(log_path(folder_, info.number).c_str()) != 0)
      return fail_errno("prune the ledger");
    bytes -= info.log_size.count;
  }
  return {};
}

}  // namespace mayfly
