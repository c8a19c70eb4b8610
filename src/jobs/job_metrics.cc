#include "jobs/job_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <chrono>
#include <string_view>

namespace mayfly {
namespace {

constexpr std::array<std::string_view, kFileRoles> kRoleWords = {"input", "checkpoint", "part",
                                                                 "result"};
constexpr std::array<std::string_view, 5> kFateWords = {"done", "checkpoint", "failed", "put_back",
                                                        "lost"};

double seconds_of(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

struct JobMetrics::JobFamilies {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Gauge>& jobs = prometheus::BuildGauge()
                                                    .Name("mayfly_jobs")
                                                    .Help("Jobs that the node knows, by state")
                                                    .Register(registry);
  prometheus::Family<prometheus::Gauge>& bytes = prometheus::BuildGauge()
                                                     .Name("mayfly_job_bytes")
                                                     .Help("Bytes of files that jobs keep")
                                                     .Register(registry);
  prometheus::Family<prometheus::Counter>& slices =
      prometheus::BuildCounter()
          .Name("mayfly_job_slices_total")
          .Help("Slices of jobs, by what became of them")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& seconds = prometheus::BuildCounter()
                                                         .Name("mayfly_job_slice_seconds_total")
                                                         .Help("How long slices ran")
                                                         .Register(registry);
  prometheus::Family<prometheus::Counter>& cpu = prometheus::BuildCounter()
                                                     .Name("mayfly_job_cpu_seconds_total")
                                                     .Help("CPU time of slices")
                                                     .Register(registry);
  prometheus::Family<prometheus::Counter>& rows = prometheus::BuildCounter()
                                                      .Name("mayfly_batch_rows_total")
                                                      .Help("Rows of batches behind a checkpoint")
                                                      .Register(registry);
};

JobMetrics::JobMetrics() : families_(std::make_unique<JobFamilies>()) {}
JobMetrics::~JobMetrics() = default;

void JobMetrics::slice(JobKind kind, const Slice& slice) {
  const std::string word(to_string(kind));
  const std::string_view fate = kFateWords[static_cast<std::size_t>(slice.end)];
  families_->slices.Add({{"kind", word}, {"outcome", std::string(fate)}}).Increment();
  families_->seconds.Add({{"kind", word}}).Increment(seconds_of(slice.ran));
  families_->cpu.Add({{"kind", word}}).Increment(seconds_of(slice.cpu));
  const bool kept = slice.end == SliceFate::Done || slice.end == SliceFate::Checkpoint;
  if (kind != JobKind::Batch || !kept) return;
  const std::uint64_t good = slice.rows - std::min(slice.failed_rows, slice.rows);
  families_->rows.Add({{"outcome", "done"}}).Increment(static_cast<double>(good));
  families_->rows.Add({{"outcome", "failed"}}).Increment(static_cast<double>(slice.failed_rows));
}

std::string JobMetrics::expose(const std::optional<JobStore::Overview>& kept) {
  for (std::size_t kind = 0; kept && kind < kJobKinds; ++kind) {
    for (std::size_t state = 0; state < kJobStates; ++state) {
      families_->jobs
          .Add({{"kind", std::string(to_string(static_cast<JobKind>(kind)))},
                {"state", std::string(to_string(static_cast<JobState>(state)))}})
          .Set(static_cast<double>(kept->jobs[kind][state]));
    }
  }
  for (std::size_t role = 0; kept && role < kFileRoles; ++role) {
    families_->bytes.Add({{"role", std::string(kRoleWords[role])}})
        .Set(static_cast<double>(kept->bytes[role]));
  }
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace mayfly
