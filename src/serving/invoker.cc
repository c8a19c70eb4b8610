#include "serving/invoker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/traffic.h"
#include "core/units.h"
#include "serving/call_origin.h"
#include "serving/guest.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxRequestId = 128;

// Given, when it is short and visible; it is echoed and recorded, never a key.
std::string request_id_of(const Invocation::Lookup& lookup, const InvocationId& made) {
  const auto given = lookup("X-Request-Id");
  const auto visible = [](char c) { return c > ' ' && c <= '~'; };
  if (given && !given->empty() && given->size() <= kMaxRequestId &&
      std::ranges::all_of(*given, visible)) {
    return std::string(*given);
  }
  return to_string(made);
}

std::uint64_t traffic_key_of(const Invocation& tried, std::string_view sticky) {
  auto given = tried.lookup("Mayfly-Key");
  if (!given && !sticky.empty()) given = tried.lookup(sticky);
  return given ? traffic_key(*given) : traffic_key(to_string(tried.id));
}

// "1.204": as "{:.3f}" would, without floating point.
void append_milliseconds(std::string& text, Duration duration) {
  const auto us = std::chrono::round<std::chrono::microseconds>(duration).count();
  const std::int64_t rest = 1000 + us % 1000;  // 1xxx: keeps leading zeros
  text.append(fmt::format_int(us / 1000).c_str()).append(".");
  text.append(fmt::format_int(rest).c_str() + 1);
}

// The rows that a request asks about: 1, unless the signature leaves the first dimension open.
std::uint64_t rows_of(const RequestLayout& layout, const Signature& signature) {
  if (layout.inputs().empty()) return 1;
  const InputPlan& first = layout.inputs().front();
  const Shape& specified = signature.inputs[first.index].shape;
  const bool open = !specified.empty() && specified.front() == -1;
  if (!open || first.form != InputForm::Tensor || first.shape.empty()) return 1;
  return static_cast<std::uint64_t>(first.shape.front());
}

bool killed_instance(const Outcome& outcome) {
  if (outcome.reply) return false;
  const std::string_view reason = outcome.reply.error().reason;
  return reason == reason::kInstanceCrashed || reason == reason::kOutOfMemory;
}

InvocationRecord record_of(const Invocation& tried, std::string_view reason, std::uint64_t sent) {
  const Timing timing = tried.timing();
  InvocationRecord record{.invocation = tried.id,
                          .time = tried.accepted,
                          .project = std::string(project_of(tried.serving->function)),
                          .caller = tried.caller->name,
                          .request_id = tried.request_id,
                          .function = std::string(tried.serving->name()),
                          .version = tried.serving->version,
                          .tier = tried.tier(),
                          .queue = to_us(timing.queue),
                          .start = to_us(timing.start),
                          .run = to_us(timing.run),
                          .cpu = to_us(timing.cpu),
                          .waited = to_us(timing.waited),
                          .memory_limit = {},
                          .memory_peak = {},
                          .received = Bytes{tried.received},
                          .sent = Bytes{sent},
                          .reason = std::string(reason)};
  if (tried.outcome) {
    record.memory_limit = tried.outcome->memory_limit;
    record.memory_peak = tried.outcome->peak_memory;
  }
  if (tried.first_chunk) record.first_chunk = to_us(*tried.first_chunk);
  if (tried.event) {
    record.event = tried.event->event;
    record.attempt = tried.event->number;
  }
  return record;
}

}  // namespace

std::uint32_t urgency_of(std::uint64_t priority) {
  if (priority == 0) return kUsualPriority;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(priority, kLastPriority));
}

std::string server_timing(const Timing& timing) {
  std::string text;
  text.reserve(80);
  append_milliseconds(text.append("queue;dur="), timing.queue);
  append_milliseconds(text.append(", start;dur="), timing.start);
  append_milliseconds(text.append(", run;dur="), timing.run);
  return text;
}

std::chrono::seconds Invocation::retry_after(const Error& error) const {
  if (outcome && outcome->retry_after.count() > 0) return outcome->retry_after;
  const bool soon = error.reason == reason::kNodeBusy || error.reason == reason::kQuotaExceeded;
  return std::chrono::seconds(soon ? 1 : 0);
}

Invocation Invoker::begin(PrincipalRef caller, Invocation::Lookup lookup, std::string_view peer) {
  Invocation tried;
  tried.caller = std::move(caller);
  tried.id = parts_.ids.next();
  tried.accepted = parts_.loop.clock().wall_now();
  tried.begun = parts_.loop.now();
  tried.lookup = std::move(lookup);
  tried.source = tried.caller->name.empty() ? std::string(peer.substr(0, peer.rfind(':')))
                                            : tried.caller->project + " " + tried.caller->name;
  tried.request_id = request_id_of(tried.lookup, tried.id);
  tried.trace = parts_.tracer.begin(tried.lookup);
  return tried;
}

Task<Status> Invoker::find(Invocation& tried, std::string_view name, std::string_view version) {
  const auto key = [&tried](std::string_view sticky) { return traffic_key_of(tried, sticky); };
  CO_TRY(tried.serving, co_await parts_.catalog.find(name, version, key));
  tried.by_traffic = version.empty() && !name.contains('@');
  if (!tried.called_by) {  // what was let in may end what it began
    CO_TRY(tried.place, parts_.quotas.enter(tried.caller->project));
  }
  if (parts_.ledger.healthy()) co_return Status{};
  parts_.ledger.probe();
  if (parts_.ledger.healthy()) co_return Status{};
  co_return refuse(reason::kStorageFull,
                   "the ledger cannot be written; predictions stop until there is room");
}

// Of a caller whose requests keep killing instances.
Status Invoker::hold_off(Invocation& tried) const {
  const Duration wait =
      crashes_.wait_of(tried.source, tried.serving->runtime->key, parts_.loop.now());
  if (wait == Duration::zero()) return {};
  const Error error =
      refuse(reason::kRepeatedCrashes,
             fmt::format("{}: requests of {} keep killing its instances; the next may come in {}",
                         tried.serving->function, tried.source,
                         to_string(std::chrono::ceil<std::chrono::seconds>(wait))))
          .error();
  tried.outcome = Outcome{.reply = std::unexpected(error),
                          .retry_after = std::chrono::ceil<std::chrono::seconds>(wait)};
  return std::unexpected(error);
}

Status Invoker::admit(Invocation& tried) const {
  TRY(hold_off(tried));
  tried.outcome = parts_.dispatcher.refusal(tried.serving->runtime->key);
  if (tried.outcome) return std::unexpected(tried.outcome->reply.error());
  return {};
}

Task<Result<Reply>> Invoker::run(Invocation& tried, Question question) {
  CO_TRY_STATUS(hold_off(tried));
  const Serving& serving = *tried.serving;
  tried.rows = rows_of(question.request.layout(), serving.signature());
  tried.decoded = parts_.loop.now();
  std::optional<Digest> key;
  // What shadows are to be compared on is asked anew.
  if (serving.manifest->options.cache && serving.routing->traffic.shadows.empty())
    key = parts_.cache.key_of(serving.runtime->key, question.request);
  if (key) {
    if (auto known = parts_.cache.find(*key)) {
      tried.cache = Invocation::Cache::Hit;
      co_return *std::move(known);
    }
    tried.cache = Invocation::Cache::Miss;
  }
  CO_TRY(Reply reply, co_await ask(tried, std::move(question)));
  if (key) parts_.cache.put(*key, serving.runtime->key.function, reply);
  co_return reply;
}

Call Invoker::call_of(const Invocation& tried, Question question) const {
  const Serving& serving = *tried.serving;
  Duration timeout = serving.manifest->options.timeout;
  if (question.timeout) timeout = std::min(timeout, *question.timeout);
  Call call{.version = serving.runtime,
            .settings = serving.settings,
            .settings_sequence = serving.sequence,
            .request = std::move(question.request),
            .deadline = tried.begun + timeout,
            .priority = question.priority,
            .cancel = question.cancel,
            .origin = origin_of(tried),
            .caller = tried.called_by};
  if (tried.event) {
    call.version = guest_of(*serving.runtime, GuestKind::Event);
    call.settings = guest_settings(GuestKind::Event);
    call.settings_sequence = 0;
  }
  call.request.describe(tried.id, call.deadline);
  return call;
}

void Invoker::observe(const Invocation& tried) {
  const Serving& serving = *tried.serving;
  if (killed_instance(*tried.outcome)) {
    crashes_.died(tried.source, serving.runtime->key, parts_.loop.now());
  } else if (tried.outcome->reply) {
    crashes_.answered(tried.source, serving.runtime->key);
  }
  if (tried.by_traffic && !tried.event) parts_.rollouts.observe(serving, *tried.outcome);
}

Result<std::unique_ptr<Stream>> Invoker::open(Invocation& tried, Question question) {
  TRY(hold_off(tried));
  tried.rows = rows_of(question.request.layout(), tried.serving->signature());
  tried.decoded = parts_.loop.now();
  return parts_.dispatcher.open(call_of(tried, std::move(question)));
}

Task<std::optional<Reply>> Invoker::next(Invocation& tried, Stream& stream) {
  std::optional<Reply> chunk = co_await stream.next();
  if (!chunk) {
    tried.outcome = std::move(stream.outcome());
    observe(tried);
  } else if (!tried.first_chunk) {
    tried.first_chunk = parts_.loop.now() - tried.begun;
  }
  co_return chunk;
}

Task<void> Invoker::close(Invocation& tried, Stream& stream, Error why) {
  if (tried.outcome) co_return;
  co_await stream.close(std::move(why));
  tried.outcome = std::move(stream.outcome());
  observe(tried);
}

Task<Result<Reply>> Invoker::ask(Invocation& tried, Question question) {
  const Serving& serving = *tried.serving;
  const Traffic& traffic = serving.routing->traffic;
  if (!traffic.shadows.empty() && !tried.event) {
    const std::uint64_t key = traffic_key_of(tried, traffic.sticky_header);
    tried.copy = parts_.shadows.copy(tried.serving, key, question.request);
  }
  Call call = call_of(tried, std::move(question));
  tried.outcome = co_await parts_.dispatcher.predict(std::move(call));
  observe(tried);
  if (!tried.outcome->reply) co_return std::unexpected(tried.outcome->reply.error());
  Reply reply = *std::move(tried.outcome->reply);
  if (tried.copy && !parts_.shadows.keep(*tried.copy, reply)) tried.copy.reset();
  co_return reply;
}

Task<Status> Invoker::conclude(const Invocation& tried, std::string_view reason,
                               std::uint64_t sent) {
  if (!tried.serving) {
    parts_.metrics.refused(reason);
    co_return Status{};
  }
  Status written = co_await parts_.ledger.commit(record_of(tried, reason, sent));
  tell(tried, written ? reason : written.error().reason);
  co_return written;
}

InvocationRecord Invoker::account(const Invocation& tried, std::string_view reason,
                                  std::uint64_t sent) {
  tell(tried, reason);
  return record_of(tried, reason, sent);
}

void Invoker::tell(const Invocation& tried, std::string_view outcome) {
  parts_.metrics.prediction(tried.serving->function, tried.serving->version, outcome, tried.tier(),
                            tried.timing());
  if (tried.first_chunk) {
    parts_.metrics.first_chunk(tried.serving->function, tried.serving->version, *tried.first_chunk);
  }
  count(tried, outcome);
  parts_.tracer.end(tried, outcome, parts_.loop.now() - tried.begun);
}

void Invoker::count(const Invocation& tried, std::string_view reason) {
  if (!parts_.catalog.still_has(*tried.serving)) return;  // nothing would forget it
  const Timing timing = tried.timing();
  InvocationTimes times{
      .whole = parts_.loop.now() - tried.begun, .decode = {}, .encode = {}, .timing = timing};
  times.decode = tried.decoded - tried.begun;
  times.encode = times.whole - times.decode - timing.queue - timing.start - timing.run;
  times.missed_cache = tried.cache == Invocation::Cache::Miss;
  if (tried.outcome) {
    times.batch_rows = tried.outcome->batch_rows;
    times.batch_run = tried.outcome->batch_run;
  }
  if (tried.cache == Invocation::Cache::Hit) {
    times.ran = InvocationTimes::Ran::FromCache;
  } else if (tried.outcome && !tried.outcome->leads) {
    times.ran = InvocationTimes::Ran::Beside;
  }
  parts_.statistics.add(tried.serving->function, tried.serving->version, tried.accepted, tried.rows,
                        reason.empty() ? Statistics::Ended::Well : Statistics::Ended::Badly, times);
}

void Invoker::answered(Invocation& tried, std::string_view reason) {
  if (!tried.copy || !reason.empty()) return;
  parts_.shadows.offer(*std::move(tried.copy), tried.request_id,
                       tried.serving->manifest->options.timeout);
}

}  // namespace mayfly
