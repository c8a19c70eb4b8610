// Trainings and the versions that come of them, on real stores; the jails of publishing and scoring
// are played.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "lineage/json_parts.h"
#include "lineage/lineage.h"
#include "lineage/registrar.h"
#include "serving/testing/publishing_rig.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

namespace mayfly {

using namespace std::chrono_literals;

// An array in NumPy's format, version 1.0.
std::string npy(std::string_view type, const std::string& shape, std::string_view bytes);

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct TrainingRig : PublishingRig {
  std::unique_ptr<LocalBlobStore> job_blobs =
      LocalBlobStore::open(made("jobs"), made("jobs_tmp")).value();
  std::unique_ptr<DatasetStore> datasets = DatasetStore::open(root / "datasets.db").value();
  std::unique_ptr<JobStore> jobs =
      JobStore::open(root / "jobs.db", *job_blobs, clock, [this](const Digest& digest) {
        return datasets->names(digest);
      }).value();
  Rollouts rollouts{{loop, pool, *fixture.registry, catalog, traffic}};
  DatasetRecord credit = datasets
                             ->ensure({.project = "default",
                                       .name = "credit",
                                       .caller = "alice",
                                       .key = {.k0 = 1, .k1 = 2}})
                             .value();
  // Of snapshots that are put.
  std::vector<SchemaColumn> columns = {
      {.name = "age"},
      {.name = "class", .type = ColumnType::Category, .categories = {"bad", "good"}}};
  // Of the two models over the same rows: what the scoring of a gate leaves.
  struct Scored {
    int rows = 400, champion_wrong = 100, challenger_wrong = 20;
    JobState state = JobState::Done;
    // What it says or leaves otherwise than a scoring does.
    std::function<void(Json& result, std::vector<JobFile>& files)> lie = {};
  } scored;
  std::vector<JobSubmission> scorings;
  std::vector<Digest> champions;  // of each scoring
  Bytes stored_limit{};           // 0: none
  Registrar registrar{{.pool = pool,
                       .clock = clock,
                       .blobs = *blobs,
                       .owners = *owners,
                       .pins = pins,
                       .registry = *fixture.registry,
                       .catalog = catalog,
                       .traffic = traffic,
                       .rollouts = rollouts,
                       .publisher = publisher,
                       .jobs = *jobs,
                       .job_blobs = *job_blobs,
                       .datasets = *datasets,
                       .score =
                           [this](JobSubmission job, std::vector<JobFile> inputs) {
                             return score(std::move(job), std::move(inputs));
                           },
                       .byte_limit = [this](std::string_view) { return stored_limit; },
                       .stop = {}}};
  Lineage lineage{{.registry = *fixture.registry,
                   .blobs = *blobs,
                   .jobs = *jobs,
                   .datasets = *datasets,
                   .ledger = root / "ledger"}};

  ~TrainingRig() { loop.run(rollouts.close()); }

  JobFile keep(FileRole role, std::string name, std::string_view content);

  std::uint32_t put(const std::string& job, std::uint32_t parent = 0);

  // A job that is done, with its files.
  JobRecord done(JobSubmission job, std::vector<JobFile> files, const std::string& result);

  TrainedModel train(int number, std::uint32_t snapshot, std::string result = "");

  Task<Result<JobRecord>> score(JobSubmission job, std::vector<JobFile> inputs);

  Result<Registered> add(TrainedModel trained) {
    return loop.run(registrar.add(std::move(trained)));
  }
  const FunctionEntry& function() {
    table = fixture.registry->snapshot();
    return *table->find("credit-risk");
  }
  Registry::Snapshot table;
};

inline FunctionName risk() { return FunctionName::parse("credit-risk").value(); }

}  // namespace mayfly
