// inference.GRPCInferenceService: the Open Inference Protocol over gRPC, with the extensions that
// its clients know. Predictions go through Invoker as those over HTTP do; what the other methods
// tell is what the gateway's endpoints tell. Loop thread; large messages are parsed and written on
// a pool.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "async/pool.h"
#include "async/task.h"
#include "core/wire/infer_request.h"
#include "core/wire/json_parser.h"
#include "gateway/callers.h"
#include "grpc/rpc.h"
#include "open_inference.pb.h"
#include "serving/body_budget.h"
#include "serving/client_memory.h"
#include "serving/invoker.h"
#include "serving/model_repository.h"
#include "serving/statistics.h"

namespace mayfly {

class InferenceService {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& parse_pool;
    Invoker& invoker;
    BodyBudget& bodies;
    Catalog& catalog;
    Dispatcher& dispatcher;
    ModelRepository& repository;
    ClientMemory& shared;
    const Statistics& statistics;
    Callers& callers;
    std::function<bool()> ready;
  };
  struct Limits {
    Bytes max_body = mib(64);
    Bytes max_reply = mib(64);
  };

  InferenceService(Parts parts, Limits limits) : parts_(std::move(parts)), limits_(limits) {}

  // `method` without the service: "ModelInfer". unsupported: there is no such method here.
  Task<Status> call(Rpc& rpc, std::string_view method);

 private:
  struct Placed;
  struct Asked;
  class Stream;
  // What a request leaves beside itself while it is read.
  struct Side {
    BodyBudget::Hold& held;
    std::string& id;  // set as soon as it is known
  };

  Task<Status> infer(Rpc& rpc);
  Task<Status> stream_infer(Rpc& rpc);
  // Up to the record; the bytes of a ModelInferResponse.
  Task<Result<std::string>> predict(Rpc& rpc, grpc::ByteBuffer& message, Invocation& tried);
  // Up to dispatch. `message` is dropped once it is parsed.
  Task<Result<Asked>> prepare(Rpc& rpc, grpc::ByteBuffer& message, Invocation& tried, Side side);
  Task<Result<std::string>> run(Invocation& tried, Asked& asked);
  Task<Status> parse(grpc::ByteBuffer& message, inference::ModelInferRequest& request);
  Task<Result<Placed>> place(const inference::ModelInferRequest& message, const Invocation& tried,
                             BodyBudget::Hold& held);
  Task<Result<std::string>> encode(const Placed& placed, const Serving& serving, Reply reply);
  Invocation begin(Rpc& rpc);
  // node_busy: the budget of large bodies has no room for a message of `bytes`.
  static Status hold_message(BodyBudget::Hold& held, std::uint64_t bytes);

  Task<Status> about_node(Rpc& rpc, std::string_view method);
  Task<Status> about_model(Rpc& rpc, std::string_view method);
  Task<Status> repository(Rpc& rpc, std::string_view method);
  Task<Status> shared_memory(Rpc& rpc, std::string_view method);
  Task<Status> model_ready(Rpc& rpc);
  Task<Status> model_metadata(Rpc& rpc);
  Task<Status> model_config(Rpc& rpc);
  Task<Status> model_statistics(Rpc& rpc);
  Task<Status> load(Rpc& rpc);
  Task<Status> unload(Rpc& rpc);
  // Who calls now: keys end while a stream goes on.
  Status identify_again(Rpc& rpc);

  Parts parts_;
  Limits limits_;
};

}  // namespace mayfly
