// Sources that lie elsewhere, fetched in stretches, and gone on with after whatever comes between.
#include "data/source_fetch.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/store_reason.h"
#include "data/ingest_detail.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr std::string_view kText = "a,b\n1,2\n3,4\n5,6\n7,8\n";

// A place that gives its text a few bytes at a time, with or without an ETag.
struct Elsewhere {
  Result<Downloaded> download(const DownloadAsk& ask, BlobWriter& into) {
    asked.push_back({.offset = into.offset(), .etag = ask.etag, .project = ask.project});
    if (refused) return std::unexpected(*refused);
    if (into.offset() > 0 && ask.etag != etag)
      return refuse(reason::kSourceFailed, "it has changed");
    while (into.offset() < kText.size()) {
      const std::string_view piece = kText.substr(into.offset(), 4);
      if (into.offset() + piece.size() > ask.most.count)
        return refuse(reason::kTooLarge, "it has more");
      TRY(into.append(std::as_bytes(std::span(piece))));
      if (on_piece) on_piece();
      TRY(ask.on_progress({.received = into.offset(), .total = kText.size(), .etag = etag}));
    }
    return Downloaded{.size = into.offset(), .content_type = "text/csv"};
  }

  struct Asked {
    std::uint64_t offset = 0;
    std::string etag, project;
    bool operator==(const Asked&) const = default;
  };
  std::vector<Asked> asked;
  std::string etag = "\"v1\"";
  std::optional<Error> refused;
  std::function<void()> on_piece;
};

struct FetchRig {
  FetchRig() {
    job.spec = {.id = "0001",
                .function = "team/credit",
                .kind = JobKind::Ingest,
                .detail = to_json(detail),
                .caller = "me",
                .submitted = clock.wall_now(),
                .expires = clock.wall_now() + std::chrono::hours(1)};
    REQUIRE(store->submit(job.spec, {}, {}).has_value());
  }

  Result<SourceFetch::End> run() {
    SourceFetch fetch({.loop = loop,
                       .pool = pool,
                       .store = *store,
                       .blobs = *blobs,
                       .download = [this](const DownloadAsk& ask,
                                          BlobWriter& into) { return place.download(ask, into); },
                       .byte_limit = [this](std::string_view) { return limit; },
                       .most = kib(1),
                       .stretch = stretch});
    SliceAsk ask{.job = job,
                 .files = files,
                 .due = due->token(),
                 .stop = stop->token(),
                 .kill = kill->token(),
                 .on_progress = [](const JobProgress&) {},
                 .keep =
                     [this](std::string checkpoint, std::vector<JobFile> made) {
                       return keep(std::move(checkpoint), std::move(made));
                     }};
    Pin pin = store->pin();
    return loop.run(fetch.run(ask, detail, pin));
  }
  Task<Status> keep(std::string checkpoint, std::vector<JobFile> made) {
    job.checkpoint = std::move(checkpoint);
    files = std::move(made);
    ++kept;
    co_return Status{};
  }
  std::uint64_t partials() const {
    std::uint64_t count = 0;
    REQUIRE(blobs
                ->for_each_partial([&](const BlobInfo&) -> Status {
                  ++count;
                  return {};
                })
                .has_value());
    return count;
  }

  TempDir folder = TempDir::create().value();
  SystemClock clock;
  Loop loop{clock};
  Pool pool{loop, "fetch", 1};
  std::unique_ptr<LocalBlobStore> blobs =
      LocalBlobStore::open(folder.path() / "jobs", folder.path() / "tmp").value();
  std::unique_ptr<JobStore> store =
      JobStore::open(folder.path() / "jobs.db", *blobs, clock).value();
  Elsewhere place;
  IngestDetail detail{
      .options = {},
      .sources = {{.name = "here.csv", .digest = sha256("here")},
                  {.name = "there.csv", .remote = RemoteSource{.url = "https://there/a.csv"}}}};
  JobRecord job;
  std::vector<JobFile> files;
  std::optional<CancelSource> due{std::in_place}, stop{std::in_place}, kill{std::in_place};
  Bytes limit{};
  Bytes stretch = kib(1);
  int kept = 0;
};

}  // namespace

TEST_CASE("what lies elsewhere becomes a blob, which the job keeps") {
  FetchRig rig;
  const auto end = rig.run();
  REQUIRE_MESSAGE(end.has_value(), end.error().message);
  CHECK(end->whole);
  REQUIRE(end->state.got.size() == 1);
  CHECK(*end->state.find(1) == FetchState::Got{.source = 1,
                                               .digest = sha256(kText),
                                               .size = kText.size(),
                                               .content_type = "text/csv"});
  CHECK(rig.blobs->find(sha256(kText)).value().has_value());
  REQUIRE(rig.files.size() == 1);
  CHECK(rig.files[0].name == "input-1");
  CHECK(parse_fetch_state(rig.job.checkpoint).value() == end->state);
  CHECK(rig.place.asked ==
        std::vector<Elsewhere::Asked>{{.offset = 0, .etag = "", .project = "team"}});
  // Another slice of the job has it already.
  CHECK(rig.run()->whole);
  CHECK(rig.place.asked.size() == 1);
}

TEST_CASE("a slice whose time is over goes on where it stood, if an ETag says that it may") {
  FetchRig rig;
  rig.stretch = Bytes{8};
  rig.place.on_piece = [&] { rig.due->cancel(); };
  auto end = rig.run();
  REQUIRE(end.has_value());
  CHECK_FALSE(end->whole);
  CHECK(rig.kept == 1);
  rig.due.emplace();
  rig.place.on_piece = nullptr;
  end = rig.run();
  REQUIRE_MESSAGE(end.has_value(), end.error().message);
  CHECK(end->whole);
  REQUIRE(rig.place.asked.size() >= 2);
  CHECK(rig.place.asked[1].offset > 0);
  CHECK(rig.place.asked[1].etag == "\"v1\"");
  CHECK(end->state.got[0].digest == sha256(kText));
  CHECK(rig.partials() == 0);
}

TEST_CASE("without an ETag there are no stretches, and what a dead slice left is fetched anew") {
  FetchRig rig;
  rig.stretch = Bytes{4};
  rig.place.etag.clear();
  rig.due->cancel();
  CHECK(rig.run()->whole);
  CHECK(rig.place.asked.size() == 1);
  FetchRig killed;
  killed.place.etag.clear();
  killed.place.on_piece = [&] { killed.kill->cancel(); };
  CHECK(killed.run().error().code == Code::Cancelled);
  CHECK(killed.partials() == 1);
  killed.kill.emplace();
  killed.place.on_piece = nullptr;
  CHECK(killed.run()->whole);
  CHECK(killed.place.asked[1].offset == 0);
}

TEST_CASE("what is refused leaves nothing, and what passes is gone on with") {
  FetchRig rig;
  rig.stretch = Bytes{8};
  rig.place.on_piece = [&] { rig.due->cancel(); };
  REQUIRE_FALSE(rig.run()->whole);
  CHECK(rig.partials() == 1);
  rig.due.emplace();
  rig.place.refused = refuse(reason::kDraining, "the node stops").error();
  CHECK(rig.run().error().reason == reason::kDraining);
  CHECK(rig.partials() == 1);
  rig.place.refused.reset();
  rig.place.etag = "\"v2\"";
  CHECK(rig.run().error().message == "it has changed");
  CHECK(rig.partials() == 0);
}

TEST_CASE("a source has no more bytes than the project's jobs may keep") {
  FetchRig rig;
  rig.limit = Bytes{10};
  const auto refused = rig.run();
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kQuotaExceeded);
  CHECK(rig.partials() == 0);
}

TEST_CASE("other bytes than were promised are refused") {
  FetchRig rig;
  rig.detail.sources[1].digest = sha256("something else");
  CHECK(rig.run().error().reason == reason::kDigestMismatch);
  rig.detail.sources[1].digest = sha256(kText);
  CHECK(rig.run()->whole);
}

TEST_CASE("what is asked of an ingest is kept and read back") {
  IngestDetail detail = FetchRig().detail;
  detail.mode = IngestMode::Without;
  detail.snapshot = 3;
  detail.reason = "request 17";
  detail.sources[1].remote->credentials = "S3_KEYS";
  const IngestDetail read = parse_ingest_detail(to_json(detail)).value();
  CHECK(read.sources == detail.sources);
  CHECK(read.mode == detail.mode);
  CHECK(read.snapshot == 3);
  CHECK(read.reason == detail.reason);
  IngestDetail elsewhere = detail;
  elsewhere.sources[1] = {.name = "other", .digest = sha256("x")};
  detail.sources[1] = {.name = "one", .digest = sha256("x"), .remote = RemoteSource{.url = "u"}};
  CHECK(recipe_of(elsewhere) == recipe_of(detail));
  for (const char* damaged : {"{}", "[]", "{\"mode\": \"put\"}", "x"})
    CHECK_FALSE(parse_ingest_detail(damaged).has_value());
}
