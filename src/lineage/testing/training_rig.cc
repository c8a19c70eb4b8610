#include "lineage/testing/training_rig.h"

namespace mayfly {

std::string npy(std::string_view type, const std::string& shape, std::string_view bytes) {
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, shape);
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8U);
  return file + header + std::string(bytes);
}

JobFile TrainingRig::keep(FileRole role, std::string name, std::string_view content) {
  const auto to = job_blobs->create().value();
  REQUIRE(to->append(std::as_bytes(std::span(content))).has_value());
  const BlobInfo info = to->commit().value();
  return {.role = role, .name = std::move(name), .digest = info.digest, .size = info.size};
}

std::uint32_t TrainingRig::put(const std::string& job, std::uint32_t parent) {
  const JobFile schema = keep(
      FileRole::Result, "schema.json",
      to_json(DatasetSchema{.columns = columns, .target = "class", .event_time = {}, .split = {}}));
  const auto made = datasets->commit(
      {.snapshot = {.dataset = credit.id,
                    .kind = parent > 0 ? SnapshotKind::Append : SnapshotKind::Put,
                    .parent = parent,
                    .job = job,
                    .rows = {.train = 700, .valid = 100, .test = 200},
                    .report = "{}",
                    .sources = R"([{"name":"german.csv","sha256":"aa"}])"},
       .part = {},
       .files = {{.path = std::string(kSchemaFile), .digest = schema.digest, .size = schema.size}},
       .limit = {}});
  REQUIRE(made.has_value());
  return made->number;
}

JobRecord TrainingRig::done(JobSubmission job, std::vector<JobFile> files,
                            const std::string& result) {
  job.function = "credit-risk";
  job.expires = clock.wall_now() + 1h;
  job.keep = 1h;
  REQUIRE(jobs->submit(job, {}, {}).has_value());
  const auto leased =
      jobs->lease({.now = clock.wall_now(), .after_project = "", .memory = gib(8), .cpus = 8});
  REQUIRE(leased->has_value());
  REQUIRE((*leased)->spec.id == job.id);
  const auto over = jobs->advance(
      lease_of(**leased), clock.wall_now(),
      {.finished = true, .checkpoint = {}, .files = std::move(files), .result = result}, {});
  REQUIRE_MESSAGE(over.has_value(), over.error().message);
  return *over;
}

TrainedModel TrainingRig::train(int number, std::uint32_t snapshot, std::string result) {
  const auto id = [&](int part) {
    return fmt::format("0198f000-0000-7000-8000-{:06}{:06}", number, part);
  };
  if (result.empty())
    result = R"({"outcome":"goal_reached","goal":{"metric":"accuracy","at":0.7},"trials":3,
      "test":{"metrics":{"accuracy":{"value":0.8,"low":0.74,"high":0.85}},"rows":200,"looks":1,
      "alpha":0.05},"baselines":{"majority":{"metrics":{"accuracy":{"value":0.7}}}}})";
  const Json detail{{"train", {{"trainer", "xgboost"}, {"positive", "good"}, {"group", "kind"}}},
                    {"data", {{"dataset", "credit"}, {"snapshot", snapshot}}}};
  std::vector<JobFile> files{
      keep(FileRole::Result, "model.onnx", fmt::format("model {}", number)),
      keep(FileRole::Result, "report.json",
           R"({"task":"binary","target":"class","metric":"accuracy","classes":["bad","good"],
               "trainer":"xgboost","params":{"eta":0.3},"seed":7,
               "metrics":{"accuracy":{"value":0.81,"low":0.75,"high":0.86}}})")};
  JobSubmission trial;
  trial.id = id(2);
  trial.kind = JobKind::Trial;
  trial.detail = detail.dump();
  trial.memory = mib(64);
  JobSubmission parent = trial;
  parent.id = id(1);
  parent.kind = JobKind::Train;
  parent.detail = "{}";
  JobRecord winner = done(trial, std::move(files), "{}");
  return {.job = done(parent, {}, result),
          .trial = std::move(winner),
          .score = {},
          .author = {.who = "alice", .why = "because"}};
}

Task<Result<JobRecord>> TrainingRig::score(JobSubmission job, std::vector<JobFile> inputs) {
  scorings.push_back(job);
  REQUIRE(inputs.size() == 2);
  CHECK(inputs[0].name == "m0.onnx");
  CHECK(job_blobs->find(inputs[0].digest)->has_value());
  champions.push_back(inputs[0].digest);
  JobRecord over;
  over.spec = job;
  over.state = scored.state;
  over.message = "as played";
  if (scored.state != JobState::Done) co_return over;
  std::vector<std::int64_t> truth;
  std::vector<float> said[2];
  const int wrong[2] = {scored.champion_wrong, scored.challenger_wrong};
  for (int row = 0; row < scored.rows; ++row) {
    truth.push_back(row % 2);
    for (int model = 0; model < 2; ++model) {
      const bool one = (row % 2 == 1) != (row < wrong[model]);
      said[model].push_back(one ? 0.1F : 0.9F);
      said[model].push_back(one ? 0.9F : 0.1F);
    }
  }
  const std::string rows = std::to_string(scored.rows);
  Json figures{{"metrics", {{"accuracy", {{"value", 0.8}, {"low", 0.7}, {"high", 0.9}}}}}};
  const auto asked = parse_score_job(job.detail);
  std::vector<std::int32_t> places;  // of two values; the last row's is not listed
  for (int row = 0; row < scored.rows; ++row) places.push_back(row < scored.rows / 2 ? 0 : 1);
  places.back() = -1;
  for (const std::string& column : (*asked)->slices)
    figures["slices"][column] = {{{"value", "m"}, {"rows", 1}, {"metric", {{"value", 0.8}}}},
                                 {{"value", "f"}, {"rows", 1}, {"metric", {{"value", 0.8}}}}};
  Json result{{"split", "test"},
              {"task", "binary"},
              {"metric", "accuracy"},
              {"rows", scored.rows},
              {"without_target", 0},
              {"alpha", 0.025},
              {"models", {{"m0", figures}, {"m1", figures}}},
              {"baselines", Json::object()}};
  std::vector<JobFile> files{
      keep(FileRole::Result, "truth.npy", npy("<i8", rows + ",", bytes_of(truth))),
      keep(FileRole::Result, "m0/probabilities.npy", npy("<f4", rows + ", 2", bytes_of(said[0]))),
      keep(FileRole::Result, "m1/probabilities.npy", npy("<f4", rows + ", 2", bytes_of(said[1]))),
      keep(FileRole::Result, "slices/0.npy", npy("<i4", rows + ",", bytes_of(places)))};
  if (scored.lie) scored.lie(result, files);
  job.memory = mib(64);
  co_return done(job, std::move(files), result.dump());
}

}  // namespace mayfly
