// CSV and TSV: a header, quotes as RFC 4180 has them, lines that end in LF, CRLF or CR.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"
#include "core/wire/json_text.h"
#include "runner/batch/byte_window.h"
#include "runner/batch/csv_block.h"
#include "runner/ingest/row_source.h"

namespace mayfly {
namespace {

constexpr std::size_t kFirstCsvBlock = std::size_t{256} << 10U;

std::string_view first_line(std::string_view text) {
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (!quoted && (text[i] == '\n' || text[i] == '\r')) return text.substr(0, i);
  }
  return text;
}

// The one that the header has most of, outside of quotes.
char find_delimiter(std::string_view header) {
  constexpr std::array kKnown = {',', ';', '\t', '|'};
  std::array<std::size_t, kKnown.size()> counts{};
  bool quoted = false;
  for (const char c : header) {
    if (c == '"') quoted = !quoted;
    const auto known = std::ranges::find(kKnown, c);
    if (!quoted && known != kKnown.end())
      ++counts.at(static_cast<std::size_t>(known - kKnown.begin()));
  }
  return kKnown.at(static_cast<std::size_t>(std::ranges::max_element(counts) - counts.begin()));
}

class CsvSource final : public RowSource {
 public:
  CsvSource(ByteWindow window, std::optional<char> delimiter)
      : window_(std::move(window)), delimiter_(delimiter) {}

  Status open() {
    std::string_view text = TRY(window_.peek(kMaxTextBlock)).substr(0, kMaxTextBlock);
    if (text.starts_with("\xEF\xBB\xBF")) {
      window_.skip(3);
      text.remove_prefix(3);
    }
    while (!text.empty() && (text[0] == '\n' || text[0] == '\r')) {
      lines_ += text[0] == '\n' ? 1 : 0;
      window_.skip(1);
      text.remove_prefix(1);
    }
    if (text.starts_with("PK\x03\x04") || text.starts_with("\x1f\x8b") ||
        text.starts_with("PAR1") || text.substr(0, 4096).contains('\0')) {
      return refuse(reason::kInvalidInput, "the file is no text: a CSV file was expected");
    }
    if (text.empty())
      return refuse(reason::kInvalidInput, "the CSV file is empty: it has no header");
    style_ = {.delimiter = delimiter_.value_or(find_delimiter(first_line(text))),
              .blank_lines = true};
    const bool to_end = window_.holds_all() && text.size() < kMaxTextBlock;
    CsvBlock block(-1, 1, style_);
    TRY(block.parse(text, to_end));
    if (block.parser.num_rows() == 0) {
      return refuse(reason::kInvalidInput, to_end ? "the CSV file is empty: it has no header"
                                                  : "the CSV file's header is too long");
    }
    (void)block.parser.VisitLastRow(
        [this](const std::uint8_t* data, std::uint32_t size, bool quoted, bool) {
          columns_.push_back({.name = {reinterpret_cast<const char*>(data), size}});
          if (quoted) lines_ += count_lines(columns_.back().name);
          return arrow::Status::OK();
        });
    ++lines_;
    window_.skip(block.bytes);
    return settle_names(columns_);
  }

  Result<bool> next(SourceBlock& block) override {
    while (true) {
      std::string_view text = TRY(window_.peek(size_)).substr(0, kMaxTextBlock);
      if (text.empty()) return false;
      const bool to_end = window_.holds_all() && text.size() < kMaxTextBlock;
      // It may be half of a line's end.
      if (!to_end && text.ends_with('\r')) text.remove_suffix(1);
      const auto most = static_cast<std::uint32_t>(rows_of_block(columns_.size()));
      parsed_.emplace(static_cast<std::int32_t>(columns_.size()), most, style_, kMaxShownInput);
      TRY(parsed_->parse(text, to_end));
      const std::size_t rows =
          static_cast<std::size_t>(parsed_->parser.num_rows()) + parsed_->uneven.size();
      if (rows == 0 && !to_end) {
        TRY(look_further());
        continue;
      }
      const std::size_t used = to_end && rows == 0 ? text.size() : parsed_->bytes;
      fill(block);
      window_.skip(used);
      if (rows < most) size_ = std::min(size_ * 2, kMaxTextBlock);
      if (!block.rows.empty() || !block.failures.empty()) return true;
    }
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }
  std::uint64_t done_bytes() const override { return window_.offset(); }
  std::uint64_t total_bytes() const override { return window_.file_bytes(); }

 private:
  static std::uint64_t count_lines(std::string_view text) {
    return static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
  }

  Status look_further() {
    if (size_ >= kMaxTextBlock)
      return refuse(reason::kInvalidInput,
                    fmt::format("row {} is longer than {} MiB; is a quote not closed?", row_ + 1,
                                kMaxTextBlock >> 20U));
    size_ = std::min(size_ * 2, kMaxTextBlock);
    return {};
  }

  void fill(SourceBlock& block) {
    block.clear(columns_.size());
    const std::size_t good = static_cast<std::size_t>(parsed_->parser.num_rows());
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      block.columns[column].reserve(good);
      visit_csv_column(parsed_->parser, column,
                       [&](std::size_t, std::string_view field, bool quoted) {
                         block.columns[column].push_back(
                             {.kind = CellKind::Field, .quoted = quoted, .text = field});
                       });
    }
    number_rows(block, good);
  }

  // Rows without any value are none: Arrow's parser makes such of blank lines.
  static bool is_blank_row(const SourceBlock& block, std::size_t row) {
    return std::ranges::all_of(block.columns, [row](const std::vector<Cell>& column) {
      return column[row].text.empty() && !column[row].quoted;
    });
  }

  // Lines are counted as rows end: with LF, CRLF or CR.
  void number_rows(SourceBlock& block, std::size_t good) {
    std::size_t uneven = 0;
    const auto take_uneven = [&](std::size_t at) {
      for (; uneven < parsed_->uneven.size() && parsed_->uneven[uneven].row == at; ++at) {
        const UnevenRow& row = parsed_->uneven[uneven++];
        fail_row(block, row, {.row = ++row_, .line = lines_ + 1});
        lines_ += 1 + row.lines;
      }
      return at;
    };
    std::size_t at = take_uneven(0);
    std::vector<std::size_t> kept;
    for (std::size_t row = 0; row < good; ++row) {
      if (!is_blank_row(block, row)) {
        block.rows.push_back({.row = ++row_, .line = lines_ + 1});
        kept.push_back(row);
      }
      lines_ += 1 + lines_within(block, row);
      at = take_uneven(at + 1);
    }
    if (kept.size() == good) return;
    for (std::vector<Cell>& column : block.columns) {
      for (std::size_t i = 0; i < kept.size(); ++i) column[i] = column[kept[i]];
      column.resize(kept.size());
    }
  }

  void fail_row(SourceBlock& block, const UnevenRow& row, SourceRow at) const {
    block.failures.push_back(
        {.at = at,
         .error = fmt::format("it has {} fields, the header has {}", row.fields, columns_.size()),
         .input = to_utf8(row.text)});
  }

  static std::size_t lines_within(const SourceBlock& block, std::size_t row) {
    std::size_t lines = 0;
    for (const auto& column : block.columns) {
      if (column[row].quoted) lines += count_lines(column[row].text);
    }
    return lines;
  }

  ByteWindow window_;
  std::optional<char> delimiter_;
  CsvStyle style_;
  std::vector<SourceColumn> columns_;
  std::optional<CsvBlock> parsed_;  // what the cells of the block point into
  std::size_t size_ = kFirstCsvBlock;
  std::uint64_t row_ = 0;
  std::uint64_t lines_ = 0;  // that ended before the next row
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_csv_source(const Path& file,
                                                   std::optional<char> delimiter) {
  Fd opened = TRY(open_file(file, O_RDONLY));
  auto source = std::make_unique<CsvSource>(TRY(ByteWindow::open(std::move(opened))), delimiter);
  TRY(source->open());
  return source;
}

}  // namespace mayfly
