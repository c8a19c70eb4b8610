#include "serving/callees.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/call_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/wire/document.h"
#include "core/wire/infer_head.h"
#include "core/wire/plain_request.h"
#include "serving/tensor_memory.h"

namespace mayfly {
namespace {

// What is longer is copied, parsed and written on a pool.
constexpr std::uint64_t kLongCall = 256 * 1024;

std::uint64_t bytes_of(const CallMessage& message) {
  std::uint64_t bytes = 0;
  for (const CallPart& part : message.parts) bytes += part.bytes.size();
  return bytes;
}

PlacedCall failure(const Error& error, std::string_view project) {
  return {.message = {.kind = CallKind::Failed,
                      .status = static_cast<std::uint32_t>(http_status(error)),
                      .name = std::string(error.reason.empty() ? reason::kInternal : error.reason),
                      .text = without_project(project, error.message)}};
}

// The instance is hostile: what it may call is not its own word.
Status check_call(const ServedOrigin& origin, std::string_view name) {
  const std::vector<std::string>& calls = origin.serving->manifest->options.function.calls;
  if (!std::ranges::binary_search(calls, name))
    return refuse(reason::kInvalidInput, "calls = [...] of its version does not name it");
  if (origin.depth < kMaxCallDepth) return {};
  return refuse(reason::kCallTooDeep, fmt::format("{} was called {} deep already",
                                                  origin.serving->function, kMaxCallDepth));
}

Result<InferRequest> bind_tensors(const CallMessage& message, const Signature& signature,
                                  const SizeLimit& limit) {
  InferHead head;
  for (const CallPart& part : message.parts) {
    head.inputs.push_back({.name = part.name,
                           .datatype = to_string(part.type),
                           .shape = part.shape,
                           .data = std::nullopt,
                           .binary_size = part.bytes.size()});
  }
  return bind_infer_request(head, signature, limit);
}

// In the order of the request, which is the parts'; a document's content type lies in its text.
Status fill_from(const CallMessage& message, const InferRequest& request, RequestMemory& memory) {
  std::size_t part = 0;
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const InferInput& input = request.inputs[i];
    if (input.source == InputSource::Json) {
      TRY(read_json_input(input, memory.input(i)));
    } else if (input.source == InputSource::Text) {
      std::ranges::copy(std::as_bytes(std::span(input.json)), memory.input(i).begin());
    } else {
      const std::span<std::byte> room = receive_input(input, memory.input(i));
      const std::span<const std::byte> bytes = message.parts.at(part++).bytes;
      if (bytes.size() != room.size())
        return refuse_input(input.name, "its bytes are not as many as its shape says");
      std::ranges::copy(bytes, room.begin());
      TRY(check_received_input(input, memory.input(i)));
    }
  }
  return {};
}

}  // namespace

std::shared_ptr<ServedOrigin> origin_of(const Invocation& tried) {
  if (!tried.serving->runtime->calls) return nullptr;
  auto origin = std::make_shared<ServedOrigin>();
  origin->serving = tried.serving;
  origin->depth = tried.called_by ? tried.called_by->depth + 1 : 0;
  const bool of_shadow = tried.caller->name == kShadowCaller;
  origin->caller =
      of_shadow ? std::string(kShadowCaller)
                : fmt::format("{}@{} (call)", tried.serving->name(), tried.serving->version.value);
  origin->source = tried.source;
  origin->request_id = tried.request_id;
  if (const auto key = tried.lookup("Mayfly-Key")) origin->key = std::string(*key);
  if (tried.trace) origin->trace = to_traceparent(tried.trace->context);
  return origin;
}

std::shared_ptr<ServedOrigin> shadow_origin(ServingRef shadow, std::string request_id) {
  if (!shadow->runtime->calls) return nullptr;
  auto origin = std::make_shared<ServedOrigin>();
  origin->caller = kShadowCaller;
  origin->source = shadow->function;
  origin->request_id = std::move(request_id);
  origin->serving = std::move(shadow);
  return origin;
}

Callees::Callees(Parts parts, Limits limits) : parts_(parts), limits_(limits), inside_(parts.loop) {
  parts_.dispatcher.set_calls([this](AskedCall asked) {
    auto hold = inside_.hold();
    if (!hold) return;  // nobody is left to answer to
    parts_.loop.spawn(serve(std::move(asked), *std::move(hold)));
  });
}

Task<void> Callees::serve(AskedCall asked, Gate::Hold /*hold*/) {
  const auto origin = std::static_pointer_cast<ServedOrigin>(asked.by);
  const std::string_view project = project_of(origin->serving->function);
  BodyBudget::Hold held(parts_.bodies);
  Invocation tried = begin(origin);
  tried.received = bytes_of(asked.call.message);
  auto answered = co_await attempt(asked, tried, held);
  if (answered && answered->message.kind == CallKind::AskInJson) {
    parts_.dispatcher.answer(*origin, *std::move(answered));
    co_return;
  }
  std::string_view reason = answered ? std::string_view() : answered.error().reason;
  if (!answered && reason.empty()) reason = reason::kInternal;
  const std::uint64_t sent = answered ? bytes_of(answered->message) : 0;
  const Status written = co_await parts_.invoker.conclude(tried, reason, sent);
  if (!written) answered = std::unexpected(written.error());
  parts_.dispatcher.answer(*origin,
                           answered ? *std::move(answered) : failure(answered.error(), project));
  parts_.invoker.answered(tried, written ? reason : written.error().reason);
}

Invocation Callees::begin(std::shared_ptr<ServedOrigin> origin) {
  auto principal = std::make_shared<Principal>();
  principal->project = project_of(origin->serving->function);
  principal->name = origin->caller;
  Invocation tried =
      parts_.invoker.begin(std::move(principal),
                           [origin](std::string_view name) -> std::optional<std::string_view> {
                             if (name == "X-Request-Id") return origin->request_id;
                             if (name == "Mayfly-Key") return origin->key;
                             if (name == "traceparent") return origin->trace;
                             return std::nullopt;
                           },
                           {});
  tried.source = origin->source;
  if (!origin->trace) tried.trace.reset();  // its caller's is not recorded
  tried.called_by = std::move(origin);
  return tried;
}

Task<Result<PlacedCall>> Callees::attempt(const AskedCall& asked, Invocation& tried,
                                          BodyBudget::Hold& held) {
  const CallMessage& message = asked.call.message;
  const auto& origin = static_cast<const ServedOrigin&>(*asked.by);
  CO_TRY_STATUS(check_call(origin, message.name));
  const std::string name = qualified_name(tried.caller->project, message.name);
  CO_TRY_STATUS(co_await parts_.invoker.find(tried, name, ""));
  const Serving& serving = *tried.serving;
  if (serving.manifest->streams) {
    co_return refuse(
        reason::kUnsupported,
        fmt::format("'{}' streams its replies, which ctx.call() does not take", serving.name()));
  }
  if (serving.manifest->documents && message.kind == CallKind::Tensors)
    co_return PlacedCall{.message = {.kind = CallKind::AskInJson}};
  if (tried.received > BodyBudget::kUncounted.count && !held.grow_to(Bytes{tried.received})) {
    co_return refuse(reason::kNodeBusy,
                     "the node holds as many large requests as limits.body_memory allows");
  }
  CO_TRY(InferRequest request, co_await decode(message, serving));
  CO_TRY(RequestMemory memory, co_await place(message, request, serving));
  request.inputs.clear();  // they lie in `memory` now, and looked into the text
  request.text = std::string();
  Invoker::Question question{.request = std::move(memory),
                             .timeout = asked.deadline - tried.begun,
                             .priority = asked.priority,
                             .cancel = asked.by->callees.token()};
  CO_TRY(Reply reply, co_await parts_.invoker.run(tried, std::move(question)));
  co_return co_await encode(request, serving, std::move(reply));
}

Task<Result<InferRequest>> Callees::decode(const CallMessage& message, const Serving& serving) {
  const SizeLimit limit{limits_.max_body.count, "limits.max_body"};
  const Signature& signature = serving.signature();
  if (bytes_of(message) > limit.bytes) co_return refuse_size("the call", limit);
  if (message.kind == CallKind::Tensors) co_return bind_tensors(message, signature, limit);
  if (message.kind != CallKind::Document)
    co_return refuse(reason::kInvalidInput, "that is no call");
  const std::span<const std::byte> body = message.parts.front().bytes;
  if (serving.manifest->documents) {
    co_return document_request(body.size(), message.text, signature);
  }
  if (!message.text.starts_with("application/json")) {
    co_return refuse(reason::kUnsupportedMedia,
                     fmt::format("'{}' takes a dict of arrays, or JSON", serving.name()));
  }
  const auto parse = [&](JsonParser& parser) {
    // Copied once: the instance may still write to it.
    std::string text(reinterpret_cast<const char*>(body.data()), body.size());
    return decode_plain_request(parser, std::move(text), signature, limit);
  };
  if (body.size() <= kLongCall) co_return parse(parser_);
  co_return co_await parts_.parse_pool.run([&] {
    JsonParser parser;
    return parse(parser);
  });
}

Task<Result<RequestMemory>> Callees::place(const CallMessage& message, const InferRequest& request,
                                           const Serving& serving) {
  CO_TRY(RequestMemory memory, allocate_request(request, serving.output_bytes));
  const auto work = [&] { return fill_from(message, request, memory); };
  if (bytes_of(message) <= kLongCall) {
    CO_TRY_STATUS(work());
  } else {
    CO_TRY_STATUS(co_await parts_.parse_pool.run(work));
  }
  co_return memory;
}

Task<Result<PlacedCall>> Callees::encode(const InferRequest& request, const Serving& serving,
                                         Reply reply) {
  auto kept = std::make_shared<Reply>(std::move(reply));
  const ReplyTensors outputs(request, serving.signature(), *kept);
  PlacedCall placed{.message = {.kind = CallKind::Tensors}, .memory = kept};
  if (serving.manifest->documents) {
    CO_TRY(const Document document, read_document(outputs.tensors()));
    placed.message.kind = CallKind::Document;
    placed.message.text = document.content_type;
    placed.message.parts.push_back({.name = {}, .bytes = document.body});
  } else {
    for (const ReplyTensor& tensor : outputs.tensors()) {
      placed.message.parts.push_back({.name = std::string(tensor.name),
                                      .type = tensor.type,
                                      .shape = Shape(tensor.shape.begin(), tensor.shape.end()),
                                      .bytes = tensor.bytes});
    }
  }
  const SizeLimit limit{limits_.max_reply.count, "limits.max_reply"};
  const std::uint64_t bytes = call_bytes(placed.message);
  if (bytes > limit.bytes) co_return refuse_size("the reply", limit);
  if (bytes <= kLongCall) co_return placed;
  CO_TRY(placed.region, co_await parts_.parse_pool.run([&]() -> Result<std::shared_ptr<Region>> {
    auto region = std::make_shared<Region>(TRY(Region::create(bytes)));
    write_call(region->bytes(), placed.message);
    return region;
  }));
  co_return placed;
}

}  // namespace mayfly
