// Jobs over HTTP: submitted with 202 and a place to ask, listed, watched, paused, cancelled; and
// what they made. docs/jobs.md, docs/batch.md. Loop thread.
#pragma once

#include <string>
#include <string_view>

#include "async/task.h"
#include "core/invocation.h"
#include "gateway/route.h"
#include "identity/blob_owners.h"
#include "jobs/job_engine.h"
#include "net/exchange.h"
#include "registry/pins.h"
#include "serving/catalog.h"
#include "store/local_blob_store.h"

namespace mayfly {

class JobApi {
 public:
  struct Parts {  // all outlive me
    JobEngine& engine;
    Catalog& catalog;
    InvocationIds& ids;
    LocalBlobStore& uploads;  // where inputs are uploaded to
    LocalBlobStore& blobs;    // of jobs
    BlobOwners& owners;
    Pins& pins;  // of uploads
    std::uint32_t cores;
  };
  explicit JobApi(Parts parts) : parts_(parts) {}

  Task<Result<Response>> call(Exchange& exchange, const Route& route);
  // A file of the result, as long as it may be. An error was told to nobody yet.
  Task<Status> send_file(Exchange& exchange, const Route& route, std::string_view cors_origin);

 private:
  struct Submitted {
    JobSubmission job;
    std::vector<JobFile> inputs;
    Pin pin;
  };
  Task<Result<Response>> submit(Exchange& exchange, const Route& route);
  Task<Result<Submitted>> read_run(const Json& wanted, ServingRef serving);
  Task<Result<Submitted>> read_batch(const Json& wanted, ServingRef serving, const Route& route);
  Task<Result<JobFile>> adopt_input(const Json& input, const Route& route, Pin& pin);
  Task<Result<Response>> list(const Exchange& exchange, const Route& route);
  Task<Result<Response>> show(JobRecord job);
  Task<Result<JobRecord>> find(const Route& route);

  Parts parts_;
};

}  // namespace mayfly
