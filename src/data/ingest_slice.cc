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

constexpr std::size_t kMaxDetail = 56 * 1024;
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

JobStore::SliceResult result_of(const DatasetRecord& dataset, const SnapshotRecord& snapshot) {
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
  }
  return {.finished = true,
          .checkpoint = {},
          .files = {},
          .result = result.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

std::unexpected<Error> broken(std::string_view what) {
  return refuse(reason::kInstanceCrashed, fmt::format("the ingest left {}", what));
}

}  // namespace

struct IngestSlices::Plan {
  DatasetRecord dataset;
  IngestDetail detail;
  std::optional<SnapshotRecord> made;  // by an earlier try, which its job has not heard of
  SnapshotRecord parent;               // of an append
  SnapshotRecord snapshot;             // what is known of it
  std::vector<SourceFile> sources;
  Bytes limit{};     // of the project's datasets; 0: none
  Bytes max_part{};  // of this one's columns
};

std::string to_json(const IngestDetail& detail) {
  Json sources = Json::array();
  for (const IngestDetail::Source& source : detail.sources)
    sources.push_back({{"name", source.name}, {"sha256", to_string(source.digest)}});
  const Json json{{"options", to_json_value(detail.options)},
                  {"sources", std::move(sources)},
                  {"append", detail.append}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<IngestDetail> parse_ingest_detail(std::string_view text) {
  const auto damaged = [] { return fail(Code::DataLoss, "the detail of an ingest is damaged"); };
  if (text.size() > kMaxDetail) return damaged();
  const Json json = TRY(parse_json(text, "ingest"));
  IngestDetail detail;
  JsonReader reader(json, "ingest", reason::kInternal);
  reader.boolean("append", detail.append);
  const Json* options = reader.value("options");
  const Json* sources = reader.value("sources");
  TRY(reader.finish());
  if (options == nullptr || sources == nullptr || !sources->is_array()) return damaged();
  detail.options = TRY(read_ingest_options(*options));
  for (const Json& item : *sources) {
    IngestDetail::Source source;
    std::string sha256;
    JsonReader one(item, "ingest: source", reason::kInternal);
    one.text("name", source.name).text("sha256", sha256);
    TRY(one.finish());
    const auto digest = parse_digest(sha256);
    if (!digest) return damaged();
    source.digest = *digest;
    detail.sources.push_back(std::move(source));
  }
  return detail;
}

Digest recipe_of(const IngestDetail& detail) {
  IngestDetail nameless = detail;
  for (IngestDetail::Source& source : nameless.sources) source.name.clear();
  return sha256(to_json(nameless));
}

Task<SliceOutcome> IngestSlices::run(SliceAsk ask) {
  SliceOutcome outcome{
      .result = JobStore::SliceResult{}, .retry = true, .pin = parts_.slices.store.pin()};
  outcome.result = co_await run_in(ask, outcome);
  co_return outcome;
}

// An append that another one overtook is made once more, of what is the newest now.
Task<Result<JobStore::SliceResult>> IngestSlices::run_in(SliceAsk& ask, SliceOutcome& outcome) {
  for (int tries = 1;; ++tries) {
    const Bytes limit = parts_.byte_limit(project_of(ask.job.spec.function));
    auto made = co_await parts_.slices.pool.run([&] { return make_plan(ask, limit); });
    if (!made) {
      outcome.retry = false;
      co_return std::unexpected(std::move(made).error());
    }
    Plan plan = *std::move(made);
    if (plan.made) co_return result_of(plan.dataset, *plan.made);
    auto result = co_await run_once(plan, ask, outcome);
    const bool overtaken = !result && result.error().reason == reason::kConflict;
    if (!overtaken || tries == kMostTries || ask.kill.cancelled()) co_return result;
  }
}

Result<IngestSlices::Plan> IngestSlices::make_plan(const SliceAsk& ask, Bytes limit) const {
  const JobSubmission& spec = ask.job.spec;
  DatasetStore& datasets = parts_.datasets;
  const std::string project(project_of(spec.function));
  Plan plan{.dataset = TRY(datasets.find(project, local_name(spec.function))),
            .detail = TRY(parse_ingest_detail(spec.detail)),
            .made = TRY(datasets.snapshot_of_job(spec.id)),
            .parent = {},
            .snapshot = {},
            .sources = {},
            .limit = limit,
            .max_part = kMostPart};
  if (plan.made) return plan;
  for (const JobFile& file : ask.files) {
    if (file.role != FileRole::Input) continue;
    plan.sources.push_back(
        {.file = {.path = file.name, .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &parts_.slices.blobs});
  }
  if (plan.limit != Bytes{}) {
    const Bytes used = TRY(datasets.bytes_of(project));
    if (used >= plan.limit) {
      return refuse(reason::kQuotaExceeded,
                    fmt::format("data_bytes: the project's datasets keep all of its {}",
                                to_string(plan.limit)));
    }
    plan.max_part = std::min(kMostPart, plan.limit - used);
  }
  Json sources = Json::array();
  for (const IngestDetail::Source& source : plan.detail.sources)
    sources.push_back({{"name", source.name}, {"sha256", to_string(source.digest)}});
  plan.snapshot = {.dataset = plan.dataset.id,
                   .kind = plan.detail.append ? SnapshotKind::Append : SnapshotKind::Put,
                   .job = spec.id,
                   .recipe = recipe_of(plan.detail),
                   .created = spec.submitted,
                   .created_by = spec.caller,
                   .sources = sources.dump(-1, ' ', false, Json::error_handler_t::replace)};
  if (plan.detail.append) TRY(add_base(plan));
  return plan;
}

Status IngestSlices::add_base(Plan& plan) const {
  plan.parent = TRY(parts_.datasets.snapshot(plan.dataset, 0));
  plan.snapshot.parent = plan.parent.number;
  const std::vector<DatasetFile> files = TRY(parts_.datasets.files(plan.parent));
  for (const DatasetFile& file : files) {
    if (file.path == kStatisticsFile) continue;
    plan.sources.push_back(
        {.file = {.path = "base/" + file.path, .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &parts_.slices.blobs});
  }
  return {};
}

JobSpec IngestSlices::spec_of(const Plan& plan, const SliceAsk& ask,
                              const SourceFolder& folder) const {
  IngestJob job{.options = plan.detail.options,
                .sources = {},
                .key = plan.dataset.key,
                .append = plan.detail.append,
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
  co_return result_of(plan.dataset, *made);
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
                              .limit = plan.limit};
  // Only its thresholds of time are the jail's to say.
  SplitRule split = schema.split;
  split.valid_from = split.test_from = std::nullopt;
  if (split != plan.dataset.split) return broken("another split than that of the dataset");
  commit.part = TRY(take_part(work / "part", schema, pin));
  commit.snapshot.rows = {.train = report.train, .valid = report.valid, .test = report.test};
  if (plan.detail.append) {
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
