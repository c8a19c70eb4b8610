// CSV as RFC 4180 has it: commas, double quotes, a header, lines that end in LF or CRLF. Arrow's
// parser finds the fields; a chunk is what it takes of a window of the file.
#include <arrow/array/builder_binary.h>
#include <arrow/memory_pool.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"
#include "core/wire/json_text.h"
#include "runner/batch/arrow_result.h"
#include "runner/batch/byte_window.h"
#include "runner/batch/chunk_builder.h"
#include "runner/batch/csv_block.h"
#include "runner/batch/json_value.h"
#include "runner/batch/table_reader.h"

namespace mayfly {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kFirstBlock = 256 << 10;
constexpr std::string_view kCsvFile = "the CSV file";

class CsvReader final : public RowReader {
 public:
  CsvReader(ByteWindow window, const BatchJob& job, std::uint32_t rows)
      : window_(std::move(window)),
        job_(job),
        rows_(std::min<std::uint32_t>(rows, arrow::csv::kMaxParserNumRows)) {}

  Status open() {
    TRY(read_header());
    const TextPosition position = TRY(parse_text_position(job_.position, window_.file_bytes()));
    if (position.offset > 0) window_.seek(position.offset);
    row_ = position.row;
    map_ = TRY(map_columns(columns_, job_));
    for (const std::size_t column : map_.kept)
      kept_.push_back({columns_[column].name, KeptKind::Text, arrow::utf8()});
    return {};
  }

  Result<std::optional<TableChunk>> next() override {
    while (true) {
      const std::string_view text = TRY(window_.peek(block_)).substr(0, kMaxBlock);
      const bool to_end = window_.holds_all() && text.size() < kMaxBlock;
      if (text.empty()) return std::nullopt;
      CsvBlock block(width(), rows_);
      TRY(block.parse(text, to_end));
      const auto rows = static_cast<std::uint32_t>(block.parser.num_rows()) +
                        static_cast<std::uint32_t>(block.uneven.size());
      if (rows == 0 && block.bytes == 0 && !to_end) {
        if (block_ == kMaxBlock) return refuse_long_row();
        block_ *= 2;
        continue;
      }
      window_.skip(to_end && rows == 0 ? text.size() : block.bytes);
      if (rows == 0) continue;  // empty lines
      if (rows < rows_) block_ = std::min(block_ * 2, kMaxBlock);
      return TRY(make_chunk(block, rows));
    }
  }

  const std::vector<KeptField>& kept() const override { return kept_; }
  const ColumnMap& columns() const override { return map_; }
  std::uint64_t total_bytes() const override { return window_.file_bytes(); }

 private:
  std::int32_t width() const { return static_cast<std::int32_t>(columns_.size()); }

  std::unexpected<Error> refuse_long_row() const {
    return refuse(reason::kInvalidInput,
                  fmt::format("row {} is longer than {} MiB; is a quote not closed?", row_ + 1,
                              kMaxBlock >> 20U));
  }

  Status read_header() {
    std::string_view text = TRY(window_.peek(kMaxBlock)).substr(0, kMaxBlock);
    if (text.starts_with(kByteOrderMark)) {
      window_.skip(kByteOrderMark.size());
      text.remove_prefix(kByteOrderMark.size());
    }
    const bool to_end = window_.holds_all() && text.size() < kMaxBlock;
    CsvBlock block(-1, 1);
    TRY(block.parse(text, to_end));
    if (block.parser.num_rows() == 0) {
      return refuse(reason::kInvalidInput, to_end ? "the CSV file is empty: it has no header"
                                                  : "the CSV file's header is too long");
    }
    (void)block.parser.VisitLastRow(
        [this](const std::uint8_t* data, std::uint32_t size, bool, bool) {
          const std::string_view name(reinterpret_cast<const char*>(data), size);
          columns_.push_back({.name = to_utf8(name)});
          return arrow::Status::OK();
        });
    window_.skip(block.bytes);
    return {};
  }

  Result<TableChunk> make_chunk(const CsvBlock& block, std::uint32_t rows) {
    ChunkBuilder builder(map_, columns_, rows);
    const std::vector<std::uint32_t> places = place_rows(block, builder);
    for (std::size_t input = 0; input < map_.inputs.size(); ++input) {
      const auto& columns = map_.inputs[input].columns;
      for (std::size_t element = 0; element < columns.size(); ++element) {
        visit_csv_column(block.parser, columns[element],
                         [&](std::size_t row, std::string_view text, bool) {
                           builder.put(places[row], input, element, FieldText{text});
                         });
      }
    }
    if (map_.inputs.empty()) make_documents(block, places, builder);
    if (builder.any_failed()) show_failed(block, places, builder);
    std::vector<std::shared_ptr<arrow::Array>> kept;
    for (const std::size_t column : map_.kept)
      kept.push_back(TRY(keep_column(block, places, column, rows)));
    TableChunk chunk = builder.take(row_);
    chunk.kept = std::move(kept);
    row_ += rows;
    chunk.position = to_json(TextPosition{window_.offset(), row_});
    chunk.done_bytes = window_.offset();
    return chunk;
  }

  // Where the parser's rows stand in the chunk, between those that it passed over.
  std::vector<std::uint32_t> place_rows(const CsvBlock& block, ChunkBuilder& builder) const {
    for (const UnevenRow& uneven : block.uneven) {
      builder.fail(uneven.row, fmt::format("it has {} fields, the header has {}", uneven.fields,
                                           columns_.size()));
      builder.shown(uneven.row) = uneven.text;
    }
    std::vector<std::uint32_t> places;
    for (std::uint32_t row = 0; row < builder.rows(); ++row) {
      if (!builder.failed(row)) places.push_back(row);
    }
    return places;
  }

  void make_documents(const CsvBlock& block, const std::vector<std::uint32_t>& places,
                      ChunkBuilder& builder) const {
    std::vector<std::string> documents(places.size(), "{");
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      std::string key = column == 0 ? "" : ",";
      append_json_string(key, columns_[column].name);
      key += ':';
      visit_csv_column(block.parser, column,
                       [&](std::size_t row, std::string_view text, bool quoted) {
                         documents[row] += key;
                         append_field_as_json(documents[row], text, quoted);
                       });
    }
    for (std::size_t row = 0; row < places.size(); ++row)
      builder.set_document(places[row], std::move(documents[row]) + "}");
  }

  void show_failed(const CsvBlock& block, const std::vector<std::uint32_t>& places,
                   ChunkBuilder& builder) const {
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      visit_csv_column(block.parser, column, [&](std::size_t row, std::string_view text, bool) {
        if (!builder.failed(places[row])) return;
        std::string& shown = builder.shown(places[row]);
        if (shown.size() > kMaxShownRow) return;
        if (column > 0) shown += ',';
        shown += text.substr(0, kMaxShownRow);
      });
    }
  }

  static Result<std::shared_ptr<arrow::Array>> keep_column(const CsvBlock& block,
                                                           const std::vector<std::uint32_t>& places,
                                                           std::size_t column, std::uint32_t rows) {
    arrow::StringBuilder values(arrow::system_memory_pool());
    arrow::Status status;
    const auto fill_to = [&](std::uint32_t row) {
      while (status.ok() && values.length() < row) status = values.AppendNull();
    };
    visit_csv_column(
        block.parser, column, [&](std::size_t row, std::string_view text, bool quoted) {
          fill_to(places[row]);
          if (!status.ok()) return;
          if (text.empty() && !quoted) {
            status = values.AppendNull();
          } else {
            status = is_utf8(text) ? values.Append(text) : values.Append(to_utf8(text));
          }
        });
    fill_to(rows);
    TRY(from_arrow(status, kCsvFile));
    return from_arrow(values.Finish(), kCsvFile);
  }

  ByteWindow window_;
  const BatchJob job_;
  std::uint32_t rows_;  // of a chunk, at most
  std::size_t block_ = kFirstBlock;
  std::uint64_t row_ = 0;
  std::vector<FileColumn> columns_;
  ColumnMap map_;
  std::vector<KeptField> kept_;
};

}  // namespace

Result<std::unique_ptr<RowReader>> open_csv(Fd file, const BatchJob& job, std::uint32_t rows) {
  auto reader = std::make_unique<CsvReader>(TRY(ByteWindow::open(std::move(file))), job, rows);
  TRY(reader->open());
  return reader;
}

}  // namespace mayfly
