// Predictions of functions that are generators: each chunk is a server-sent event, sent when it is
// there. The record is written when the stream has ended, before its end leaves.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "core/wire/chunk.h"
#include "core/wire/plain_reply.h"
#include "gateway/access.h"
#include "gateway/prediction_parts.h"
#include "serving/tensor_memory.h"

namespace mayfly {
namespace {

// A JSON array of all chunks instead of events: for who takes JSON and says nothing of events.
bool wants_all(const RequestHead& head) {
  const std::string_view accepted = head.headers.find("Accept").value_or("");
  const auto names = [&](std::string_view type) { return accepted.contains(type); };
  return names("application/json") && !names("text/event-stream") && !names("*/*") &&
         !names("text/*");
}

std::string first_timing(const Timing& timing, Duration first) {
  const auto ms = [](Duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
  };
  return fmt::format("queue;dur={:.3f}, start;dur={:.3f}, first;dur={:.3f}", ms(timing.queue),
                     ms(timing.start), ms(first));
}

Response json_of_chunks(std::string text) {
  return {
      .status = 200, .headers = {{"Content-Type", "application/json"}}, .body = std::move(text)};
}

}  // namespace

Task<Result<Predictions::Answer>> Predictions::begin_stream(const RequestHead& head,
                                                            Protocol protocol, Invocation& tried,
                                                            Decoded decoded, CancelToken cancel) {
  Invoker::Question question{.request = std::move(decoded.memory),
                             .timeout = decoded.request.timeout,
                             .priority = urgency_of(decoded.request.priority),
                             .cancel = cancel};
  auto streaming = std::make_unique<Streaming>();
  CO_TRY(streaming->stream, parts_.invoker.open(tried, std::move(question)));
  streaming->request = std::move(decoded.request);
  streaming->protocol = protocol;
  CO_TRY(streaming->first, co_await next_chunk(tried, *streaming));
  if (protocol == Protocol::Generate) {
    CO_TRY(std::string text, co_await only_chunk(tried, *streaming));
    co_return Answer{.response = json_of_chunks(std::move(text)), .rest = nullptr};
  }
  if (protocol == Protocol::Plain && (tried.event || wants_all(head))) {
    CO_TRY(std::string text, co_await all_chunks(tried, *streaming));
    co_return Answer{.response = json_of_chunks(std::move(text)), .rest = nullptr};
  }
  Response response{.status = 200, .headers = {}, .body = {}};
  response.headers.add("Content-Type", "text/event-stream");
  response.headers.add("Cache-Control", "no-store");
  response.headers.add("X-Content-Type-Options", "nosniff");
  response.headers.add("X-Accel-Buffering", "no");  // proxies like nginx pass each chunk on
  response.headers.add("Mayfly-Start", to_string(streaming->stream->tier()));
  response.headers.add("Server-Timing", first_timing(streaming->stream->timing(),
                                                     tried.first_chunk.value_or(Duration{})));
  co_return Answer{.response = std::move(response), .rest = std::move(streaming)};
}

// nullopt: there are no more.
Task<Result<std::optional<std::string>>> Predictions::next_chunk(Invocation& tried,
                                                                 Streaming& streaming) {
  const std::optional<Reply> chunk = co_await parts_.invoker.next(tried, *streaming.stream);
  if (!chunk && !tried.outcome->reply) co_return std::unexpected(tried.outcome->reply.error());
  if (!chunk) co_return std::nullopt;
  Result<std::string> text = co_await encode_chunk(tried, streaming, *chunk);
  if (text) co_return *std::move(text);
  co_await parts_.invoker.close(tried, *streaming.stream, text.error());
  co_return std::unexpected(std::move(text).error());
}

Task<Result<std::string>> Predictions::encode_chunk(const Invocation& tried,
                                                    const Streaming& streaming,
                                                    const Reply& reply) {
  const Serving& serving = *tried.serving;
  const SizeLimit limit{limits_.max_reply.count, "limits.max_reply"};
  const auto work = [&]() -> Result<std::string> {
    const ReplyTensors outputs(streaming.request, serving.signature(), reply);
    std::string json;
    if (serving.manifest->documents) {
      const Document document = TRY(read_document(outputs.tensors()));
      json = TRY(chunk_of(document, limit));
    } else {
      json = TRY(encode_plain_reply(outputs.tensors(), limit));
    }
    if (streaming.protocol == Protocol::Plain) return json;
    return named_chunk(json, serving.name(), std::to_string(serving.version.value));
  };
  std::size_t bytes = 0;
  for (const OutputView& output : reply.outputs) bytes += output.bytes.size();
  co_return bytes > kLongText ? co_await parts_.parse_pool.run(work) : work();
}

// For /generate, which has one answer.
Task<Result<std::string>> Predictions::only_chunk(Invocation& tried, Streaming& streaming) {
  std::optional<std::string> more;
  if (streaming.first) {
    CO_TRY(more, co_await next_chunk(tried, streaming));
  }
  if (streaming.first && !more) co_return *std::move(streaming.first);
  const Error error =
      refuse(
          reason::kUnsupported,
          fmt::format("'{}' gave {} chunk, and /generate has one answer; POST to "
                      "/v2/models/{}/generate_stream",
                      tried.serving->name(), more ? "more than one" : "no", tried.serving->name()))
          .error();
  co_await parts_.invoker.close(tried, *streaming.stream, error);
  co_return std::unexpected(error);
}

Task<Result<std::string>> Predictions::all_chunks(Invocation& tried, Streaming& streaming) {
  const SizeLimit limit{limits_.max_reply.count, "limits.max_reply"};
  std::string text = "[";
  std::optional<std::string> chunk = std::move(streaming.first);
  while (chunk) {
    if (text.size() > 1) text += ',';
    text += *chunk;
    if (text.size() >= limit.bytes) {
      Error error = refuse_size("the reply", limit).error();
      co_await parts_.invoker.close(tried, *streaming.stream, error);
      co_return std::unexpected(std::move(error));
    }
    CO_TRY(chunk, co_await next_chunk(tried, streaming));
  }
  text += ']';
  co_return text;
}

Task<void> Predictions::send_stream(Exchange& exchange, Invocation& tried, Answer answer) {
  Streaming& streaming = *answer.rest;
  Result<std::optional<std::string>> chunk = std::move(streaming.first);
  Status sent = co_await exchange.start(answer.response.status, answer.response.headers);
  std::uint64_t bytes = 0;
  while (sent && chunk && *chunk) {
    const std::string event = to_event(**chunk);
    sent = co_await exchange.write(event);
    if (!sent) break;
    bytes += event.size();
    chunk = co_await next_chunk(tried, streaming);
  }
  if (!sent) {
    chunk = refuse(reason::kClientGone, "the client went away before the end of the stream");
    co_await parts_.invoker.close(tried, *streaming.stream, chunk.error());
  }
  std::string_view reason = chunk ? std::string_view() : chunk.error().reason;
  if (!chunk && reason.empty()) reason = reason::kInternal;
  const Status written = co_await parts_.invoker.conclude(tried, reason, bytes);
  if (!sent) co_return;  // the connection is cut: what has come is not all
  if (!written) chunk = std::unexpected(written.error());
  if (!chunk) {
    const Error& error = chunk.error();
    const std::string event =
        to_error_event(without_project(tried.caller->project, error.message),
                       error.reason.empty() ? reason::kInternal : error.reason, http_status(error),
                       traceback_for(tried, error));
    sent = co_await exchange.write(event);
  }
  if (sent) (void)co_await exchange.finish();
  parts_.invoker.answered(tried, reason);
}

}  // namespace mayfly
