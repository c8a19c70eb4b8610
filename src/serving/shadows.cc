#include "serving/shadows.h"

#include <algorithm>
#include <tuple>

#include "async/sleep.h"
#include "core/project.h"
#include "core/reason.h"
#include "serving/call_origin.h"
#include "serving/guest.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How often it is looked whether the node has room.
constexpr Duration kLook = 5ms;
// None may keep the others from running.
constexpr Duration kLongestRun = 5s;
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

// What a copy counts for: also for what it holds beside its bytes, a descriptor if it is large.
Bytes weight_of(const RequestMemory& request) {
  return request.inlined() ? Bytes{kInlineRequest} : Shadows::kLargest;
}

}  // namespace

bool Shadows::full(std::string_view project) const {
  const auto line = lines_.find(project);
  return line != lines_.end() && line->second.waiting.size() >= kWaiting;
}

// What would hardly get a place later is not copied: that costs its caller time.
std::optional<Shadows::CopiedRequest> Shadows::copied(const Serving& serving, VersionNumber shadow,
                                                      RequestMemory& request) {
  const std::string_view project = project_of(serving.function);
  if (input_bytes(request.layout()) > kLargest.count || full(project)) return std::nullopt;
  auto held = memory_.take(project, weight_of(request));
  if (!held) return std::nullopt;
  auto copy = RequestMemory::allocate(request.layout(), 0);
  if (!copy) return std::nullopt;
  for (std::size_t i = 0; i < request.layout().inputs().size(); ++i)
    std::ranges::copy(request.input(i), copy->input(i).begin());
  return CopiedRequest{shadow, *std::move(copy), *std::move(held)};
}

std::optional<Shadows::Copy> Shadows::copy(const ServingRef& serving, std::uint64_t key,
                                           RequestMemory& request) {
  Copy copy;
  for (const VersionShare& shadow : serving->routing->traffic.shadows) {
    if (shadow.version == serving->version || !shadows(shadow, key)) continue;
    if (auto one = copied(*serving, shadow.version, request)) {
      copy.requests_.push_back(*std::move(one));
    } else {
      drop(*serving, shadow.version);
    }
  }
  if (copy.requests_.empty()) return std::nullopt;
  copy.serving_ = serving;
  return copy;
}

bool Shadows::keep(Copy& copy, const Reply& reply) {
  Bytes bytes{sizeof(HeldAnswer)};
  for (const OutputView& output : reply.outputs) bytes = bytes + Bytes{output.bytes.size()};
  const Serving& serving = *copy.serving_;
  auto held = bytes <= kLargest ? memory_.take(project_of(serving.function), bytes) : std::nullopt;
  if (held) {
    copy.answer_ = std::make_shared<const HeldAnswer>(keep_answer(reply.outputs), *std::move(held));
    return true;
  }
  for (const CopiedRequest& one : copy.requests_) drop(serving, one.shadow);
  return false;
}

void Shadows::offer(Copy copy, const std::string& request_id, Duration timeout) {
  if (gate_.closed()) return;
  Line& line = lines_[std::string(project_of(copy.serving_->function))];
  for (CopiedRequest& one : copy.requests_) {
    if (line.waiting.size() >= kWaiting) {
      drop(*copy.serving_, one.shadow);
      continue;
    }
    line.waiting.push_back({.serving = copy.serving_,
                            .copy = std::move(one),
                            .answer = copy.answer_,
                            .request_id = request_id,
                            .timeout = timeout,
                            .offered = parts_.loop.now()});
  }
  look_.request();
}

Comparison* Shadows::comparison(const Serving& serving, VersionNumber shadow) {
  if (!parts_.catalog.still_has(serving)) return nullptr;
  return &results_[serving.runtime->key.function.value][{serving.version.value, shadow.value}];
}

void Shadows::drop(const Serving& serving, VersionNumber shadow) {
  if (Comparison* result = comparison(serving, shadow)) ++result->dropped;
}

void Shadows::judge(const Waiting& waiting, const Serving& shadow, const Outcome& outcome) {
  if (had_no_room(outcome)) return drop(*waiting.serving, waiting.copy.shadow);
  Comparison* result = comparison(*waiting.serving, waiting.copy.shadow);
  if (result == nullptr) return;
  if (!outcome.reply) {
    ++result->failed;
    on_result_(shadow, outcome, nullptr);
    return;
  }
  const Difference difference = compare(waiting.answer->answer, outcome.reply->outputs);
  result->add(difference);
  on_result_(shadow, outcome, &difference);
}

void Shadows::drop_late() {
  const TimePoint late = parts_.loop.now() - kPatience;
  for (auto& [project, line] : lines_) {
    while (!line.waiting.empty() && line.waiting.front().offered <= late) {
      drop(*line.waiting.front().serving, line.waiting.front().copy.shadow);
      line.waiting.pop_front();
    }
  }
}

// Around by name, from the one after the last.
Shadows::Lines::iterator Shadows::next() {
  auto line = lines_.upper_bound(last_);
  for (std::size_t i = 0; i < lines_.size(); ++i, ++line) {
    if (line == lines_.end()) line = lines_.begin();
    if (!line->second.running && !line->second.waiting.empty()) return line;
  }
  return lines_.end();
}

void Shadows::look() {
  if (gate_.closed()) return;
  drop_late();
  while (running_ < kRunning && parts_.dispatcher.has_room_for_guests()) {
    const auto turn = next();
    if (turn == lines_.end()) break;
    auto& [project, line] = *turn;
    last_ = project;
    line.running = true;
    ++running_;
    Waiting first = std::move(line.waiting.front());
    line.waiting.pop_front();
    parts_.loop.spawn(serve(project, std::move(first)));
  }
  std::erase_if(
      lines_, [](const auto& item) { return item.second.waiting.empty() && !item.second.running; });
  const bool some_wait =
      std::ranges::any_of(lines_, [](const auto& item) { return !item.second.waiting.empty(); });
  if (some_wait) again_.arm_in(kLook);
}

Task<void> Shadows::serve(std::string project, Waiting waiting) {
  const auto hold = gate_.hold();
  co_await run(std::move(waiting));
  lines_.at(project).running = false;
  --running_;
  look_.request();
}

Task<void> Shadows::run(Waiting waiting) {
  const auto found = co_await parts_.catalog.find(waiting.serving->function,
                                                  std::to_string(waiting.copy.shadow.value));
  // Deleted meanwhile, or made anew: then nobody asks any more.
  if (!found || (*found)->runtime->key.function != waiting.serving->runtime->key.function) {
    drop(*waiting.serving, waiting.copy.shadow);
    co_return;
  }
  const Serving& shadow = **found;
  if (shadow.signature() != waiting.serving->signature()) {
    if (Comparison* result = comparison(*waiting.serving, waiting.copy.shadow)) ++result->failed;
    co_return;
  }
  Question question{.version = *found,
                    .request = std::move(waiting.copy.request),
                    .request_id = waiting.request_id,
                    .timeout = std::min(waiting.timeout, kLongestRun),
                    .cancel = closing_.token()};
  const Outcome outcome = co_await predict(std::move(question));
  judge(waiting, shadow, outcome);
}

Task<Outcome> Shadows::ask(ServingRef version, RequestMemory request, std::string request_id,
                           CancelToken cancel) {
  const auto hold = gate_.hold();
  const TimePoint late = parts_.loop.now() + kPatience;
  while (hold && !parts_.dispatcher.has_room_for_guests()) {
    if (parts_.loop.now() >= late)
      co_return Outcome{.reply = fail(Code::ResourceExhausted, "the node has no room for guests")};
    if (!co_await sleep_for(parts_.loop, kLook, cancel)) break;
  }
  if (!hold || cancel.cancelled() || closing_.token().cancelled())
    co_return Outcome{.reply = fail(Code::Cancelled, "nobody wants to know it any more")};
  CancelSource leave;
  const CancelCallback closed(closing_.token(), [&leave] { leave.cancel(); });
  const CancelCallback left(cancel, [&leave] { leave.cancel(); });
  Question question{.version = std::move(version),
                    .request = std::move(request),
                    .request_id = std::move(request_id),
                    .timeout = kLongestRun,
                    .cancel = leave.token()};
  co_return co_await predict(std::move(question));
}

Task<Outcome> Shadows::predict(Question question) {
  const WallTime accepted = parts_.loop.clock().wall_now();
  const Serving& shadow = *question.version;
  const std::uint64_t received = input_bytes(question.request.layout());
  Call call{.version = guest_of(*shadow.runtime, GuestKind::Shadow),
            .settings = guest_settings(GuestKind::Shadow),
            .settings_sequence = 0,
            .request = std::move(question.request),
            .deadline = parts_.loop.now() + question.timeout,
            .cancel = question.cancel,
            .origin = shadow_origin(question.version, question.request_id)};
  Outcome outcome = co_await parts_.dispatcher.predict(std::move(call));
  const std::string_view reason = outcome.reply ? "" : outcome.reply.error().reason;
  InvocationRecord record{.invocation = parts_.ids.next(),
                          .time = accepted,
                          .project = std::string(project_of(shadow.function)),
                          .caller = std::string(kShadowCaller),
                          .request_id = question.request_id,
                          .function = std::string(shadow.name()),
                          .version = shadow.version,
                          .tier = outcome.tier,
                          .queue = to_us(outcome.timing.queue),
                          .start = to_us(outcome.timing.start),
                          .run = to_us(outcome.timing.run),
                          .cpu = to_us(outcome.timing.cpu),
                          .waited = to_us(outcome.timing.waited),
                          .memory_limit = outcome.memory_limit,
                          .memory_peak = outcome.peak_memory,
                          .received = Bytes{received},
                          .sent = {},
                          .reason = std::string(reason)};
  std::ignore = co_await parts_.ledger.commit(record);  // what fails, the next caller's reply tells
  co_return outcome;
}

const Shadows::Pairs& Shadows::comparisons(FunctionId function) const {
  static const Pairs kNone;
  const auto found = results_.find(function.value);
  return found == results_.end() ? kNone : found->second;
}

void Shadows::forget(FunctionId function) {
  results_.erase(function.value);
  for (auto& [project, line] : lines_) {
    std::erase_if(line.waiting, [&](const Waiting& waiting) {
      return waiting.serving->runtime->key.function == function;
    });
  }
  parts_.dispatcher.retire(guest_id(function, GuestKind::Shadow));
}

void Shadows::end(FunctionId function) {
  parts_.dispatcher.evict(guest_id(function, GuestKind::Shadow));
}

Task<void> Shadows::close() {
  auto closed = gate_.close();
  again_.cancel();
  for (auto& [project, line] : lines_) line.waiting.clear();
  closing_.cancel();
  co_await closed;
}

}  // namespace mayfly
