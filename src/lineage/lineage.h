// Where a version comes from and what came of its data, as JSON: invocation or version → job →
// snapshots → sources, and from a snapshot to the versions that learned from it and whether they
// serve. Blocking: for pools.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "core/invocation.h"
#include "core/json_reader.h"
#include "core/names.h"
#include "data/dataset_store.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "store/blob_store.h"

namespace mayfly {

// How a version was trained; nullopt: none knows. data_loss: the record is not what its digest
// says.
Result<std::optional<Json>> find_training_record(Registry& registry, const BlobStore& blobs,
                                                 const FunctionName& function,
                                                 VersionNumber version);

class Lineage {
 public:
  struct Parts {  // all outlive me
    Registry& registry;
    const BlobStore& blobs;  // of versions
    JobStore& jobs;
    DatasetStore& datasets;
    Path ledger;  // its folder
  };
  explicit Lineage(Parts parts) : parts_(std::move(parts)) {}

  // As find_training_record.
  Result<std::optional<Json>> record(const FunctionName& function, VersionNumber version) const;
  // {"function", "version", "created", "deployed_by", "serves", "training", "jobs", "data"}
  Result<Json> of_version(const FunctionName& function, VersionNumber version) const;
  // The same, with "invocation" before it. not_found: no such record of the project is kept.
  Result<Json> of_invocation(std::string_view project, std::string_view id) const;
  // {"dataset", "snapshot", "erased", "versions", "contained_in"}
  Result<Json> of_snapshot(std::string_view project, std::string_view dataset,
                           std::uint32_t snapshot) const;
  // For people who look at a version: {"job", "trainer", "metric", "data", "gate", …}; null: it was
  // not trained.
  Result<Json> summary(const FunctionName& function, VersionNumber version) const;

 private:
  Json describe_job(const std::string& id) const;
  Result<Json> describe_data(std::string_view project, const VersionTraining::Data& data) const;
  Result<Json> versions_on(std::string_view project, std::string_view dataset,
                           std::uint32_t snapshot) const;

  Parts parts_;
};

}  // namespace mayfly
