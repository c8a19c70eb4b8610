#include "runner/report/batch_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxBatchMessage = 16 * 1024;  // kMaxJobMessage of sandbox/job.h
constexpr std::size_t kMaxBatchName = 1024;
constexpr std::size_t kMaxErrorText = 2000;
constexpr std::uint64_t kMaxRows = INT64_MAX;

constexpr std::array kTableFormats = {TableFormat::Csv, TableFormat::Jsonl, TableFormat::Parquet};

std::unexpected<Error> bad_batch(std::string_view complaint) {
  return refuse(reason::kBadRequest, fmt::format("batch job: {}", complaint));
}

std::string dump_batch(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// `json`'s only member, where it has that name.
const Json* only_member(const Json& json, std::string_view name) {
  if (!json.is_object() || json.size() != 1) return nullptr;
  const auto found = json.find(name);
  return found == json.end() ? nullptr : &*found;
}

Result<TableFormat> read_format(std::string_view name) {
  if (const auto format = parse_table_format(name)) return *format;
  return bad_batch(fmt::format("unknown format '{}': csv, jsonl or parquet", name.substr(0, 64)));
}

// A file of a folder: nothing that leads out of it.
Status check_file_name(std::string_view name) {
  if (!name.empty() && name.size() <= 255 && name != "." && name != ".." &&
      name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos) {
    return {};
  }
  return bad_batch(fmt::format("'{}' is no file name", name.substr(0, 64)));
}

Result<std::vector<std::string>> read_names(const Json& json, std::string_view what,
                                            std::size_t limit) {
  if (!json.is_array() || json.size() > limit)
    return bad_batch(fmt::format("'{}' must be a list of at most {}", what, limit));
  std::vector<std::string> names;
  for (const Json& item : json) {
    if (!item.is_string()) return bad_batch(fmt::format("'{}' must hold texts", what));
    names.push_back(item.get<std::string>());
    if (names.back().size() > kMaxBatchName)
      return bad_batch(fmt::format("a name in '{}' is too long", what));
  }
  return names;
}

// ---- Signature ----------------------------------------------------------------------------------

Json tensor_list(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs) {
    list.push_back(
        {{"name", spec.name}, {"datatype", to_string(spec.type)}, {"shape", spec.shape}});
  }
  return list;
}

Result<TensorSpec> read_tensor(const Json& json) {
  TensorSpec spec;
  std::string type;
  JsonReader reader(json, "batch job: tensor", reason::kBadRequest);
  reader.text("name", spec.name).text("datatype", type);
  const Json* shape = reader.value("shape");
  TRY(reader.finish());
  const auto parsed = parse_data_type(type);
  if (!parsed || spec.name.empty() || shape == nullptr || !shape->is_array() ||
      shape->size() > kMaxRank) {
    return bad_batch("a tensor lacks its name, datatype or shape");
  }
  spec.type = *parsed;
  for (const Json& dimension : *shape) {
    if (!dimension.is_number_integer() || dimension.get<std::int64_t>() < -1)
      return bad_batch("a dimension is not a whole number >= -1");
    spec.shape.push_back(dimension.get<std::int64_t>());
  }
  return spec;
}

Result<std::vector<TensorSpec>> read_tensors(const Json* json, std::string_view what) {
  std::vector<TensorSpec> specs;
  if (json == nullptr) return specs;
  if (!json->is_array() || json->size() > kMaxTensors)
    return bad_batch(fmt::format("'{}' must be a list of at most {}", what, kMaxTensors));
  for (const Json& item : *json) specs.push_back(TRY(read_tensor(item)));
  return specs;
}

// ---- The request of a slice ---------------------------------------------------------------------

Json keep_json(const KeptColumns& keep) { return keep.all ? Json("*") : Json(keep.names); }

Result<KeptColumns> read_keep(const Json* json) {
  KeptColumns keep;
  if (json == nullptr) return keep;
  if (json->is_string() && *json == "*") {
    keep.all = true;
  } else {
    keep.names = TRY(read_names(*json, "keep", kMaxTensors));
  }
  return keep;
}

Result<std::map<std::string, std::vector<std::string>>> read_columns(const Json* json) {
  std::map<std::string, std::vector<std::string>> columns;
  if (json == nullptr) return columns;
  if (!json->is_object()) return bad_batch("'columns' must be an object");
  for (const auto& [name, list] : json->items())
    columns[name] = TRY(read_names(list, "columns", kMaxChunkRows));
  return columns;
}

Result<std::string> read_position(const Json* json) {
  if (json == nullptr) return std::string();
  std::string text = dump_batch(*json);
  if (!json->is_object() || text.size() > kMaxBatchPosition)
    return bad_batch("'position' is no position");
  return text;
}

Result<BatchJob> read_batch(const Json& json) {
  BatchJob job;
  std::string format;
  std::string output_format;
  std::uint64_t slice = 0;
  JsonReader reader(json, "batch job", reason::kBadRequest);
  reader.text("input", job.input)
      .text("format", format)
      .text("output_format", output_format)
      .integer("chunk_rows", job.chunk_rows, 1U, kMaxChunkRows)
      .integer("max_request", job.max_request.count, 1024, INT64_MAX)
      .integer("window", job.window, 1U, kMaxBatchWindow)
      .integer("slice_ms", slice, 1, 86'400'000)
      .integer("max_errors", job.max_errors, 0, kMaxRows)
      .integer("errors_so_far", job.errors_so_far, 0, kMaxRows);
  const Json* inputs = reader.value("inputs");
  const Json* outputs = reader.value("outputs");
  const Json* columns = reader.value("columns");
  const Json* keep = reader.value("keep");
  const Json* position = reader.value("position");
  TRY(reader.finish());
  TRY(check_file_name(job.input));
  job.format = TRY(read_format(format));
  job.output_format = TRY(read_format(output_format));
  job.signature = {.inputs = TRY(read_tensors(inputs, "inputs")),
                   .outputs = TRY(read_tensors(outputs, "outputs"))};
  job.columns = TRY(read_columns(columns));
  job.keep = TRY(read_keep(keep));
  job.position = TRY(read_position(position));
  if (slice > 0) job.slice = std::chrono::milliseconds(slice);
  return job;
}

// ---- Messages -----------------------------------------------------------------------------------

Result<PredictMessage> read_predict(const Json& json) {
  PredictMessage message;
  JsonReader reader(json, "predict", reason::kBadRequest);
  reader.integer("slot", message.slot, 0U, kMaxBatchWindow - 1)
      .integer("bytes", message.bytes, 1, INT64_MAX)
      .integer("header", message.header, 0, INT64_MAX)
      .integer("rows", message.rows, 1, kMaxChunkRows);
  TRY(reader.finish());
  if (message.bytes == 0 || message.rows == 0 || message.header > message.bytes)
    return bad_batch("a request for a prediction whose sizes cannot be");
  return message;
}

Result<BatchProgress> read_progress(const Json& json) {
  BatchProgress progress;
  JsonReader reader(json, "progress", reason::kBadRequest);
  reader.integer("rows", progress.rows, 0, kMaxRows)
      .integer("failed", progress.failed, 0, kMaxRows)
      .integer("done_bytes", progress.done_bytes, 0, INT64_MAX)
      .integer("total_bytes", progress.total_bytes, 0, INT64_MAX);
  TRY(reader.finish());
  if (progress.failed > progress.rows || progress.done_bytes > progress.total_bytes)
    return bad_batch("progress beyond its end");
  return progress;
}

Result<Refusal> read_slice_refusal(const Json& json) {
  Refusal refusal;
  JsonReader reader(json, "slice: refused", reason::kBadRequest);
  reader.text("reason", refusal.reason).text("error", refusal.message);
  TRY(reader.finish());
  if (find_reason(refusal.reason) == nullptr || refusal.message.size() > kMaxSliceEnd)
    return bad_batch("a refusal of an unknown kind");
  return refusal;
}

Result<BatchAnswer> read_answer(const Json& json) {
  BatchAnswer answer;
  JsonReader reader(json, "answer", reason::kBadRequest);
  reader.integer("slot", answer.slot, 0U, kMaxBatchWindow - 1)
      .integer("status", answer.status, 100U, 599U)
      .integer("bytes", answer.bytes, 0, INT64_MAX)
      .integer("header", answer.header, 0, INT64_MAX)
      .text("reason", answer.reason)
      .text("error", answer.error)
      .boolean("fatal", answer.fatal);
  TRY(reader.finish());
  if (answer.header > answer.bytes) return bad_batch("an answer whose sizes cannot be");
  return answer;
}

}  // namespace

std::string_view to_string(TableFormat format) {
  switch (format) {
    case TableFormat::Csv:
      return "csv";
    case TableFormat::Jsonl:
      return "jsonl";
    case TableFormat::Parquet:
      return "parquet";
  }
  return "csv";
}

std::optional<TableFormat> parse_table_format(std::string_view name) {
  for (const TableFormat format : kTableFormats) {
    if (name == to_string(format)) return format;
  }
  return std::nullopt;
}

std::string to_json(const BatchJob& job) {
  Json batch{{"input", job.input},
             {"format", to_string(job.format)},
             {"output_format", to_string(job.output_format)},
             {"inputs", tensor_list(job.signature.inputs)},
             {"outputs", tensor_list(job.signature.outputs)},
             {"keep", keep_json(job.keep)},
             {"chunk_rows", job.chunk_rows},
             {"max_request", job.max_request.count},
             {"window", job.window},
             {"slice_ms", std::chrono::ceil<std::chrono::milliseconds>(job.slice).count()},
             {"max_errors", job.max_errors},
             {"errors_so_far", job.errors_so_far}};
  if (!job.columns.empty()) batch["columns"] = job.columns;
  if (auto position = parse_json(job.position, "position"); position && !job.position.empty())
    batch["position"] = *std::move(position);
  return dump_batch({{"batch", std::move(batch)}});
}

Result<std::optional<BatchJob>> parse_batch_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "batch job"));
  const Json* batch = only_member(json, "batch");
  if (batch == nullptr) return std::nullopt;
  return TRY(read_batch(*batch));
}

std::string part_name(std::uint32_t number) { return fmt::format("part-{:06}", number); }
std::string errors_name(std::uint32_t number) { return fmt::format("errors-{:06}", number); }

std::string to_json(const MergeJob& job) {
  return dump_batch(
      {{"merge", {{"parts", job.parts}, {"output_format", to_string(job.output_format)}}}});
}

Result<std::optional<MergeJob>> parse_merge_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "merge job"));
  const Json* merge = only_member(json, "merge");
  if (merge == nullptr) return std::nullopt;
  MergeJob job;
  std::string format;
  JsonReader reader(*merge, "merge job", reason::kBadRequest);
  reader.text("output_format", format).integer("parts", job.parts, 1U, kMaxBatchParts);
  TRY(reader.finish());
  if (job.parts == 0) return bad_batch("nothing to merge");
  job.output_format = TRY(read_format(format));
  return job;
}

std::string to_json(const WorkerMessage& message) {
  if (const auto* predict = std::get_if<PredictMessage>(&message)) {
    return dump_batch({{"predict",
                        {{"slot", predict->slot},
                         {"bytes", predict->bytes},
                         {"header", predict->header},
                         {"rows", predict->rows}}}});
  }
  const auto& progress = std::get<BatchProgress>(message);
  return dump_batch({{"progress",
                      {{"rows", progress.rows},
                       {"failed", progress.failed},
                       {"done_bytes", progress.done_bytes},
                       {"total_bytes", progress.total_bytes}}}});
}

Result<WorkerMessage> parse_worker_message(std::string_view text) {
  if (text.size() > kMaxBatchMessage) return bad_batch("a message is too long");
  const Json json = TRY(parse_json(text, "message"));
  if (const Json* predict = only_member(json, "predict")) return TRY(read_predict(*predict));
  if (const Json* progress = only_member(json, "progress")) return TRY(read_progress(*progress));
  return bad_batch("an unknown message");
}

std::string to_json(const SliceEnd& end) {
  Json json{{"finished", end.finished}, {"rows", end.rows}, {"failed", end.failed}};
  if (auto position = parse_json(end.position, "position"); position && !end.position.empty())
    json["position"] = *std::move(position);
  if (end.refused)
    json["refused"] = {{"reason", end.refused->reason}, {"error", end.refused->message}};
  return dump_batch(json);
}

Result<SliceEnd> parse_slice_end(std::string_view text) {
  if (text.size() > kMaxSliceEnd) return bad_batch("slice.json is too long");
  const Json json = TRY(parse_json(text, "slice.json"));
  SliceEnd end;
  JsonReader reader(json, "slice.json", reason::kBadRequest);
  reader.boolean("finished", end.finished)
      .integer("rows", end.rows, 0, kMaxRows)
      .integer("failed", end.failed, 0, kMaxRows);
  const Json* position = reader.value("position");
  const Json* refused = reader.value("refused");
  TRY(reader.finish());
  if (end.failed > end.rows) return bad_batch("slice.json: more failed than there are rows");
  end.position = TRY(read_position(position));
  if (refused != nullptr) end.refused = TRY(read_slice_refusal(*refused));
  if (end.finished && end.refused) return bad_batch("slice.json: finished and refused");
  return end;
}

std::string to_json(const ServerMessage& message) {
  if (std::holds_alternative<StopBatch>(message)) return R"({"stop":true})";
  const auto& answer = std::get<BatchAnswer>(message);
  Json json{{"slot", answer.slot}, {"status", answer.status}};
  if (answer.status == 200) {
    json["bytes"] = answer.bytes;
    json["header"] = answer.header;
  } else {
    json["reason"] = answer.reason;
    json["error"] = answer.error.substr(0, kMaxErrorText);
    json["fatal"] = answer.fatal;
  }
  return dump_batch(json);
}

Result<ServerMessage> parse_server_message(std::string_view text) {
  const Json json = TRY(parse_json(text, "message"));
  if (const Json* stop = only_member(json, "stop"); stop != nullptr && *stop == true)
    return StopBatch{};
  return TRY(read_answer(json));
}

}  // namespace mayfly
