// Makes versions of what trainings found: the model goes the way of every deployed one (publish,
// signature, registry), its training record with it; then the gate, and traffic accordingly.
//
//   train ──► publish ──► score beside the champion ──► gate ──► record ──► version ──► rollout
//
// The gate comes before the version, so that its verdict stands in the record, which is never
// edited. A training is registered once: whoever was cut off hands it over again and gets the same
// version. Loop thread; what blocks runs on pools.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "async/cancel.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/clock.h"
#include "data/dataset_store.h"
#include "gate/gate.h"
#include "identity/blob_owners.h"
#include "jobs/job_store.h"
#include "jobs/trained_model.h"
#include "lineage/trained_version.h"
#include "lineage/training_record.h"
#include "publish/publisher.h"
#include "registry/pins.h"
#include "registry/registry.h"
#include "runner/report/score_job.h"
#include "serving/catalog.h"
#include "serving/rollouts.h"
#include "serving/traffic_switch.h"
#include "store/blob_store.h"

namespace mayfly {

class Registrar {
 public:
  // Submits a scoring and waits for its end, whatever that is.
  using RunScore =
      std::function<Task<Result<JobRecord>>(JobSubmission job, std::vector<JobFile> inputs)>;
  struct Parts {  // all outlive me
    Pool& pool;
    const Clock& clock;
    BlobStore& blobs;  // of versions
    BlobOwners& owners;
    Pins& pins;  // of versions' blobs
    Registry& registry;
    Catalog& catalog;
    TrafficSwitch& traffic;
    Rollouts& rollouts;
    Publisher& publisher;
    JobStore& jobs;
    BlobStore& job_blobs;  // of jobs and datasets
    DatasetStore& datasets;
    RunScore score;
    std::function<Bytes(std::string_view project)> byte_limit;  // of its blobs; 0: none
    CancelToken stop;                                           // of the node
  };
  explicit Registrar(Parts parts) : parts_(std::move(parts)) {}

  // As RegisterTrained. conflict: the training has no model, or its data are not known; what
  // publishing, signing and the registry refuse.
  Task<Result<Registered>> add(TrainedModel trained);

 private:
  struct Found;     // of a training: its files and data
  struct Champion;  // what a challenger is held against
  struct Comparison;
  struct Judged;
  Result<Found> find(const TrainedModel& trained, Pin& pin) const;
  Status own(std::string_view project, const BlobInfo& blob) const;
  Result<LearnedFrom> find_data(const TrainedModel& trained) const;
  Result<std::string> read(const Digest& digest, const BlobStore& from, std::size_t most) const;
  VersionNumber champion_of(const FunctionTable::Entry& function) const;
  Task<Result<Judged>> judge(const TrainedModel& trained, const Found& found,
                             const Published& published);
  Task<Result<gate::Verdict>> compare(const TrainedModel& trained, const Found& found,
                                      const Published& published, FunctionTable::Entry function,
                                      VersionNumber champion);
  Result<Comparison> plan_comparison(const TrainedModel& trained, const Found& found,
                                     const FunctionEntry& function, VersionNumber champion) const;
  Task<Result<JobRecord>> score_both(const TrainedModel& trained, const Found& found,
                                     const Comparison& comparison);
  Result<validation::Predictions> predictions_of(const std::vector<JobFile>& files,
                                                 std::string_view model,
                                                 const ScoreJob& score) const;
  Result<std::vector<gate::SliceMatch>> slices_of(const std::vector<JobFile>& files,
                                                  const ScoreResult& result, const ScoreJob& score,
                                                  std::uint64_t rows_scored) const;
  Result<TrainedVersion> find_champion(const FunctionEntry& function, VersionNumber number) const;
  Task<Result<Registered>> introduce(const TrainedModel& trained, const Found& found,
                                     const Published& published, std::optional<Judged> judged);
  Task<Result<Json>> serve(FunctionName name, VersionNumber version, const Judged& judged,
                           Author author);

  Parts parts_;
};

}  // namespace mayfly
