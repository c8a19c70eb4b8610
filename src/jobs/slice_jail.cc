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

std::string label_of(const JobRecord& job) {
  return fmt::format("{}@{}#{}", job.spec.function, job.spec.version, job.spec.id);
}

Task<Result<JobEnd>> SliceJail::run(JobSpec spec, CancelToken kill,
                                    std::function<void(std::string_view message)> on_message) {
  if (kill.cancelled()) co_return fail(Code::Cancelled, "the slice was ended before it began");
  Future<Result<JobEnd>> ended(loop_);
  JobEvents events{.on_progress = [&on_message](std::string_view text) { on_message(text); },
                   .on_end = [promise = ended.promise()](
                                 Result<JobEnd> end) mutable { promise.set(std::move(end)); }};
  CO_TRY(job_, jobs_.run_job(std::move(spec), std::move(events)));
  const CancelCallback killed(kill, [this] {
    if (job_) job_->kill();
  });
  Result<JobEnd> end = co_await ended;
  job_.reset();
  if (complaint_) co_return std::unexpected(*std::move(complaint_));
  co_return end;
}

void SliceJail::send(std::string_view text, Fd descriptor) {
  if (job_) job_->send(text, std::move(descriptor));
}

void SliceJail::expel(Error why) {
  if (!complaint_) complaint_ = std::move(why);
  if (job_) job_->kill();
}

std::optional<Error> failure_of_slice(const JobEnd& end, const JobSpec& spec) {
  if (end.timed_out) {
    return refuse(reason::kDeadlineExceeded,
                  fmt::format("the job neither ended nor made a checkpoint within {}",
                              to_string(spec.timeout)))
        .error();
  }
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

bool may_retry_slice(const JobEnd& end) { return !end.timed_out && !end.exit.oom; }

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
