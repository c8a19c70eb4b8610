// JSON lines: one object a line. The columns are the members of the first line; later lines may
// have them in any order, lack those that nothing needs, and have others.
#include <arrow/array/builder_binary.h>
#include <arrow/memory_pool.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "core/wire/json_text.h"
#include "runner/batch/arrow_result.h"
#include "runner/batch/byte_window.h"
#include "runner/batch/chunk_builder.h"
#include "runner/batch/table_reader.h"

namespace mayfly {
namespace {

namespace dom = simdjson::dom;

constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
constexpr std::size_t kFirstLines = 256 << 10;
constexpr std::size_t kMaxMembers = 10'000;

CellValue cell_of(const dom::element& element) {
  switch (element.type()) {
    case dom::element_type::INT64:
      return element.get_int64().value_unsafe();
    case dom::element_type::UINT64:
      return element.get_uint64().value_unsafe();
    case dom::element_type::DOUBLE:
      return element.get_double().value_unsafe();
    case dom::element_type::BOOL:
      return element.get_bool().value_unsafe();
    case dom::element_type::STRING:
      return StringText{element.get_string().value_unsafe()};
    default:
      return NoValue{};
  }
}

bool is_nested(const dom::element& element) { return element.is_array() || element.is_object(); }

// The values of nested lists in row-major order; whether there are `most` of them at most.
bool flatten(const dom::array& array, std::size_t depth, std::size_t most,
             std::vector<dom::element>& values) {
  if (depth > kMaxRank) return false;
  for (const dom::element element : array) {
    if (element.is_array()) {
      if (!flatten(element.get_array().value_unsafe(), depth + 1, most, values)) return false;
    } else {
      if (values.size() == most || element.is_object()) return false;
      values.push_back(element);
    }
  }
  return true;
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

class JsonlReader final : public RowReader {
 public:
  JsonlReader(ByteWindow window, const BatchJob& job, std::uint32_t rows)
      : window_(std::move(window)), job_(job), rows_(rows) {}

  Status open() {
    std::string_view text = TRY(window_.peek(kMaxBlock)).substr(0, kMaxBlock);
    if (text.starts_with(kUtf8Mark)) {
      window_.skip(kUtf8Mark.size());
      text.remove_prefix(kUtf8Mark.size());
    }
    while (is_blank(text.substr(0, text.find('\n'))) && text.find('\n') != std::string_view::npos) {
      const std::size_t blank = text.find('\n') + 1;
      window_.skip(blank);
      text.remove_prefix(blank);
    }
    if (is_blank(text)) return refuse(reason::kInvalidInput, "the file is empty: it has no line");
    TRY(read_columns(text.substr(0, text.find('\n'))));
    const TextPosition position = TRY(parse_text_position(job_.position, window_.file_bytes()));
    if (position.offset > 0) window_.seek(position.offset);
    row_ = position.row;
    map_ = TRY(map_columns(columns_, job_));
    for (std::size_t i = 0; i < columns_.size(); ++i) by_name_.emplace(columns_[i].name, i);
    for (const std::size_t column : map_.kept)
      kept_.push_back({columns_[column].name, KeptKind::Json, arrow::utf8()});
    return {};
  }

  Result<std::optional<TableChunk>> next() override {
    while (true) {
      const std::string_view text = TRY(window_.peek(block_)).substr(0, kMaxBlock);
      if (text.empty()) return std::nullopt;
      const bool to_end = window_.holds_all() && text.size() < kMaxBlock;
      std::size_t used = 0;
      const std::vector<std::string_view> lines = cut_lines(text, to_end, used);
      if (used == 0) {
        if (block_ == kMaxBlock) {
          return refuse(reason::kInvalidInput,
                        fmt::format("row {} is longer than {} MiB", row_ + 1, kMaxBlock >> 20U));
        }
        block_ *= 2;
        continue;
      }
      if (lines.size() < rows_) block_ = std::min(block_ * 2, kMaxBlock);
      if (lines.empty()) {
        window_.skip(used);
        continue;
      }
      TableChunk chunk = TRY(make_chunk(lines));
      window_.skip(used);
      row_ += lines.size();
      chunk.position = to_json(TextPosition{window_.offset(), row_});
      chunk.done_bytes = window_.offset();
      return chunk;
    }
  }

  const std::vector<KeptField>& kept() const override { return kept_; }
  const ColumnMap& columns() const override { return map_; }
  std::uint64_t total_bytes() const override { return window_.file_bytes(); }

 private:
  Status read_columns(std::string_view line) {
    dom::element element;
    if (parser_.parse(line.data(), line.size()).get(element) != simdjson::SUCCESS ||
        !element.is_object()) {
      return refuse(reason::kInvalidInput,
                    "the first line is no JSON object: a jsonl file has one object a line");
    }
    for (const dom::key_value_pair member : element.get_object().value_unsafe()) {
      FileColumn column{.name = std::string(member.key)};
      if (member.value.is_array()) {
        std::vector<dom::element> values;
        column.list = true;
        flatten(member.value.get_array().value_unsafe(), 1, kMaxBlock, values);
        column.length = values.size();
      }
      columns_.push_back(std::move(column));
      if (columns_.size() > kMaxMembers)
        return refuse(reason::kInvalidInput, "the first line has too many members");
    }
    return {};
  }

  // Lines that are not blank, up to as many as a chunk has; `used`: the bytes up to there.
  std::vector<std::string_view> cut_lines(std::string_view text, bool to_end,
                                          std::size_t& used) const {
    std::vector<std::string_view> lines;
    while (used < text.size() && lines.size() < rows_) {
      const std::size_t end = text.find('\n', used);
      if (end == std::string_view::npos && !to_end) break;
      const std::size_t next = end == std::string_view::npos ? text.size() : end + 1;
      const std::string_view line = without_line_end(text.substr(used, next - used));
      if (!is_blank(line)) lines.push_back(line);
      used = next;
    }
    return lines;
  }

  Result<TableChunk> make_chunk(const std::vector<std::string_view>& lines) {
    ChunkBuilder builder(map_, columns_, lines.size());
    std::vector<std::unique_ptr<arrow::StringBuilder>> kept;
    for (std::size_t i = 0; i < map_.kept.size(); ++i)
      kept.push_back(std::make_unique<arrow::StringBuilder>(arrow::system_memory_pool()));
    for (std::size_t row = 0; row < lines.size(); ++row) {
      std::vector<std::optional<dom::element>> members(columns_.size());
      if (read_members(lines[row], row, members, builder)) put_row(row, members, builder);
      if (map_.inputs.empty() && !builder.failed(row))
        builder.set_document(row, std::string(lines[row]));
      if (builder.failed(row)) builder.shown(row) = lines[row].substr(0, kMaxShownRow);
      for (std::size_t i = 0; i < kept.size(); ++i) {
        const auto& member = members[map_.kept[i]];
        TRY(from_arrow(member ? kept[i]->Append(simdjson::minify(*member)) : kept[i]->AppendNull(),
                       "the JSON lines"));
      }
    }
    TableChunk chunk = builder.take(row_);
    for (const auto& values : kept)
      chunk.kept.push_back(TRY(from_arrow(values->Finish(), "the JSON lines")));
    return chunk;
  }

  bool read_members(std::string_view line, std::size_t row,
                    std::vector<std::optional<dom::element>>& members, ChunkBuilder& builder) {
    dom::element element;
    if (const auto error = parser_.parse(line.data(), line.size()).get(element);
        error != simdjson::SUCCESS) {
      builder.fail(row, fmt::format("no JSON: {}", simdjson::error_message(error)));
      return false;
    }
    if (!element.is_object()) {
      builder.fail(row, "no JSON object");
      return false;
    }
    for (const dom::key_value_pair member : element.get_object().value_unsafe()) {
      const auto found = by_name_.find(member.key);
      if (found != by_name_.end() && !members[found->second]) members[found->second] = member.value;
    }
    return true;
  }

  void put_row(std::size_t row, const std::vector<std::optional<dom::element>>& members,
               ChunkBuilder& builder) {
    for (std::size_t i = 0; i < map_.inputs.size(); ++i) {
      const InputColumns& input = map_.inputs[i];
      if (input.list) {
        put_list(row, i, members[input.columns[0]], builder);
        continue;
      }
      for (std::size_t element = 0; element < input.columns.size(); ++element) {
        const auto& member = members[input.columns[element]];
        if (member && is_nested(*member)) {
          builder.fail(row, fmt::format("column '{}' holds no single value",
                                        columns_[input.columns[element]].name));
        } else {
          builder.put(row, i, element, member ? cell_of(*member) : CellValue(NoValue{}));
        }
      }
    }
  }

  void put_list(std::size_t row, std::size_t index, const std::optional<dom::element>& member,
                ChunkBuilder& builder) {
    const InputColumns& input = map_.inputs[index];
    list_.clear();
    const bool fits = member && member->is_array() &&
                      flatten(member->get_array().value_unsafe(), 1, input.width, list_) &&
                      list_.size() == input.width;
    if (!fits) {
      builder.fail(row, fmt::format("column '{}' is no list of {} values",
                                    columns_[input.columns[0]].name, input.width));
      return;
    }
    for (std::size_t element = 0; element < list_.size(); ++element)
      builder.put(row, index, element, cell_of(list_[element]));
  }

  ByteWindow window_;
  const BatchJob job_;
  std::uint32_t rows_;  // of a chunk, at most
  std::size_t block_ = kFirstLines;
  std::uint64_t row_ = 0;
  dom::parser parser_;
  std::vector<FileColumn> columns_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  ColumnMap map_;
  std::vector<KeptField> kept_;
  std::vector<dom::element> list_;
};

}  // namespace

Result<std::unique_ptr<RowReader>> open_jsonl(Fd file, const BatchJob& job, std::uint32_t rows) {
  auto reader = std::make_unique<JsonlReader>(TRY(ByteWindow::open(std::move(file))), job, rows);
  TRY(reader->open());
  return reader;
}

}  // namespace mayfly
