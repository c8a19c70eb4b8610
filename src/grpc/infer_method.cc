// ModelInfer; how any prediction over gRPC is read and answered.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "gateway/access.h"
#include "gateway/protocol_words.h"
#include "grpc/infer_codec.h"
#include "grpc/infer_parts.h"
#include "grpc/message_bytes.h"
#include "serving/tensor_memory.h"

namespace mayfly {
namespace {

// What is longer is parsed and written on a pool: it must not hold up what is short.
constexpr std::size_t kLong = 256 * 1024;

void trail_invocation(Rpc& rpc, const Invocation& tried, const Status& status) {
  if (tried.serving) rpc.trail("mayfly-version", std::to_string(tried.serving->version.value));
  rpc.trail("mayfly-invocation", to_string(tried.id));
  rpc.trail("mayfly-start", to_string(tried.tier()));
  rpc.trail("server-timing", server_timing(tried.timing()));
  rpc.trail("x-request-id", tried.request_id);
  if (tried.trace) rpc.trail("traceresponse", to_traceparent(tried.trace->context));
  if (status) return;
  if (const auto wait = tried.retry_after(status.error()); wait.count() > 0) {
    rpc.trail("retry-after", std::to_string(wait.count()));
  }
}

std::optional<Duration> sooner(std::optional<Duration> a, std::optional<Duration> b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

}  // namespace

Invocation InferenceService::begin(Rpc& rpc) {
  return parts_.invoker.begin(
      rpc.caller(), [&rpc](std::string_view name) { return rpc.metadata(name); }, rpc.peer());
}

Task<Status> InferenceService::infer(Rpc& rpc) {
  std::optional<grpc::ByteBuffer> message = co_await rpc.read();
  if (!message) co_return refuse(reason::kBadRequest, "the call carries no message");
  Invocation tried = begin(rpc);
  auto answered = co_await predict(rpc, *message, tried);
  const Status status = answered ? Status{} : std::unexpected(answered.error());
  trail_invocation(rpc, tried, status);
  if (answered) rpc.reply(to_buffer(*std::move(answered)));
  parts_.invoker.answered(tried, status ? std::string_view() : status.error().reason);
  co_return status;
}

Task<Result<std::string>> InferenceService::predict(Rpc& rpc, grpc::ByteBuffer& message,
                                                    Invocation& tried) {
  BodyBudget::Hold held(parts_.bodies);
  std::string id;
  const Side side{.held = held, .id = id};
  auto asked = co_await prepare(rpc, message, tried, side);
  Result<std::string> answered =
      asked ? co_await run(tried, *asked) : std::unexpected(std::move(asked).error());
  if (!answered && answered.error().reason.empty()) answered.error().reason = reason::kInternal;
  const std::string_view reason = answered ? std::string_view() : answered.error().reason;
  const std::uint64_t sent = answered ? answered->size() : answered.error().message.size();
  CO_TRY_STATUS(co_await parts_.invoker.conclude(tried, reason, sent));
  co_return answered;
}

Task<Result<InferenceService::Asked>> InferenceService::prepare(Rpc& rpc, grpc::ByteBuffer& message,
                                                                Invocation& tried, Side side) {
  tried.received = message.Length();
  const std::optional<Duration> left = rpc.time_left();  // from here on, as the version's own
  CO_TRY_STATUS(hold_message(side.held, tried.received));
  inference::ModelInferRequest request;
  CO_TRY_STATUS(co_await parse(message, request));
  side.id = request.id();
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.model_name()));
  Status found = co_await parts_.invoker.find(tried, name, request.model_version());
  if (!found) {
    co_return std::unexpected(
        in_protocol_words(std::move(found).error(), request.model_name(), request.model_version()));
  }
  const bool wants_final = wants_final_response(request);
  CO_TRY(Placed placed, co_await place(request, tried, side.held));
  inference::ModelInferRequest().Swap(&request);  // Clear() would keep its memory
  Invoker::Question question{.request = std::move(placed.memory),
                             .timeout = sooner(placed.request.timeout, left),
                             .priority = urgency_of(placed.request.priority),
                             .cancel = rpc.cancelled()};
  co_return Asked{std::move(placed), std::move(question), wants_final};
}

Task<Result<std::string>> InferenceService::run(Invocation& tried, Asked& asked) {
  CO_TRY(Reply reply, co_await parts_.invoker.run(tried, std::move(asked.question)));
  co_return co_await encode(asked.placed, *tried.serving, std::move(reply));
}

Task<Status> InferenceService::parse(grpc::ByteBuffer& message,
                                     inference::ModelInferRequest& request) {
  const auto work = [&]() -> Status {
    BufferStream stream(message);
    TRY(check_infer_message(stream));
    TRY(parse_message(message, request));
    message.Clear();
    return {};
  };
  if (message.Length() <= kLong) co_return work();
  co_return co_await parts_.parse_pool.run(work);
}

Task<Result<InferenceService::Placed>> InferenceService::place(
    const inference::ModelInferRequest& message, const Invocation& tried, BodyBudget::Hold& held) {
  const Serving& serving = *tried.serving;
  const SizeLimit limit{limits_.max_body.count, "limits.max_body"};
  CO_TRY(InferHead head, head_of(message));
  CO_TRY(InferRequest request, bind_infer_request(head, serving.signature(), limit));
  CO_TRY(SharedTensors shared,
         SharedTensors::find(parts_.shared, tried.caller->project, request, serving.signature()));
  CO_TRY_STATUS(shared.hold(held, 2 * tried.received));
  CO_TRY(RequestMemory memory, allocate_request(request, serving.output_bytes));
  const auto fill = [&]() -> Status {
    GivenInput given;
    for (const InferInput& input : request.inputs) {
      if (input.source != InputSource::Shared)
        TRY(fill_input(message, given, input, memory.input(given.input)));
      given.raw += input.source == InputSource::Shared ? 0 : 1;
      ++given.input;
    }
    return shared.read(request, memory);
  };
  if (request.binary_bytes + shared.input_bytes() <= kLong) {
    CO_TRY_STATUS(fill());
  } else {
    CO_TRY_STATUS(co_await parts_.parse_pool.run(fill));
  }
  request.inputs.clear();  // they lie in `memory` now, and looked into the message
  co_return Placed{std::move(request), std::move(memory), std::move(shared)};
}

Task<Result<std::string>> InferenceService::encode(const Placed& placed, const Serving& serving,
                                                   Reply reply) {
  const InferRequest& request = placed.request;
  std::optional<ReplyTensors> made;
  const auto look = [&] { made.emplace(request, serving.signature(), reply); };
  if (sorts_much(request, reply)) {
    co_await parts_.parse_pool.run(look);
  } else {
    look();
  }
  const ReplyTensors& outputs = *made;
  if (placed.shared.has_outputs()) {
    CO_TRY_STATUS(
        co_await parts_.parse_pool.run([&] { return placed.shared.write(outputs.tensors()); }));
  }
  const std::string version = std::to_string(serving.version.value);
  const InferReply answer{.model_name = serving.name(),
                          .model_version = version,
                          .id = request.id,
                          .outputs = outputs.tensors()};
  const auto work = [&] {
    return encode_infer_response(answer, {limits_.max_reply.count, "limits.max_reply"});
  };
  std::uint64_t bytes = 0;
  for (const ReplyTensor& tensor : outputs.tensors()) bytes += tensor.bytes.size();
  if (bytes <= kLong) co_return work();
  co_return co_await parts_.parse_pool.run(work);
}

}  // namespace mayfly
