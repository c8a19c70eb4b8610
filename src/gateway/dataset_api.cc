#include "gateway/dataset_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <utility>

#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "data/snapshot_files.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/job_api.h"

namespace mayfly {
namespace {

constexpr Duration kMaxIngestAge = std::chrono::days(7);
constexpr Duration kKeepIngest = std::chrono::days(7);
constexpr Bytes kIngestMemory = gib(1);
constexpr std::size_t kMostSnapshotsListed = 1000;
constexpr std::size_t kMaxReason = 1000;
constexpr std::size_t kLongestSourceName = 200;

Json parsed_or_null(const std::string& text) {
  const auto json = parse_json(text, "kept JSON");
  return json ? *json : Json();
}

Json describe_rows(const SnapshotRows& rows) {
  return {{"train", rows.train}, {"valid", rows.valid}, {"test", rows.test}};
}

Json describe_dataset(const DatasetRecord& dataset) {
  return {{"name", dataset.name},
          {"latest", dataset.latest},
          {"split", to_json_value(dataset.split)},
          {"created", format_time(dataset.created)},
          {"created_by", dataset.created_by}};
}

Json describe_snapshot_record(const SnapshotRecord& snapshot) {
  Json about{{"number", snapshot.number},
             {"kind", to_string(snapshot.kind)},
             {"digest", to_string(snapshot.digest)},
             {"created", format_time(snapshot.created)},
             {"created_by", snapshot.created_by},
             {"job", snapshot.job},
             {"rows", describe_rows(snapshot.rows)},
             {"bad_rows", snapshot.bad_rows},
             {"bytes", snapshot.bytes},
             {"sources", parsed_or_null(snapshot.sources)}};
  if (snapshot.parent > 0) about["parent"] = snapshot.parent;
  if (snapshot.erased) {
    about["erased"] = {{"time", format_time(snapshot.erased_at)},
                       {"by", snapshot.erased_by},
                       {"reason", snapshot.reason}};
  }
  return about;
}

Result<std::vector<IngestDetail::Source>> read_sources(const Json* json) {
  const auto bad = [] {
    return refuse(reason::kBadRequest,
                  fmt::format("dataset: 'sources' must be 1 to {} uploaded files, or what lies "
                              "elsewhere: [{{\"name\": \"a.csv\", \"sha256\": \"…\"}}, "
                              "{{\"url\": \"https://…\"}}]",
                              kMaxIngestSources));
  };
  if (json == nullptr || !json->is_array() || json->empty() || json->size() > kMaxIngestSources)
    return bad();
  std::vector<IngestDetail::Source> sources;
  for (const Json& item : *json) {
    IngestDetail::Source source;
    RemoteSource remote;
    std::string sha256;
    JsonReader reader(item, "dataset: source", reason::kBadRequest);
    reader.text("name", source.name)
        .text("sha256", sha256)
        .text("url", remote.url)
        .text("credentials", remote.credentials)
        .text("endpoint", remote.endpoint)
        .text("region", remote.region);
    TRY(reader.finish());
    if (!sha256.empty()) source.digest = parse_digest(sha256);
    const bool elsewhere = !remote.url.empty();
    if (source.digest.has_value() == sha256.empty() || source.name.size() > kLongestSourceName ||
        (!elsewhere && (!source.digest || remote != RemoteSource{}))) {
      return bad();
    }
    if (source.name.empty()) {
      source.name =
          elsewhere ? shown_source(remote.url).substr(0, kLongestSourceName) : sha256.substr(0, 12);
    }
    if (elsewhere) source.remote = std::move(remote);
    sources.push_back(std::move(source));
  }
  return sources;
}

bool has_digest(const IngestDetail::Source& source) { return source.digest.has_value(); }

// "3"; 0: the newest.
Result<std::uint32_t> snapshot_number(std::string_view text) {
  if (text == "latest") return 0U;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number > 0) return number;
  return refuse(reason::kBadRequest, fmt::format("'{}' is no snapshot: write its number, or latest",
                                                 text.substr(0, 64)));
}

Result<std::string> dataset_name(const Route& route) {
  std::string name(local_name(route.name));
  if (FunctionName::parse(name)) return name;
  return refuse(reason::kBadRequest,
                fmt::format("'{}' is no name of a dataset: spell it like a function's: a-z, 0-9, "
                            "'.', '_' and '-', at most 63",
                            name.substr(0, 64)));
}

}  // namespace

struct DatasetApi::Wish {
  IngestDetail detail;
  bool splits = false;  // says how rows are split
  DatasetRecord dataset;
  std::optional<SnapshotRecord> there;  // the same, made already
};

Task<Result<Response>> DatasetApi::call(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::ListDatasets:
      co_return co_await list(route);
    case Endpoint::CreateSnapshot:
      co_return co_await create(exchange, route);
    case Endpoint::DescribeSnapshot:
      co_return co_await describe_snapshot(route);
    case Endpoint::EraseSnapshot:
      co_return co_await erase(exchange, route);
    default:
      co_return co_await describe(route);
  }
}

namespace {

// The body of a submission: options, sources, and whether it is an append.
struct IngestWish {
  IngestDetail detail;
  bool splits = false;
};

Result<IngestWish> read_wish(std::string_view text) {
  Json json = TRY(parse_json(text, "dataset"));
  if (!json.is_object()) return refuse(reason::kBadRequest, "dataset: must be an object");
  IngestWish wish;
  Json rest = Json::object();
  for (const char* key : {"sources", "append", "move_boundary"}) {
    if (json.contains(key)) rest[key] = json[key];
    json.erase(key);
  }
  JsonReader reader(rest, "dataset", reason::kBadRequest);
  bool append = false;
  bool moves = false;
  reader.boolean("append", append).boolean("move_boundary", moves);
  const Json* sources = reader.value("sources");
  TRY(reader.finish());
  if (moves && !append) {
    return refuse(reason::kBadRequest,
                  "dataset: 'move_boundary' is of what is appended to a split by time");
  }
  if (append) wish.detail.mode = moves ? IngestMode::Rebuild : IngestMode::Append;
  wish.splits = json.contains("split");
  wish.detail.options = TRY(read_ingest_options(json));
  wish.detail.sources = TRY(read_sources(sources));
  const SplitRule& split = wish.detail.options.split;
  if (split.valid_from || split.test_from) {
    return refuse(reason::kBadRequest,
                  "dataset: where a split by time begins follows from its shares and the rows");
  }
  if (append &&
      (wish.splits || !wish.detail.options.target.empty() || !wish.detail.options.types.empty())) {
    return refuse(reason::kBadRequest,
                  "dataset: what is appended has the schema and the split of what is there");
  }
  if (to_json_value(wish.detail.options).dump().size() > kMaxIngestOptions)
    return refuse(reason::kTooLarge, "dataset: its options are too long");
  return wish;
}

}  // namespace

namespace {

// {"sources": […], "format": "csv"}: files that name rows.
Result<IngestDetail> read_removal(const Json& rows) {
  if (!rows.is_object()) return refuse(reason::kBadRequest, "body: 'rows' must be an object");
  Json options = rows;
  options.erase("sources");
  for (const auto& [key, value] : options.items()) {
    if (key == "format" || key == "delimiter" || key == "missing") continue;
    return refuse(
        reason::kBadRequest,
        fmt::format("body: rows: '{}' says nothing of rows that are to go", key.substr(0, 64)));
  }
  IngestDetail detail;
  detail.mode = IngestMode::Without;
  detail.options = TRY(read_ingest_options(options));
  detail.sources = TRY(read_sources(rows.contains("sources") ? &rows["sources"] : nullptr));
  return detail;
}

}  // namespace

// What the dataset says of it, made where there is none. Blocks.
Result<DatasetApi::Wish> DatasetApi::settle(Wish wish, const Route& route) {
  DatasetStore& datasets = parts_.datasets;
  const std::string name = TRY(dataset_name(route));
  const std::string& project = route.caller->project;
  IngestOptions& options = wish.detail.options;
  const bool append = wish.detail.is_append();
  TRY(check_remote(wish.detail, project));
  auto known = datasets.find(project, name);
  if (!known && (known.error().reason != reason::kNotFound || append))
    return std::unexpected(std::move(known).error());
  if (known && !wish.splits) options.split = known->split;
  SipKey key{.k0 = parts_.rng.next(), .k1 = parts_.rng.next()};
  if (options.split.seed) key = key_of_seed(*options.split.seed);
  wish.dataset = TRY(datasets.ensure({.project = project,
                                      .name = name,
                                      .caller = route.caller->name,
                                      .split = options.split,
                                      .now = parts_.engine.now(),
                                      .key = key}));
  if (wish.dataset.latest == 0) {
    if (append)
      return refuse(reason::kNotFound, fmt::format("'{}' has no snapshot to append to", name));
    return wish;
  }
  const auto newest = datasets.snapshot(wish.dataset, 0);
  if (append) {
    if (!newest) return std::unexpected(newest.error());
    if (wish.detail.mode == IngestMode::Rebuild && wish.dataset.split.by != SplitBy::Time) {
      return refuse(reason::kBadRequest,
                    fmt::format("'{}' is not split by time: there is no boundary to move", name));
    }
  } else if (newest && std::ranges::all_of(wish.detail.sources, has_digest) &&
             newest->recipe == recipe_of(wish.detail)) {
    wish.there = *newest;
  }
  return wish;
}

// Blocks.
Status DatasetApi::check_remote(const IngestDetail& detail, const std::string& project) const {
  for (const IngestDetail::Source& source : detail.sources)
    if (source.remote) TRY(parts_.fetcher.check(project, *source.remote));
  return {};
}

// Datasets keep files of their own: the same bytes, under another name. Blocks.
Result<DatasetApi::Inputs> DatasetApi::adopt(const IngestDetail& detail, const Route& route) {
  Inputs inputs{.files = {}, .pin = parts_.engine.store().pin()};
  for (std::size_t i = 0; i < detail.sources.size(); ++i) {
    if (detail.sources[i].remote) continue;
    const Digest digest = detail.sources[i].digest.value();
    const Pin upload = parts_.pins.hold({digest});
    if (!TRY(parts_.owners.has(route.caller->project, digest))) {
      return refuse(reason::kNotFound,
                    fmt::format("nothing with the digest {} was uploaded", to_string(digest)));
    }
    inputs.pin.add(digest);
    parts_.engine.store().watch(digest);
    const BlobInfo kept = TRY(parts_.blobs.adopt(digest, parts_.uploads));
    inputs.files.push_back({.role = FileRole::Input,
                            .name = fmt::format("input-{}", i),
                            .digest = digest,
                            .size = kept.size});
  }
  return inputs;
}

Task<Result<Response>> DatasetApi::create(Exchange& exchange, const Route& route) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(IngestWish asked, read_wish(text));
  Wish first{.detail = std::move(asked.detail),
             .splits = asked.splits,
             .dataset = {},
             .there = std::nullopt};
  CO_TRY(const Wish wish,
         co_await parts_.pool.run([&] { return settle(std::move(first), route); }));
  if (wish.there) {
    co_return json_response({{"dataset", wish.dataset.name},
                             {"snapshot", wish.there->number},
                             {"unchanged", true},
                             {"rows", describe_rows(wish.there->rows)}});
  }
  co_return co_await submit(wish.detail, wish.dataset.name, route);
}

Task<Result<Response>> DatasetApi::submit(IngestDetail detail, const std::string& dataset,
                                          const Route& route) {
  CO_TRY(Inputs inputs, co_await parts_.pool.run([&] { return adopt(detail, route); }));
  JobSubmission job{.id = to_string(parts_.ids.next()),
                    .function = qualified_name(route.caller->project, dataset),
                    .version = 0,
                    .kind = JobKind::Ingest,
                    .detail = to_json(detail),
                    .caller = route.caller->name,
                    .memory = std::min(kIngestMemory, parts_.engine.options().memory),
                    .cpus = 1,
                    .submitted = parts_.engine.now(),
                    .expires = parts_.engine.now() + kMaxIngestAge,
                    .keep = kKeepIngest};
  CO_TRY(const JobRecord accepted,
         co_await parts_.engine.submit(std::move(job), std::move(inputs.files)));
  co_return accepted_job(accepted);
}

Task<Result<Response>> DatasetApi::list(const Route& route) {
  struct Found {
    std::vector<DatasetRecord> datasets;
    std::vector<std::optional<SnapshotRecord>> newest;
    Bytes kept{};
  };
  CO_TRY(const Found found, co_await parts_.pool.run([&]() -> Result<Found> {
    Found all;
    all.datasets = TRY(parts_.datasets.list(route.caller->project));
    for (const DatasetRecord& dataset : all.datasets) {
      const auto newest = parts_.datasets.snapshot(dataset, 0);
      all.newest.push_back(newest ? std::optional(*newest) : std::nullopt);
    }
    all.kept = TRY(parts_.datasets.bytes_of(route.caller->project));
    return all;
  }));
  Json listed = Json::array();
  for (std::size_t i = 0; i < found.datasets.size(); ++i) {
    if (!check_access(*route.caller, Needs::ReadData, found.datasets[i].name)) continue;
    Json about = describe_dataset(found.datasets[i]);
    if (found.newest[i]) about["snapshot"] = describe_snapshot_record(*found.newest[i]);
    listed.push_back(std::move(about));
  }
  co_return json_response({{"datasets", std::move(listed)}, {"kept_bytes", found.kept.count}});
}

Task<Result<Response>> DatasetApi::describe(const Route& route) {
  CO_TRY(Json about, co_await parts_.pool.run([&]() -> Result<Json> {
    const DatasetRecord dataset =
        TRY(parts_.datasets.find(route.caller->project, local_name(route.name)));
    Json json = describe_dataset(dataset);
    json["snapshots"] = Json::array();
    const auto snapshots = TRY(parts_.datasets.snapshots(dataset, kMostSnapshotsListed));
    for (const SnapshotRecord& snapshot : snapshots)
      json["snapshots"].push_back(describe_snapshot_record(snapshot));
    return json;
  }));
  co_return json_response(about);
}

Result<std::string> DatasetApi::read_blob(const DatasetFile& file, std::size_t limit) const {
  const Fd blob = TRY(parts_.blobs.open(file.digest));
  return read_all_fd(blob.get(), limit);
}

Task<Result<Response>> DatasetApi::describe_snapshot(const Route& route) {
  CO_TRY(Json about, co_await parts_.pool.run([&]() -> Result<Json> {
    const std::uint32_t number = TRY(snapshot_number(route.version));
    const DatasetRecord dataset =
        TRY(parts_.datasets.find(route.caller->project, local_name(route.name)));
    const SnapshotRecord snapshot = TRY(parts_.datasets.snapshot(dataset, number));
    Json json{{"dataset", dataset.name}};
    json.update(describe_snapshot_record(snapshot));
    json["report"] = parsed_or_null(snapshot.report);
    json["test_looks"] = Json::array();
    const SnapshotFiles of_snapshot(parts_.datasets, parts_.blobs);
    for (const TestLook& look : TRY(of_snapshot.looks(snapshot)))
      json["test_looks"].push_back(
          {{"snapshot", look.snapshot}, {"job", look.job}, {"time", format_time(look.time)}});
    const std::vector<DatasetFile> files = TRY(parts_.datasets.files(snapshot));
    for (const DatasetFile& file : files) {
      if (file.path == kSchemaFile) {
        const std::string schema = TRY(read_blob(file, kMaxSchemaJson));
        json["schema"] = TRY(parse_json(schema, "schema.json"));
      } else if (file.path == kStatisticsFile) {
        const std::string statistics = TRY(read_blob(file, kMaxStatisticsJson));
        json["statistics"] = TRY(parse_json(statistics, "statistics.json"));
      }
    }
    return json;
  }));
  co_return json_response(about);
}

Task<Result<Response>> DatasetApi::erase(Exchange& exchange, const Route& route) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "body"));
  std::string why;
  JsonReader reader(json, "body", reason::kBadRequest);
  reader.text("reason", why);
  const Json* rows = reader.value("rows");
  CO_TRY_STATUS(reader.finish());
  if (why.empty() || why.size() > kMaxReason) {
    co_return refuse(reason::kBadRequest,
                     fmt::format("say why: a reason of 1 to {} bytes is kept", kMaxReason));
  }
  if (rows == nullptr) co_return co_await erase_whole(std::move(why), route);
  CO_TRY(IngestDetail detail, read_removal(*rows));
  detail.reason = std::move(why);
  co_return co_await erase_rows(std::move(detail), route);
}

Task<Result<Response>> DatasetApi::erase_rows(IngestDetail detail, const Route& route) {
  CO_TRY(const DatasetRecord dataset, co_await parts_.pool.run([&]() -> Result<DatasetRecord> {
    DatasetRecord found = TRY(parts_.datasets.find(route.caller->project, local_name(route.name)));
    detail.snapshot = TRY(snapshot_number(route.version));
    const SnapshotRecord newest = TRY(parts_.datasets.snapshot(found, 0));
    if (detail.snapshot == 0) detail.snapshot = newest.number;
    if (newest.number != detail.snapshot) {
      return refuse(
          reason::kConflict,
          fmt::format("rows are left out of the newest snapshot, {0}@{1}, which has those "
                      "of {0}@{2} as far as they are still there: name that one, and "
                      "erase the others after it",
                      found.name, newest.number, detail.snapshot));
    }
    TRY(check_remote(detail, route.caller->project));
    return found;
  }));
  co_return co_await submit(std::move(detail), dataset.name, route);
}

Task<Result<Response>> DatasetApi::erase_whole(std::string why, const Route& route) {
  CO_TRY(const DatasetStore::Erased erased,
         co_await parts_.pool.run([&]() -> Result<DatasetStore::Erased> {
           const std::uint32_t number = TRY(snapshot_number(route.version));
           const DatasetRecord dataset =
               TRY(parts_.datasets.find(route.caller->project, local_name(route.name)));
           if (number == 0)
             return refuse(reason::kBadRequest, "name the snapshot that is to be erased");
           DatasetStore::Erased done = TRY(parts_.datasets.erase(
               dataset, number,
               {.by = route.caller->name, .reason = why, .now = parts_.engine.now()}));
           parts_.engine.store().drop(done.dropped);
           return done;
         }));
  Json about = describe_snapshot_record(erased.snapshot);
  // Who has the same rows: nothing is gone that these have, too.
  about["shared_with"] = erased.shared_with;
  co_return json_response(about);
}

}  // namespace mayfly
