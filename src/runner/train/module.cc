// What libmayfly-train.so exports.
#include <exception>

#include "runner/report/score_job.h"
#include "runner/report/train_job.h"
#include "runner/train/scoring.h"
#include "runner/train/worker.h"
#include "runner/train_jobs.h"

namespace mayfly {
namespace {

Status run_request(const OnnxRuntime& runtime, int control_fd, const std::string& request) {
  if (const auto job = TRY(parse_score_job(request)))
    return run_scoring(runtime, *job, TrainFolders());
  const auto job = TRY(parse_train_job(request));
  if (!job) return fail(Code::InvalidArgument, "a job of an unknown kind");
  return run_training(runtime, control_fd, *job, TrainFolders(), SystemClock());
}

}  // namespace

extern "C" __attribute__((visibility("default"))) bool mayfly_run_train_job(
    const OnnxRuntime& runtime, int control_fd, const std::string& request,
    std::string* complaint) {
  try {
    const Status done = run_request(runtime, control_fd, request);
    if (!done) *complaint = done.error().message;
    return done.has_value();
  } catch (const std::exception& e) {  // of libraries, and of memory that is not there
    *complaint = e.what();
    return false;
  }
}

}  // namespace mayfly
