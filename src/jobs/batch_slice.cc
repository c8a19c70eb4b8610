#include "jobs/batch_slice.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "async/gate.h"
#include "base/file.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "publish/source_folder.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMaxPart = std::uint64_t{1} << 36;
constexpr std::uint32_t kMessages = 1'000'000;
constexpr Bytes kMaxChunk = mib(64);
constexpr std::string_view kErrors = "errors.jsonl";

std::string output_name(TableFormat format) { return fmt::format("output.{}", to_string(format)); }

// The first `bytes` of what the worker wrote. It may write on: what was read is what counts.
Result<std::string> read_chunk(const Path& path, std::uint64_t bytes) {
  const Fd file = TRY(open_left(path, kMaxPart));
  std::string body(bytes, '\0');
  std::size_t got = 0;
  while (got < body.size()) {
    const ssize_t piece =
        ::pread(file.get(), body.data() + got, body.size() - got, static_cast<off_t>(got));
    if (piece < 0 && errno == EINTR) continue;
    if (piece <= 0) return refuse(reason::kInstanceCrashed, "the job asked with less than it said");
    got += static_cast<std::size_t>(piece);
  }
  return body;
}

std::string rows_text(std::uint64_t rows, std::uint64_t failed) {
  return failed == 0 ? fmt::format("{} rows", rows)
                     : fmt::format("{} rows, {} failed", rows, failed);
}
std::string rows_metrics(std::uint64_t rows, std::uint64_t failed) {
  return Json{{"rows", rows}, {"failed", failed}}.dump();
}

// The server's memory until it is emptied: the worker reads it by its descriptor, and may keep
// that.
Result<Fd> in_memory(std::string_view bytes) {
  Fd memory(::memfd_create("mayfly-reply", MFD_CLOEXEC));
  if (!memory) return fail_errno("memfd_create");
  TRY(write_all(memory.get(), bytes));
  return memory;
}

}  // namespace

// What the callbacks of one slice share.
struct BatchSlices::Slice {
  Slice(SliceAsk& asked, const SliceParts& parts)
      : ask(asked), jail(parts.loop, parts.jobs), gate(parts.loop) {}
  SliceAsk& ask;
  BatchDetail detail;
  BatchState state;
  SliceJail jail;
  Gate gate;  // of requests under way
  CancelSource over;
  CancelSource wait_over;  // for room for its requests
  CancelSource leave;      // what the worker is told
  bool further = false;    // than where it began
  Path work;
  std::set<std::uint32_t> busy;         // slots
  std::map<std::uint32_t, Fd> replies;  // of slots, emptied before the next
  bool waits = false;                   // for the platform: the slice ended early for it
  double fraction = -1;
};

Task<SliceOutcome> BatchSlices::run(SliceAsk ask, Duration length) {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .retry = true, .pin = parts_.store.pin()};
  Slice slice(ask, parts_);
  std::optional<SourceFolder> folder;
  outcome.result = co_await run_in(slice, folder, length, outcome);
  for (const auto& [slot, memory] : slice.replies) std::ignore = ::ftruncate(memory.get(), 0);
  if (folder) co_await remove_folder(parts_.pool, *std::move(folder));
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> BatchSlices::run_in(Slice& slice,
                                                        std::optional<SourceFolder>& folder,
                                                        Duration length, SliceOutcome& outcome) {
  SliceAsk& ask = slice.ask;
  CO_TRY(slice.detail, parse_batch_detail(ask.job.spec.detail));
  CO_TRY(slice.state, parse_batch_state(ask.job.checkpoint));
  CO_TRY(std::string request, co_await request_of(slice, length));
  CO_TRY(SourceFolder made, co_await parts_.pool.run([&] {
    return SourceFolder::create(parts_.tmp, sources_of(slice));
  }));
  folder.emplace(std::move(made));
  slice.work = folder->work();
  const CancelCallback stopped(ask.stop, [&slice] {
    slice.wait_over.cancel();
    slice.leave.cancel();
  });
  // A slice that got no processor for a while ends its first chunk nevertheless: the next one would
  // fare no better.
  const CancelCallback due(ask.due, [&slice] {
    slice.wait_over.cancel();
    if (slice.further) slice.leave.cancel();
  });
  const JobSpec spec = spec_of(slice, std::move(request), *folder);
  auto ended =
      co_await slice.jail.run(spec,
                              {.stop = slice.leave.token(),
                               .kill = ask.kill,
                               .stop_message = to_json(ServerMessage(StopBatch{}))},
                              [this, &slice](std::string_view message) { answer(slice, message); });
  slice.over.cancel();
  co_await slice.gate.close();
  if (!ended) co_return std::unexpected(std::move(ended).error());
  outcome.cpu = ended->cpu;
  outcome.memory = ended->peak_memory;
  outcome.retry = may_retry_slice(slice.jail, *ended);
  if (auto failure = failure_of_slice(slice.jail, *ended, spec))
    co_return std::unexpected(*std::move(failure));
  outcome.retry = false;
  outcome.put_back = slice.waits;
  CO_TRY(JobStore::SliceResult result,
         co_await parts_.pool.run([&] { return take(slice, outcome.pin); }));
  CO_TRY(const BatchState reached, parse_batch_state(result.checkpoint));
  outcome.rows = reached.rows - slice.state.rows;
  outcome.failed_rows = reached.failed - slice.state.failed;
  ask.on_progress({.fraction = slice.fraction,
                   .text = rows_text(reached.rows, reached.failed),
                   .metrics = rows_metrics(reached.rows, reached.failed)});
  co_return result;
}

Task<Result<std::string>> BatchSlices::request_of(const Slice& slice, Duration length) {
  const BatchDetail& detail = slice.detail;
  if (slice.state.merging) {
    co_return to_json(MergeJob{.parts = slice.state.parts, .output_format = detail.output_format});
  }
  CO_TRY(Signature signature, co_await find_signature_(slice.ask.job));
  co_return to_json(BatchJob{.input = "input",
                             .format = detail.format,
                             .output_format = detail.output_format,
                             .signature = std::move(signature),
                             .columns = detail.columns,
                             .keep = detail.keep,
                             .chunk_rows = detail.chunk_rows,
                             .max_request = kMaxChunk,
                             .window = detail.window,
                             .slice = length,
                             .max_errors = detail.max_errors,
                             .errors_so_far = slice.state.failed,
                             .position = slice.state.position});
}

// The input, or what is to be joined.
std::vector<SourceFile> BatchSlices::sources_of(const Slice& slice) const {
  std::vector<SourceFile> sources;
  const FileRole wanted = slice.state.merging ? FileRole::Part : FileRole::Input;
  for (const JobFile& file : slice.ask.files) {
    if (file.role != wanted) continue;
    sources.push_back(
        {.file = {.path = file.name, .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &parts_.blobs});
  }
  return sources;
}

JobSpec BatchSlices::spec_of(const Slice& slice, std::string request,
                             const SourceFolder& folder) const {
  return {.label = label_of(slice.ask.job),
          .runtime = RuntimeKind::Tables,
          .source = folder.source(),
          .work = folder.work(),
          .request = std::move(request),
          .max_messages = kMessages,
          .memory = slice.ask.job.spec.memory,
          .threads = slice.ask.job.spec.cpus,
          .timeout = parts_.patience,
          .idle = true};
}

void BatchSlices::answer(Slice& slice, std::string_view text) {
  const auto message = parse_worker_message(text);
  if (!message) return slice.jail.expel(message.error());
  if (const auto* progress = std::get_if<BatchProgress>(&*message)) return tell(slice, *progress);
  const auto& wanted = std::get<PredictMessage>(*message);
  if (wanted.slot >= slice.detail.window || !slice.busy.insert(wanted.slot).second) {
    return slice.jail.expel(
        refuse(reason::kInstanceCrashed, "the job asked for more at once than it may").error());
  }
  parts_.loop.spawn(predict(slice, wanted));
}

void BatchSlices::tell(Slice& slice, const BatchProgress& said) {
  const std::uint64_t rows = slice.state.rows + said.rows;
  const std::uint64_t failed = slice.state.failed + said.failed;
  slice.further = said.rows > 0;
  if (slice.further && slice.ask.due.cancelled()) slice.leave.cancel();
  if (said.total_bytes > 0) {
    slice.fraction = static_cast<double>(said.done_bytes) / static_cast<double>(said.total_bytes);
  }
  slice.ask.on_progress({.fraction = slice.fraction,
                         .text = rows_text(rows, failed),
                         .metrics = rows_metrics(rows, failed)});
}

Task<void> BatchSlices::predict(Slice& slice, PredictMessage message) {
  const auto hold = slice.gate.hold();
  if (!hold) co_return;
  auto body = co_await parts_.pool.run([&]() -> Result<std::string> {
    if (message.bytes > kMaxChunk.count)
      return refuse(reason::kTooLarge, "the job asked with more than it may");
    return read_chunk(slice.work / fmt::format("predict-{}", message.slot), message.bytes);
  });
  if (!body) {
    slice.jail.expel(std::move(body).error());
    co_return;
  }
  ChunkReply reply = co_await predict_({.job = slice.ask.job,
                                        .body = *std::move(body),
                                        .header = message.header,
                                        .rows = message.rows,
                                        .stop = slice.wait_over.token(),
                                        .cancel = slice.over.token()});
  reply.answer.slot = message.slot;
  slice.waits = slice.waits || reply.put_back;
  Fd& kept = slice.replies[message.slot];
  Result<Fd> memory = co_await parts_.pool.run([&]() -> Result<Fd> {
    if (kept) std::ignore = ::ftruncate(kept.get(), 0);
    if (reply.answer.status != 200) return Fd();
    kept = TRY(in_memory(reply.body));
    return kept.duplicate();
  });
  if (!memory) {
    reply.answer = {.slot = message.slot,
                    .status = 500,
                    .bytes = 0,
                    .header = 0,
                    .reason = std::string(reason::kInternal),
                    .error = memory.error().message,
                    .fatal = true};
  }
  slice.jail.hear();
  slice.busy.erase(message.slot);
  slice.jail.send(to_json(ServerMessage(reply.answer)), memory ? std::move(memory).value() : Fd());
}

Result<JobFile> BatchSlices::take_file(const Path& path, FileRole role, std::string name,
                                       Pin& pin) const {
  const Fd file = TRY(open_left(path, kMaxPart));
  TRY(own_file(file.get(), 0444));
  return parts_.store.put(role, std::move(name), file.get(), pin);
}

Result<JobStore::SliceResult> BatchSlices::take(const Slice& slice, Pin& pin) const {
  const Fd file = TRY(open_left(slice.work / "slice.json", kMaxSliceEnd));
  const std::string text = TRY(read_all_fd(file.get(), kMaxSliceEnd));
  const SliceEnd end = TRY(parse_slice_end(text));
  // What came before a refusal of the platform's stays.
  const bool waits = slice.waits && end.rows > 0 && !slice.state.merging;
  if (end.refused && !waits) return refuse(end.refused->reason, end.refused->message);
  if (slice.state.merging)
    return finished(slice, slice.state, {slice.work / "output", slice.work / kErrors}, pin);
  BatchState state = slice.state;
  state.position = end.position;
  state.rows += end.rows;
  state.failed += end.failed;
  // All of it in one slice: nothing is to be joined.
  if (end.finished && state.parts == 0)
    return finished(slice, state, {slice.work / "part", slice.work / kErrors}, pin);
  JobStore::SliceResult result;
  if (end.rows > 0) {
    if (state.parts == kMaxBatchParts) {
      return refuse(reason::kTooLarge, fmt::format("the output is in {} parts, and there are more "
                                                   "rows: batch the file in pieces",
                                                   kMaxBatchParts));
    }
    ++state.parts;
    result.files.push_back(
        TRY(take_file(slice.work / "part", FileRole::Part, part_name(state.parts), pin)));
    result.files.push_back(
        TRY(take_file(slice.work / kErrors, FileRole::Part, errors_name(state.parts), pin)));
  }
  state.merging = end.finished;
  result.checkpoint = to_json(state);
  return result;
}

Result<JobStore::SliceResult> BatchSlices::finished(const Slice& slice, const BatchState& state,
                                                    const Left& left, Pin& pin) const {
  JobStore::SliceResult result;
  result.finished = true;
  const std::string name = output_name(slice.detail.output_format);
  result.files.push_back(TRY(take_file(left.output, FileRole::Result, name, pin)));
  result.files.push_back(TRY(take_file(left.errors, FileRole::Result, std::string(kErrors), pin)));
  result.checkpoint = to_json(state);
  result.result = Json{{"rows", state.rows}, {"failed", state.failed}, {"output", name}}.dump();
  return result;
}

}  // namespace mayfly
