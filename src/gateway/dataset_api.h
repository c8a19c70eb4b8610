// Datasets over HTTP: a snapshot is asked for with 202 and the job that makes it; datasets and
// snapshots are listed, described, erased. docs/data.md. Loop thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "async/pool.h"
#include "async/task.h"
#include "base/rng.h"
#include "core/invocation.h"
#include "core/json_reader.h"
#include "data/dataset_store.h"
#include "data/ingest_slice.h"
#include "gateway/route.h"
#include "gateway/source_fetcher.h"
#include "identity/blob_owners.h"
#include "jobs/job_engine.h"
#include "net/exchange.h"
#include "registry/pins.h"
#include "store/blob_store.h"

namespace mayfly {

class DatasetApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    JobEngine& engine;
    DatasetStore& datasets;
    InvocationIds& ids;
    Rng& rng;
    const SourceFetcher& fetcher;
    BlobStore& uploads;  // where files are uploaded to
    BlobStore& blobs;    // of jobs and datasets
    BlobOwners& owners;
    Pins& pins;  // of uploads
  };
  explicit DatasetApi(Parts parts) : parts_(std::move(parts)) {}

  Task<Result<Response>> call(Exchange& exchange, const Route& route);

 private:
  struct Wish;
  struct Inputs {
    std::vector<JobFile> files;
    Pin pin;
  };
  Task<Result<Response>> create(Exchange& exchange, const Route& route);
  Result<Wish> settle(Wish wish, const Route& route);
  Status check_remote(const IngestDetail& detail, const std::string& project) const;
  Result<Inputs> adopt(const IngestDetail& detail, const Route& route);
  Task<Result<Response>> submit(IngestDetail detail, const std::string& dataset,
                                const Route& route);
  Task<Result<Response>> list(const Route& route);
  Task<Result<Response>> describe(const Route& route);
  Task<Result<Response>> describe_snapshot(const Route& route);
  Result<std::string> read_blob(const DatasetFile& file, std::size_t limit) const;
  Task<Result<Response>> erase(Exchange& exchange, const Route& route);
  Task<Result<Response>> erase_whole(std::string why, const Route& route);
  // The next snapshot, without rows that files name; then the erasure.
  Task<Result<Response>> erase_rows(IngestDetail detail, const Route& route);

  Parts parts_;
};

}  // namespace mayfly
