#include "serving/shadows.h"

#include <algorithm>
#include <tuple>

#include "async/sleep.h"
#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How often it is looked whether the node has room.
constexpr Duration kLook = 5ms;
// Shadows of a function that is called now and then need not stay hot.
constexpr Duration kIdleTimeout = 10s;
constexpr Duration kTemplateTimeout = 1min;
// One copy at a time: none may keep the others from running.
constexpr Duration kLongestRun = 5s;
// Processes of a shadow are another function's in dispatch: nothing is shared with those that
// answer callers.
constexpr std::uint64_t kShadowBit = 1ULL << 63U;

FunctionId shadow_id(FunctionId function) { return {function.value | kShadowBit}; }

std::shared_ptr<const VersionRuntime> guest_of(const VersionRuntime& version) {
  auto guest = std::make_shared<VersionRuntime>(version);
  guest->key.function = shadow_id(version.key.function);
  guest->label += "-shadow";
  guest->rank = Rank::Guest;
  guest->batching = {};  // one copy at a time
  return guest;
}

std::shared_ptr<const FunctionSettings> guest_settings() {
  static const auto kSettings = std::make_shared<const FunctionSettings>(FunctionSettings{
      .idle_timeout = kIdleTimeout, .template_timeout = kTemplateTimeout, .queue_limit = 1});
  return kSettings;
}

std::uint64_t input_bytes(const RequestLayout& layout) {
  std::uint64_t bytes = 0;
  for (const InputPlan& input : layout.inputs()) bytes += input.bytes;
  return bytes;
}

// What never ran for want of room says nothing of the shadow.
bool had_no_room(const Outcome& outcome) {
  return !outcome.reply && outcome.tier == StartTier::None &&
         outcome.reply.error().reason != reason::kStartFailed;
}

Result<RequestMemory> copied(RequestMemory& request) {
  RequestMemory copy = TRY(RequestMemory::allocate(request.layout(), 0));
  for (std::size_t i = 0; i < request.layout().inputs().size(); ++i)
    std::ranges::copy(request.input(i), copy.input(i).begin());
  return copy;
}

}  // namespace

std::optional<Shadows::Copy> Shadows::copy(const ServingRef& serving, std::uint64_t key,
                                           RequestMemory& request) {
  Copy copy;
  Pairs& pairs = results_[serving->runtime->key.function.value];
  for (const VersionShare& shadow : serving->routing->traffic.shadows) {
    if (shadow.version == serving->version || !shadows(shadow, key)) continue;
    const bool room = taken_ < kWaiting;
    const std::uint64_t bytes = input_bytes(request.layout());
    auto memory = room && bytes <= kLargest.count ? copied(request)
                                                  : fail(Code::ResourceExhausted, "no room");
    if (!memory) {
      ++pairs[{serving->version.value, shadow.version.value}].dropped;
      continue;
    }
    copy.shadows_.push_back(shadow.version);
    copy.requests_.push_back(*std::move(memory));
    copy.places_.emplace_back(taken_);
  }
  if (copy.shadows_.empty()) return std::nullopt;
  copy.serving_ = serving;
  return copy;
}

bool Shadows::keep(Copy& copy, const Reply& reply) {
  std::uint64_t bytes = 0;
  for (const OutputView& output : reply.outputs) bytes += output.bytes.size();
  if (bytes <= kLargest.count) {
    copy.answer_ = keep_answer(reply.outputs);
    return true;
  }
  const Serving& serving = *copy.serving_;
  for (const VersionNumber shadow : copy.shadows_)
    ++results_[serving.runtime->key.function.value][{serving.version.value, shadow.value}].dropped;
  return false;
}

void Shadows::offer(Copy copy, const std::string& request_id, Duration timeout) {
  if (gate_.closed()) return;
  const auto answer = std::make_shared<const KeptAnswer>(std::move(copy.answer_));
  for (std::size_t i = 0; i < copy.shadows_.size(); ++i) {
    waiting_.push_back({.serving = copy.serving_,
                        .shadow = copy.shadows_[i],
                        .request = std::move(copy.requests_[i]),
                        .answer = answer,
                        .request_id = request_id,
                        .timeout = timeout,
                        .offered = parts_.loop.now(),
                        .place = std::move(copy.places_[i])});
  }
  if (!std::exchange(working_, true)) parts_.loop.spawn(work());
}

Comparison* Shadows::comparison(const Waiting& waiting) {
  const auto found = results_.find(waiting.serving->runtime->key.function.value);
  if (found == results_.end()) return nullptr;
  return &found->second[{waiting.serving->version.value, waiting.shadow.value}];
}

void Shadows::drop(const Waiting& waiting) {
  if (Comparison* result = comparison(waiting)) ++result->dropped;
}

void Shadows::judge(const Waiting& waiting, const Serving& shadow, const Outcome& outcome) {
  if (had_no_room(outcome)) {
    drop(waiting);
    return;
  }
  Comparison* result = comparison(waiting);
  if (result == nullptr) return;
  if (!outcome.reply) {
    ++result->failed;
    on_result_(shadow, outcome, nullptr);
    return;
  }
  const Difference difference = compare(*waiting.answer, outcome.reply->outputs);
  result->add(difference);
  on_result_(shadow, outcome, &difference);
}

Task<bool> Shadows::room(TimePoint until) {
  while (!parts_.dispatcher.has_room_for_guests()) {
    if (gate_.closed() || parts_.loop.now() >= until) co_return false;
    co_await sleep_until(parts_.loop, parts_.loop.now() + kLook, closing_.token());
  }
  co_return !gate_.closed();
}

Task<void> Shadows::work() {
  const auto hold = gate_.hold();
  while (hold && !waiting_.empty()) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    if (co_await room(next.offered + kPatience)) {
      co_await run(std::move(next));
    } else {
      drop(next);
    }
  }
  working_ = false;
}

Task<void> Shadows::run(Waiting waiting) {
  const WallTime accepted = parts_.loop.clock().wall_now();
  const auto found =
      co_await parts_.catalog.find(waiting.serving->function, std::to_string(waiting.shadow.value));
  // Deleted meanwhile, or made anew: then nobody asks any more.
  if (!found || (*found)->runtime->key.function != waiting.serving->runtime->key.function) {
    drop(waiting);
    co_return;
  }
  const Serving& shadow = **found;
  if (shadow.signature() != waiting.serving->signature()) {
    if (Comparison* result = comparison(waiting)) ++result->failed;
    co_return;
  }
  const std::uint64_t received = input_bytes(waiting.request.layout());
  Call call{.version = guest_of(*shadow.runtime),
            .settings = guest_settings(),
            .settings_sequence = 0,
            .request = std::move(waiting.request),
            .deadline = parts_.loop.now() + std::min(waiting.timeout, kLongestRun),
            .cancel = closing_.token()};
  const Outcome outcome = co_await parts_.dispatcher.predict(std::move(call));
  judge(waiting, shadow, outcome);
  const std::string_view reason = outcome.reply ? "" : outcome.reply.error().reason;
  InvocationRecord record{.invocation = parts_.ids.next(),
                          .time = accepted,
                          .project = std::string(project_of(shadow.function)),
                          .caller = "shadow",
                          .request_id = waiting.request_id,
                          .function = std::string(shadow.name()),
                          .version = shadow.version,
                          .tier = outcome.tier,
                          .queue = to_us(outcome.timing.queue),
                          .start = to_us(outcome.timing.start),
                          .run = to_us(outcome.timing.run),
                          .cpu = to_us(outcome.timing.cpu),
                          .memory_limit = outcome.memory_limit,
                          .memory_peak = outcome.peak_memory,
                          .received = Bytes{received},
                          .sent = {},
                          .reason = std::string(reason)};
  std::ignore = co_await parts_.ledger.commit(record);  // what fails, the next caller's reply tells
}

const Shadows::Pairs& Shadows::comparisons(FunctionId function) const {
  static const Pairs kNone;
  const auto found = results_.find(function.value);
  return found == results_.end() ? kNone : found->second;
}

void Shadows::forget(FunctionId function) {
  results_.erase(function.value);
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    return waiting.serving->runtime->key.function == function;
  });
  parts_.dispatcher.retire(shadow_id(function));
}

void Shadows::end(FunctionId function) { parts_.dispatcher.evict(shadow_id(function)); }

Task<void> Shadows::close() {
  auto closed = gate_.close();
  waiting_.clear();
  closing_.cancel();
  co_await closed;
}

}  // namespace mayfly
