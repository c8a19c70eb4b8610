// What /metrics shows of jobs. Loop thread only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "jobs/job.h"
#include "jobs/job_store.h"

namespace mayfly {

// What became of a job by a slice of it. Done: the job is.
enum class SliceFate : std::uint8_t { Done, Checkpoint, Failed, PutBack, Lost };

class JobMetrics {
 public:
  JobMetrics();
  ~JobMetrics();

  struct Slice {
    SliceFate end = SliceFate::Done;
    Duration ran{}, cpu{};
    std::uint64_t rows = 0, failed_rows = 0;  // of a batch
  };
  void slice(JobKind kind, const Slice& slice);

  // The text of our families (Prometheus text format 0.0.4). nullopt: what is kept cannot be read.
  std::string expose(const std::optional<JobStore::Overview>& kept);

 private:
  struct JobFamilies;
  std::unique_ptr<JobFamilies> families_;
};

}  // namespace mayfly
