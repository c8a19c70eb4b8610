// ARFF, line by line.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"
#include "runner/batch/byte_window.h"
#include "runner/ingest/arff_text.h"
#include "runner/ingest/row_source.h"

namespace mayfly {
namespace {

constexpr std::size_t kFirstArffBlock = std::size_t{256} << 10U;

class ArffSource final : public RowSource {
 public:
  explicit ArffSource(ByteWindow window) : window_(std::move(window)) {}

  Status open() {
    const std::string_view mark = TRY(window_.peek(3));
    if (mark.starts_with("\xEF\xBB\xBF")) window_.skip(3);
    while (true) {
      std::string line;
      if (!TRY(take_line(line))) return refuse(reason::kInvalidInput, "the ARFF file has no @data");
      ArffLine parsed = TRY(parse_arff_line(line));
      if (parsed.attribute) {
        columns_.push_back({.name = std::move(parsed.attribute->name),
                            .type = parsed.attribute->type,
                            .categories = std::move(parsed.attribute->categories)});
      }
      if (columns_.size() > kMaxColumns || parsed.data) return settle_names(columns_);
    }
  }

  Result<bool> next(SourceBlock& block) override {
    texts_.clear();
    block.clear(columns_.size());
    const std::size_t most = rows_of_block(columns_.size());
    while (block.rows.size() + block.failures.size() < most) {
      std::string& line = texts_.emplace_back();
      if (!TRY(take_line(line))) break;
      const std::size_t first = line.find_first_not_of(" \t");
      if (first == std::string::npos || line[first] == '%') {
        texts_.pop_back();
        continue;
      }
      add_row(block, line);
    }
    return !block.rows.empty() || !block.failures.empty();
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }
  std::uint64_t done_bytes() const override { return window_.offset(); }
  std::uint64_t total_bytes() const override { return window_.file_bytes(); }

 private:
  void add_row(SourceBlock& block, const std::string& line) {
    const SourceRow at{.row = ++row_, .line = line_};
    auto cells = parse_arff_row(line, columns_.size(), texts_);
    if (!cells) {
      block.failures.push_back({.at = at,
                                .error = std::move(cells).error().message,
                                .input = to_utf8(line.substr(0, kMaxShownInput))});
      return;
    }
    block.rows.push_back(at);
    for (std::size_t i = 0; i < columns_.size(); ++i) block.columns[i].push_back((*cells)[i]);
  }

  // Without its end. false: there is none.
  Result<bool> take_line(std::string& line) {
    // What is there already, first: looking at more moves it.
    for (std::size_t wanted = 1;; wanted = size_) {
      const std::string_view text = TRY(window_.peek(wanted));
      if (text.empty()) return false;
      const std::size_t end = text.find('\n');
      const bool whole = end != std::string_view::npos || window_.holds_all();
      if (whole && std::min(end, text.size()) <= kMaxTextBlock) {
        line = text.substr(0, end);
        if (line.ends_with('\r')) line.pop_back();
        window_.skip(end == std::string_view::npos ? text.size() : end + 1);
        ++line_;
        return true;
      }
      if (wanted == 1) continue;
      if (size_ >= kMaxTextBlock) {
        return refuse(reason::kInvalidInput, fmt::format("line {} is longer than {} MiB", line_ + 1,
                                                         kMaxTextBlock >> 20U));
      }
      size_ = std::min(size_ * 2, kMaxTextBlock);
    }
  }

  ByteWindow window_;
  std::vector<SourceColumn> columns_;
  std::deque<std::string> texts_;  // what the cells of the block point into
  std::size_t size_ = kFirstArffBlock;
  std::uint64_t row_ = 0;
  std::uint64_t line_ = 0;
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_arff_source(const Path& file) {
  Fd opened = TRY(open_file(file, O_RDONLY));
  auto source = std::make_unique<ArffSource>(TRY(ByteWindow::open(std::move(opened))));
  TRY(source->open());
  return source;
}

}  // namespace mayfly
