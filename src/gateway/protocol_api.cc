#include "gateway/protocol_api.h"

#include <fmt/format.h>

#include <utility>

#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/version.h"
#include "core/wire/json_base64.h"
#include "core/wire/model_metadata.h"
#include "gateway/access.h"
#include "gateway/body.h"
#include "gateway/control_api.h"
#include "gateway/model_statistics.h"
#include "gateway/protocol_words.h"

namespace mayfly {
namespace {

Response json_reply(std::string text) {
  return {
      .status = 200, .headers = {{"Content-Type", "application/json"}}, .body = std::move(text)};
}

Response empty_reply() { return {.status = 200, .headers = {}, .body = ""}; }

std::string_view instead_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::CudaSharedMemory:
      return "this server has no GPU, so no CUDA shared memory; send tensors in the request";
    case Endpoint::Logging:
      return "logging is set where the node is started: log.level and log.format";
    default:
      return "there is no tracing to set; every reply says in Server-Timing where its time went";
  }
}

Result<std::string> from_base64(std::string_view key, const std::string& text) {
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  Base64Decoder decoder;
  const auto keep = [&](std::string_view piece) { bytes += piece; };
  if (decoder.push(text, keep) && decoder.finish()) return bytes;
  return refuse(reason::kBadRequest, fmt::format("'{}' is not base64", key));
}

// {"parameters":{"config":"…","file:1/model.onnx":"<base64>"}}
Result<ModelRepository::Load> parse_load(const std::string& text) {
  ModelRepository::Load load{.name = {}, .config = {}, .files = {}, .who = {}};
  if (text.empty()) return load;
  const Json body = TRY(parse_json(text, "the request"));
  JsonReader reader(body, "the request", reason::kBadRequest);
  const Json* parameters = reader.value("parameters");
  TRY(reader.finish());
  if (parameters == nullptr) return load;
  if (!parameters->is_object()) {
    return refuse(reason::kBadRequest, "the request: 'parameters' must be an object");
  }
  for (const auto& [key, value] : parameters->items()) {
    const bool is_file = key.starts_with("file:");
    if (!is_file && key != "config") {
      return refuse(reason::kBadRequest,
                    fmt::format("parameter '{}' is none of 'config' and 'file:…'", key));
    }
    const auto* content = value.get_ptr<const std::string*>();
    if (content == nullptr) {
      return refuse(reason::kBadRequest, fmt::format("parameter '{}' must be a text", key));
    }
    if (is_file) {
      load.files.push_back({.path = key, .bytes = TRY(from_base64(key, *content))});
    } else {
      load.config = *content;
    }
  }
  return load;
}

}  // namespace

Task<Result<Response>> ProtocolApi::call(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::ServerMetadata:
      co_return json_reply(server_metadata_json(kVersion, parts_.shared.state()));
    case Endpoint::ModelConfig:
      co_return co_await config(route);
    case Endpoint::ModelStatistics:
      co_return statistics(route);
    case Endpoint::RepositoryIndex:
      co_return co_await index(exchange, route);
    case Endpoint::RepositoryLoad:
      co_return co_await load(exchange, route);
    case Endpoint::RepositoryUnload:
      co_return unload(route);
    case Endpoint::ListClientMemory:
      co_return list_memory(route);
    case Endpoint::AddClientMemory:
      co_return co_await add_memory(exchange, route);
    case Endpoint::RemoveClientMemory:
      co_return remove_memory(route);
    default:
      co_return refuse(reason::kUnsupported, std::string(instead_of(route.endpoint)));
  }
}

Task<Result<Response>> ProtocolApi::config(const Route& route) {
  auto found = co_await parts_.catalog.find(route.name, route.version);
  if (!found)
    co_return std::unexpected(
        in_protocol_words(std::move(found).error(), route.name, route.version));
  const Serving& serving = **found;
  co_return json_reply(model_config_json({.name = serving.name(),
                                          .runtime = serving.manifest->options.runtime,
                                          .model_file = serving.manifest->options.model,
                                          .signature = serving.signature()}));
}

Result<Response> ProtocolApi::statistics(const Route& route) const {
  auto chosen = choose_statistics({parts_.statistics, parts_.catalog, *route.caller}, route.name,
                                  route.version);
  if (!chosen)
    return std::unexpected(in_protocol_words(std::move(chosen).error(), route.name, route.version));
  return json_reply(statistics_json(*chosen, parts_.dispatcher.status()));
}

// {"ready":true} asks for those that are ready: all are.
Task<Result<Response>> ProtocolApi::index(Exchange& exchange, const Route& route) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  if (!text.empty()) {
    CO_TRY(const Json body, parse_json(text, "the request"));
    bool ready = false;
    JsonReader reader(body, "the request", reason::kBadRequest);
    CO_TRY_STATUS(reader.boolean("ready", ready).finish());
  }
  Json list = Json::array();
  for (const ModelRepository::Model& model : parts_.repository.index()) {
    if (!may_see(*route.caller, model.name)) continue;
    list.push_back({{"name", local_name(model.name)},
                    {"version", std::to_string(model.version.value)},
                    {"state", "READY"},
                    {"reason", ""}});
  }
  co_return json_response(list);
}

Task<Result<Response>> ProtocolApi::load(Exchange& exchange, const Route& route) {
  CO_TRY(BodyReader body, BodyReader::open(exchange, parts_.max_body, "limits.max_body"));
  CO_TRY_STATUS(body.share({.pool = parts_.parse_pool, .budget = parts_.bodies}));
  CO_TRY(const std::string text, co_await body.read_rest());
  CO_TRY(ModelRepository::Load asked,
         co_await parts_.parse_pool.run([&] { return parse_load(text); }));
  asked.name = route.name;
  asked.who = author_of(exchange, route);
  asked.cancel = exchange.disconnected();
  if (Status loaded = co_await parts_.repository.load(std::move(asked)); !loaded)
    co_return std::unexpected(in_protocol_words(std::move(loaded).error(), route.name, ""));
  co_return empty_reply();
}

// {"parameters":{"unload_dependents":…}}: no model depends on another.
Result<Response> ProtocolApi::unload(const Route& route) const {
  if (Status unloaded = parts_.repository.unload(route.name); !unloaded)
    return std::unexpected(in_protocol_words(std::move(unloaded).error(), route.name, ""));
  return empty_reply();
}

Result<Response> ProtocolApi::list_memory(const Route& route) const {
  Json list = Json::array();
  for (const auto& region : TRY(parts_.shared.list(route.caller->project, route.version))) {
    const ClientRegion::About& about = region->about();
    list.push_back({{"name", about.name},
                    {"key", about.key},
                    {"offset", about.offset},
                    {"byte_size", about.size}});
  }
  return json_reply(list.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// {"key":"/mayfly.default.inputs","offset":0,"byte_size":64}
Task<Result<Response>> ProtocolApi::add_memory(Exchange& exchange, const Route& route) {
  CO_TRY_STATUS(parts_.shared.check_enabled());
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "the request"));
  ClientRegion::About about{.name = route.version};
  JsonReader reader(json, "the request", reason::kBadRequest);
  reader.text("key", about.key)
      .integer("offset", about.offset, std::uint64_t{0}, UINT64_MAX)
      .integer("byte_size", about.size, std::uint64_t{0}, UINT64_MAX);
  CO_TRY_STATUS(reader.finish());
  CO_TRY_STATUS(parts_.shared.add(route.caller->project, std::move(about)));
  co_return empty_reply();
}

Result<Response> ProtocolApi::remove_memory(const Route& route) {
  if (route.version.empty()) {
    TRY(parts_.shared.remove_all(route.caller->project));
  } else {
    TRY(parts_.shared.remove(route.caller->project, route.version));
  }
  return empty_reply();
}

}  // namespace mayfly
