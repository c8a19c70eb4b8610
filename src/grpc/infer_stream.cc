// ModelStreamInfer: requests and answers on one call. A function that is a generator gives several
// answers to a request, each sent before the next one is asked for.
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "async/event.h"
#include "async/gate.h"
#include "core/project.h"
#include "core/reason.h"
#include "dispatch/stream.h"
#include "grpc/infer_codec.h"
#include "grpc/infer_parts.h"
#include "grpc/message_bytes.h"
#include "grpc/rpc_caller.h"

namespace mayfly {
namespace {

// Messages of a stream that are worked on at the same time.
constexpr std::size_t kAhead = 16;

// What is sent of one request: message by message, by the one who sends, in the requests' order.
struct Answers {
  std::optional<grpc::ByteBuffer> message;
  Promise<bool> taken;      // whether the client got it
  Promise<void> something;  // there is a message, or it is over
  bool over = false;
};

}  // namespace

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
      answers_.push_back(std::make_unique<Answers>());
      loop_.spawn(answer(*message, *answers_.back(), *inside_.hold()));
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
  Task<void> answer(grpc::ByteBuffer message, Answers& answers, Gate::Hold) {
    Invocation tried = service_.begin(rpc_);
    BodyBudget::Hold held(service_.parts_.bodies);
    std::string id;
    std::uint64_t sent = 0;
    const Side side{.held = held, .id = id};
    auto asked = co_await service_.prepare(rpc_, message, tried, side);
    const bool wants_final = asked && asked->wants_final;
    Result<std::string> last = std::string();
    if (!asked) {
      last = std::unexpected(std::move(asked).error());
    } else if (tried.serving->manifest->streams) {
      last = co_await chunks(tried, *asked, answers, sent);
    } else {
      last = co_await service_.run(tried, *asked);
    }
    last = co_await conclude(tried, std::move(last), sent);
    // A client that reads nothing keeps no memory of bodies.
    message.Clear();
    {
      const BodyBudget::Hold done = std::move(held);
    }
    if (!last) {
      (void)co_await say(answers, failure(last.error(), id));
    } else if (!last->empty()) {
      if (wants_final) *last += final_response_mark(FinalResponse::Yes);
      (void)co_await say(answers, to_buffer(wrap_infer_response(*last)));
    }
    service_.parts_.invoker.answered(
        tried, last ? std::string_view() : std::string_view(last.error().reason));
    answers.over = true;
    answers.something.set();
  }

  // Writes the record, before the last message leaves.
  Task<Result<std::string>> conclude(Invocation& tried, Result<std::string> last,
                                     std::uint64_t sent) {
    if (!last && last.error().reason.empty()) last.error().reason = reason::kInternal;
    const std::string_view reason = last ? std::string_view() : last.error().reason;
    sent += last ? last->size() : last.error().message.size();
    CO_TRY_STATUS(co_await service_.parts_.invoker.conclude(tried, reason, sent));
    co_return last;
  }

  // All but the last message, which is empty where the client wants none.
  Task<Result<std::string>> chunks(Invocation& tried, Asked& asked, Answers& answers,
                                   std::uint64_t& sent) {
    if (asked.placed.shared.has_outputs()) {
      co_return refuse(reason::kUnsupported,
                       "a function that streams has no outputs in shared memory: each would lie "
                       "where the one before is read");
    }
    Invoker& invoker = service_.parts_.invoker;
    CO_TRY(const std::unique_ptr<mayfly::Stream> stream,
           invoker.open(tried, std::move(asked.question)));
    while (std::optional<Reply> chunk = co_await invoker.next(tried, *stream)) {
      auto bytes = co_await service_.encode(asked.placed, *tried.serving, *std::move(chunk));
      if (bytes) {
        *bytes += final_response_mark(FinalResponse::No);
        sent += bytes->size();
        if (co_await say(answers, to_buffer(wrap_infer_response(*bytes)))) continue;
        bytes = refuse(reason::kClientGone, "the client went away before the end of the stream");
      }
      co_await invoker.close(tried, *stream, bytes.error());
      co_return std::unexpected(std::move(bytes).error());
    }
    if (!tried.outcome->reply) co_return std::unexpected(tried.outcome->reply.error());
    if (!asked.wants_final) co_return std::string();
    const std::string version = std::to_string(tried.serving->version.value);
    const InferReply empty{.model_name = tried.serving->name(),
                           .model_version = version,
                           .id = asked.placed.request.id,
                           .outputs = {}};
    co_return encode_infer_response(empty, {service_.limits_.max_reply.count, "limits.max_reply"});
  }

  grpc::ByteBuffer failure(const Error& error, const std::string& id) {
    inference::ModelStreamInferResponse failed;
    failed.set_error_message(shortened(without_project(rpc_.caller()->project, error.message)));
    failed.mutable_infer_response()->set_id(id);
    return to_buffer(failed);
  }

  // When it has been sent. False: the client is gone.
  Task<bool> say(Answers& answers, grpc::ByteBuffer message) {
    Future<bool> taken(loop_);
    answers.taken = taken.promise();
    answers.message = std::move(message);
    answers.something.set();
    const Result<bool> sent = co_await taken;
    co_return sent && *sent;
  }

  Task<void> send_answers(Gate::Hold) {
    while (true) {
      while (answers_.empty() && !ended_) {
        Future<void> more(loop_);
        more_ = more.promise();
        (void)co_await more;
      }
      if (answers_.empty()) co_return;
      co_await send(*answers_.front());
      answers_.pop_front();
      room_.set();
    }
  }

  Task<void> send(Answers& answers) {
    while (true) {
      while (!answers.message && !answers.over) {
        Future<void> something(loop_);
        answers.something = something.promise();
        (void)co_await something;
      }
      if (!answers.message) co_return;
      const grpc::ByteBuffer message = *std::exchange(answers.message, std::nullopt);
      if (!broken_ && !co_await rpc_.write(message)) {
        broken_ = true;
        room_.set();
      }
      answers.taken.set(!broken_);
    }
  }

  InferenceService& service_;
  Rpc& rpc_;
  Loop& loop_;
  Gate inside_;
  std::deque<std::unique_ptr<Answers>> answers_;
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
