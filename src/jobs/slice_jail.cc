#include "jobs/slice_jail.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>
#include <utility>

#include "async/event.h"
#include "core/reason.h"
#include "core/units.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr Duration kForever = std::chrono::days(3650);  // a timer of its own is nearer

}  // namespace

std::string label_of(const JobRecord& job) {
  return fmt::format("{}@{}#{}", job.spec.function, job.spec.version, job.spec.id);
}

Task<Result<JobEnd>> SliceJail::run(JobSpec spec, Orders orders,
                                    std::function<void(std::string_view message)> on_message) {
  if (orders.kill.cancelled())
    co_return fail(Code::Cancelled, "the slice was ended before it began");
  Future<Result<JobEnd>> ended(loop_);
  JobEvents events{.on_progress = [&on_message](std::string_view text) { on_message(text); },
                   .on_end = [promise = ended.promise()](
                                 Result<JobEnd> end) mutable { promise.set(std::move(end)); }};
  patience_ = std::exchange(spec.timeout, kForever);
  const std::string never =
      fmt::format("the job neither ended nor made a checkpoint within {}", to_string(patience_));
  CO_TRY(job_, jobs_.run_job(std::move(spec), std::move(events)));
  silence_ = std::make_unique<Timer>(
      loop_, [this, never] { expel(refuse(reason::kDeadlineExceeded, never).error()); });
  hear();
  const CancelCallback stopped(orders.stop, [this, &orders] { send(orders.stop_message); });
  const CancelCallback due(orders.due, [this, &orders] { send(orders.due_message); });
  const CancelCallback killed(orders.kill, [this] {
    if (job_) job_->kill();
  });
  Result<JobEnd> end = co_await ended;
  silence_.reset();
  job_.reset();
  co_return end;
}

void SliceJail::hear() {
  if (silence_) silence_->arm_in(patience_);
}

void SliceJail::send(std::string_view text, Fd descriptor) {
  if (job_) job_->send(text, std::move(descriptor));
}

void SliceJail::expel(Error why) {
  if (!complaint_) complaint_ = std::move(why);
  if (job_) job_->kill();
}

std::optional<Error> failure_of_slice(const SliceJail& jail, const JobEnd& end,
                                      const JobSpec& spec) {
  if (jail.complaint()) return jail.complaint();
  if (end.exit.oom) {
    return refuse(reason::kOutOfMemory,
                  fmt::format("the job needed more than its memory = {}", to_string(spec.memory)))
        .error();
  }
  if (end.exit.signal != 0) {
    return refuse(reason::kInstanceCrashed,
                  fmt::format("the job's process was ended by signal {} ({})", end.exit.signal,
                              ::strsignal(end.exit.signal)))
        .error();
  }
  if (end.exit.code != 0) {
    return refuse(reason::kInstanceCrashed,
                  fmt::format("the job's process ended with status {}; its logs may say why",
                              end.exit.code))
        .error();
  }
  return std::nullopt;
}

bool may_retry_slice(const SliceJail& jail, const JobEnd& end) {
  return !jail.complaint() && !end.exit.oom;
}

Result<Fd> open_left(const Path& path, std::uint64_t max) {
  Fd file = TRY(open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno(path.native());
  const std::string name = path.filename().native();
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
    return refuse(reason::kInstanceCrashed, fmt::format("the job left no plain file '{}'", name));
  if (static_cast<std::uint64_t>(status.st_size) > max)
    return refuse(reason::kTooLarge,
                  fmt::format("the job's '{}' is longer than {}", name, to_string(Bytes{max})));
  return file;
}

}  // namespace mayfly
