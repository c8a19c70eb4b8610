// Rows for a rollout that nobody asks, from the versions that were trained here; the jail that
// makes requests of the rows is played.
#include "lineage/held_out.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "lineage/testing/training_rig.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// Two versions of one function, the second of a later snapshot.
struct HeldOutRig : TrainingRig {
  HeldOutRig() {
    const std::uint32_t snapshot = put("ingest-1");
    REQUIRE(add(train(1, snapshot)).has_value());
    REQUIRE(add(train(2, put("ingest-2", snapshot))).has_value());
    scorings.clear();
  }

  // What the jail says and leaves.
  struct Played {
    JobState state = JobState::Done;
    std::string_view reason = {};
    std::string result = R"({"requests":3})";
    std::string lines = "one\ntwo\nthree\n";
    std::string file = "requests.jsonl";
  } played;

  Task<Result<JobRecord>> make_requests(JobSubmission job, std::vector<JobFile> inputs) {
    scorings.push_back(job);
    models = std::move(inputs);
    JobRecord over;
    over.spec = job;
    over.state = played.state;
    over.reason = played.reason;
    over.message = "as played";
    if (played.state != JobState::Done) co_return over;
    job.memory = mib(64);
    co_return done(std::move(job), {keep(FileRole::Result, played.file, played.lines)},
                   played.result);
  }

  Result<std::vector<std::string>> find(std::uint32_t champion = 1, std::uint32_t challenger = 2) {
    return loop.run(rows.find({.function = risk(),
                               .champion = {champion},
                               .challenger = {challenger},
                               .least = 1,
                               .most = 500}));
  }
  Error refused() {
    const auto found = find();
    REQUIRE_FALSE(found.has_value());
    return found.error();
  }

  std::vector<JobFile> models;
  HeldOutRows rows{{.pool = pool,
                    .clock = clock,
                    .blobs = *blobs,
                    .pins = pins,
                    .registry = *fixture.registry,
                    .jobs = *jobs,
                    .job_blobs = *job_blobs,
                    .ids = ids,
                    .memory = mib(64),
                    .score = [this](JobSubmission job, std::vector<JobFile> inputs) {
                      return make_requests(std::move(job), std::move(inputs));
                    }}};
};

}  // namespace

TEST_CASE("test rows of the challenger's snapshot become requests, as many as are asked for") {
  HeldOutRig rig;
  const auto rows = rig.find();
  REQUIRE_MESSAGE(rows.has_value(), rows.error().message);
  CHECK(*rows == std::vector<std::string>{"one", "two", "three"});
  REQUIRE(rig.scorings.size() == 1);
  const auto asked = parse_score_job(rig.scorings[0].detail);
  REQUIRE_MESSAGE(asked.has_value(), asked.error().message);
  CHECK((*asked)->split == Split::Test);
  CHECK((*asked)->requests == 500);
  CHECK(parse_json(rig.scorings[0].detail, "detail")->at("data") ==
        Json{{"dataset", "credit"}, {"snapshot", 2}});
  REQUIRE(rig.models.size() == 1);
  CHECK(rig.models[0].digest == sha256("model 2"));
  CHECK(rig.job_blobs->find(rig.models[0].digest)->has_value());
}

TEST_CASE("rows of a version that was not trained here are nobody's to hold out") {
  HeldOutRig rig;
  const auto writer = rig.blobs->create().value();
  REQUIRE(writer->append(std::as_bytes(std::span(std::string_view("by hand")))).has_value());
  REQUIRE(writer->commit().has_value());
  rig.fixture.deploy("credit-risk", "by hand");
  for (const auto& [champion, challenger] : {std::pair{1U, 3U}, std::pair{3U, 1U}}) {
    const auto found = rig.find(champion, challenger);
    REQUIRE_FALSE(found.has_value());
    CHECK(found.error().reason == reason::kConflict);
    CHECK(found.error().message.contains("version 3 was not trained here"));
  }
  CHECK(rig.scorings.empty());
}

TEST_CASE("what befell the job is tried again; what it says of model or rows stays so") {
  HeldOutRig rig;
  rig.played = {.state = JobState::Failed, .reason = reason::kInvalidInput};
  CHECK(rig.refused().reason == reason::kConflict);
  rig.played = {.state = JobState::Failed, .reason = reason::kTooLarge};
  CHECK(rig.refused().reason == reason::kConflict);
  rig.played = {.state = JobState::Failed, .reason = reason::kInstanceCrashed};
  CHECK(rig.refused().code == Code::Unavailable);
  rig.played = {.state = JobState::Cancelled, .reason = {}};
  const Error cancelled = rig.refused();
  CHECK(cancelled.code == Code::Unavailable);
  CHECK(cancelled.message.contains("as played"));
}

TEST_CASE("requests that are not what the jail says of them are refused") {
  HeldOutRig rig;
  const auto reason_of = [&](HeldOutRig::Played played) {
    rig.played = std::move(played);
    return rig.refused().reason;
  };
  CHECK(reason_of({.result = R"({"requests":2})"}) == reason::kBadReply);
  CHECK(reason_of({.result = R"({"requests":4})"}) == reason::kBadReply);
  CHECK(reason_of({.result = R"({"requests":501})"}) == reason::kInstanceCrashed);
  CHECK(reason_of({.result = R"({"requests":-1})"}) == reason::kInstanceCrashed);
  CHECK(reason_of({.result = "[]"}) == reason::kInstanceCrashed);
  CHECK(reason_of({.file = "other.jsonl"}) == reason::kBadReply);
  CHECK(reason_of({.result = R"({"requests":1})",
                   .lines = std::string(kMostRowRequest + 1, 'x')}) == reason::kBadReply);
  rig.played = {.result = R"({"requests":1})", .lines = std::string(kMostRowRequest, 'x')};
  CHECK(rig.find().has_value());
}
