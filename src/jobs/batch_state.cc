// The values of batch_slice.h as they are kept.
#include <fmt/format.h>

#include "core/json_reader.h"
#include "core/reason.h"
#include "jobs/batch_slice.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMany = std::uint64_t{1} << 60;

Json kept_json(const KeptColumns& keep) {
  if (keep.all) return "*";
  return keep.names;
}

Status read_kept(const Json& json, KeptColumns& keep) {
  if (json.is_string() && json == "*") {
    keep.all = true;
    return {};
  }
  const auto damaged = [] { return refuse(reason::kBadRequest, "keep: '*' or a list of columns"); };
  if (!json.is_array()) return damaged();
  for (const Json& name : json) {
    if (!name.is_string()) return damaged();
    keep.names.push_back(name.get<std::string>());
  }
  return {};
}

Status read_columns(const Json& json, std::map<std::string, std::vector<std::string>>& columns) {
  const auto damaged = [] {
    return refuse(reason::kBadRequest, "columns: an object of an input's name and its columns");
  };
  if (!json.is_object()) return damaged();
  for (const auto& [input, names] : json.items()) {
    if (!names.is_array()) return damaged();
    for (const Json& name : names) {
      if (!name.is_string()) return damaged();
      columns[input].push_back(name.get<std::string>());
    }
  }
  return {};
}

Status read_format(std::string_view key, const std::string& text, TableFormat& format) {
  if (text.empty()) return {};
  const auto known = parse_table_format(text);
  if (!known)
    return refuse(reason::kBadRequest,
                  fmt::format("{}: '{}' is none of csv, jsonl and parquet", key, text));
  format = *known;
  return {};
}

}  // namespace

std::string to_json(const BatchDetail& detail) {
  return Json{
      {"format", to_string(detail.format)}, {"output_format", to_string(detail.output_format)},
      {"columns", detail.columns},          {"keep", kept_json(detail.keep)},
      {"chunk_rows", detail.chunk_rows},    {"window", detail.window},
      {"max_errors", detail.max_errors}}
      .dump();
}

Result<BatchDetail> parse_batch_detail(std::string_view text) {
  const Json json = TRY(parse_json(text, "batch"));
  BatchDetail detail;
  std::string format;
  std::string output_format;
  JsonReader reader(json, "batch", reason::kBadRequest);
  reader.text("format", format)
      .text("output_format", output_format)
      .integer("chunk_rows", detail.chunk_rows, 1U, kMaxChunkRows)
      .integer("window", detail.window, 1U, kMaxBatchWindow)
      .integer("max_errors", detail.max_errors, std::uint64_t{0}, kMany);
  const Json* columns = reader.value("columns");
  const Json* keep = reader.value("keep");
  TRY(reader.finish());
  TRY(read_format("format", format, detail.format));
  TRY(read_format("output_format", output_format, detail.output_format));
  if (columns != nullptr && !columns->is_null()) TRY(read_columns(*columns, detail.columns));
  if (keep != nullptr && !keep->is_null()) TRY(read_kept(*keep, detail.keep));
  return detail;
}

std::string to_json(const BatchState& state) {
  return Json{{"position", state.position},
              {"merging", state.merging},
              {"parts", state.parts},
              {"rows", state.rows},
              {"failed", state.failed}}
      .dump();
}

Result<BatchState> parse_batch_state(std::string_view text) {
  BatchState state;
  if (text.empty()) return state;
  const Json json = TRY(parse_json(text, "the state of a batch"));
  JsonReader reader(json, "the state of a batch", reason::kInternal);
  reader.text("position", state.position)
      .boolean("merging", state.merging)
      .integer("parts", state.parts, 0U, 0xFFFF'FFFFU)
      .integer("rows", state.rows, std::uint64_t{0}, kMany)
      .integer("failed", state.failed, std::uint64_t{0}, kMany);
  TRY(reader.finish());
  return state;
}

}  // namespace mayfly
