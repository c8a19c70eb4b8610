// What libmayfly-batch.so exports.
#include <exception>

#include "runner/batch/worker.h"
#include "runner/ingest/ingest.h"
#include "runner/report/batch_job.h"
#include "runner/report/ingest_job.h"
#include "runner/table_jobs.h"

namespace mayfly {
namespace {

Status run_tables(int control_fd, const std::string& request) {
  if (const auto ingest = TRY(parse_ingest_job(request)))
    return run_ingest(control_fd, *ingest, IngestFolders());
  const TableFolders folders;
  if (const auto merge = TRY(parse_merge_job(request))) return run_merge(*merge, folders);
  const auto batch = TRY(parse_batch_job(request));
  if (!batch) return fail(Code::InvalidArgument, "a job of an unknown kind");
  return run_batch(control_fd, *batch, folders, SystemClock());
}

}  // namespace

extern "C" __attribute__((visibility("default"))) bool mayfly_run_table_job(
    int control_fd, const std::string& request, std::string* complaint) {
  try {
    const Status done = run_tables(control_fd, request);
    if (!done) *complaint = done.error().message;
    return done.has_value();
  } catch (const std::exception& e) {  // Parquet's
    *complaint = e.what();
    return false;
  }
}

}  // namespace mayfly
