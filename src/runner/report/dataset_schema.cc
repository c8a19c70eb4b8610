#include "runner/report/dataset_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::array<std::pair<ColumnType, std::string_view>, 6> kColumnTypes{{
    {ColumnType::Number, "number"},
    {ColumnType::Integer, "integer"},
    {ColumnType::Date, "date"},
    {ColumnType::Category, "category"},
    {ColumnType::Text, "text"},
    {ColumnType::Image, "image"},
}};
constexpr std::array<std::pair<SplitBy, std::string_view>, 4> kSplitBys{{
    {SplitBy::Content, "content"},
    {SplitBy::Id, "id"},
    {SplitBy::Group, "group"},
    {SplitBy::Time, "time"},
}};

std::unexpected<Error> bad_schema(std::string_view complaint) {
  return refuse(reason::kBadRequest, fmt::format("schema: {}", complaint));
}

Result<std::vector<std::string>> read_categories(const Json& json) {
  if (!json.is_array() || json.size() > kMaxCategories)
    return bad_schema(fmt::format("categories must be a list of at most {}", kMaxCategories));
  std::vector<std::string> categories;
  std::set<std::string_view> seen;
  categories.reserve(json.size());
  for (const Json& item : json) {
    if (!item.is_string()) return bad_schema("categories must be texts");
    categories.push_back(item.get<std::string>());
    if (categories.back().empty() || categories.back().size() > kMaxCategory)
      return bad_schema(fmt::format("a category has 1 to {} bytes", kMaxCategory));
    if (!seen.insert(categories.back()).second) return bad_schema("a category is there twice");
  }
  return categories;
}

Result<std::vector<std::uint32_t>> read_image_shape(const Json& json) {
  std::vector<std::uint32_t> shape;
  if (!json.is_array() || json.size() != 3) return bad_schema("an image's shape has three sides");
  for (const Json& side : json) {
    if (!side.is_number_unsigned() || side.get<std::uint64_t>() < 1 ||
        side.get<std::uint64_t>() > kMaxImageSide) {
      return bad_schema(fmt::format("the sides of an image are 1 to {}", kMaxImageSide));
    }
    shape.push_back(side.get<std::uint32_t>());
  }
  if (shape[2] != 1 && shape[2] != 3) return bad_schema("an image has 1 channel or 3");
  return shape;
}

Result<SchemaColumn> read_column(const Json& json) {
  SchemaColumn column;
  std::string type;
  JsonReader reader(json, "schema: column", reason::kBadRequest);
  reader.text("name", column.name).text("type", type);
  const Json* categories = reader.value("categories");
  const Json* shape = reader.value("shape");
  TRY(reader.finish());
  const auto known = parse_column_type(type);
  if (!known) return bad_schema(fmt::format("'{}' is no type of a column", type.substr(0, 64)));
  column.type = *known;
  if (column.name.empty() || column.name.size() > kMaxColumnName)
    return bad_schema(fmt::format("a column's name has 1 to {} bytes", kMaxColumnName));
  if ((categories != nullptr) != (column.type == ColumnType::Category))
    return bad_schema("categories belong to columns of the type category, and only to them");
  if ((shape != nullptr) != (column.type == ColumnType::Image))
    return bad_schema("a shape belongs to columns of the type image, and only to them");
  if (categories != nullptr) column.categories = TRY(read_categories(*categories));
  if (shape != nullptr) column.shape = TRY(read_image_shape(*shape));
  return column;
}

Status read_share(const Json* json, std::string_view what, double& share) {
  if (json == nullptr) return {};
  if (!json->is_number() || !(json->get<double>() >= 0 && json->get<double>() <= 0.9))
    return bad_schema(fmt::format("split: {} is a share from 0 to 0.9", what));
  share = json->get<double>();
  return {};
}

Status read_instant(const Json* json, std::optional<std::int64_t>& instant) {
  if (json == nullptr) return {};
  if (!json->is_number_integer()) return bad_schema("split: a time is a number of milliseconds");
  instant = json->get<std::int64_t>();
  return {};
}

Status check_names(const DatasetSchema& schema) {
  std::set<std::string_view> names;
  for (const SchemaColumn& column : schema.columns) {
    if (!names.insert(column.name).second)
      return bad_schema(fmt::format("the column '{}' is there twice", column.name));
  }
  for (const std::string* name : {&schema.target, &schema.event_time, &schema.split.column}) {
    if (!name->empty() && !names.contains(*name))
      return bad_schema(fmt::format("there is no column '{}'", name->substr(0, kMaxColumnName)));
  }
  return {};
}

}  // namespace

std::string_view to_string(ColumnType type) {
  return std::ranges::find(kColumnTypes, type, &std::pair<ColumnType, std::string_view>::first)
      ->second;
}

std::optional<ColumnType> parse_column_type(std::string_view name) {
  for (const auto& [type, known] : kColumnTypes) {
    if (known == name) return type;
  }
  return std::nullopt;
}

std::string_view to_string(SplitBy by) {
  return std::ranges::find(kSplitBys, by, &std::pair<SplitBy, std::string_view>::first)->second;
}

Json to_json_value(const SplitRule& split) {
  Json json{{"by", to_string(split.by)}};
  if (!split.column.empty()) json["column"] = split.column;
  json["valid"] = split.valid;
  json["test"] = split.test;
  if (split.valid_from) json["valid_from"] = *split.valid_from;
  if (split.test_from) json["test_from"] = *split.test_from;
  if (split.seed) json["seed"] = *split.seed;
  return json;
}

Result<SplitRule> read_split(const Json& json) {
  SplitRule split;
  std::string by(to_string(split.by));
  JsonReader reader(json, "split", reason::kBadRequest);
  reader.text("by", by).text("column", split.column);
  const Json* valid = reader.value("valid");
  const Json* test = reader.value("test");
  const Json* valid_from = reader.value("valid_from");
  const Json* test_from = reader.value("test_from");
  const Json* seed = reader.value("seed");
  TRY(reader.finish());
  const auto known =
      std::ranges::find(kSplitBys, by, &std::pair<SplitBy, std::string_view>::second);
  if (known == kSplitBys.end()) return bad_schema("split: by is content, id, group or time");
  split.by = known->first;
  TRY(read_share(valid, "valid", split.valid));
  TRY(read_share(test, "test", split.test));
  TRY(read_instant(valid_from, split.valid_from));
  TRY(read_instant(test_from, split.test_from));
  if (seed != nullptr && !seed->is_number_unsigned())
    return bad_schema("split: a seed is a whole number from 0");
  if (seed != nullptr) split.seed = seed->get<std::uint64_t>();
  if (split.valid + split.test > 0.9) {
    return bad_schema("split: valid and test are at most 0.9 together: the rest is trained on");
  }
  if (split.column.empty() != (split.by == SplitBy::Content) ||
      split.column.size() > kMaxColumnName) {
    return bad_schema("split: by id, group and time name their column; by content names none");
  }
  return split;
}

const SchemaColumn* DatasetSchema::find(std::string_view name) const {
  const auto found = std::ranges::find(columns, name, &SchemaColumn::name);
  return found == columns.end() ? nullptr : &*found;
}

std::string to_json(const DatasetSchema& schema) {
  Json columns = Json::array();
  for (const SchemaColumn& column : schema.columns) {
    Json about{{"name", column.name}, {"type", to_string(column.type)}};
    if (column.type == ColumnType::Category) about["categories"] = column.categories;
    if (column.type == ColumnType::Image) about["shape"] = column.shape;
    columns.push_back(std::move(about));
  }
  Json json{{"columns", std::move(columns)}};
  if (!schema.target.empty()) json["target"] = schema.target;
  if (!schema.event_time.empty()) json["event_time"] = schema.event_time;
  json["split"] = to_json_value(schema.split);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string split_basis(const DatasetSchema& schema) {
  // As rows are hashed: numbers and integers alike, categories as texts.
  const auto kind_of = [](const SchemaColumn& column) -> std::string {
    switch (column.type) {
      case ColumnType::Number:
      case ColumnType::Integer:
        return "number";
      case ColumnType::Category:
      case ColumnType::Text:
        return "text";
      case ColumnType::Date:
        return "date";
      case ColumnType::Image:
        return fmt::format("image {}", fmt::join(column.shape, "x"));
    }
    return "";
  };
  const SplitRule& rule = schema.split;
  if (rule.by == SplitBy::Time) return "";
  Json basis = Json::array();
  for (const SchemaColumn& column : schema.columns) {
    if (rule.by != SplitBy::Content && column.name != rule.column) continue;
    basis.push_back({column.name, kind_of(column)});
  }
  return basis.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<DatasetSchema> parse_dataset_schema(std::string_view text) {
  if (text.size() > kMaxSchemaJson) return bad_schema("it is too long");
  const Json json = TRY(parse_json(text, "schema"));
  DatasetSchema schema;
  JsonReader reader(json, "schema", reason::kBadRequest);
  reader.text("target", schema.target).text("event_time", schema.event_time);
  const Json* columns = reader.value("columns");
  const Json* split = reader.value("split");
  TRY(reader.finish());
  if (columns == nullptr || !columns->is_array() || columns->empty() ||
      columns->size() > kMaxColumns) {
    return bad_schema(fmt::format("it has 1 to {} columns", kMaxColumns));
  }
  for (const Json& column : *columns) schema.columns.push_back(TRY(read_column(column)));
  if (split != nullptr) schema.split = TRY(read_split(*split));
  TRY(check_names(schema));
  return schema;
}

}  // namespace mayfly
