// JSON lines: one object a line; any may lack members, or have others. What is nested is kept as
// its JSON.
#include <fcntl.h>
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"
#include "runner/batch/byte_window.h"
#include "runner/ingest/row_source.h"

namespace mayfly {
namespace {

constexpr std::size_t kFirstJsonBlock = std::size_t{256} << 10U;

class JsonlSource final : public RowSource {
 public:
  explicit JsonlSource(ByteWindow window) : window_(std::move(window)) {}

  // The columns of the first lines are known before any is asked for.
  Status open() {
    const std::string_view text = TRY(window_.peek(3));
    if (text.starts_with("\xEF\xBB\xBF")) window_.skip(3);
    more_ = TRY(read(first_));
    if (first_.rows.empty() && first_.failures.empty())
      return refuse(reason::kInvalidInput, "the file is empty: it has no line");
    if (columns_.empty()) {
      return refuse(reason::kInvalidInput,
                    "no line is a JSON object: a jsonl file has one object a line");
    }
    return {};
  }

  Result<bool> next(SourceBlock& block) override {
    if (!taken_) {
      taken_ = true;
      std::swap(block, first_);
      return more_;
    }
    return read(block);
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }
  std::uint64_t done_bytes() const override { return window_.offset(); }
  std::uint64_t total_bytes() const override { return window_.file_bytes(); }

 private:
  Result<bool> read(SourceBlock& block) {
    texts_.clear();
    block.clear(columns_.size());
    while (true) {
      const std::string_view text = TRY(window_.peek(size_)).substr(0, kMaxTextBlock);
      if (text.empty()) return false;
      const bool to_end = window_.holds_all() && text.size() < kMaxTextBlock;
      const std::size_t used = TRY(read_lines(block, text, to_end));
      if (used == 0) {
        if (size_ >= kMaxTextBlock) {
          return refuse(reason::kInvalidInput, fmt::format("row {} is longer than {} MiB", row_ + 1,
                                                           kMaxTextBlock >> 20U));
        }
        size_ *= 2;
        continue;
      }
      window_.skip(used);
      if (block.rows.size() < rows_of_block(columns_.size()))
        size_ = std::min(size_ * 2, kMaxTextBlock);
      if (!block.rows.empty() || !block.failures.empty()) return true;
    }
  }

  // As many whole lines as a block holds; the bytes of them.
  Result<std::size_t> read_lines(SourceBlock& block, std::string_view text, bool to_end) {
    std::size_t used = 0;
    const auto full = [&] {
      return block.rows.size() + block.failures.size() >= rows_of_block(columns_.size());
    };
    while (used < text.size() && !full()) {
      const std::size_t end = text.find('\n', used);
      if (end == std::string_view::npos && !to_end) break;
      const std::size_t next = end == std::string_view::npos ? text.size() : end + 1;
      ++line_;
      const std::string_view line = text.substr(used, next - used);
      if (line.find_first_not_of(" \t\r\n") != std::string_view::npos)
        TRY(read_line(block, line.substr(0, line.find_last_not_of("\r\n") + 1)));
      used = next;
    }
    return used;
  }

  Status read_line(SourceBlock& block, std::string_view line) {
    const SourceRow at{.row = ++row_, .line = line_};
    const auto failed = [&](std::string why) {
      block.failures.push_back(
          {.at = at, .error = std::move(why), .input = to_utf8(line.substr(0, kMaxShownInput))});
    };
    simdjson::dom::element element;
    if (const auto error = parser_.parse(line.data(), line.size()).get(element);
        error != simdjson::SUCCESS) {
      failed(fmt::format("no JSON: {}", simdjson::error_message(error)));
      return {};
    }
    if (!element.is_object()) {
      failed("no JSON object");
      return {};
    }
    block.rows.push_back(at);
    for (const auto member : element.get_object().value_unsafe()) {
      std::vector<Cell>& cells = block.columns[TRY(place_of(member.key, block))];
      // Of members of one name the first counts.
      if (cells.size() == block.rows.size()) continue;
      cells.resize(block.rows.size() - 1);
      cells.push_back(cell_of_json(member.value));
    }
    for (auto& cells : block.columns) cells.resize(block.rows.size());
    return {};
  }

  Result<std::size_t> place_of(std::string_view name, SourceBlock& block) {
    if (const auto known = places_.find(name); known != places_.end()) return known->second;
    std::vector<SourceColumn> named = {{.name = std::string(name)}};
    if (name.empty())
      return refuse(reason::kInvalidInput, fmt::format("row {} has a member without a name", row_));
    TRY(settle_names(named));
    if (columns_.size() == kMaxColumns) {
      return refuse(reason::kInvalidInput,
                    fmt::format("row {}: the lines have more than {} members", row_, kMaxColumns));
    }
    places_.emplace(name, columns_.size());
    columns_.push_back(std::move(named[0]));
    block.columns.emplace_back();
    return columns_.size() - 1;
  }

  Cell cell_of_json(const simdjson::dom::element& element) {
    using simdjson::dom::element_type;
    switch (element.type()) {
      case element_type::NULL_VALUE:
        return {};
      case element_type::BOOL:
        return {.kind = CellKind::Boolean, .integer = element.get_bool().value_unsafe() ? 1 : 0};
      case element_type::INT64:
        return {.kind = CellKind::Integer, .integer = element.get_int64().value_unsafe()};
      case element_type::DOUBLE:
        return {.kind = CellKind::Number, .number = element.get_double().value_unsafe()};
      case element_type::STRING:
        return {.kind = CellKind::Text, .text = keep(element.get_string().value_unsafe())};
      case element_type::UINT64:  // beyond 63 bits
      case element_type::ARRAY:
      case element_type::OBJECT:
        break;
    }
    return {.kind = CellKind::Text, .text = keep(simdjson::minify(element))};
  }

  // The parser's own are gone with the next line.
  std::string_view keep(std::string_view text) { return texts_.emplace_back(text); }

  ByteWindow window_;
  simdjson::dom::parser parser_{kMaxTextBlock};
  std::vector<SourceColumn> columns_;
  std::map<std::string, std::size_t, std::less<>> places_;
  std::deque<std::string> texts_;
  SourceBlock first_;
  bool more_ = false;
  bool taken_ = false;
  std::size_t size_ = kFirstJsonBlock;
  std::uint64_t row_ = 0;
  std::uint64_t line_ = 0;
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_jsonl_source(const Path& file) {
  Fd opened = TRY(open_file(file, O_RDONLY));
  auto source = std::make_unique<JsonlSource>(TRY(ByteWindow::open(std::move(opened))));
  TRY(source->open());
  return source;
}

}  // namespace mayfly
