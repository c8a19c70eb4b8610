#include "gateway/predictions.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/reason.h"
#include "core/wire/chunk.h"
#include "core/wire/document.h"
#include "core/wire/image_request.h"
#include "core/wire/infer_reply.h"
#include "core/wire/plain_reply.h"
#include "core/wire/plain_request.h"
#include "core/wire/tf_reply.h"
#include "core/wire/tf_request.h"
#include "gateway/access.h"
#include "gateway/guard.h"
#include "gateway/prediction_parts.h"
#include "gateway/protocol_words.h"
#include "net/decompress.h"
#include "serving/tensor_memory.h"

namespace mayfly {
namespace {

constexpr std::size_t kCompressFrom = 4 * 1024;

Error in_words_of(Protocol protocol, Error error, const Route& route) {
  switch (protocol) {
    case Protocol::OpenInference:
      return in_protocol_words(std::move(error), route.name, route.version);
    case Protocol::TensorFlow:
      return in_tensorflow_words(std::move(error), route.name, route.version);
    case Protocol::Generate:
    case Protocol::GenerateStream:
      return in_protocol_words(std::move(error), route.name, route.version);
    case Protocol::Plain:
      break;
  }
  return error;
}

Result<InferRequest> decode_body(Protocol protocol, JsonParser& parser, std::string text,
                                 const Signature& signature, const SizeLimit& limit) {
  switch (protocol) {
    case Protocol::OpenInference:
      break;
    case Protocol::Plain:
      return decode_plain_request(parser, std::move(text), signature, limit);
    case Protocol::TensorFlow:
      return decode_tf_request(parser, std::move(text), signature, limit);
    case Protocol::Generate:
    case Protocol::GenerateStream:
      return decode_generate_request(parser, std::move(text), signature, limit);
  }
  return decode_infer_request(parser, std::move(text), signature, limit);
}

bool is_image(std::string_view content_type) {
  return content_type.starts_with("image/png") || content_type.starts_with("image/jpeg");
}

// What programs send for JSON when nobody told them better; curl -d says urlencoded.
Status check_content_type(std::string_view type) {
  for (const char* known : {"application/json", "application/x-www-form-urlencoded", "text/plain",
                            "application/octet-stream"}) {
    if (type.empty() || type.starts_with(known)) return {};
  }
  return refuse(
      reason::kUnsupportedMedia,
      fmt::format(
          "Content-Type '{}' is not accepted: send application/json, image/png or image/jpeg",
          type.substr(0, 100)));
}

std::uint64_t json_bytes(std::span<const ReplyTensor> tensors) {
  std::uint64_t bytes = 0;
  for (const ReplyTensor& tensor : tensors)
    bytes += tensor.form == OutputForm::Json ? tensor.bytes.size() : 0;
  return bytes;
}

// What streams and what does not are asked in different places.
Status check_streams(const Serving& serving, Protocol protocol) {
  const bool generates = protocol == Protocol::Generate || protocol == Protocol::GenerateStream;
  if (serving.manifest->streams && !generates && protocol != Protocol::Plain) {
    return refuse(reason::kUnsupported,
                  fmt::format("'{0}' streams its replies: POST to /functions/{0} or "
                              "/v2/models/{0}/generate_stream",
                              serving.name()));
  }
  if (serving.manifest->streams || !generates) return {};
  return refuse(
      reason::kUnsupported,
      fmt::format("'{0}' does not stream: it is no function whose predict is a generator; "
                  "send tensors to /v2/models/{0}/infer",
                  serving.name()));
}

// Room for the headers that every reply has.
constexpr std::size_t kReplyHeaders = 8;
constexpr std::size_t kReplyHeaderBytes = 384;

Response json_response(std::string text) {
  Response response{.status = 200, .headers = {}, .body = std::move(text)};
  response.headers.reserve(kReplyHeaders, kReplyHeaderBytes);
  response.headers.add("Content-Type", "application/json");
  return response;
}

// What a function made is nobody's page: a browser shows it, and runs nothing of it as ours.
void distrust(Headers& headers) {
  headers.add("X-Content-Type-Options", "nosniff");
  headers.add("Content-Security-Policy", "sandbox");
}

Result<Response> document_response(const Document& document, Reply reply, const SizeLimit& limit) {
  if (document.body.size() > limit.bytes) return refuse_size("the reply", limit);
  Response response{.status = 200, .headers = {}, .body = {}};
  response.headers.reserve(kReplyHeaders, kReplyHeaderBytes);
  response.headers.add("Content-Type", document.content_type);
  distrust(response.headers);
  if (document.body.size() <= kLongText) {
    response.body =
        std::string(reinterpret_cast<const char*>(document.body.data()), document.body.size());
    return response;
  }
  SharedBytes body;
  body.parts.push_back(document.body);
  body.owner = std::make_shared<Reply>(std::move(reply));
  response.body = std::move(body);
  return response;
}

// Text, then tensors from where the instance left them, or where they were classified.
Response mixed_response(EncodedReply encoded, Reply reply, std::vector<Classified> classified) {
  struct Kept {
    std::string text;
    Reply reply;
    std::vector<Classified> classified;
  };
  auto kept =
      std::make_shared<Kept>(std::move(encoded.text), std::move(reply), std::move(classified));
  SharedBytes body;
  body.parts.push_back(std::as_bytes(std::span(kept->text)));
  for (const auto& part : encoded.binary) body.parts.push_back(part);
  Response response{
      .status = 200, .headers = {{"Content-Type", "application/octet-stream"}}, .body = {}};
  response.headers.add("Inference-Header-Content-Length", std::to_string(kept->text.size()));
  body.owner = std::move(kept);
  response.body = std::move(body);
  return response;
}

std::optional<Encoding> encoding_of(const RequestHead& head, const Response& response) {
  const auto accepted = head.headers.find("Accept-Encoding");
  const auto* text = std::get_if<std::string>(&response.body);
  if (!accepted || text == nullptr || text->size() < kCompressFrom) return std::nullopt;
  return choose_encoding(*accepted);
}

std::uint64_t size_of(const Response& response) {
  if (const auto* text = std::get_if<std::string>(&response.body)) return text->size();
  std::uint64_t bytes = 0;
  for (const auto& part : std::get<SharedBytes>(response.body).parts) bytes += part.size();
  return bytes;
}

}  // namespace

std::string_view traceback_for(const Invocation& tried, const Error& error) {
  if (error.reason != reason::kFunctionError || tried.event || !tried.outcome || !tried.serving)
    return {};
  const Scopes& scopes = tried.caller->scopes;
  return scopes.allow(Verb::Read, tried.serving->name()) ? tried.outcome->traceback
                                                         : std::string_view();
}

std::optional<Protocol> protocol_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::Infer:
      return Protocol::OpenInference;
    case Endpoint::Invoke:
      return Protocol::Plain;
    case Endpoint::TfPredict:
      return Protocol::TensorFlow;
    case Endpoint::Generate:
      return Protocol::Generate;
    case Endpoint::GenerateStream:
      return Protocol::GenerateStream;
    default:
      return std::nullopt;
  }
}

Task<void> Predictions::handle(Exchange& exchange, const Route& route, Protocol protocol,
                               std::string_view cors_origin, EventTry* event) {
  const RequestHead& head = exchange.head();
  Invocation tried = parts_.invoker.begin(
      route.caller, [&head](std::string_view name) { return head.headers.find(name); },
      exchange.peer());
  if (event != nullptr) {
    tried.event = event->attempt;
    tried.source = event->source;
  }
  auto answered = co_await attempt(exchange, route, protocol, tried);
  std::string_view reason = answered ? std::string_view() : answered.error().reason;
  if (!answered && reason.empty()) reason = reason::kInternal;
  if (event != nullptr && !answered) event->outcome = std::unexpected(answered.error());
  if (answered && answered->rest) {
    add_headers(answered->response.headers, tried, cors_origin);
    co_return co_await send_stream(exchange, tried, *std::move(answered));
  }
  Response response =
      answered ? std::move(answered->response) : encode_error(answered.error(), tried);
  if (const auto encoding = encoding_of(head, response)) {
    co_await pack(*encoding, response);
  }

  const Status written = co_await conclude(tried, reason, response, event);
  if (!written) {
    response = encode_error(written.error(), tried);
    reason = written.error().reason;
  }
  response.headers.add("Mayfly-Start", to_string(tried.tier()));
  if (tried.cache != Invocation::Cache::Unused)
    response.headers.add("Mayfly-Cache", tried.cache == Invocation::Cache::Hit ? "hit" : "miss");
  if (tried.outcome && tried.outcome->batch > 1)
    response.headers.add("Mayfly-Batch", std::to_string(tried.outcome->batch));
  response.headers.add("Server-Timing", server_timing(tried.timing()));
  add_headers(response.headers, tried, cors_origin);
  (void)co_await exchange.respond(std::move(response));  // a client that is gone gets nothing
  parts_.invoker.answered(tried, reason);
}

// Of every reply, whatever came of it.
void Predictions::add_headers(Headers& headers, const Invocation& tried,
                              std::string_view cors_origin) const {
  if (tried.serving) headers.add("Mayfly-Version", std::to_string(tried.serving->version.value));
  headers.add("Mayfly-Invocation", to_string(tried.id));
  headers.add("X-Request-Id", tried.request_id);
  if (tried.trace) headers.add("traceresponse", to_traceparent(tried.trace->context));
  allow_origin(headers, cors_origin);
}

Task<Status> Predictions::conclude(const Invocation& tried, std::string_view reason,
                                   const Response& response, EventTry* event) {
  const std::uint64_t sent = size_of(response);
  if (event == nullptr || !tried.serving) {
    co_return co_await parts_.invoker.conclude(tried, reason, sent);
  }
  event->record = parts_.invoker.account(tried, reason, sent);
  co_return Status{};
}

Task<Result<Predictions::Answer>> Predictions::attempt(Exchange& exchange, const Route& route,
                                                       Protocol protocol, Invocation& tried) {
  if (Status found = co_await parts_.invoker.find(tried, route.name, route.version); !found) {
    co_return std::unexpected(in_words_of(protocol, std::move(found).error(), route));
  }
  const Serving& serving = *tried.serving;
  CO_TRY_STATUS(check_streams(serving, protocol));
  CO_TRY(BodyReader body, BodyReader::open(exchange, limits_.max_body, "limits.max_body"));
  if (body.is_large()) {
    // A large body is not even read for what would be refused anyway.
    CO_TRY_STATUS(parts_.invoker.admit(tried));
  }
  CO_TRY_STATUS(body.share({.pool = parts_.parse_pool, .budget = parts_.bodies}));
  BodyBudget::Hold copied(parts_.bodies);  // from shared memory
  auto decoded = co_await decode(exchange, body, protocol, tried, copied);
  tried.received = body.taken();
  if (!decoded) co_return std::unexpected(std::move(decoded).error());

  if (serving.manifest->streams) {
    CO_TRY(Answer answer, co_await begin_stream(exchange.head(), protocol, tried,
                                                *std::move(decoded), exchange.disconnected()));
    answer.counted = std::make_shared<std::pair<BodyReader, BodyBudget::Hold>>(std::move(body),
                                                                               std::move(copied));
    co_return answer;
  }
  Invoker::Question question{.request = std::move(decoded->memory),
                             .timeout = decoded->request.timeout,
                             .priority = urgency_of(decoded->request.priority),
                             .cancel = exchange.disconnected()};
  CO_TRY(Reply reply, co_await parts_.invoker.run(tried, std::move(question)));
  CO_TRY(Response response,
         co_await encode(decoded->request, decoded->shared, serving, std::move(reply), protocol));
  co_return Answer{.response = std::move(response), .rest = nullptr};
}

Task<Result<Predictions::Decoded>> Predictions::decode(Exchange& exchange, BodyReader& body,
                                                       Protocol protocol, const Invocation& tried,
                                                       BodyBudget::Hold& copied) {
  const Serving& serving = *tried.serving;
  CO_TRY(InferRequest request, co_await decode_head(exchange.head(), body, protocol, serving));
  CO_TRY(SharedTensors shared,
         SharedTensors::find(parts_.shared, tried.caller->project, request, serving.signature()));
  CO_TRY_STATUS(shared.hold(copied, 0));
  CO_TRY(RequestMemory memory, allocate_request(request, serving.output_bytes));
  CO_TRY_STATUS(co_await fill(body, request, memory));
  const auto read = [&] { return shared.read(request, memory); };
  CO_TRY_STATUS(shared.input_bytes() > kLongText ? co_await parts_.parse_pool.run(read) : read());
  if (!body.at_end()) {
    CO_TRY_STATUS(co_await body.expect_end());
  }
  request.inputs.clear();  // they lie in `memory` now, and looked into the text
  request.text = std::string();
  co_return Decoded{std::move(request), std::move(memory), std::move(shared)};
}

Task<Result<InferRequest>> Predictions::decode_head(const RequestHead& head, BodyReader& body,
                                                    Protocol protocol, const Serving& serving) {
  const Signature& signature = serving.signature();
  const std::string_view type = head.headers.find("Content-Type").value_or("");
  const auto whole = [&] { return body.announced().value_or(0); };
  const bool generates = protocol == Protocol::Generate || protocol == Protocol::GenerateStream;
  if (generates && serving.manifest->documents)
    co_return co_await decode_document("application/json", body, signature);
  if (protocol == Protocol::Plain && serving.manifest->documents) {
    co_return co_await decode_document(type, body, signature);
  }
  if (protocol == Protocol::Plain && is_image(type)) {
    if (!body.announced())
      co_return refuse(reason::kBadRequest, "send images with a Content-Length");
    co_return image_request(whole(), signature);
  }
  if (protocol == Protocol::Plain) {
    CO_TRY_STATUS(check_content_type(type));
  }

  const auto length_header = head.headers.find("Inference-Header-Content-Length");
  if (protocol != Protocol::OpenInference || !length_header) {
    std::optional<std::string> text = body.take_rest();
    if (!text) {
      CO_TRY(text, co_await body.read_rest());
    }
    co_return co_await decode_text(*std::move(text), protocol, signature);
  }
  CO_TRY(const std::uint64_t length, parse_json_part_length(*length_header));
  if (length == 0) {
    if (!body.announced())
      co_return refuse(reason::kBadRequest, "send raw tensors with a Content-Length");
    co_return raw_infer_request(whole(), signature);
  }
  CO_TRY(std::string text, co_await body.read_text(length));
  if (text.size() < length) {
    co_return refuse(reason::kBadRequest,
                     fmt::format("Inference-Header-Content-Length is {}, the body has {} bytes",
                                 length, text.size()));
  }
  CO_TRY(InferRequest request, co_await decode_text(std::move(text), protocol, signature));
  if (body.announced()) {
    CO_TRY_STATUS(check_binary_size(request, whole() - length));
  }
  co_return request;
}

Task<Result<InferRequest>> Predictions::decode_document(std::string_view content_type,
                                                        BodyReader& body,
                                                        const Signature& signature) {
  if (const auto length = body.announced())
    co_return document_request(*length, content_type, signature);
  CO_TRY(const std::string text, co_await body.read_rest());
  co_return document_request(text, content_type, signature);
}

Task<Result<InferRequest>> Predictions::decode_text(std::string text, Protocol protocol,
                                                    const Signature& signature) {
  const SizeLimit limit{limits_.max_body.count, "limits.max_body"};
  const auto decode_with = [&](JsonParser& parser) {
    return decode_body(protocol, parser, std::move(text), signature, limit);
  };
  if (text.size() <= kLongText) co_return decode_with(parser_);
  co_return co_await parts_.parse_pool.run([&] {
    JsonParser parser;
    return decode_with(parser);
  });
}

Task<Status> Predictions::fill(BodyReader& body, const InferRequest& request,
                               RequestMemory& memory) {
  const auto read_json = [&]() -> Status {
    for (std::size_t i = 0; i < request.inputs.size(); ++i) {
      if (request.inputs[i].source == InputSource::Json)
        TRY(read_json_input(request.inputs[i], memory.input(i)));
    }
    return {};
  };
  if (request.text.size() <= kLongText) {
    CO_TRY_STATUS(read_json());
  } else {
    CO_TRY_STATUS(co_await parts_.parse_pool.run(read_json));
  }
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const InferInput& input = request.inputs[i];
    if (input.source == InputSource::Json || input.source == InputSource::Shared) continue;
    if (input.source == InputSource::Text) {
      std::ranges::copy(std::as_bytes(std::span(input.json)), memory.input(i).begin());
      continue;
    }
    CO_TRY_STATUS(co_await body.read_exactly(receive_input(input, memory.input(i))));
    const auto check = [&] { return check_received_input(input, memory.input(i)); };
    const bool is_long = memory.input(i).size() > kLongText;
    CO_TRY_STATUS(is_long ? co_await parts_.parse_pool.run(check) : check());
  }
  co_return Status{};
}

Task<Result<Response>> Predictions::encode(const InferRequest& request, const SharedTensors& shared,
                                           const Serving& serving, Reply reply, Protocol protocol) {
  const SizeLimit limit{limits_.max_reply.count, "limits.max_reply"};
  std::optional<ReplyTensors> made;
  const auto look = [&] { made.emplace(request, serving.signature(), reply); };
  if (sorts_much(request, reply)) {
    co_await parts_.parse_pool.run(look);
  } else {
    look();
  }
  ReplyTensors& outputs = *made;
  const std::span<const ReplyTensor> tensors = outputs.tensors();
  if (shared.has_outputs()) {
    CO_TRY_STATUS(co_await parts_.parse_pool.run([&] { return shared.write(tensors); }));
  }
  const bool is_long = json_bytes(tensors) > kLongText;
  if (protocol == Protocol::Plain && serving.manifest->documents) {
    CO_TRY(const Document document, read_document(tensors));
    co_return document_response(document, std::move(reply), limit);
  }
  if (protocol != Protocol::OpenInference) {
    const auto work = [&] {
      return protocol == Protocol::TensorFlow ? encode_tf_reply(tensors, request.instances, limit)
                                              : encode_plain_reply(tensors, limit);
    };
    Result<std::string> text = is_long ? co_await parts_.parse_pool.run(work) : work();
    if (!text) co_return std::unexpected(std::move(text).error());
    co_return json_response(*std::move(text));
  }
  const std::string version = std::to_string(serving.version.value);
  const InferReply answer{
      .model_name = serving.name(), .model_version = version, .id = request.id, .outputs = tensors};
  const auto work = [&] { return encode_infer_reply(answer, limit); };
  Result<EncodedReply> encoded = is_long ? co_await parts_.parse_pool.run(work) : work();
  if (!encoded) co_return std::unexpected(std::move(encoded).error());
  if (encoded->mixed) {
    co_return mixed_response(*std::move(encoded), std::move(reply),
                             std::move(outputs).take_classified());
  }
  co_return json_response(std::move(encoded->text));
}

Task<void> Predictions::pack(Encoding encoding, Response& response) {
  std::string& text = std::get<std::string>(response.body);
  const auto work = [&] { return compress(encoding, text); };
  if (text.size() > kLongText) {
    text = co_await parts_.parse_pool.run(work);
  } else {
    text = work();
  }
  response.headers.add("Content-Encoding", to_string(encoding));
}

Response Predictions::encode_error(const Error& error, const Invocation& tried) const {
  Response response = error_response(
      http_status(error), without_project(tried.caller->project, error.message), error.reason);
  std::string& body = std::get<std::string>(response.body);
  body.resize(body.rfind('}'));
  append_traceback(body, traceback_for(tried, error));
  body += "}\n";
  if (const auto wait = tried.retry_after(error); wait.count() > 0) {
    response.headers.add("Retry-After", std::to_string(wait.count()));
  }
  return response;
}

}  // namespace mayfly
