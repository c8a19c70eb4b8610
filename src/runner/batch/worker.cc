#include "runner/batch/worker.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/json_reader.h"
#include "core/reason.h"
#include "runner/batch/prediction.h"
#include "runner/batch/server_link.h"
#include "runner/batch/table_reader.h"
#include "runner/batch/table_writer.h"

namespace mayfly {
namespace {

constexpr auto kProgressEvery = std::chrono::milliseconds(500);
constexpr auto kWaitForServer = std::chrono::milliseconds(200);
constexpr std::uint64_t kHeadRoom = 64 * 1024;  // of a request's body, for its JSON part
constexpr std::size_t kMaxErrorLine = 8000;

// A chunk on its way: rows still to be asked for, asked for, and answered.
struct WorkingChunk {
  TableChunk table;
  std::deque<RowRange> pending;
  std::uint32_t in_flight = 0;
  bool begun = false;
  std::map<std::uint64_t, PredictedRows> predicted;

  bool done() const { return pending.empty() && in_flight == 0; }
};

struct FlyingRequest {
  std::uint64_t chunk = 0;  // its number
  RowRange range;
};

// Ends a slice where it is.
enum class SliceState : std::uint8_t {
  Running,   // new chunks begin
  Ending,    // chunks that have begun end
  Stopping,  // only what is in flight ends
};

class BatchWorker {
 public:
  BatchWorker(const BatchJob& job, const Clock& clock, ServerLink link,
              std::unique_ptr<RowReader> reader)
      : job_(job),
        clock_(clock),
        link_(std::move(link)),
        reader_(std::move(reader)),
        slots_(job.window),
        ends_at_(clock.now() + job.slice) {
    end_.position = job.position;
  }

  Status open(const Path& work) {
    single_rows_ = !job_.signature.inputs.empty() && TRY(rows_per_request(job_.signature)) == 1;
    fields_ = reader_->kept();
    for (KeptField& field : prediction_fields(job_.signature)) fields_.push_back(std::move(field));
    writer_ = TRY(create_table(work / "part", job_.output_format, fields_));
    errors_ = TRY(open_file(work / "errors.jsonl", O_WRONLY | O_CREAT | O_TRUNC, 0644));
    return {};
  }

  // One turn: ask, decode a chunk while others are in flight, hear, write.
  Result<SliceEnd> run() {
    while (!finished()) {
      TRY(ask_for_free_slots());
      TRY(read_ahead());
      TRY(hear());
      TRY(write_done_chunks());
      TRY(report_progress());
      if (state_ == SliceState::Running && begun_ && clock_.now() >= ends_at_)
        state_ = SliceState::Ending;
    }
    return finish();
  }

 private:
  bool in_flight() const {
    return std::ranges::any_of(slots_, [](const auto& slot) { return slot.has_value(); });
  }

  bool finished() const {
    if (in_flight()) return false;
    switch (state_) {
      case SliceState::Running:
        return read_all_ && chunks_.empty();
      case SliceState::Ending:
        return chunks_.empty() || !chunks_.front().begun;
      case SliceState::Stopping:
        return true;
    }
    return true;
  }

  // ---- Asking -----------------------------------------------------------------------------------

  Status ask_for_free_slots() {
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
      while (!slots_[slot] && state_ != SliceState::Stopping) {
        const auto chunk = std::ranges::find_if(chunks_, [this](const WorkingChunk& candidate) {
          return !candidate.pending.empty() && (candidate.begun || state_ == SliceState::Running);
        });
        if (chunk == chunks_.end()) return {};
        TRY(ask_next(slot, static_cast<std::size_t>(chunk - chunks_.begin())));
      }
    }
    return {};
  }

  // The chunk's next rows, or half of them where they are too many for one request.
  Status ask_next(std::uint32_t slot, std::size_t place) {
    WorkingChunk& chunk = chunks_[place];
    chunk.begun = begun_ = true;
    const RowRange range = chunk.pending.front();
    chunk.pending.pop_front();
    const bool single = single_rows_ || !chunk.table.documents.empty();
    if (range.count > 1 && (single || row_bytes(chunk.table, range) + kHeadRoom >
                                          std::max(job_.max_request.count, 2 * kHeadRoom))) {
      halve(chunk, range);
      return {};
    }
    const RequestBody body = encode_rows(chunk.table, reader_->columns(), range);
    if (body.bytes.size() > job_.max_request.count) {
      fail_row(
          chunk, range.first, reason::kTooLarge,
          fmt::format("the row makes a request of {} bytes, more than the {} that there may be",
                      body.bytes.size(), job_.max_request.count));
      return {};
    }
    ++chunk.in_flight;
    slots_[slot] = FlyingRequest{first_number_ + place, range};
    return link_.ask(
        {.slot = slot, .bytes = body.bytes.size(), .header = body.header, .rows = range.count},
        body.bytes);
  }

  static void halve(WorkingChunk& chunk, RowRange range) {
    const std::uint64_t half = range.count / 2;
    chunk.pending.push_front({range.first + half, range.count - half});
    chunk.pending.push_front({range.first, half});
  }

  // ---- Reading ----------------------------------------------------------------------------------

  Status read_ahead() {
    if (state_ != SliceState::Running || read_all_ || chunks_.size() >= job_.window + 2U) return {};
    auto table = reader_->next();
    if (!table) {
      if (!is_tables_fault(table.error())) return std::unexpected(std::move(table).error());
      // The rows before it are good.
      unreadable_ = Refusal{std::string(table.error().reason), table.error().message};
      read_all_ = true;
      return {};
    }
    if (!*table) {
      read_all_ = true;
      return {};
    }
    WorkingChunk chunk;
    chunk.table = **std::move(table);
    failed_ahead_ += chunk.table.failures.size();
    if (!chunk.table.good.empty()) chunk.pending.push_back({0, chunk.table.good.size()});
    chunks_.push_back(std::move(chunk));
    return check_errors();
  }

  // ---- Hearing ----------------------------------------------------------------------------------

  Status hear() {
    const bool can_read =
        state_ == SliceState::Running && !read_all_ && chunks_.size() < job_.window + 2U;
    bool may_wait = in_flight() && !can_read;
    while (true) {
      auto received = TRY(link_.receive(may_wait ? kWaitForServer : std::chrono::milliseconds(0)));
      if (!received) return {};
      may_wait = false;
      if (std::holds_alternative<StopBatch>(received->message)) {
        state_ = SliceState::Stopping;
      } else {
        TRY(take_answer(std::get<BatchAnswer>(received->message), received->body));
      }
    }
  }

  Status take_answer(const BatchAnswer& answer, std::string_view body) {
    if (answer.slot >= slots_.size() || !slots_[answer.slot])
      return fail(Code::DataLoss,
                  fmt::format("an answer for slot {}, which asked nothing", answer.slot));
    const FlyingRequest request = *std::exchange(slots_[answer.slot], std::nullopt);
    WorkingChunk& chunk = chunks_[request.chunk - first_number_];
    --chunk.in_flight;
    if (answer.status != 200) return take_failure(chunk, request.range, answer);
    auto rows = decode_rows(body, answer.header, job_.signature, request.range.count);
    if (rows) {
      chunk.predicted.emplace(request.range.first, *std::move(rows));
      return {};
    }
    return take_failure(chunk, request.range,
                        {.slot = answer.slot,
                         .status = 502,
                         .reason = std::string(rows.error().reason),
                         .error = rows.error().message});
  }

  Status take_failure(WorkingChunk& chunk, RowRange range, const BatchAnswer& answer) {
    if (answer.fatal) {
      chunk.pending.push_front(range);
      state_ = SliceState::Stopping;
      const bool known = find_reason(answer.reason) != nullptr;
      end_.refused = Refusal{known ? answer.reason : std::string(reason::kInternal), answer.error};
    } else if (range.count > 1) {
      halve(chunk, range);
    } else {
      fail_row(chunk, range.first, answer.reason, answer.error);
      return check_errors();
    }
    return {};
  }

  void fail_row(WorkingChunk& chunk, std::uint64_t good, std::string_view reason,
                std::string error) {
    const std::uint32_t row = chunk.table.good[good];
    auto& failures = chunk.table.failures;
    failures.insert(
        std::ranges::upper_bound(failures, row, {}, &RowFailure::row),
        RowFailure{.row = row, .reason = std::string(reason), .error = std::move(error)});
    ++failed_ahead_;
  }

  // More rows have failed than may: the slice ends before the chunk they are in, and says which.
  Status check_errors() {
    if (job_.errors_so_far + end_.failed + failed_ahead_ <= job_.max_errors || end_.refused)
      return {};
    state_ = SliceState::Stopping;
    std::string first;
    for (const WorkingChunk& chunk : chunks_) {
      if (chunk.table.failures.empty()) continue;
      const RowFailure& failure = chunk.table.failures.front();
      first = fmt::format("; row {}: {}", chunk.table.first_row + failure.row + 1, failure.error);
      break;
    }
    end_.refused =
        Refusal{std::string(reason::kInvalidInput),
                fmt::format("more than {} rows failed{}", job_.max_errors, first.substr(0, 1000))};
    return {};
  }

  // ---- Writing ----------------------------------------------------------------------------------

  Status write_done_chunks() {
    while (!chunks_.empty() && chunks_.front().done()) {
      const WorkingChunk& chunk = chunks_.front();
      const auto rows = TRY(output_rows(chunk.table, chunk.predicted, fields_, job_.signature));
      TRY(writer_->write(*rows));
      TRY(write_errors(chunk.table));
      end_.rows += chunk.table.rows;
      end_.failed += chunk.table.failures.size();
      failed_ahead_ -= chunk.table.failures.size();
      end_.position = chunk.table.position;
      done_bytes_ = chunk.table.done_bytes;
      begun_ = true;
      chunks_.pop_front();
      ++first_number_;
    }
    return {};
  }

  Status write_errors(const TableChunk& chunk) {
    std::string lines;
    for (const RowFailure& failure : chunk.failures) {
      Json line{{"row", chunk.first_row + failure.row + 1},
                {"reason", failure.reason},
                {"error", failure.error.substr(0, kMaxErrorLine)}};
      if (!failure.input.empty()) line["input"] = failure.input;
      lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
    }
    return write_all(errors_.get(), lines);
  }

  Status report_progress() {
    if (clock_.now() < next_progress_) return {};
    next_progress_ = clock_.now() + kProgressEvery;
    return link_.tell({.rows = end_.rows,
                       .failed = end_.failed,
                       .done_bytes = std::min(done_bytes_, reader_->total_bytes()),
                       .total_bytes = reader_->total_bytes()});
  }

  Result<SliceEnd> finish() {
    // Which rows were too many stands in no part, but somebody wants to know.
    if (end_.refused) {
      for (const WorkingChunk& chunk : chunks_) TRY(write_errors(chunk.table));
    } else if (read_all_ && chunks_.empty()) {
      end_.refused = unreadable_;
      end_.finished = !unreadable_;
    }
    TRY(writer_->close());
    return end_;
  }

  const BatchJob& job_;
  const Clock& clock_;
  ServerLink link_;
  std::unique_ptr<RowReader> reader_;
  std::vector<KeptField> fields_;
  std::unique_ptr<TableWriter> writer_;
  Fd errors_;
  std::deque<WorkingChunk> chunks_;  // in the file's order
  std::uint64_t first_number_ = 0;   // of chunks_.front()
  std::vector<std::optional<FlyingRequest>> slots_;
  SliceState state_ = SliceState::Running;
  bool begun_ = false;  // a slice is no shorter than one chunk
  bool read_all_ = false;
  bool single_rows_ = false;
  std::optional<Refusal> unreadable_;
  std::uint64_t failed_ahead_ = 0;  // rows of chunks_
  std::uint64_t done_bytes_ = 0;
  TimePoint ends_at_;
  TimePoint next_progress_{};
  SliceEnd end_;
};

Result<SliceEnd> run_slice(int control_fd, const BatchJob& job, const TableFolders& folders,
                           const Clock& clock) {
  auto reader = TRY(open_table(folders.source, job));
  ServerLink link = TRY(ServerLink::open(control_fd, folders.work, job.window));
  BatchWorker worker(job, clock, std::move(link), std::move(reader));
  TRY(worker.open(folders.work));
  return worker.run();
}

}  // namespace

bool is_tables_fault(const Error& error) {
  return error.reason == reason::kInvalidInput || error.reason == reason::kTooLarge;
}

Status write_slice_end(const Path& work, const SliceEnd& end) {
  const Fd file = TRY(open_file(work / "slice.json", O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return write_all(file.get(), to_json(end));
}

Status run_batch(int control_fd, const BatchJob& job, const TableFolders& folders,
                 const Clock& clock) {
  auto end = run_slice(control_fd, job, folders, clock);
  if (!end) {
    if (!is_tables_fault(end.error())) return std::unexpected(std::move(end).error());
    end = SliceEnd{.position = job.position,
                   .refused = Refusal{std::string(end.error().reason),
                                      end.error().message.substr(0, kMaxErrorLine)}};
  }
  return write_slice_end(folders.work, *end);
}

}  // namespace mayfly
