#include "runner/ingest/ingest.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "core/reason.h"
#include "runner/ingest/conversion.h"
#include "runner/ingest/guess.h"
#include "runner/ingest/part_writer.h"
#include "runner/ingest/row_removal.h"
#include "runner/ingest/row_source.h"
#include "runner/ingest/statistics.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxRemembered = std::size_t{96} << 20U;  // texts, while types are found
constexpr std::size_t kMaxSketchFile = std::size_t{256} << 20U;
constexpr Duration kTellEvery = 200ms;
constexpr std::size_t kLongestNote = 500;

// What a file, or who sent it, is to blame for.
bool is_refusal(const Error& error) {
  constexpr std::array kTheirs = {reason::kInvalidInput, reason::kBadRequest,
                                  reason::kTooLarge,     reason::kUnsupported,
                                  reason::kOutOfMemory,  reason::kStorageFull};
  return std::ranges::find(kTheirs, error.reason) != kTheirs.end();
}

class Ingest {
 public:
  Ingest(int control_fd, const IngestJob& job, const IngestFolders& folders)
      : control_fd_(control_fd), job_(job), folders_(folders) {}

  Result<IngestReport> run() {
    if (job_.mode != IngestMode::Put) TRY(read_base());
    for (const IngestSource& source : job_.sources)
      total_bytes_ += 2 * TRY(mayfly::file_size(folders_.source / source.file));
    if (job_.mode == IngestMode::Without) {
      TRY(read_removals());
    } else {
      if (job_.mode == IngestMode::Rebuild) TRY(look_at_base());
      TRY(look());
      TRY(settle_schema());
      report_.bad_rows = 0;
    }
    TRY(write());
    return std::move(report_);
  }

 private:
  using Converters = std::vector<std::unique_ptr<ColumnConverter>>;
  // A file's columns, and where its schema's columns are among them.
  struct Opened {
    std::unique_ptr<RowSource> source;
    const IngestSource* of = nullptr;
  };

  const IngestOptions& options() const { return job_.options; }

  Status read_base() {
    const Path base = folders_.source / "base";
    const std::string schema = TRY(read_file(base / "schema.json", kMaxSchemaJson));
    schema_ = TRY(parse_dataset_schema(schema));
    if (reads_base(job_.mode)) return {};  // all figures are taken anew
    const std::string sketches = TRY(read_file(base / "sketches.bin", kMaxSketchFile));
    base_ = TRY(parse_sketches(sketches));
    if (base_.size() != schema_.columns.size())
      return fail(Code::DataLoss, "base/sketches.bin is not of base/schema.json");
    return {};
  }

  Result<Opened> open(const IngestSource& source) {
    IngestOptions wanted = options();
    // What is appended has the size of what is there.
    for (const SchemaColumn& column : schema_.columns) {
      if (column.type == ColumnType::Image) wanted.image = column.shape;
    }
    auto opened = open_source(folders_.source / source.file, wanted);
    if (!opened) return std::unexpected(std::move(opened).error().in(source.name));
    return Opened{.source = *std::move(opened), .of = &source};
  }

  static Result<bool> next_of(const Opened& opened, SourceBlock& block) {
    auto more = opened.source->next(block);
    if (!more) return std::unexpected(std::move(more).error().in(opened.of->name));
    return more;
  }

  Result<Opened> open_base() {
    return Opened{.source = TRY(open_part_source(folders_.source / "base" / "parts", schema_)),
                  .of = &there_};
  }

  Status read_removals() {
    removal_.emplace(schema_);
    for (const IngestSource& source : job_.sources) {
      const Opened opened = TRY(open(source));
      TRY(removal_->read(*opened.source, source, options().missing));
      done_bytes_ += 2 * opened.source->total_bytes();
      tell(0);
    }
    return {};
  }

  // When rows happened that are there, for where a split by time begins.
  Status look_at_base() {
    const Opened base = TRY(open_base());
    SourceBlock block;
    while (TRY(base.source->next(block))) {
      for (std::size_t i = 0; i < schema_.columns.size(); ++i) {
        if (schema_.columns[i].name != schema_.split.column) continue;
        for (const Cell& cell : block.columns[i]) {
          if (const auto instant = instant_of(cell)) times_.add(*instant);
        }
      }
    }
    return {};
  }

  // ---- Which columns, of which types ------------------------------------------------------------

  bool is_dropped(const std::string& name) const {
    return std::ranges::find(options().drop, name) != options().drop.end();
  }

  std::optional<ColumnType> wanted_type(const SourceColumn& column) const {
    if (const SchemaColumn* known = schema_.find(column.name)) return known->type;
    if (const auto named = options().types.find(column.name); named != options().types.end())
      return named->second;
    return column.type;
  }

  ColumnGuess make_guess(const SourceColumn& column, std::size_t columns) const {
    const auto use = column.name == options().target ? ColumnUse::Target : ColumnUse::Feature;
    return {wanted_type(column), use, kMaxRemembered / std::max<std::size_t>(columns, 1),
            options().missing};
  }

  std::size_t place_of(const SourceColumn& column, std::size_t columns) {
    const auto known = std::ranges::find(found_, column.name, &SourceColumn::name);
    if (known != found_.end()) return static_cast<std::size_t>(known - found_.begin());
    found_.push_back(column);
    guesses_.push_back(make_guess(column, columns));
    return found_.size() - 1;
  }

  Status look() {
    for (const IngestSource& source : job_.sources) {
      Opened opened = TRY(open(source));
      const std::uint64_t before = done_bytes_;
      if (&source != &job_.sources.front()) TRY(check_same_columns(opened));
      std::vector<std::size_t> places;
      SourceBlock block;
      while (TRY(next_of(opened, block))) {
        const auto& columns = opened.source->columns();
        for (std::size_t i = places.size(); i < columns.size(); ++i)
          places.push_back(place_of(columns[i], columns.size()));
        look_at(block, places);
        TRY(count_failures(block, source));
        done_bytes_ = before + opened.source->done_bytes();
        tell(0);
      }
      for (std::size_t i = places.size(); i < opened.source->columns().size(); ++i)
        place_of(opened.source->columns()[i], opened.source->columns().size());
      done_bytes_ = before + opened.source->total_bytes();
    }
    return {};
  }

  // JSON lines may lack members; the others name their columns.
  Status check_same_columns(const Opened& opened) const {
    if (options().format == SourceFormat::Jsonl) return {};
    const auto& columns = opened.source->columns();
    for (const SourceColumn& column : columns) {
      if (std::ranges::find(found_, column.name, &SourceColumn::name) != found_.end()) continue;
      return refuse(reason::kInvalidInput,
                    fmt::format("{}: the column '{}' is not in {}", opened.of->name, column.name,
                                job_.sources.front().name));
    }
    if (columns.size() == found_.size()) return {};
    return refuse(reason::kInvalidInput,
                  fmt::format("{} has {} columns, {} has {}", opened.of->name, columns.size(),
                              job_.sources.front().name, found_.size()));
  }

  void look_at(const SourceBlock& block, const std::vector<std::size_t>& places) {
    for (std::size_t i = 0; i < block.columns.size(); ++i) {
      ColumnGuess& guess = guesses_[places[i]];
      const bool times =
          options().split.by == SplitBy::Time && found_[places[i]].name == options().split.column;
      for (std::size_t row = 0; row < block.rows.size(); ++row) {
        const Cell& cell = block.columns[i][row];
        guess.see(cell, block.rows[row].row);
        if (!times) continue;
        if (const auto instant = instant_of(cell)) times_.add(*instant);
      }
    }
  }

  Status count_failures(const SourceBlock& block, const IngestSource& source) {
    report_.bad_rows += block.failures.size();
    if (report_.bad_rows <= options().max_bad_rows || block.failures.empty()) return {};
    return too_many_bad({.file = source.name,
                         .row = block.failures[0].at.row,
                         .line = block.failures[0].at.line,
                         .error = block.failures[0].error,
                         .input = block.failures[0].input});
  }

  std::unexpected<Error> too_many_bad(const BadRow& example) const {
    const BadRow& first = report_.shown.empty() ? example : report_.shown.front();
    std::string where = fmt::format("row {}", first.row);
    if (first.line > 0) where += fmt::format(" (line {})", first.line);
    return refuse(reason::kInvalidInput,
                  fmt::format("more than max_bad_rows = {} rows cannot be read; {}, {}: {}",
                              options().max_bad_rows, first.file, where, first.error));
  }

  // ---- The schema -------------------------------------------------------------------------------

  Status settle_schema() {
    if (job_.mode != IngestMode::Put) {
      TRY(grow_schema());
      return job_.mode == IngestMode::Rebuild ? settle_times() : Status{};
    }
    schema_.target = options().target;
    schema_.event_time = options().split.by == SplitBy::Time && options().event_time.empty()
                             ? options().split.column
                             : options().event_time;
    schema_.split = options().split;
    TRY(check_named_columns());
    for (std::size_t i = 0; i < found_.size(); ++i) {
      if (is_dropped(found_[i].name)) continue;
      schema_.columns.push_back(TRY(settle_column(i)));
    }
    if (schema_.columns.empty()) return refuse(reason::kInvalidInput, "no column is left");
    return settle_times();
  }

  Result<SchemaColumn> settle_column(std::size_t index) {
    const SourceColumn& found = found_[index];
    const ColumnGuess& guess = guesses_[index];
    SchemaColumn column{.name = found.name, .type = guess.type(), .shape = found.shape};
    if (std::string note = guess.note(found.name); !note.empty()) add_note(std::move(note));
    if (guess.seen() == 0) add_note(fmt::format("'{}' has no values", found.name));
    if (column.type != ColumnType::Category) return column;
    column.categories = found.categories.empty() ? TRY(categories_of(index)) : found.categories;
    return column;
  }

  Result<std::vector<std::string>> categories_of(std::size_t index) const {
    if (auto categories = guesses_[index].categories()) return *std::move(categories);
    return refuse(reason::kInvalidInput,
                  fmt::format("'{}' has more than {} categories, or one longer than {} bytes: make "
                              "it a text",
                              found_[index].name, kMaxCategories, kMaxCategory));
  }

  Status check_named_columns() const {
    std::vector<std::string> names = {schema_.target, schema_.event_time, schema_.split.column};
    for (const auto& [name, type] : options().types) names.push_back(name);
    for (const std::string& name : names) {
      if (name.empty()) continue;
      const bool there = std::ranges::find(found_, name, &SourceColumn::name) != found_.end();
      if (there && !is_dropped(name)) continue;
      return refuse(reason::kInvalidInput,
                    fmt::format("there is no column '{}'{}; the file has {}", name,
                                there ? " left: it is dropped" : "", list_columns()));
    }
    for (const std::string& name : options().drop) {
      if (std::ranges::find(found_, name, &SourceColumn::name) == found_.end())
        return refuse(reason::kInvalidInput, fmt::format("there is no column '{}' to drop", name));
    }
    return {};
  }

  std::string list_columns() const {
    constexpr std::size_t kShown = 20;
    std::string names;
    for (std::size_t i = 0; i < found_.size() && i < kShown; ++i)
      names += fmt::format("{}'{}'", i == 0 ? "" : ", ", found_[i].name);
    return found_.size() > kShown ? names + ", …" : names;
  }

  Status settle_times() {
    if (schema_.split.by != SplitBy::Time) return {};
    const ColumnType type = schema_.find(schema_.split.column)->type;
    if (type != ColumnType::Date && type != ColumnType::Integer && type != ColumnType::Number) {
      return refuse(reason::kInvalidInput,
                    fmt::format("rows cannot be split by time: '{}' is a {}, not dates or numbers",
                                schema_.split.column, to_string(type)));
    }
    if (times_.count() == 0) {
      return refuse(
          reason::kInvalidInput,
          fmt::format("rows cannot be split by time: '{}' has none", schema_.split.column));
    }
    const double test = schema_.split.test;
    const auto from = times_.quantiles({1 - test - schema_.split.valid, 1 - test});
    schema_.split.valid_from = std::llround(from[0]);
    schema_.split.test_from = std::llround(from[1]);
    return {};
  }

  // Of an append: types stay, categories are added behind those known.
  Status grow_schema() {
    for (SchemaColumn& column : schema_.columns) {
      const auto found = std::ranges::find(found_, column.name, &SourceColumn::name);
      if (found == found_.end()) {
        return refuse(reason::kInvalidInput,
                      fmt::format("the file lacks the column '{}' of the data set", column.name));
      }
      if (found->shape != column.shape) {
        return refuse(reason::kInvalidInput,
                      fmt::format("'{}' has another shape in the data set", column.name));
      }
      if (column.type != ColumnType::Category) continue;
      const auto index = static_cast<std::size_t>(found - found_.begin());
      std::vector<std::string> categories = TRY(categories_of(index));
      for (std::string& category : categories) {
        if (std::ranges::find(column.categories, category) == column.categories.end())
          column.categories.push_back(std::move(category));
      }
      if (column.categories.size() > kMaxCategories) {
        return refuse(reason::kInvalidInput, fmt::format("'{}' would have more than {} categories",
                                                         column.name, kMaxCategories));
      }
    }
    for (const SourceColumn& found : found_) {
      if (schema_.find(found.name) == nullptr && !is_dropped(found.name))
        add_note(fmt::format("the data set has no column '{}': it is not kept", found.name));
    }
    return {};
  }

  void add_note(std::string note) {
    if (report_.notes.size() == kMaxNotes) return;
    if (note.size() > kLongestNote) note = to_utf8(note.substr(0, kLongestNote));
    report_.notes.push_back(std::move(note));
  }

  // ---- The rows ---------------------------------------------------------------------------------

  Status write() {
    for (const SchemaColumn& column : schema_.columns) {
      statistics_.emplace_back(column.type);
      converters_.push_back(std::make_unique<ColumnConverter>(column, options().missing));
    }
    PartWriter part = TRY(PartWriter::create(folders_.work / "part", schema_, job_.max_bytes));
    std::uint64_t rows = 0;
    if (reads_base(job_.mode)) TRY(write_base(part, rows));
    if (job_.mode == IngestMode::Without) return end_removal(part);
    for (const IngestSource& source : job_.sources) {
      const Opened opened = TRY(open(source));
      const std::uint64_t before = done_bytes_;
      SourceBlock block;
      while (TRY(next_of(opened, block))) {
        TRY(write_block(block, opened, part));
        rows += block.rows.size() + block.failures.size();
        done_bytes_ = before + opened.source->done_bytes();
        tell(rows);
      }
      done_bytes_ = before + opened.source->total_bytes();
    }
    TRY(close(part));
    if (report_.train + report_.valid + report_.test == 0)
      return refuse(reason::kInvalidInput, "there are no rows that can be read");
    return write_snapshot();
  }

  Status close(PartWriter& part) {
    TRY(part.close());
    report_.train = part.rows(Split::Train);
    report_.valid = part.rows(Split::Valid);
    report_.test = part.rows(Split::Test);
    return {};
  }

  // What is stored already, but for rows that are to go.
  Status write_base(PartWriter& part, std::uint64_t& rows) {
    Converters converters;
    for (const SchemaColumn& column : schema_.columns)
      converters.push_back(std::make_unique<ColumnConverter>(column, no_words_));
    const Opened base = TRY(open_base());
    SourceBlock block;
    while (TRY(base.source->next(block))) {
      const auto complaints = convert(block, base.source->columns(), converters);
      std::vector<bool> stays(block.rows.size());
      for (std::size_t row = 0; row < stays.size(); ++row) {
        if (!complaints[row].empty()) return fail(Code::DataLoss, complaints[row]);
        stays[row] = !removal_ || !removal_->removes(values_, row);
        if (!stays[row]) ++report_.removed;
      }
      TRY(keep_rows(stays, part));
      tell(rows += block.rows.size());
    }
    return {};
  }

  Status end_removal(PartWriter& part) {
    TRY(close(part));
    const auto nothing = [](std::string_view why) {
      return refuse(reason::kInvalidInput, fmt::format("{}; nothing is erased", why));
    };
    if (report_.removed == 0) return nothing("no row has the values of any line");
    if (report_.train + report_.valid + report_.test == 0)
      return nothing("all rows would go: erase the snapshot, without naming rows");
    if (const std::uint64_t unmatched = removal_->unmatched(); unmatched > 0)
      add_note(fmt::format("{} of {} lines name no row", unmatched, removal_->lines()));
    return write_snapshot();
  }

  Status write_block(const SourceBlock& block, const Opened& opened, PartWriter& part) {
    for (const SourceBlock::Failure& failure : block.failures) {
      TRY(note_bad({.file = opened.of->name,
                    .row = failure.at.row,
                    .line = failure.at.line,
                    .error = failure.error,
                    .input = failure.input}));
    }
    const std::size_t rows = block.rows.size();
    const auto complaints = convert(block, opened.source->columns(), converters_);
    std::vector<bool> good(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      good[row] = complaints[row].empty();
      if (good[row]) continue;
      TRY(note_bad({.file = opened.of->name,
                    .row = block.rows[row].row,
                    .line = block.rows[row].line,
                    .error = complaints[row],
                    .input = {}}));
    }
    return keep_rows(good, part);
  }

  // Into values_; why a row is bad, or nothing.
  std::vector<std::string> convert(const SourceBlock& block,
                                   const std::vector<SourceColumn>& columns,
                                   const Converters& converters) {
    std::vector<std::string> complaints(block.rows.size());
    const std::vector<Cell> none(block.rows.size());
    values_.resize(schema_.columns.size());
    for (std::size_t i = 0; i < schema_.columns.size(); ++i) {
      const auto there = std::ranges::find(columns, schema_.columns[i].name, &SourceColumn::name);
      const bool given = there != columns.end();
      converters[i]->convert(
          given ? block.columns[static_cast<std::size_t>(there - columns.begin())] : none,
          values_[i], complaints);
    }
    return complaints;
  }

  Status keep_rows(const std::vector<bool>& good, PartWriter& part) {
    for (std::size_t i = 0; i < statistics_.size(); ++i) statistics_[i].see(values_[i], good);
    return part.append(values_, place_rows(good));
  }

  Status note_bad(const BadRow& bad) {
    ++report_.bad_rows;
    if (report_.shown.size() < kMaxShownBadRows) report_.shown.push_back(bad);
    if (report_.bad_rows > options().max_bad_rows) return too_many_bad(bad);
    return {};
  }

  std::vector<PlacedRow> place_rows(const std::vector<bool>& good) const {
    const SplitRule& rule = schema_.split;
    const bool by_column = rule.by == SplitBy::Id || rule.by == SplitBy::Group;
    std::size_t key = schema_.columns.size();
    for (std::size_t i = 0; i < schema_.columns.size(); ++i) {
      if (schema_.columns[i].name == rule.column) key = i;
    }
    std::vector<PlacedRow> placed;
    std::string canonical;
    for (std::size_t row = 0; row < good.size(); ++row) {
      if (!good[row]) continue;
      canonical.clear();
      // A row without an id or a group is its own.
      if (by_column && !values_[key].missing(row)) {
        values_[key].append_canonical(canonical, row);
      } else {
        for (const ColumnValues& column : values_) column.append_canonical(canonical, row);
      }
      PlacedRow place{.row = static_cast<std::uint32_t>(row),
                      .split = Split::Train,
                      .hash = siphash(job_.key, canonical)};
      place.split =
          rule.by == SplitBy::Time ? split_by_time(values_[key], row) : split_of(place.hash, rule);
      placed.push_back(place);
    }
    return placed;
  }

  // What has no time is trained on: it is neither before nor after anything.
  Split split_by_time(const ColumnValues& times, std::size_t row) const {
    if (times.missing(row)) return Split::Train;
    const double at = times.type == ColumnType::Number ? times.numbers[row]
                                                       : static_cast<double>(times.integers[row]);
    if (at >= static_cast<double>(*schema_.split.test_from)) return Split::Test;
    return at >= static_cast<double>(*schema_.split.valid_from) ? Split::Valid : Split::Train;
  }

  Status write_snapshot() {
    const Path folder = folders_.work / "snapshot";
    TRY(make_directories(folder));
    Json columns = Json::array();
    for (std::size_t i = 0; i < statistics_.size(); ++i) {
      if (!base_.empty() && base_[i].type() == statistics_[i].type())
        statistics_[i].merge(base_[i]);
      columns.push_back(statistics_[i].describe(schema_.columns[i]));
    }
    const Json statistics{{"columns", std::move(columns)}};
    TRY(write_file_durably(folder / "schema.json", to_json(schema_)));
    TRY(write_file_durably(folder / "statistics.json",
                           statistics.dump(-1, ' ', false, Json::error_handler_t::replace)));
    return write_file_durably(folder / "sketches.bin", sketches_of(statistics_));
  }

  // ---- Progress ---------------------------------------------------------------------------------

  // Lost where the server does not listen: it will ask for the end.
  void tell(std::uint64_t rows) {
    const auto now = std::chrono::steady_clock::now();
    if (control_fd_ < 0 || now - told_ < kTellEvery) return;
    told_ = now;
    const std::string text =
        to_json(IngestProgress{.rows = rows,
                               .done_bytes = std::min(done_bytes_, total_bytes_),
                               .total_bytes = total_bytes_});
    std::ignore = ::send(control_fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  int control_fd_;
  const IngestJob& job_;
  const IngestFolders& folders_;
  std::vector<SourceColumn> found_;  // in all files, as they came
  std::vector<ColumnGuess> guesses_;
  QuantileSketch times_;  // of a split by time
  DatasetSchema schema_;
  std::vector<ColumnStatistics> base_;
  std::vector<ColumnStatistics> statistics_;
  const IngestSource there_{.file = {}, .name = "what is there"};
  const std::vector<std::string> no_words_;  // words that stand for no value are of new files alone
  std::optional<RowRemoval> removal_;
  Converters converters_;
  std::vector<ColumnValues> values_;
  IngestReport report_;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::chrono::steady_clock::time_point told_;
};

// Libraries throw: Parquet's, and std::bad_alloc of what a file makes them allocate.
Result<IngestReport> ingest(int control_fd, const IngestJob& job, const IngestFolders& folders) {
  try {
    return Ingest(control_fd, job, folders).run();
  } catch (const std::bad_alloc&) {
    return refuse(reason::kOutOfMemory, "the file needs more memory than there is");
  } catch (const std::exception& e) {
    return refuse(reason::kInvalidInput, fmt::format("the file cannot be read: {}", e.what()));
  }
}

}  // namespace

Status run_ingest(int control_fd, const IngestJob& job, const IngestFolders& folders) {
  auto report = ingest(control_fd, job, folders);
  if (!report) {
    Error error = std::move(report).error();
    if (error.code == Code::ResourceExhausted && error.reason.empty())
      error.reason = reason::kStorageFull;
    if (!is_refusal(error)) return std::unexpected(std::move(error));
    report = IngestReport{
        .refused = Refusal{std::string(error.reason), to_utf8(error.message.substr(0, 2000))}};
  }
  return write_file_durably(folders.work / "report.json", to_json(*report));
}

}  // namespace mayfly
