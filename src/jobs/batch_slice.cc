#include "jobs/batch_slice.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "async/gate.h"
#include "base/file.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "publish/source_folder.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMaxPart = std::uint64_t{1} << 40;
constexpr std::uint32_t kMessages = 1'000'000;
constexpr Bytes kMaxChunk = mib(64);
constexpr std::string_view kErrors = "errors.jsonl";

std::string part_name(std::uint32_t number) { return fmt::format("part-{:05}", number); }
std::string errors_name(std::uint32_t number) { return fmt::format("errors-{:05}", number); }

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

// Whole and never to change: the worker maps it.
Result<Fd> sealed_memory(std::string_view bytes) {
  Fd memory(::memfd_create("mayfly-reply", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return fail_errno("memfd_create");
  TRY(write_all(memory.get(), bytes));
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno("seal a reply");
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
  Path work;
  std::set<std::uint32_t> busy;  // slots
};

Task<SliceOutcome> BatchSlices::run(SliceAsk ask, Duration length) {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .pin = parts_.store.pin()};
  outcome.result = co_await run_in(ask, length, outcome);
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> BatchSlices::run_in(SliceAsk& ask, Duration length,
                                                        SliceOutcome& outcome) {
  Slice slice(ask, parts_);
  CO_TRY(slice.detail, parse_batch_detail(ask.job.spec.detail));
  CO_TRY(slice.state, parse_batch_state(ask.job.checkpoint));
  CO_TRY(std::string request, co_await request_of(slice, length));
  outcome.retry = true;
  CO_TRY(const SourceFolder folder, co_await parts_.pool.run([&] {
    return SourceFolder::create(parts_.tmp, sources_of(slice));
  }));
  slice.work = folder.work();
  const JobSpec spec = spec_of(slice, std::move(request), folder);
  const CancelCallback stop(ask.stop,
                            [&slice] { slice.jail.send(to_json(ServerMessage(StopBatch{}))); });
  auto ended = co_await slice.jail.run(
      spec, ask.kill, [this, &slice](std::string_view message) { answer(slice, message); });
  slice.over.cancel();
  co_await slice.gate.close();
  if (!ended) co_return std::unexpected(std::move(ended).error());
  outcome.cpu = ended->cpu;
  outcome.memory = ended->peak_memory;
  outcome.retry = may_retry_slice(*ended);
  if (auto failure = failure_of_slice(*ended, spec)) co_return std::unexpected(*std::move(failure));
  outcome.retry = false;
  co_return co_await parts_.pool.run([&] { return take(slice, outcome.pin); });
}

Task<Result<std::string>> BatchSlices::request_of(const Slice& slice, Duration length) {
  const BatchDetail& detail = slice.detail;
  if (slice.state.merging) {
    MergeJob merge;
    merge.output_format = detail.output_format;
    for (const JobFile& file : slice.ask.files) {
      if (file.role != FileRole::Part) continue;
      (file.name.starts_with("part-") ? merge.parts : merge.errors).push_back(file.name);
    }
    std::ranges::sort(merge.parts);
    std::ranges::sort(merge.errors);
    co_return to_json(merge);
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
         .blob = parts_.blobs.path_of(file.digest)});
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
  if (const auto* progress = std::get_if<BatchProgress>(&*message))
    return slice.ask.on_progress(progress_of(slice.state, *progress));
  const auto& wanted = std::get<PredictMessage>(*message);
  if (wanted.slot >= slice.detail.window || !slice.busy.insert(wanted.slot).second) {
    return slice.jail.expel(
        refuse(reason::kInstanceCrashed, "the job asked for more at once than it may").error());
  }
  parts_.loop.spawn(predict(slice, wanted));
}

JobProgress BatchSlices::progress_of(const BatchState& before, const BatchProgress& said) {
  const std::uint64_t rows = before.rows + said.rows;
  const std::uint64_t failed = before.failed + said.failed;
  const double done = static_cast<double>(said.done_bytes);
  return {.fraction = said.total_bytes == 0 ? -1 : done / static_cast<double>(said.total_bytes),
          .text = failed == 0 ? fmt::format("{} rows", rows)
                              : fmt::format("{} rows, {} failed", rows, failed),
          .metrics = Json{{"rows", rows}, {"failed", failed}}.dump()};
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
                                        .cancel = slice.over.token()});
  slice.busy.erase(message.slot);
  reply.answer.slot = message.slot;
  Fd memory;
  if (reply.answer.status == 200) {
    auto sealed = sealed_memory(reply.body);
    if (sealed) {
      memory = *std::move(sealed);
    } else {
      reply.answer = {.slot = message.slot,
                      .status = 500,
                      .reason = std::string(reason::kInternal),
                      .error = sealed.error().message,
                      .fatal = true};
    }
  }
  slice.jail.send(to_json(ServerMessage(reply.answer)), std::move(memory));
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
  if (end.refused) return refuse(end.refused->reason, end.refused->message);
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
