// The schema of a snapshot, as schema.json has it (docs/design/0013-datasets.md):
//
//   {"columns": [{"name": "day", "type": "date"},
//                {"name": "class", "type": "category", "categories": ["bad", "good"]},
//                {"name": "photo", "type": "image", "shape": [28, 28, 1]}],
//    "target": "class", "event_time": "day",
//    "split": {"by": "content", "valid": 0.1, "test": 0.2}}
//
// `by` is content, id, group or time; all but content name their `column`. Of a split by time the
// rows from `test_from` on are test rows, from `valid_from` on validation rows: milliseconds since
// 1970, UTC. No I/O; what comes from a jail or a client is parsed strictly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"

namespace mayfly {

enum class ColumnType : std::uint8_t { Number, Integer, Date, Category, Text, Image };
std::string_view to_string(ColumnType type);  // "number"
std::optional<ColumnType> parse_column_type(std::string_view name);

inline constexpr std::size_t kMaxColumns = 4096;
inline constexpr std::size_t kMaxColumnName = 256;
inline constexpr std::size_t kMaxCategories = 10'000;     // of a column
inline constexpr std::size_t kMaxCategory = 256;          // bytes
inline constexpr std::size_t kMaxSchemaJson = 16 << 20U;  // schema.json
inline constexpr std::uint32_t kMaxImageSide = 1024;

struct SchemaColumn {
  std::string name;
  ColumnType type = ColumnType::Number;
  std::vector<std::string> categories = {};  // of a category: different, in the order of codes
  std::vector<std::uint32_t> shape = {};     // of an image: height, width, channels (1 or 3)
  bool operator==(const SchemaColumn&) const = default;
};

enum class SplitBy : std::uint8_t { Content, Id, Group, Time };
std::string_view to_string(SplitBy by);

struct SplitRule {
  SplitBy by = SplitBy::Content;
  std::string column = {};  // of all but Content
  double valid = 0.1;
  double test = 0.2;
  std::optional<std::int64_t> valid_from = {}, test_from = {};  // of Time, once rows are split
  // What the key of the rows' hashes is made of, so that others can split the same way; nullopt: a
  // key that nobody knows.
  std::optional<std::uint64_t> seed = {};
  bool operator==(const SplitRule&) const = default;
};
Json to_json_value(const SplitRule& split);
Result<SplitRule> read_split(const Json& json);

struct DatasetSchema {
  std::vector<SchemaColumn> columns;
  std::string target;      // empty: none is named
  std::string event_time;  // likewise
  SplitRule split;
  const SchemaColumn* find(std::string_view name) const;
  bool operator==(const DatasetSchema&) const = default;
};
std::string to_json(const DatasetSchema& schema);
// What of a row its split hangs on: where two schemas of a dataset have the same, a row that is in
// both snapshots is in the same split. Empty: by time.
std::string split_basis(const DatasetSchema& schema);
Result<DatasetSchema> parse_dataset_schema(std::string_view text);

}  // namespace mayfly
