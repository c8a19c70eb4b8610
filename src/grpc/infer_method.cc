// ModelInfer and ModelStreamInfer.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "async/event.h"
#include "async/gate.h"
#include "core/reason.h"
#include "gateway/access.h"
#include "gateway/protocol_words.h"
#include "grpc/infer_codec.h"
#include "grpc/inference_service.h"
#include "grpc/message_bytes.h"
#include "grpc/rpc_caller.h"
#include "serving/shared_tensors.h"
#include "serving/tensor_memory.h"

namespace mayfly {
namespace {

// What is longer is parsed and written on a pool: it must not hold up what is short.
constexpr std::size_t kLong = 256 * 1024;
// Messages of a stream that are worked on at the same time.
constexpr std::size_t kAhead = 16;

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

// The request, with its tensors where they are run from.
struct InferenceService::Placed {
  InferRequest request;
  RequestMemory memory;
  SharedTensors shared;
};

Invocation InferenceService::begin(Rpc& rpc) {
  return parts_.invoker.begin(
      rpc.caller(), [&rpc](std::string_view name) { return rpc.metadata(name); }, rpc.peer());
}

Task<Status> InferenceService::infer(Rpc& rpc) {
  std::optional<grpc::ByteBuffer> message = co_await rpc.read();
  if (!message) co_return refuse(reason::kBadRequest, "the call carries no message");
  Invocation tried = begin(rpc);
  std::string id;
  auto answered = co_await predict(rpc, *message, tried, id);
  const Status status = answered ? Status{} : std::unexpected(answered.error());
  trail_invocation(rpc, tried, status);
  if (answered) rpc.reply(to_buffer(*std::move(answered)));
  parts_.invoker.answered(tried, status ? std::string_view() : status.error().reason);
  co_return status;
}

Task<Result<std::string>> InferenceService::predict(Rpc& rpc, grpc::ByteBuffer& message,
                                                    Invocation& tried, std::string& id) {
  auto answered = co_await attempt(rpc, message, tried, id);
  if (!answered && answered.error().reason.empty()) answered.error().reason = reason::kInternal;
  const std::string_view reason = answered ? std::string_view() : answered.error().reason;
  const std::uint64_t sent = answered ? answered->size() : answered.error().message.size();
  CO_TRY_STATUS(co_await parts_.invoker.conclude(tried, reason, sent));
  co_return answered;
}

Task<Result<std::string>> InferenceService::attempt(Rpc& rpc, grpc::ByteBuffer& message,
                                                    Invocation& tried, std::string& id) {
  tried.received = message.Length();
  const std::optional<Duration> left = rpc.time_left();  // from here on, as the version's own
  BodyBudget::Hold held(parts_.bodies);
  CO_TRY_STATUS(hold_message(held, tried.received));
  inference::ModelInferRequest request;
  CO_TRY_STATUS(co_await parse(message, request));
  id = request.id();
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.model_name()));
  Status found = co_await parts_.invoker.find(tried, name, request.model_version());
  if (!found) {
    co_return std::unexpected(
        in_protocol_words(std::move(found).error(), request.model_name(), request.model_version()));
  }
  const Serving& serving = *tried.serving;
  CO_TRY(Placed placed, co_await place(request, tried, held));
  inference::ModelInferRequest().Swap(&request);  // Clear() would keep its memory
  Invoker::Question question{.request = std::move(placed.memory),
                             .timeout = sooner(placed.request.timeout, left),
                             .priority = urgency_of(placed.request.priority),
                             .cancel = rpc.cancelled()};
  CO_TRY(Reply reply, co_await parts_.invoker.run(tried, std::move(question)));
  co_return co_await encode(placed, serving, std::move(reply));
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

// ---- Streams ------------------------------------------------------------------------------------

// The requests of one stream: up to kAhead at a time, answered in their order.
class InferenceService::Stream {
 public:
  Stream(InferenceService& service, Rpc& rpc)
      : service_(service), rpc_(rpc), loop_(service.parts_.loop), inside_(loop_) {}

  // Ends when the client has said all, or with the error of a caller whose key has ended.
  Task<Status> run() {
    Status known;
    loop_.spawn(send_answers(*inside_.hold()));
    while (!broken_) {
      std::optional<grpc::ByteBuffer> message = co_await rpc_.read();
      if (!message) break;
      known = service_.identify_again(rpc_);
      if (!known) break;
      answers_.push_back(std::make_unique<Future<grpc::ByteBuffer>>(loop_));
      loop_.spawn(answer(*message, answers_.back()->promise(), *inside_.hold()));
      message.reset();
      more_.set();
      while (answers_.size() >= kAhead && !broken_) {
        Future<void> room(loop_);
        room_ = room.promise();
        (void)co_await room;
      }
    }
    ended_ = true;
    more_.set();
    co_await inside_.close();
    co_return known;
  }

 private:
  Task<void> answer(grpc::ByteBuffer message, Promise<grpc::ByteBuffer> promise, Gate::Hold) {
    Invocation tried = service_.begin(rpc_);
    std::string id;
    auto answered = co_await service_.predict(rpc_, message, tried, id);
    if (answered) {
      promise.set(to_buffer(wrap_infer_response(*answered)));
    } else {
      inference::ModelStreamInferResponse failed;
      failed.set_error_message(
          shortened(without_project(rpc_.caller()->project, answered.error().message)));
      failed.mutable_infer_response()->set_id(id);
      promise.set(to_buffer(failed));
    }
    service_.parts_.invoker.answered(
        tried, answered ? std::string_view() : std::string_view(answered.error().reason));
  }

  Task<void> send_answers(Gate::Hold) {
    while (true) {
      while (answers_.empty() && !ended_) {
        Future<void> more(loop_);
        more_ = more.promise();
        (void)co_await more;
      }
      if (answers_.empty()) co_return;
      Result<grpc::ByteBuffer> answer = co_await *answers_.front();
      if (!broken_ && !co_await rpc_.write(*answer)) broken_ = true;
      answers_.pop_front();
      room_.set();
    }
  }

  InferenceService& service_;
  Rpc& rpc_;
  Loop& loop_;
  Gate inside_;
  std::deque<std::unique_ptr<Future<grpc::ByteBuffer>>> answers_;
  Promise<void> more_;  // there is something to send, or nothing to come
  Promise<void> room_;  // one was sent
  bool ended_ = false;
  bool broken_ = false;  // the client is gone
};

Status InferenceService::identify_again(Rpc& rpc) {
  rpc.identify(TRY(who_still_calls(parts_.callers, rpc)), rpc.needs());
  return {};
}

Task<Status> InferenceService::stream_infer(Rpc& rpc) {
  Stream stream(*this, rpc);
  co_return co_await stream.run();
}

}  // namespace mayfly
