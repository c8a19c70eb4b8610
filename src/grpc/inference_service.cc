#include "grpc/inference_service.h"

#include <fmt/format.h>

#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "core/version.h"
#include "core/wire/model_metadata.h"
#include "gateway/access.h"
#include "gateway/model_statistics.h"
#include "gateway/protocol_words.h"
#include "grpc/message_bytes.h"

namespace mayfly {
namespace {

using inference::ModelConfig;

// Names and a version; only what carries tensors or files may be longer.
constexpr std::size_t kMaxQuestion = 64 * 1024;

// The one message of a call that takes one. An empty message is no bytes at all.
template <typename Message>
Task<Result<Message>> read_message(Rpc& rpc) {
  Message message;
  const std::optional<grpc::ByteBuffer> bytes = co_await rpc.read();
  if (!bytes) co_return refuse(reason::kBadRequest, "the call carries no message");
  if (bytes->Length() > kMaxQuestion) {
    co_return refuse(reason::kTooLarge,
                     fmt::format("a question of this kind has at most {} bytes", kMaxQuestion));
  }
  CO_TRY_STATUS(parse_message(*bytes, message));
  co_return message;
}

Status answer(Rpc& rpc, const google::protobuf::MessageLite& message) {
  rpc.reply(to_buffer(message));
  return {};
}

template <typename Specs, typename Add>
void add_specs(const Specs& specs, Add add) {
  for (const TensorSpec& spec : specs) {
    auto& added = *add();
    added.set_name(spec.name);
    added.set_datatype(std::string(to_string(spec.type)));
    for (const std::int64_t dimension : spec.shape) added.add_shape(dimension);
  }
}

template <typename Specs, typename Add>
void add_config_specs(const Specs& specs, Add add) {
  for (const TensorSpec& spec : specs) {
    auto& added = *add();
    added.set_name(spec.name);
    inference::DataType type = inference::TYPE_INVALID;
    if (inference::DataType_Parse(std::string(config_data_type(spec.type)), &type))
      added.set_data_type(type);
    for (const std::int64_t dimension : spec.shape) added.add_dims(dimension);
  }
}

void set(inference::StatisticDuration& duration, const TimesTaken& taken) {
  duration.set_count(taken.count);
  duration.set_ns(static_cast<std::uint64_t>(taken.total.count()));
}

void add_statistics(const VersionStatistics& of, Bytes memory,
                    inference::ModelStatistics& statistics) {
  statistics.set_name(std::string(local_name(of.function)));
  statistics.set_version(std::to_string(of.version.value));
  statistics.set_last_inference(milliseconds_since_epoch(of.last));
  statistics.set_inference_count(of.rows);
  statistics.set_execution_count(of.executions);
  auto& times = *statistics.mutable_inference_stats();
  set(*times.mutable_success(), of.success);
  set(*times.mutable_fail(), of.fail);
  set(*times.mutable_queue(), of.queue);
  set(*times.mutable_compute_input(), of.decode);
  set(*times.mutable_compute_infer(), of.run);
  set(*times.mutable_compute_output(), of.encode);
  set(*times.mutable_cache_hit(), of.cache_hit);
  set(*times.mutable_cache_miss(), of.cache_miss);
  for (const auto& [rows, row] : of.by_rows) {
    auto& batch = *statistics.add_batch_stats();
    batch.set_batch_size(rows);
    set(*batch.mutable_compute_input(), row.decode);
    set(*batch.mutable_compute_infer(), row.run);
    set(*batch.mutable_compute_output(), row.encode);
  }
  if (memory.count == 0) return;
  auto& usage = *statistics.add_memory_usage();
  usage.set_type("CPU");
  usage.set_byte_size(memory.count);
}

// load's "config" is a text and its files are bytes.
Result<ModelRepository::Load> load_of(const grpc::ByteBuffer& message) {
  inference::RepositoryModelLoadRequest request;
  TRY(parse_message(message, request));
  ModelRepository::Load load{.name = request.model_name(), .config = {}, .files = {}, .who = {}};
  for (auto& [key, value] : *request.mutable_parameters()) {
    if (key == "config") {
      load.config = value.string_param();
    } else if (key.starts_with("file:")) {
      load.files.push_back({.path = key, .bytes = std::move(*value.mutable_bytes_param())});
    } else {
      return refuse(reason::kBadRequest,
                    fmt::format("parameter '{}' is none of 'config' and 'file:…'", key));
    }
  }
  return load;
}

std::unexpected<Error> unserved(std::string_view method) {
  if (method.starts_with("CudaSharedMemory")) {
    return refuse(reason::kUnsupported,
                  "this server has no GPU, so no CUDA shared memory; send tensors in "
                  "raw_input_contents");
  }
  if (method == "TraceSetting") {
    return refuse(reason::kUnsupported,
                  "there is no tracing to set; every reply says in server-timing where its time "
                  "went");
  }
  if (method == "LogSettings") {
    return refuse(reason::kUnsupported,
                  "logging is set where the node is started: log.level and log.format");
  }
  return refuse(reason::kUnsupported,
                fmt::format("GRPCInferenceService has no method '{}' here", method.substr(0, 100)));
}

}  // namespace

Status InferenceService::hold_message(BodyBudget::Hold& held, std::uint64_t bytes) {
  // Twice: as they came, and as what they are parsed to.
  if (bytes <= BodyBudget::kUncounted.count || held.grow_to(Bytes{2 * bytes})) return {};
  return refuse(
      reason::kNodeBusy,
      "the node holds as many large requests as limits.body_memory allows; try again soon");
}

Task<Status> InferenceService::call(Rpc& rpc, std::string_view method) {
  if (method == "ModelInfer") co_return co_await infer(rpc);
  if (method == "ModelStreamInfer") co_return co_await stream_infer(rpc);
  if (method.starts_with("Server")) co_return co_await about_node(rpc, method);
  if (method.starts_with("Model")) co_return co_await about_model(rpc, method);
  if (method.starts_with("Repository")) co_return co_await repository(rpc, method);
  if (method.starts_with("SystemSharedMemory")) co_return co_await shared_memory(rpc, method);
  co_return unserved(method);
}

Task<Status> InferenceService::about_node(Rpc& rpc, std::string_view method) {
  if (method == "ServerLive") {
    inference::ServerLiveResponse response;
    response.set_live(true);
    co_return answer(rpc, response);
  }
  if (method == "ServerReady") {
    inference::ServerReadyResponse response;
    response.set_ready(parts_.ready());
    co_return answer(rpc, response);
  }
  if (method != "ServerMetadata") co_return unserved(method);
  inference::ServerMetadataResponse response;
  response.set_name("mayfly");
  response.set_version(std::string(kVersion));
  for (const std::string_view extension : protocol_extensions(parts_.shared.state()))
    response.add_extensions(std::string(extension));
  co_return answer(rpc, response);
}

Task<Status> InferenceService::about_model(Rpc& rpc, std::string_view method) {
  if (method == "ModelReady") co_return co_await model_ready(rpc);
  if (method == "ModelMetadata") co_return co_await model_metadata(rpc);
  if (method == "ModelConfig") co_return co_await model_config(rpc);
  if (method == "ModelStatistics") co_return co_await model_statistics(rpc);
  co_return unserved(method);
}

Task<Status> InferenceService::repository(Rpc& rpc, std::string_view method) {
  if (method == "RepositoryModelLoad") co_return co_await load(rpc);
  if (method == "RepositoryModelUnload") co_return co_await unload(rpc);
  if (method != "RepositoryIndex") co_return unserved(method);
  inference::RepositoryIndexResponse response;  // all are ready, so `ready` chooses nothing
  for (const ModelRepository::Model& model : parts_.repository.index()) {
    if (!may_see(*rpc.caller(), model.name)) continue;
    auto& listed = *response.add_models();
    listed.set_name(std::string(local_name(model.name)));
    listed.set_version(std::to_string(model.version.value));
    listed.set_state("READY");
  }
  co_return answer(rpc, response);
}

Task<Status> InferenceService::shared_memory(Rpc& rpc, std::string_view method) {
  const std::string& project = rpc.caller()->project;
  if (method == "SystemSharedMemoryStatus") {
    CO_TRY(const auto request,
           co_await read_message<inference::SystemSharedMemoryStatusRequest>(rpc));
    inference::SystemSharedMemoryStatusResponse response;
    CO_TRY(const auto regions, parts_.shared.list(project, request.name()));
    for (const ClientRegionRef& region : regions) {
      const ClientRegion::About& about = region->about();
      auto& status = (*response.mutable_regions())[about.name];
      status.set_name(about.name);
      status.set_key(about.key);
      status.set_offset(about.offset);
      status.set_byte_size(about.size);
    }
    co_return answer(rpc, response);
  }
  if (method == "SystemSharedMemoryRegister") {
    CO_TRY(const auto request,
           co_await read_message<inference::SystemSharedMemoryRegisterRequest>(rpc));
    CO_TRY_STATUS(parts_.shared.add(project, {.name = request.name(),
                                              .key = request.key(),
                                              .offset = request.offset(),
                                              .size = request.byte_size()}));
    co_return answer(rpc, inference::SystemSharedMemoryRegisterResponse());
  }
  if (method != "SystemSharedMemoryUnregister") co_return unserved(method);
  CO_TRY(const auto request,
         co_await read_message<inference::SystemSharedMemoryUnregisterRequest>(rpc));
  CO_TRY_STATUS(request.name().empty() ? parts_.shared.remove_all(project)
                                       : parts_.shared.remove(project, request.name()));
  co_return answer(rpc, inference::SystemSharedMemoryUnregisterResponse());
}

// As over HTTP, but that a model nobody knows is an answer, not an error: so clients expect it.
Task<Status> InferenceService::model_ready(Rpc& rpc) {
  CO_TRY(const auto request, co_await read_message<inference::ModelReadyRequest>(rpc));
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.name()));
  const auto found = co_await parts_.catalog.find(name, request.version());
  inference::ModelReadyResponse response;
  response.set_ready(found.has_value() && parts_.ready());
  co_return answer(rpc, response);
}

Task<Status> InferenceService::model_metadata(Rpc& rpc) {
  CO_TRY(const auto request, co_await read_message<inference::ModelMetadataRequest>(rpc));
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.name()));
  const auto resolved = parts_.catalog.resolve(name, request.version());
  if (!resolved) {
    co_return std::unexpected(
        in_protocol_words(resolved.error(), request.name(), request.version()));
  }
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(*resolved));
  inference::ModelMetadataResponse response;
  response.set_name(std::string(serving->name()));
  for (const VersionEntry& version : resolved->function->versions)
    response.add_versions(std::to_string(version.number.value));
  response.set_platform(std::string(platform_of(serving->manifest->options.runtime)));
  add_specs(serving->signature().inputs, [&] { return response.add_inputs(); });
  add_specs(serving->signature().outputs, [&] { return response.add_outputs(); });
  co_return answer(rpc, response);
}

Task<Status> InferenceService::model_config(Rpc& rpc) {
  CO_TRY(const auto request, co_await read_message<inference::ModelConfigRequest>(rpc));
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.name()));
  auto found = co_await parts_.catalog.find(name, request.version());
  if (!found) {
    co_return std::unexpected(
        in_protocol_words(std::move(found).error(), request.name(), request.version()));
  }
  const Serving& serving = **found;
  inference::ModelConfigResponse response;
  ModelConfig& config = *response.mutable_config();
  config.set_name(std::string(serving.name()));
  config.set_platform(std::string(platform_of(serving.manifest->options.runtime)));
  config.set_backend(std::string(backend_of(serving.manifest->options.runtime)));
  config.mutable_version_policy()->mutable_all();
  config.set_default_model_filename(serving.manifest->options.model);
  add_config_specs(serving.signature().inputs, [&] { return config.add_input(); });
  add_config_specs(serving.signature().outputs, [&] { return config.add_output(); });
  auto& group = *config.add_instance_group();
  group.set_name(std::string(serving.name()));
  group.set_kind(inference::ModelInstanceGroup::KIND_CPU);
  group.set_count(1);
  co_return answer(rpc, response);
}

Task<Status> InferenceService::model_statistics(Rpc& rpc) {
  CO_TRY(const auto request, co_await read_message<inference::ModelStatisticsRequest>(rpc));
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.name()));
  auto chosen = choose_statistics({parts_.statistics, parts_.catalog, *rpc.caller()}, name,
                                  request.version());
  if (!chosen) {
    co_return std::unexpected(
        in_protocol_words(std::move(chosen).error(), request.name(), request.version()));
  }
  inference::ModelStatisticsResponse response;
  const DispatchStatus status = parts_.dispatcher.status();
  for (const VersionStatistics& of : *chosen)
    add_statistics(of, memory_of(status, of), *response.add_model_stats());
  co_return answer(rpc, response);
}

Task<Status> InferenceService::load(Rpc& rpc) {
  std::optional<grpc::ByteBuffer> message = co_await rpc.read();
  if (!message) co_return refuse(reason::kBadRequest, "the call carries no message");
  BodyBudget::Hold held(parts_.bodies);
  CO_TRY_STATUS(hold_message(held, message->Length()));
  CO_TRY(ModelRepository::Load asked, co_await parts_.parse_pool.run([&] {
    auto load = load_of(*message);
    message.reset();
    return load;
  }));
  const std::string name = asked.name;
  rpc.concern(name);
  CO_TRY(asked.name, admit(*rpc.caller(), rpc.needs(), name));
  asked.who = rpc.caller()->name.empty() ? address_of(rpc.peer()) : rpc.caller()->name;
  asked.cancel = rpc.cancelled();
  Status loaded = co_await parts_.repository.load(std::move(asked));
  if (!loaded) co_return std::unexpected(in_protocol_words(std::move(loaded).error(), name, ""));
  co_return answer(rpc, inference::RepositoryModelLoadResponse());
}

Task<Status> InferenceService::unload(Rpc& rpc) {
  CO_TRY(const auto request, co_await read_message<inference::RepositoryModelUnloadRequest>(rpc));
  rpc.concern(request.model_name());
  CO_TRY(const std::string name, admit(*rpc.caller(), rpc.needs(), request.model_name()));
  Status unloaded = parts_.repository.unload(name);
  if (!unloaded) {
    co_return std::unexpected(
        in_protocol_words(std::move(unloaded).error(), request.model_name(), ""));
  }
  co_return answer(rpc, inference::RepositoryModelUnloadResponse());
}

}  // namespace mayfly
