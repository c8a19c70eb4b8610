#include "serving/rehearsal.h"

#include <fmt/format.h>

#include <utility>

#include "async/sleep.h"
#include "core/reason.h"
#include "core/wire/infer_request.h"
#include "serving/rollout_evidence.h"
#include "serving/tensor_memory.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kRoomAgain = 200ms;  // and twice as long each time
constexpr Duration kTurnAgain = 1s;
constexpr std::string_view kRequestId = "held-out-row";
constexpr SizeLimit kLargestRow{.bytes = Shadows::kLargest.count, .setting = "of copies"};

// What never ran says nothing of the version.
bool never_ran(const Outcome& outcome) {
  return !outcome.reply && outcome.tier == StartTier::None &&
         outcome.reply.error().reason != reason::kStartFailed;
}

}  // namespace

Result<RequestMemory> Rehearsal::read(const Serving& version, std::string row) {
  const InferRequest request =
      TRY(decode_infer_request(parser_, std::move(row), version.signature(), kLargestRow));
  RequestMemory memory = TRY(allocate_request(request, version.output_bytes));
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    if (request.inputs[i].source != InputSource::Json)
      return refuse(reason::kBadReply, "a held-out row names bytes that are not there");
    TRY(read_json_input(request.inputs[i], memory.input(i)));
  }
  return Result<RequestMemory>(std::move(memory));
}

Task<Result<Outcome>> Rehearsal::ask(ServingRef version, const std::string& row, CancelToken stop) {
  const TimePoint late = parts_.loop.now() + kPatience;
  for (Duration wait = kRoomAgain;; wait *= 2) {
    CO_TRY(RequestMemory memory, read(*version, row));
    Outcome outcome =
        co_await parts_.shadows.ask(version, std::move(memory), std::string(kRequestId), stop);
    if (!never_ran(outcome)) co_return outcome;
    const Error& refused = outcome.reply.error();
    if (refused.code == Code::Cancelled) co_return std::unexpected(refused);
    if (parts_.loop.now() + wait > late)
      co_return fail(Code::ResourceExhausted,
                     "there was no room to ask about held-out rows: " + refused.message);
    if (!co_await sleep_for(parts_.loop, wait, stop))
      co_return fail(Code::Cancelled, "the rollout has ended");
  }
}

// Whoever comes first warms the processor's caches for the other: they take turns.
Task<Status> Rehearsal::ask_both(Sides& sides, const std::string& row, CancelToken stop) {
  std::swap(sides.first, sides.second);
  CO_TRY(const Outcome first, co_await ask(sides.first->version, row, stop));
  std::optional<KeptAnswer> answer;
  if (first.reply) answer = keep_answer(first.reply->outputs);
  CO_TRY(const Outcome second, co_await ask(sides.second->version, row, stop));
  std::optional<rollout::Likeness> likeness;
  if (answer && second.reply) likeness = likeness_of(compare(*answer, second.reply->outputs));
  for (const auto& [side, outcome] :
       {std::pair(sides.first, &first), std::pair(sides.second, &second)}) {
    rollout::Observation seen{
        .tier = outcome->tier, .run = outcome->timing.run, .start = outcome->timing.start};
    if (side == &sides.challenger) seen.likeness = likeness;
    add_outcome(side->evidence, *side->version, *outcome, seen);
  }
  co_return Status{};
}

Task<Result<ServingRef>> Rehearsal::find(FunctionName function, VersionNumber version) {
  CO_TRY(ResolvedVersion resolved,
         parts_.catalog.resolve(function.str(), std::to_string(version.value)));
  co_return co_await parts_.catalog.find(std::move(resolved));
}

Task<Result<rollout::HeldOut>> Rehearsal::run(HeldOutAsk ask, Decides decides, CancelToken stop) {
  while (running_) {
    if (!co_await sleep_for(parts_.loop, kTurnAgain, stop))
      co_return fail(Code::Cancelled, "the rollout has ended");
  }
  running_ = true;
  auto seen = co_await run_alone(ask, decides, stop);
  running_ = false;
  co_return seen;
}

Task<Result<rollout::HeldOut>> Rehearsal::run_alone(const HeldOutAsk& ask, const Decides& decides,
                                                    CancelToken stop) {
  CO_TRY(const std::vector<std::string> rows, co_await parts_.find_rows(ask));
  if (rows.size() < ask.least) {
    co_return refuse(reason::kConflict, fmt::format("there are {} held-out rows, of {} that "
                                                    "min_samples asks for",
                                                    rows.size(), ask.least));
  }
  const TimePoint late = parts_.loop.now() + kLongest;
  Sides sides;
  CO_TRY(sides.champion.version, co_await find(ask.function, ask.champion));
  CO_TRY(sides.challenger.version, co_await find(ask.function, ask.challenger));
  rollout::HeldOut seen;
  for (int pass = 0; pass < kMostPasses; ++pass) {
    sides.champion.evidence = sides.challenger.evidence = {};
    for (const std::string& row : rows) {
      if (parts_.loop.now() >= late) {
        if (seen.rows > 0) co_return seen;
        co_return fail(Code::ResourceExhausted, "asking about held-out rows took too long");
      }
      CO_TRY_STATUS(co_await ask_both(sides, row, stop));
    }
    seen.merge({.rows = rows.size(),
                .champion = sides.champion.evidence,
                .challenger = sides.challenger.evidence});
    if (decides(seen)) break;
  }
  co_return seen;
}

}  // namespace mayfly
