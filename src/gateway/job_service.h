// All that a node has of jobs, in the order of its making.
#pragma once

#include <memory>

#include "data/dataset_store.h"
#include "data/ingest_slice.h"
#include "events/schedule_engine.h"
#include "events/schedule_store.h"
#include "gateway/dataset_api.h"
#include "gateway/job_api.h"
#include "gateway/predictions.h"
#include "gateway/source_fetcher.h"
#include "gateway/training_api.h"
#include "jobs/batch_slice.h"
#include "jobs/job_engine.h"
#include "jobs/job_store.h"
#include "jobs/python_train_slice.h"
#include "jobs/run_slice.h"
#include "jobs/score_slice.h"
#include "jobs/train_slice.h"
#include "meter/prices.h"
#include "registry/backup.h"
#include "serving/ledger_writer.h"
#include "store/data_dir.h"
#include "training/training_slices.h"

namespace mayfly {

// Where jobs and datasets are kept.
struct JobStores {
  // `schedules`, whose inputs are kept, outlives them.
  static Result<JobStores> open(const DataDir& data, std::unique_ptr<BlobStore> blobs,
                                const Clock& clock, ScheduleStore& schedules);
  std::unique_ptr<BlobStore> blobs;
  std::unique_ptr<DatasetStore> datasets;  // whose bytes are among the blobs
  std::unique_ptr<JobStore> jobs;
};

class JobService {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Rng& rng;
    InvocationIds& ids;
    LedgerWriter& ledger;
    Catalog& catalog;
    Registry& registry;
    ShippedFunctions& shipped;
    Predictions& predictions;
    JobRunner& runner;
    BlobStore& uploads;
    BlobOwners& owners;
    Pins& pins;
    const DataDir& data;
    std::function<bool()> has_memory;
    std::function<Bytes(std::string_view project)> byte_limit;
    std::function<Bytes(std::string_view project)> data_limit;
    std::uint32_t cores;
    const GuardedClient& egress;  // by which sources that lie elsewhere are fetched
    SecretStore& secrets;
    Bytes max_upload;  // of one source
    const Prices& prices;
    RegisterTrained enroll = nullptr;  // null: trained models stay with their trainings
    FindTrainingRecord record = nullptr;
  };
  JobService(JobStores stores, const Parts& parts, JobEngine::Options options);

  JobApi& api() { return api_; }
  DatasetApi& datasets() { return datasets_; }
  TrainingApi& trainings() { return training_api_; }
  JobEngine& engine() { return engine_; }
  BlobStore& blobs() { return *stores_.blobs; }  // of jobs and datasets
  DatasetStore& dataset_store() { return *stores_.datasets; }
  // Submitted, unless it is there, and waited for until it is over. cancelled: `stop` was first.
  Task<Result<JobRecord>> run_to_end(JobSubmission job, std::vector<JobFile> inputs,
                                     CancelToken stop);
  // What schedules have of me; I outlive it.
  ScheduledJobs scheduled();
  // What a backup has of datasets; I outlive it.
  BackupPart backup();

 private:
  Task<SliceOutcome> run(SliceAsk ask);
  Task<Status> submit_scheduled(Schedule schedule, std::string id, std::string request);
  Task<Result<ServingRef>> serving_of(const JobRecord& job);
  Task<Result<JobCode>> code_of(const JobRecord& job);
  Task<Result<JobCode>> training_code(JobRecord job, std::string function);
  Task<Result<JobCode>> code_served(ServingRef serving);
  Task<Result<TrainCode>> bring_trainer(TrainingSlices::Parts::BringAsk ask);
  Task<Result<Signature>> signature_of(const JobRecord& job);
  Task<ChunkReply> predict(ChunkAsk ask);
  Task<ChunkReply> predict_once(const ChunkAsk& ask);
  Task<void> bill(const JobRecord& job, const SliceBill& bill);
  Task<Result<std::vector<SourceFile>>> learned_from(const JobRecord& job);
  Task<Result<std::vector<SourceFile>>> scored_on(const JobRecord& job);
  double cost_of(const JobRecord& job) const;
  SliceParts slice_parts(const Parts& parts);

  Parts parts_;
  JobStores stores_;
  Pool pool_;
  Pool fetch_pool_;
  SourceFetcher fetcher_;
  RunSlices runs_;
  BatchSlices batches_;
  IngestSlices ingests_;
  SnapshotFiles snapshots_;
  TrainSlices trials_;
  PythonTrainSlices python_trials_;
  ScoreSlices scores_;
  JobEngine engine_;
  TrainingSlices trainings_;
  JobApi api_;
  DatasetApi datasets_;
  TrainingApi training_api_;
};

}  // namespace mayfly
