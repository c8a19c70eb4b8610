#include "data/ingest_slice.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr Bytes kMostPart = mib(64 * 1024);
constexpr std::uint64_t kMaxSketches = std::uint64_t{256} << 20U;
constexpr int kMostTries = 8;  // of an append that others overtake
constexpr std::size_t kShownBad = 20;

// What a part has by its schema, and nothing else.
std::set<std::string> files_of_part(const DatasetSchema& schema) {
  std::set<std::string> files;
  for (const std::string_view split : {"train", "valid", "test"}) {
    files.insert(fmt::format("{}/row.npy", split));
    for (std::size_t i = 0; i < schema.columns.size(); ++i) {
      if (schema.columns[i].type == ColumnType::Text) {
        files.insert(fmt::format("{}/c{}.offsets.npy", split, i));
        files.insert(fmt::format("{}/c{}.text", split, i));
      } else {
        files.insert(fmt::format("{}/c{}.npy", split, i));
      }
    }
  }
  return files;
}

Json result_of(const DatasetRecord& dataset, const SnapshotRecord& snapshot) {
  Json result{{"dataset", dataset.name},
              {"snapshot", snapshot.number},
              {"rows",
               {{"train", snapshot.rows.train},
                {"valid", snapshot.rows.valid},
                {"test", snapshot.rows.test}}},
              {"bad_rows", snapshot.bad_rows}};
  if (const auto report = parse_ingest_report(snapshot.report)) {
    Json shown = to_json_value(*report).value("shown", Json::array());
    if (shown.size() > kShownBad) shown.erase(shown.begin() + kShownBad, shown.end());
    result["shown"] = std::move(shown);
    result["notes"] = report->notes;
    if (report->removed > 0) result["removed"] = report->removed;
  }
  return result;
}

JobStore::SliceResult finished(const Json& result) {
  return {.finished = true,
          .checkpoint = {},
          .files = {},
          .result = result.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

// As its owner sees them: what stands behind a '?' may be a key to it.
Json sources_json(const IngestDetail& detail, const FetchState& fetched) {
  Json sources = Json::array();
  for (std::size_t i = 0; i < detail.sources.size(); ++i) {
    const IngestDetail::Source& source = detail.sources[i];
    Json about{{"name", source.name}};
    if (source.digest) about["sha256"] = to_string(*source.digest);
    if (source.remote) about["url"] = source.remote->url.substr(0, source.remote->url.find('?'));
    if (const FetchState::Got* got = fetched.find(i)) {
      about["size"] = got->size;
      if (!got->content_type.empty()) about["content_type"] = got->content_type;
    }
    sources.push_back(std::move(about));
  }
  return sources;
}

bool is_elsewhere(const IngestDetail::Source& source) { return source.remote.has_value(); }

std::unexpected<Error> broken(std::string_view what) {
  return refuse(reason::kInstanceCrashed, fmt::format("the ingest left {}", what));
}

}  // namespace

struct IngestSlices::Plan {
  DatasetRecord dataset;
  IngestDetail detail;
  std::optional<SnapshotRecord> made;       // by an earlier try, which its job has not heard of
  std::optional<SnapshotRecord> unchanged;  // the newest, which is of the very bytes that came
  SnapshotRecord parent;                    // of all but a put
  SnapshotRecord snapshot;                  // what is known of it
  std::vector<SourceFile> sources;
  Bytes limit{};     // of the project's datasets; 0: none
  Bytes max_part{};  // of this one's columns
};

Task<SliceOutcome> IngestSlices::run(SliceAsk ask) {
  SliceOutcome outcome{
      .result = JobStore::SliceResult{}, .retry = true, .pin = parts_.slices.store.pin()};
  outcome.result = co_await run_in(ask, outcome);
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> IngestSlices::run_in(SliceAsk& ask, SliceOutcome& outcome) {
  outcome.retry = false;
  CO_TRY(const IngestDetail detail, parse_ingest_detail(ask.job.spec.detail));
  FetchState fetched;
  if (std::ranges::any_of(detail.sources, is_elsewhere)) {
    auto end = co_await fetch_.run(ask, detail, outcome.pin);
    if (!end) {
      outcome.put_back = end.error().reason == reason::kDraining;
      outcome.retry = end.error().reason == reason::kInternal;
      co_return std::unexpected(std::move(end).error());
    }
    if (!end->whole) co_return SourceFetch::unfinished(end->state);
    fetched = std::move(end->state);
  }
  outcome.retry = true;
  co_return co_await make(ask, fetched, outcome);
}

// An append that another one overtook is made once more, of what is the newest now.
Task<Result<JobStore::SliceResult>> IngestSlices::make(SliceAsk& ask, const FetchState& fetched,
                                                       SliceOutcome& outcome) {
  Pool& pool = parts_.slices.pool;
  for (int tries = 1;; ++tries) {
    const Bytes limit = parts_.byte_limit(project_of(ask.job.spec.function));
    auto planned = co_await pool.run([&] { return make_plan(ask, fetched, limit); });
    if (!planned) {
      outcome.retry = false;
      co_return std::unexpected(std::move(planned).error());
    }
    Plan plan = *std::move(planned);
    if (plan.made) co_return co_await pool.run([&] { return finish(plan, *plan.made); });
    if (plan.unchanged) {
      Json result = result_of(plan.dataset, *plan.unchanged);
      result["unchanged"] = true;
      co_return finished(result);
    }
    auto result = co_await run_once(plan, ask, outcome);
    const bool overtaken = !result && result.error().reason == reason::kConflict;
    if (!overtaken || tries == kMostTries || ask.kill.cancelled()) co_return result;
  }
}

Result<IngestSlices::Plan> IngestSlices::make_plan(const SliceAsk& ask, const FetchState& fetched,
                                                   Bytes limit) const {
  const JobSubmission& spec = ask.job.spec;
  DatasetStore& datasets = parts_.datasets;
  const std::string project(project_of(spec.function));
  Plan plan{.dataset = TRY(datasets.find(project, local_name(spec.function))),
            .detail = TRY(parse_ingest_detail(spec.detail)),
            .made = TRY(datasets.snapshot_of_job(spec.id)),
            .unchanged = {},
            .parent = {},
            .snapshot = {},
            .sources = {},
            .limit = limit,
            .max_part = kMostPart};
  if (plan.made) return plan;
  TRY(add_sources(plan, ask, fetched));
  // What removes rows makes room.
  if (plan.detail.mode == IngestMode::Without) plan.limit = {};
  if (plan.limit != Bytes{}) {
    const Bytes used = TRY(datasets.bytes_of(project));
    if (used >= plan.limit) {
      return refuse(reason::kQuotaExceeded,
                    fmt::format("data_bytes: the project's datasets keep all of its {}",
                                to_string(plan.limit)));
    }
    plan.max_part = std::min(kMostPart, plan.limit - used);
  }
  plan.snapshot = {
      .dataset = plan.dataset.id,
      .job = spec.id,
      .recipe = recipe_of(plan.detail),
      .created = spec.submitted,
      .created_by = spec.caller,
      .sources =
          sources_json(plan.detail, fetched).dump(-1, ' ', false, Json::error_handler_t::replace)};
  if (plan.detail.mode != IngestMode::Put) {
    TRY(add_base(plan));
  } else if (plan.dataset.latest > 0 && !fetched.got.empty()) {
    const auto newest = datasets.snapshot(plan.dataset, 0);
    if (newest && newest->recipe == plan.snapshot.recipe) plan.unchanged = *newest;
  }
  return plan;
}

// Those that were uploaded, and those that were fetched.
Status IngestSlices::add_sources(Plan& plan, const SliceAsk& ask, const FetchState& fetched) const {
  const auto add = [&](std::string name, const Digest& digest, std::uint64_t size) {
    plan.sources.push_back(
        {.file = {.path = std::move(name), .sha256 = to_string(digest), .size = size},
         .blobs = &parts_.slices.blobs});
  };
  for (const JobFile& file : ask.files)
    if (file.role == FileRole::Input) add(file.name, file.digest, file.size);
  for (std::size_t i = 0; i < plan.detail.sources.size(); ++i) {
    IngestDetail::Source& source = plan.detail.sources[i];
    if (!source.remote) continue;
    const FetchState::Got* got = fetched.find(i);
    if (got == nullptr) return fail(Code::Internal, "a source was not fetched");
    source.digest = got->digest;
    add(fmt::format("input-{}", i), got->digest, got->size);
  }
  return {};
}

Status IngestSlices::add_base(Plan& plan) const {
  const bool removal = plan.detail.mode == IngestMode::Without;
  plan.parent = TRY(parts_.datasets.snapshot(plan.dataset, 0));
  if (removal && plan.parent.number != plan.detail.snapshot) {
    return refuse(reason::kConflict,
                  fmt::format("{}@{} is not the newest any more, {} is: nothing is erased",
                              plan.dataset.name, plan.detail.snapshot, plan.parent.number));
  }
  plan.snapshot.parent = plan.parent.number;
  plan.snapshot.kind = removal ? SnapshotKind::Without : SnapshotKind::Append;
  const auto add = [&](const std::string& path, const DatasetFile& file) {
    plan.sources.push_back(
        {.file = {.path = "base/" + path, .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &parts_.slices.blobs});
  };
  for (const DatasetFile& file : TRY(parts_.datasets.files(plan.parent)))
    if (file.path != kStatisticsFile) add(file.path, file);
  if (!reads_base(plan.detail.mode)) return {};
  const auto parts = TRY(parts_.datasets.parts(plan.parent));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const DatasetFile& file : parts[i]) add(fmt::format("parts/{}/{}", i, file.path), file);
  }
  return {};
}

// Of rows that were named, the snapshot that has them goes when the one without them is there.
Result<JobStore::SliceResult> IngestSlices::finish(const Plan& plan,
                                                   const SnapshotRecord& made) const {
  Json result = result_of(plan.dataset, made);
  if (plan.detail.mode != IngestMode::Without) return finished(result);
  auto erased = parts_.datasets.erase(plan.dataset, plan.detail.snapshot,
                                      {.by = made.created_by,
                                       .reason = plan.detail.reason,
                                       .now = parts_.slices.loop.clock().wall_now()});
  // By an earlier try.
  if (!erased && erased.error().reason != reason::kConflict)
    return std::unexpected(std::move(erased).error());
  result["erased"] = plan.detail.snapshot;
  if (erased) {
    parts_.slices.store.drop(erased->dropped);
    result["shared_with"] = erased->shared_with;
  }
  return finished(result);
}

JobSpec IngestSlices::spec_of(const Plan& plan, const SliceAsk& ask,
                              const SourceFolder& folder) const {
  IngestJob job{.options = plan.detail.options,
                .sources = {},
                .key = plan.dataset.key,
                .mode = plan.detail.mode,
                .max_bytes = plan.max_part,
                .memory = ask.job.spec.memory};
  for (std::size_t i = 0; i < plan.detail.sources.size(); ++i)
    job.sources.push_back(
        {.file = fmt::format("input-{}", i), .name = plan.detail.sources[i].name});
  return {.label = fmt::format("{}#{}", ask.job.spec.function, ask.job.spec.id),
          .runtime = RuntimeKind::Tables,
          .source = folder.source(),
          .work = folder.work(),
          .request = to_json(job),
          .max_messages = 1'000'000,
          .memory = ask.job.spec.memory,
          .threads = 1,
          .timeout = parts_.slices.patience,
          .idle = true};
}

Task<Result<JobStore::SliceResult>> IngestSlices::run_once(Plan& plan, SliceAsk& ask,
                                                           SliceOutcome& outcome) {
  Pool& pool = parts_.slices.pool;
  CO_TRY(SourceFolder folder,
         co_await pool.run([&] { return SourceFolder::create(parts_.slices.tmp, plan.sources); }));
  const JobSpec spec = spec_of(plan, ask, folder);
  SliceJail jail(parts_.slices.loop, parts_.slices.jobs);
  std::uint64_t done = 0;
  auto ended = co_await jail.run(
      spec, {.stop = {}, .kill = ask.kill, .stop_message = ""}, [&](std::string_view message) {
        const auto progress = parse_ingest_progress(message);
        if (!progress) return jail.expel(progress.error());
        if (progress->done_bytes > std::exchange(done, progress->done_bytes)) jail.hear();
        const double total = static_cast<double>(std::max<std::uint64_t>(progress->total_bytes, 1));
        ask.on_progress({.fraction = static_cast<double>(progress->done_bytes) / total,
                         .text = progress->rows == 0 ? "looking at the columns"
                                                     : fmt::format("{} rows", progress->rows)});
      });
  if (!ended) {
    co_await remove_folder(pool, std::move(folder));
    co_return std::unexpected(std::move(ended).error());
  }
  outcome.cpu += ended->cpu;
  outcome.memory = std::max(outcome.memory, ended->peak_memory);
  outcome.retry = may_retry_slice(jail, *ended);
  Result<SnapshotRecord> made = fail(Code::Internal, "the ingest did not end");
  if (auto failure = failure_of_slice(jail, *ended, spec)) {
    made = std::unexpected(*std::move(failure));
  } else {
    outcome.retry = false;
    made = co_await pool.run([&] { return take(plan, folder.work(), outcome.pin); });
  }
  co_await remove_folder(pool, std::move(folder));
  if (!made) co_return std::unexpected(std::move(made).error());
  outcome.rows = made->rows.all();
  co_return co_await pool.run([&] { return finish(plan, *made); });
}

Result<SnapshotRecord> IngestSlices::take(const Plan& plan, const Path& work, Pin& pin) const {
  const Fd report_file = TRY(open_left(work / "report.json", kMaxIngestReport));
  const std::string report_text = TRY(read_all_fd(report_file.get(), kMaxIngestReport));
  const IngestReport report = TRY(parse_ingest_report(report_text));
  if (report.refused) return refuse(report.refused->reason, report.refused->message);
  DatasetSchema schema;
  DatasetStore::Commit commit{.snapshot = plan.snapshot,
                              .part = {},
                              .files = TRY(take_snapshot(work / "snapshot", schema, pin)),
                              .whole = plan.detail.mode != IngestMode::Append,
                              .limit = plan.limit};
  // Only its thresholds of time are the jail's to say.
  SplitRule split = schema.split;
  split.valid_from = split.test_from = std::nullopt;
  if (split != plan.dataset.split) return broken("another split than that of the dataset");
  commit.part = TRY(take_part(work / "part", schema, pin));
  commit.snapshot.rows = {.train = report.train, .valid = report.valid, .test = report.test};
  if (plan.detail.mode == IngestMode::Append) {
    commit.snapshot.rows.train += plan.parent.rows.train;
    commit.snapshot.rows.valid += plan.parent.rows.valid;
    commit.snapshot.rows.test += plan.parent.rows.test;
  }
  commit.snapshot.bad_rows = report.bad_rows;
  commit.snapshot.report = to_json(report);
  return parts_.datasets.commit(std::move(commit));
}

Result<std::vector<DatasetFile>> IngestSlices::take_snapshot(const Path& folder,
                                                             DatasetSchema& schema,
                                                             Pin& pin) const {
  const auto put = [&](const Fd& file, std::string_view name) -> Result<DatasetFile> {
    TRY(own_file(file.get(), 0444));
    // It was read already, and is hashed from where its descriptor stands.
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("lseek");
    const JobFile kept =
        TRY(parts_.slices.store.put(FileRole::Result, std::string(name), file.get(), pin));
    return DatasetFile{.path = std::string(name), .digest = kept.digest, .size = kept.size};
  };
  const Fd schema_file = TRY(open_left(folder / kSchemaFile, kMaxSchemaJson));
  const std::string schema_text = TRY(read_all_fd(schema_file.get(), kMaxSchemaJson));
  schema = TRY(parse_dataset_schema(schema_text));
  const Fd statistics = TRY(open_left(folder / kStatisticsFile, kMaxStatisticsJson));
  const std::string statistics_text = TRY(read_all_fd(statistics.get(), kMaxStatisticsJson));
  TRY(check_statistics(statistics_text, schema));
  const Fd sketches = TRY(open_left(folder / kSketchesFile, kMaxSketches));
  return std::vector<DatasetFile>{TRY(put(schema_file, kSchemaFile)),
                                  TRY(put(statistics, kStatisticsFile)),
                                  TRY(put(sketches, kSketchesFile))};
}

Result<std::vector<DatasetFile>> IngestSlices::take_part(const Path& folder,
                                                         const DatasetSchema& schema,
                                                         Pin& pin) const {
  std::set<std::string> wanted = files_of_part(schema);
  std::vector<DatasetFile> taken;
  const TreeLimits limits{.depth = 2, .entries = wanted.size() + 3, .bytes = 2 * kMostPart.count};
  Fd top = TRY(open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(take_tree(std::move(top), limits, [&](const TakenFile& file) -> Status {
    if (wanted.erase(file.path) == 0)
      return broken(fmt::format("a file '{}'", file.path.substr(0, 100)));
    const JobFile kept = TRY(parts_.slices.store.put(FileRole::Result, file.path, file.file, pin));
    taken.push_back({.path = kept.name, .digest = kept.digest, .size = kept.size});
    return {};
  }));
  if (!wanted.empty()) return broken(fmt::format("no file '{}'", *wanted.begin()));
  return taken;
}

}  // namespace mayfly
