#include "gateway/shadows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "async/sleep.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How often it is looked whether the node has room.
constexpr Duration kLook = 5ms;
// Shadows of a function that is called now and then need not stay hot.
constexpr Duration kIdleTimeout = 10s;
constexpr Duration kTemplateTimeout = 1min;
// Processes of a shadow are another function's in dispatch: nothing is shared with those that
// answer callers.
constexpr std::uint64_t kShadowBit = 1ULL << 63U;

FunctionId shadow_id(FunctionId function) { return {function.value | kShadowBit}; }

std::shared_ptr<const VersionRuntime> guest_of(const VersionRuntime& version) {
  auto guest = std::make_shared<VersionRuntime>(version);
  guest->key.function = shadow_id(version.key.function);
  guest->label += "-shadow";
  guest->rank = Rank::Guest;
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
  for (const VersionShare& shadow : serving->routing->traffic.shadows) {
    if (shadow.version == serving->version || !shadows(shadow, key)) continue;
    const bool room = waiting_.size() + copy.shadows_.size() < kWaiting;
    const std::uint64_t bytes = input_bytes(request.layout());
    auto memory = room && bytes <= kLargest.count ? copied(request)
                                                  : fail(Code::ResourceExhausted, "no room");
    if (!memory) {
      ++results_[serving->function][{serving->version.value, shadow.version.value}].dropped;
      continue;
    }
    copy.received_ = bytes;
    copy.shadows_.push_back(shadow.version);
    copy.requests_.push_back(*std::move(memory));
  }
  if (copy.shadows_.empty()) return std::nullopt;
  copy.serving_ = serving;
  return copy;
}

void Shadows::offer(Copy copy, std::string request_id, Duration timeout) {
  if (gate_.closed()) return;
  const auto answer = std::make_shared<const KeptAnswer>(std::move(copy.answer_));
  for (std::size_t i = 0; i < copy.shadows_.size(); ++i) {
    waiting_.push_back({.serving = copy.serving_,
                        .shadow = copy.shadows_[i],
                        .request = std::move(copy.requests_[i]),
                        .answer = answer,
                        .request_id = request_id,
                        .timeout = timeout,
                        .offered = parts_.loop.now()});
  }
  if (!std::exchange(working_, true)) parts_.loop.spawn(work());
}

Comparison& Shadows::comparison(const Waiting& waiting) {
  return results_[waiting.serving->function]
                 [{waiting.serving->version.value, waiting.shadow.value}];
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
      ++comparison(next).dropped;
    }
  }
  working_ = false;
}

Task<void> Shadows::run(Waiting waiting) {
  const WallTime accepted = parts_.loop.clock().wall_now();
  const auto found =
      co_await parts_.catalog.find(waiting.serving->function, std::to_string(waiting.shadow.value));
  // Deleted meanwhile, or made anew: then nobody asks any more.
  if (!found || (*found)->runtime->key.function != waiting.serving->runtime->key.function)
    co_return;
  const Serving& shadow = **found;
  if (shadow.signature() != waiting.serving->signature()) {
    ++comparison(waiting).failed;
    co_return;
  }
  const std::uint64_t received = input_bytes(waiting.request.layout());
  Call call{.version = guest_of(*shadow.runtime),
            .settings = guest_settings(),
            .settings_sequence = 0,
            .request = std::move(waiting.request),
            .deadline = parts_.loop.now() + waiting.timeout,
            .cancel = closing_.token()};
  const Outcome outcome = co_await parts_.dispatcher.predict(std::move(call));
  if (outcome.reply) {
    comparison(waiting).add(compare(*waiting.answer, outcome.reply->outputs));
  } else {
    ++comparison(waiting).failed;
  }
  const std::string_view reason = outcome.reply ? "" : outcome.reply.error().reason;
  InvocationRecord record{.invocation = parts_.ids.next(),
                          .time = accepted,
                          .caller = "shadow",
                          .request_id = waiting.request_id,
                          .function = shadow.function,
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

const Shadows::Pairs& Shadows::comparisons(const std::string& function) const {
  static const Pairs kNone;
  const auto found = results_.find(function);
  return found == results_.end() ? kNone : found->second;
}

void Shadows::forget(const std::string& function, FunctionId id) {
  results_.erase(function);
  parts_.dispatcher.retire(shadow_id(id));
}

void Shadows::end(FunctionId id) { parts_.dispatcher.evict(shadow_id(id)); }

Task<void> Shadows::close() {
  auto closed = gate_.close();
  waiting_.clear();
  closing_.cancel();
  co_await closed;
}

}  // namespace mayfly
