#include "lineage/held_out.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

#include "core/reason.h"
#include "gate/gate.h"
#include "lineage/json_parts.h"
#include "meter/record.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kRequestsFile = "requests.jsonl";
constexpr Duration kPatience = 1h;

// What the worker says of the model or the rows, and would say again. The rest befell the job: it
// expired in the queue, crashed, or was cancelled.
bool stays_so(const JobRecord& scored) {
  constexpr std::array kOfInput = {reason::kInvalidInput, reason::kTooLarge};
  return scored.state == JobState::Failed &&
         std::ranges::find(kOfInput, scored.reason) != kOfInput.end();
}

}  // namespace

// Blocking.
Result<HeldOutRows::Plan> HeldOutRows::plan(const HeldOutAsk& ask) const {
  const auto find = [&](VersionNumber version) {
    return find_trained_version(parts_.registry, parts_.blobs, ask.function, version);
  };
  const TrainedVersion champion = TRY(find(ask.champion));
  const TrainedVersion challenger = TRY(find(ask.challenger));
  if (TRY(gate::comparable(champion.origin.origin, challenger.origin.origin)))
    return refuse(reason::kConflict,
                  fmt::format("version {} learned from rows that are test rows of the older split "
                              "by time of version {}",
                              ask.champion.value, ask.challenger.value));
  const Json& record = challenger.record;
  const auto task = parse_train_task(text_at(record, "task"));
  const Json& data = at(record, "data");
  if (!task || !data.is_array() || data.empty())
    return refuse(reason::kConflict, "the training's record names no task or no data");
  ScoreJob score{.split = Split::Test,
                 .task = *task,
                 .target = challenger.origin.origin.target,
                 .group = challenger.origin.group,
                 .classes = challenger.origin.classes,
                 .requests = std::min(ask.most, kMostRowRequests)};
  return Plan{.score = std::move(score),
              .data = {{"dataset", text_at(data[0], "dataset")},
                       {"snapshot", count_at(data[0], "snapshot")}},
              .model = {.role = FileRole::Input,
                        .name = "m0.onnx",
                        .digest = challenger.model,
                        .size = challenger.size}};
}

Task<Result<std::vector<std::string>>> HeldOutRows::find(HeldOutAsk ask) {
  Pin pin = parts_.jobs.pin();
  CO_TRY(const Plan plan, co_await parts_.pool.run([&]() -> Result<Plan> {
    Plan made = TRY(this->plan(ask));
    const Pin kept = parts_.pins.hold({made.model.digest});
    pin.add(made.model.digest);
    parts_.jobs.watch(made.model.digest);
    TRY(parts_.job_blobs.adopt(made.model.digest, parts_.blobs));
    return made;
  }));
  Json detail = Json::parse(to_json(plan.score));
  detail["data"] = plan.data;
  const WallTime now = parts_.clock.wall_now();
  JobSubmission job{.id = to_string(parts_.ids.next()),
                    .function = ask.function.str(),
                    .version = ask.challenger.value,
                    .kind = JobKind::Score,
                    .detail = detail.dump(),
                    .caller = std::string(kShadowCaller),
                    .memory = parts_.memory,
                    .submitted = now,
                    .expires = now + kPatience,
                    .keep = kPatience};
  CO_TRY(const JobRecord scored, co_await parts_.score(std::move(job), {plan.model}));
  if (scored.state != JobState::Done) {
    const std::string why = fmt::format("job {}, which is to make requests of them, is {}: {}",
                                        scored.spec.id, to_string(scored.state), scored.message);
    if (stays_so(scored)) co_return refuse(reason::kConflict, why);
    co_return fail(Code::Unavailable, why);
  }
  co_return co_await parts_.pool.run([&] { return read(scored, plan.score); });
}

// What came out of a jail: as many lines as it says, none of them large. Blocking.
Result<std::vector<std::string>> HeldOutRows::read(const JobRecord& scored,
                                                   const ScoreJob& score) const {
  const std::uint64_t requests = TRY(parse_requests_result(scored.result, score));
  const std::vector<JobFile> files = TRY(parts_.jobs.files(scored.spec.id));
  const auto left = std::ranges::find_if(files, [](const JobFile& file) {
    return file.role == FileRole::Result && file.name == kRequestsFile;
  });
  if (left == files.end()) return refuse(reason::kBadReply, "the scoring left no requests");
  const Fd file = TRY(parts_.job_blobs.open(left->digest));
  const std::string text = TRY(read_all_fd(file.get(), kMostRequestsFile));
  std::vector<std::string> rows;
  std::string_view rest = text;
  while (!rest.empty() && rows.size() < requests) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (line.size() > kMostRowRequest)
      return refuse(reason::kBadReply, "the scoring left a row that is too long");
    rows.emplace_back(line);
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  if (rows.size() == requests && rest.empty()) return rows;
  return refuse(reason::kBadReply, "the scoring left other requests than it says");
}

}  // namespace mayfly
