#include "runner/report/ingest_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMostRows = INT64_MAX;
constexpr std::size_t kMaxSourceName = 1024;
constexpr std::size_t kMaxIngestText = 2000;
constexpr std::size_t kMaxIngestMessage = 1024;

constexpr std::array<std::pair<SourceFormat, std::string_view>, 7> kSourceFormats{{
    {SourceFormat::Csv, "csv"},
    {SourceFormat::Tsv, "tsv"},
    {SourceFormat::Jsonl, "jsonl"},
    {SourceFormat::Parquet, "parquet"},
    {SourceFormat::Arff, "arff"},
    {SourceFormat::Npz, "npz"},
    {SourceFormat::Images, "images"},
}};

constexpr std::array<std::pair<IngestMode, std::string_view>, 4> kIngestModes{{
    {IngestMode::Put, "put"},
    {IngestMode::Append, "append"},
    {IngestMode::Rebuild, "rebuild"},
    {IngestMode::Without, "without"},
}};

std::unexpected<Error> bad_ingest(std::string_view complaint) {
  return refuse(reason::kBadRequest, fmt::format("dataset: {}", complaint));
}

std::string dump_ingest(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::vector<std::string>> read_texts(const Json* json, std::string_view what) {
  std::vector<std::string> texts;
  if (json == nullptr) return texts;
  if (!json->is_array() || json->size() > kMaxColumns)
    return bad_ingest(fmt::format("'{}' must be a list of at most {}", what, kMaxColumns));
  for (const Json& item : *json) {
    if (!item.is_string() || item.get_ref<const std::string&>().size() > kMaxColumnName)
      return bad_ingest(
          fmt::format("'{}' must hold texts of at most {} bytes", what, kMaxColumnName));
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

Result<std::map<std::string, ColumnType>> read_types(const Json* json) {
  std::map<std::string, ColumnType> types;
  if (json == nullptr) return types;
  if (!json->is_object()) return bad_ingest("'columns' must be an object of names and types");
  for (const auto& [name, type] : json->items()) {
    const auto known = type.is_string() ? parse_column_type(type.get<std::string>()) : std::nullopt;
    if (!known || *known == ColumnType::Image) {
      return bad_ingest(fmt::format("columns: '{}' must be number, integer, date, category or text",
                                    name.substr(0, 64)));
    }
    types.emplace(name, *known);
  }
  return types;
}

Result<std::vector<std::uint32_t>> read_image(const Json* json) {
  std::vector<std::uint32_t> image;
  if (json == nullptr) return image;
  const auto bad = [] {
    return bad_ingest(
        fmt::format("'image' must be [height, width, channels]: sides of 1 to {}, and "
                    "1 channel or 3",
                    kMaxImageSide));
  };
  if (!json->is_array() || json->size() != 3) return bad();
  for (const Json& side : *json) {
    if (!side.is_number_unsigned() || side.get<std::uint64_t>() < 1 ||
        side.get<std::uint64_t>() > kMaxImageSide) {
      return bad();
    }
    image.push_back(side.get<std::uint32_t>());
  }
  if (image[2] != 1 && image[2] != 3) return bad();
  return image;
}

std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }

Result<std::uint64_t> parse_hex(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size())
    return bad_ingest("a key has 16 hexadecimal digits");
  return number;
}

Result<IngestSource> read_source(const Json& json) {
  IngestSource source;
  JsonReader reader(json, "ingest: source", reason::kBadRequest);
  reader.text("file", source.file).text("name", source.name);
  TRY(reader.finish());
  const bool plain = !source.file.empty() && source.file.size() <= 64 &&
                     source.file.find('/') == std::string::npos && source.file[0] != '.';
  if (!plain || source.name.size() > kMaxSourceName)
    return bad_ingest("a source has a file's name");
  return source;
}

Result<IngestJob> read_ingest(const Json& json) {
  IngestJob job;
  std::string k0;
  std::string k1;
  std::string mode;
  JsonReader reader(json, "ingest job", reason::kBadRequest);
  reader.text("k0", k0)
      .text("k1", k1)
      .text("mode", mode)
      .integer("max_bytes", job.max_bytes.count, 1, INT64_MAX)
      .integer("memory", job.memory.count, 1, INT64_MAX);
  const Json* options = reader.value("options");
  const Json* sources = reader.value("sources");
  TRY(reader.finish());
  if (options == nullptr || sources == nullptr || !sources->is_array() || sources->empty() ||
      sources->size() > kMaxIngestSources) {
    return bad_ingest("an ingest without options or sources");
  }
  const auto known = parse_ingest_mode(mode);
  if (!known) return bad_ingest("an ingest of an unknown mode");
  job.mode = *known;
  job.options = TRY(read_ingest_options(*options));
  for (const Json& source : *sources) job.sources.push_back(TRY(read_source(source)));
  job.key = {.k0 = TRY(parse_hex(k0)), .k1 = TRY(parse_hex(k1))};
  return job;
}

Json bad_row_json(const BadRow& bad) {
  Json json{{"file", bad.file}, {"row", bad.row}};
  if (bad.line > 0) json["line"] = bad.line;
  json["error"] = bad.error;
  if (!bad.input.empty()) json["input"] = bad.input;
  return json;
}

Result<BadRow> read_bad_row(const Json& json) {
  BadRow bad;
  JsonReader reader(json, "bad row", reason::kBadRequest);
  reader.text("file", bad.file)
      .integer("row", bad.row, 0, kMostRows)
      .integer("line", bad.line, 0, kMostRows)
      .text("error", bad.error)
      .text("input", bad.input);
  TRY(reader.finish());
  if (bad.file.size() > kMaxSourceName || bad.error.size() > kMaxIngestText ||
      bad.input.size() > kMaxIngestText) {
    return bad_ingest("a bad row that is too long");
  }
  return bad;
}

Result<Refusal> read_ingest_refusal(const Json& json) {
  Refusal refusal;
  JsonReader reader(json, "ingest: refused", reason::kBadRequest);
  reader.text("reason", refusal.reason).text("error", refusal.message);
  TRY(reader.finish());
  if (find_reason(refusal.reason) == nullptr || refusal.message.size() > kMaxIngestReport)
    return bad_ingest("a refusal of an unknown kind");
  return refusal;
}

// A number, or null: what there is none of.
bool is_figure(const Json& json) { return json.is_number() || json.is_null(); }

bool are_figures(const Json& json, std::size_t most) {
  return json.is_array() && json.size() <= most && std::ranges::all_of(json, is_figure);
}

Status check_top(const Json& json) {
  const auto damaged = [] { return bad_ingest("statistics: top is a list of values and counts"); };
  if (!json.is_array() || json.size() > 100) return damaged();
  for (const Json& entry : json) {
    std::string value;
    std::uint64_t count = 0;
    JsonReader reader(entry, "statistics: top", reason::kBadRequest);
    reader.text("value", value).integer("count", count, 0, kMostRows);
    TRY(reader.finish());
    if (value.size() > kMaxIngestText) return damaged();
  }
  return {};
}

Status check_column_statistics(const Json& json, const SchemaColumn& column) {
  std::string name;
  std::string type;
  std::array<std::uint64_t, 4> counts{};
  JsonReader reader(json, "statistics", reason::kBadRequest);
  reader.text("name", name)
      .text("type", type)
      .integer("count", counts[0], 0, kMostRows)
      .integer("missing", counts[1], 0, kMostRows)
      .integer("distinct", counts[2], 0, kMostRows)
      .integer("infinite", counts[3], 0, kMostRows);
  for (const char* figure : {"min", "max", "mean", "deviation"}) {
    const Json* value = reader.value(figure);
    if (value != nullptr && !is_figure(*value)) reader.error(figure, "must be a number");
  }
  for (const char* list : {"quantiles", "histogram"}) {
    const Json* values = reader.value(list);
    if (values != nullptr && !are_figures(*values, 100)) reader.error(list, "must be numbers");
  }
  const Json* top = reader.value("top");
  TRY(reader.finish());
  if (top != nullptr) TRY(check_top(*top));
  if (name != column.name || type != to_string(column.type))
    return bad_ingest("statistics: another column than the schema's");
  return {};
}

}  // namespace

std::string_view to_string(SourceFormat format) {
  return std::ranges::find(kSourceFormats, format,
                           &std::pair<SourceFormat, std::string_view>::first)
      ->second;
}

std::optional<SourceFormat> parse_source_format(std::string_view name) {
  for (const auto& [format, known] : kSourceFormats) {
    if (known == name) return format;
  }
  return std::nullopt;
}

std::string_view to_string(IngestMode mode) {
  return std::ranges::find(kIngestModes, mode, &std::pair<IngestMode, std::string_view>::first)
      ->second;
}

std::optional<IngestMode> parse_ingest_mode(std::string_view name) {
  for (const auto& [mode, known] : kIngestModes) {
    if (known == name) return mode;
  }
  return std::nullopt;
}

Json to_json_value(const IngestOptions& options) {
  Json json{{"format", to_string(options.format)}};
  Json types = Json::object();
  for (const auto& [name, type] : options.types) types[name] = to_string(type);
  if (!types.empty()) json["columns"] = std::move(types);
  if (!options.drop.empty()) json["drop"] = options.drop;
  if (!options.missing.empty()) json["missing"] = options.missing;
  if (!options.delimiter.empty()) json["delimiter"] = options.delimiter;
  if (!options.target.empty()) json["target"] = options.target;
  if (!options.event_time.empty()) json["event_time"] = options.event_time;
  json["split"] = to_json_value(options.split);
  if (!options.image.empty()) json["image"] = options.image;
  json["max_bad_rows"] = options.max_bad_rows;
  return json;
}

Result<IngestOptions> read_ingest_options(const Json& json) {
  IngestOptions options;
  std::string format;
  JsonReader reader(json, "dataset", reason::kBadRequest);
  reader.text("format", format)
      .text("delimiter", options.delimiter)
      .text("target", options.target)
      .text("event_time", options.event_time)
      .integer("max_bad_rows", options.max_bad_rows, 0, kMostRows);
  const Json* types = reader.value("columns");
  const Json* drop = reader.value("drop");
  const Json* missing = reader.value("missing");
  const Json* split = reader.value("split");
  const Json* image = reader.value("image");
  TRY(reader.finish());
  const auto known = parse_source_format(format);
  if (!known) return bad_ingest("'format' must be csv, tsv, jsonl, parquet, arff, npz or images");
  options.format = *known;
  options.types = TRY(read_types(types));
  options.drop = TRY(read_texts(drop, "drop"));
  options.missing = TRY(read_texts(missing, "missing"));
  if (split != nullptr) options.split = TRY(read_split(*split));
  options.image = TRY(read_image(image));
  if (!options.delimiter.empty() &&
      (options.format != SourceFormat::Csv || options.delimiter.size() != 1 ||
       std::string_view("\"\r\n").contains(options.delimiter[0]))) {
    return bad_ingest("'delimiter' is one character, of csv alone");
  }
  return options;
}

std::string to_json(const IngestJob& job) {
  Json sources = Json::array();
  for (const IngestSource& source : job.sources)
    sources.push_back({{"file", source.file}, {"name", source.name}});
  return dump_ingest({{"ingest",
                       {{"options", to_json_value(job.options)},
                        {"sources", std::move(sources)},
                        {"k0", hex(job.key.k0)},
                        {"k1", hex(job.key.k1)},
                        {"mode", to_string(job.mode)},
                        {"max_bytes", job.max_bytes.count},
                        {"memory", job.memory.count}}}});
}

Result<std::optional<IngestJob>> parse_ingest_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "ingest job"));
  if (!json.is_object() || json.size() != 1 || !json.contains("ingest")) return std::nullopt;
  return TRY(read_ingest(json["ingest"]));
}

std::string to_json(const IngestProgress& progress) {
  return dump_ingest({{"progress",
                       {{"rows", progress.rows},
                        {"done_bytes", progress.done_bytes},
                        {"total_bytes", progress.total_bytes}}}});
}

Result<IngestProgress> parse_ingest_progress(std::string_view text) {
  if (text.size() > kMaxIngestMessage) return bad_ingest("a message is too long");
  const Json json = TRY(parse_json(text, "message"));
  if (!json.is_object() || json.size() != 1 || !json.contains("progress"))
    return bad_ingest("an unknown message");
  IngestProgress progress;
  JsonReader reader(json["progress"], "progress", reason::kBadRequest);
  reader.integer("rows", progress.rows, 0, kMostRows)
      .integer("done_bytes", progress.done_bytes, 0, INT64_MAX)
      .integer("total_bytes", progress.total_bytes, 0, INT64_MAX);
  TRY(reader.finish());
  if (progress.done_bytes > progress.total_bytes) return bad_ingest("progress beyond its end");
  return progress;
}

Json to_json_value(const IngestReport& report) {
  Json json{{"rows", {{"train", report.train}, {"valid", report.valid}, {"test", report.test}}},
            {"bad_rows", report.bad_rows}};
  if (report.removed > 0) json["removed"] = report.removed;
  if (report.refused)
    json["refused"] = {{"reason", report.refused->reason}, {"error", report.refused->message}};
  Json shown = Json::array();
  for (const BadRow& bad : report.shown) shown.push_back(bad_row_json(bad));
  if (!shown.empty()) json["shown"] = std::move(shown);
  if (!report.notes.empty()) json["notes"] = report.notes;
  return json;
}

std::string to_json(const IngestReport& report) { return dump_ingest(to_json_value(report)); }

Result<IngestReport> parse_ingest_report(std::string_view text) {
  if (text.size() > kMaxIngestReport) return bad_ingest("report.json is too long");
  const Json json = TRY(parse_json(text, "report.json"));
  IngestReport report;
  JsonReader reader(json, "report.json", reason::kBadRequest);
  reader.integer("bad_rows", report.bad_rows, 0, kMostRows)
      .integer("removed", report.removed, 0, kMostRows);
  const Json* rows = reader.value("rows");
  const Json* refused = reader.value("refused");
  const Json* shown = reader.value("shown");
  const Json* notes = reader.value("notes");
  TRY(reader.finish());
  if (rows == nullptr) return bad_ingest("report.json without rows");
  JsonReader counts(*rows, "report.json: rows", reason::kBadRequest);
  counts.integer("train", report.train, 0, kMostRows)
      .integer("valid", report.valid, 0, kMostRows)
      .integer("test", report.test, 0, kMostRows);
  TRY(counts.finish());
  if (refused != nullptr) report.refused = TRY(read_ingest_refusal(*refused));
  if (shown != nullptr && (!shown->is_array() || shown->size() > kMaxShownBadRows))
    return bad_ingest("report.json shows too much");
  if (shown != nullptr) {
    for (const Json& bad : *shown) report.shown.push_back(TRY(read_bad_row(bad)));
  }
  if (notes != nullptr && (!notes->is_array() || notes->size() > kMaxNotes))
    return bad_ingest("report.json notes too much");
  if (notes == nullptr) return report;
  for (const Json& note : *notes) {
    if (!note.is_string() || note.get_ref<const std::string&>().size() > kMaxIngestText)
      return bad_ingest("a note is no text, or too long");
    report.notes.push_back(note.get<std::string>());
  }
  return report;
}

Status check_statistics(std::string_view text, const DatasetSchema& schema) {
  if (text.size() > kMaxStatisticsJson) return bad_ingest("statistics.json is too long");
  const Json json = TRY(parse_json(text, "statistics.json"));
  JsonReader reader(json, "statistics.json", reason::kBadRequest);
  const Json* columns = reader.value("columns");
  TRY(reader.finish());
  if (columns == nullptr || !columns->is_array() || columns->size() != schema.columns.size())
    return bad_ingest("statistics.json has other columns than the schema");
  for (std::size_t i = 0; i < columns->size(); ++i)
    TRY(check_column_statistics((*columns)[i], schema.columns[i]));
  return {};
}

}  // namespace mayfly
