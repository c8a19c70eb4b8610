// Bytes taken in as ingest takes a file: types from a first pass over its rows, columns from a
// second. Aborts where a promise of either is broken, whatever the bytes are. No disk is written.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/fd.h"
#include "base/file.h"
#include "core/reason.h"
#include "runner/ingest/conversion.h"
#include "runner/ingest/guess.h"
#include "runner/ingest/row_source.h"
#include "runner/ingest/statistics.h"

namespace mayfly {

// A few bytes of Parquet may stand for rows without end: so many cells are read, at most.
inline constexpr std::size_t kMostTakenCells = std::size_t{1} << 17U;
inline constexpr std::size_t kMostTakenBytes = std::size_t{64} << 10U;

class FileOfBytes {
 public:
  explicit FileOfBytes(std::string_view bytes) : fd_(::memfd_create("bytes", MFD_CLOEXEC)) {
    CHECK(fd_ && write_all(fd_.get(), bytes));
  }
  Path path() const { return "/proc/self/fd/" + std::to_string(fd_.get()); }

 private:
  Fd fd_;
};

// What must hold of each block: columns of one length, rows that are numbered without a gap, and
// lines that come one after another.
class BlockCheck {
 public:
  void see(const RowSource& source, const SourceBlock& block) {
    CHECK(block.columns.size() == source.columns().size());
    for (const auto& cells : block.columns) CHECK(cells.size() == block.rows.size());
    CHECK(!block.rows.empty() || !block.failures.empty());
    auto failure = block.failures.begin();
    const auto see_failures = [&] {
      while (failure != block.failures.end() && failure->at.row == at_.row + 1) {
        CHECK(!failure->error.empty());
        step(failure++->at);
      }
    };
    for (const SourceRow& row : block.rows) {
      see_failures();
      step(row);
    }
    see_failures();
    CHECK(failure == block.failures.end());
    CHECK(source.done_bytes() >= done_ && source.done_bytes() <= source.total_bytes());
    done_ = source.done_bytes();
    cells_ += (block.rows.size() + block.failures.size()) * block.columns.size();
  }
  std::size_t cells() const { return cells_; }

 private:
  void step(SourceRow next) {
    CHECK(next.row == at_.row + 1);
    CHECK(next.line == 0 ? at_.line == 0 : next.line > at_.line);
    at_ = next;
  }

  SourceRow at_;
  std::uint64_t done_ = 0;
  std::size_t cells_ = 0;
};

// `visit` is called with the source and each of its blocks.
template <typename Visit>
Status visit_blocks(const FileOfBytes& file, const IngestOptions& options, Visit visit) {
  const auto source = TRY(open_source(file.path(), options));
  SourceBlock block;
  BlockCheck check;
  while (TRY(source->next(block))) {
    check.see(*source, block);
    visit(*source, block);
    if (check.cells() > kMostTakenCells) return {};
  }
  CHECK(source->done_bytes() == source->total_bytes());
  block.clear(source->columns().size());  // a file without rows has columns too
  visit(*source, block);
  return {};
}

// A file's columns, as they are guessed, converted and summed up.
class TakenColumns {
 public:
  // Of the first pass.
  void look(const RowSource& source, const SourceBlock& block) {
    for (std::size_t i = guesses_.size(); i < source.columns().size(); ++i) {
      guesses_.emplace_back(source.columns()[i].type, ColumnUse::Feature, kMostTakenBytes, none_);
      schema_.columns.push_back({.name = source.columns()[i].name});
    }
    for (std::size_t i = 0; i < block.columns.size(); ++i) {
      for (std::size_t row = 0; row < block.rows.size(); ++row)
        guesses_[i].see(block.columns[i][row], block.rows[row].row);
    }
  }

  // What ingest leaves is what the server takes.
  void settle() {
    for (std::size_t i = 0; i < guesses_.size(); ++i) {
      SchemaColumn& column = schema_.columns[i];
      column.type = guesses_[i].type();
      (void)guesses_[i].note(column.name);
      if (column.type != ColumnType::Category) continue;
      auto categories = guesses_[i].categories();
      CHECK(categories.has_value());
      column.categories = *std::move(categories);
    }
    const auto taken = parse_dataset_schema(to_json(schema_));
    CHECK(taken && *taken == schema_);
    for (const SchemaColumn& column : schema_.columns) statistics_.emplace_back(column.type);
  }

  // Of the second pass: what type a column has was guessed from all of its values, so each is one.
  void convert(const SourceBlock& block) {
    CHECK(block.columns.size() <= schema_.columns.size());
    std::vector<std::string> complaints(block.rows.size());
    const std::vector<bool> good(block.rows.size(), true);
    for (std::size_t i = 0; i < block.columns.size(); ++i) {
      ColumnConverter converter(schema_.columns[i], none_);
      ColumnValues values;
      converter.convert(block.columns[i], values, complaints);
      std::string canonical;
      for (std::size_t row = 0; row < block.rows.size(); ++row) {
        CHECK(complaints[row].empty());
        values.append_canonical(canonical, row);
      }
      statistics_[i].see(values, good);
    }
  }

  void sum_up() const {
    Json columns = Json::array();
    for (std::size_t i = 0; i < statistics_.size(); ++i)
      columns.push_back(statistics_[i].describe(schema_.columns[i]));
    const Json all{{"columns", std::move(columns)}};
    CHECK(check_statistics(all.dump(-1, ' ', false, Json::error_handler_t::replace), schema_));
    const auto sketches = parse_sketches(sketches_of(statistics_));
    CHECK(sketches && sketches->size() == statistics_.size());
  }

 private:
  const std::vector<std::string> none_;
  std::vector<ColumnGuess> guesses_;
  DatasetSchema schema_;
  std::vector<ColumnStatistics> statistics_;
};

// The file's rows, as `visit` is shown them in the first pass; or why it is not taken.
template <typename Visit>
Status take_bytes(std::string_view bytes, const IngestOptions& options, Visit visit) {
  const FileOfBytes file(bytes);
  TakenColumns columns;
  TRY(visit_blocks(file, options, [&](const RowSource& source, const SourceBlock& block) {
    columns.look(source, block);
    visit(source, block);
  }));
  columns.settle();
  const auto convert = [&](const RowSource&, const SourceBlock& block) { columns.convert(block); };
  CHECK(visit_blocks(file, options, convert));
  columns.sum_up();
  return {};
}

// A file is refused in words, and with a reason that is the file's, not the machine's.
inline void check_refusal(const Error& error) {
  CHECK(error.reason == reason::kInvalidInput || error.reason == reason::kOutOfMemory);
  CHECK(!error.message.empty());
}

// Each line of a text, as an editor numbers them, from 1.
inline std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace mayfly
