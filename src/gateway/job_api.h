// Jobs over HTTP: submitted with 202 and a place to ask, listed, watched, paused, cancelled; and
// what they made. docs/jobs.md, docs/batch.md. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "async/loop.h"
#include "async/task.h"
#include "core/invocation.h"
#include "core/json_reader.h"
#include "gateway/route.h"
#include "identity/blob_owners.h"
#include "jobs/job_engine.h"
#include "net/exchange.h"
#include "registry/pins.h"
#include "serving/catalog.h"
#include "store/blob_store.h"

namespace mayfly {

// As it is shown to those who may see it.
Json describe_job(const JobRecord& job);
// 202: the job, and where it is shown.
Response accepted_job(const JobRecord& job);

class JobApi {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    JobEngine& engine;
    Catalog& catalog;
    InvocationIds& ids;
    BlobStore& uploads;  // where inputs are uploaded to
    BlobStore& blobs;    // of jobs
    BlobOwners& owners;
    Pins& pins;  // of uploads
    std::uint32_t cores;
  };
  explicit JobApi(Parts parts) : parts_(parts) {}

  struct Request {
    std::string function;  // as the node knows it: "team/iris", "team/iris@3"
    std::string project;
    std::string caller;
    Json wanted;     // the body of a submission
    std::string id;  // empty: a new one
    enum class Input : std::uint8_t { Uploaded, Kept } input = Input::Uploaded;  // of the project
  };
  struct Prepared {
    JobSubmission job;
    std::vector<JobFile> inputs;
    Pin pin;  // of the inputs, which are among the files of jobs now
  };
  // All of a submission but the submission. Its id and times are not set.
  Task<Result<Prepared>> prepare(Request request);
  // Durable when it ends.
  Task<Result<JobRecord>> submit(Request request);

  Task<std::string> metrics() { return parts_.engine.metrics(); }
  Task<Result<Response>> call(Exchange& exchange, const Route& route);
  // Events until it is over, as long as `may_go_on`. An error was told to nobody yet.
  Task<Status> follow(Exchange& exchange, const Route& route, std::string_view cors_origin,
                      std::function<Status()> may_go_on);
  // A file of the result, as long as it may be. An error was told to nobody yet.
  Task<Status> send_file(Exchange& exchange, const Route& route, std::string_view cors_origin);

 private:
  Task<Result<Response>> submit(Exchange& exchange, const Route& route);
  Task<Result<Prepared>> read_run(const Json& wanted, ServingRef serving);
  Task<Result<Prepared>> read_batch(const Request& request, ServingRef serving);
  Task<Result<JobFile>> take_input(const Json& input, const Request& request, Pin& pin);
  Task<Result<Response>> list(const Exchange& exchange, const Route& route);
  Task<Result<Response>> show(JobRecord job);
  Task<Result<JobRecord>> find(const Route& route);
  Task<Result<Json>> as_it_is(const Route& route);

  Parts parts_;
};

}  // namespace mayfly
