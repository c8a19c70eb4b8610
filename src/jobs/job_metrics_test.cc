#include "jobs/job_metrics.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("slices are counted by what became of them, with their time and the rows of batches") {
  JobMetrics metrics;
  metrics.slice(
      JobKind::Batch,
      {.end = SliceFate::Checkpoint, .ran = 2s, .cpu = 500ms, .rows = 10, .failed_rows = 3});
  metrics.slice(JobKind::Batch, {.end = SliceFate::Lost, .ran = 1s, .cpu = 0s, .rows = 99});
  metrics.slice(JobKind::Run, {.end = SliceFate::Done, .ran = 4s, .cpu = 4s});
  JobStore::Overview kept;
  kept.jobs[static_cast<std::size_t>(JobKind::Run)][static_cast<std::size_t>(JobState::Done)] = 7;
  kept.bytes[static_cast<std::size_t>(FileRole::Checkpoint)] = 4096;
  const std::string text = metrics.expose(kept);
  for (const char* line : {"mayfly_job_slices_total{kind=\"batch\",outcome=\"checkpoint\"} 1\n",
                           "mayfly_job_slices_total{kind=\"batch\",outcome=\"lost\"} 1\n",
                           "mayfly_job_slice_seconds_total{kind=\"batch\"} 3\n",
                           "mayfly_job_cpu_seconds_total{kind=\"run\"} 4\n",
                           "mayfly_batch_rows_total{outcome=\"done\"} 7\n",
                           "mayfly_batch_rows_total{outcome=\"failed\"} 3\n",
                           "mayfly_jobs{kind=\"run\",state=\"done\"} 7\n",
                           "mayfly_jobs{kind=\"batch\",state=\"queued\"} 0\n",
                           "mayfly_job_bytes{role=\"checkpoint\"} 4096\n"}) {
    CAPTURE(text);
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
  }
}
