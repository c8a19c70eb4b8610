// A prediction over HTTP: decode into invocation memory, have it run (invoker.h), encode, answer.
// Loop thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "async/pool.h"
#include "async/task.h"
#include "core/wire/infer_request.h"
#include "gateway/body.h"
#include "gateway/route.h"
#include "net/exchange.h"
#include "serving/body_budget.h"
#include "serving/invoker.h"
#include "serving/serving.h"
#include "serving/shared_tensors.h"

namespace mayfly {

struct PredictionLimits {
  Bytes max_body = mib(64);
  Bytes max_reply = mib(64);
};

// How the caller speaks.
enum class Protocol : std::uint8_t { OpenInference, Plain, TensorFlow, Generate, GenerateStream };

// nullopt: the endpoint predicts nothing.
std::optional<Protocol> protocol_of(Endpoint endpoint);

// An attempt at an event, and what came of it: its record is not written yet.
struct EventTry {
  EventAttempt attempt;
  std::string source;  // whose crashes count together
  Status outcome;
  std::optional<InvocationRecord> record;  // nullopt: no function was found
};

class Predictions {
 public:
  struct Parts {  // all outlive me
    Pool& parse_pool;
    Invoker& invoker;
    BodyBudget& bodies;
    const ClientMemory& shared;
  };

  Predictions(Parts parts, PredictionLimits limits) : parts_(parts), limits_(limits) {}

  // Answers the exchange, whatever happens. `cors_origin` is empty or the origin that may read the
  // reply. `event`: what it is an attempt at.
  Task<void> handle(Exchange& exchange, const Route& route, Protocol protocol,
                    std::string_view cors_origin, EventTry* event = nullptr);

 private:
  struct Decoded;
  struct Streaming;  // a stream whose first chunk is there
  struct Answer {
    Response response;
    std::unique_ptr<Streaming> rest;           // not null: `response` has no body, that follows
    std::shared_ptr<const void> counted = {};  // the request's share of the budget of bodies
  };

  Task<Status> conclude(const Invocation& tried, std::string_view reason, const Response& response,
                        EventTry* event);
  Task<Result<Answer>> attempt(Exchange& exchange, const Route& route, Protocol protocol,
                               Invocation& tried);
  // Streams (prediction_stream.cc)
  Task<Result<Answer>> begin_stream(const RequestHead& head, Protocol protocol, Invocation& tried,
                                    Decoded decoded, CancelToken cancel);
  Task<Result<std::optional<std::string>>> next_chunk(Invocation& tried, Streaming& streaming);
  Task<Result<std::string>> encode_chunk(const Invocation& tried, const Streaming& streaming,
                                         const Reply& reply);
  Task<Result<std::string>> only_chunk(Invocation& tried, Streaming& streaming);
  Task<Result<std::string>> all_chunks(Invocation& tried, Streaming& streaming);
  Task<void> send_stream(Exchange& exchange, Invocation& tried, Answer answer);
  void add_headers(Headers& headers, const Invocation& tried, std::string_view cors_origin) const;
  Task<Result<Decoded>> decode(Exchange& exchange, BodyReader& body, Protocol protocol,
                               const Invocation& tried, BodyBudget::Hold& copied);
  Task<Result<InferRequest>> decode_head(const RequestHead& head, BodyReader& body,
                                         Protocol protocol, const Serving& serving);
  Task<Result<InferRequest>> decode_document(std::string_view content_type, BodyReader& body,
                                             const Signature& signature);
  Task<Result<InferRequest>> decode_text(std::string text, Protocol protocol,
                                         const Signature& signature);
  Task<Status> fill(BodyReader& body, const InferRequest& request, RequestMemory& memory);
  Task<Result<Response>> encode(const InferRequest& request, const SharedTensors& shared,
                                const Serving& serving, Reply reply, Protocol protocol);
  Task<void> pack(Encoding encoding, Response& response);
  Response encode_error(const Error& error, const Invocation& tried) const;

  Parts parts_;
  PredictionLimits limits_;
  JsonParser parser_;
};

}  // namespace mayfly
