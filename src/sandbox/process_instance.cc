#include "sandbox/process_instance.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "core/reason.h"
#include "core/units.h"
#include "sandbox/process_handle.h"

namespace mayfly {
namespace {

// A process that has ended is reported by jail init as soon as that gets a processor. One that a
// hostile template gave a false number is not: its end counts without the details.
constexpr Duration kReportWait = std::chrono::seconds(2);

// A template tells of a fork at once, if it can be trusted. One that was told to end an instance it
// keeps to itself loses its jail, as nothing less ends that process.
constexpr Duration kForkWait = std::chrono::seconds(3);

// The least that a call region has: a failure fits it, whatever it says.
constexpr std::uint64_t kCallRoom = 64 * 1024;
static_assert(kCallRoom > 3 * kMaxCallText);

// A reply whose slots or outputs lie in memory of its own.
struct ReplyMemory {
  RequestMemory request;
  std::shared_ptr<Region> room;
};

// Outputs that lie in the instance's own region, at most 256 KiB, are copied out, so that the
// region is free for the next request at once. A fresh region instead costs a memfd, two mappings
// and their page faults: a third of a hot request.
Reply copied_out(std::vector<OutputView> outputs) {
  const auto aligned = [](std::size_t size) {
    return (size + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  };
  std::size_t total = 0;
  for (const OutputView& output : outputs) total += aligned(output.bytes.size());
  auto memory = std::make_shared_for_overwrite<std::byte[]>(total);
  std::size_t begin = 0;
  for (OutputView& output : outputs) {
    const std::span<std::byte> place(memory.get() + begin, output.bytes.size());
    std::ranges::copy(output.bytes, place.begin());
    output.bytes = place;
    begin += aligned(place.size());
  }
  return {.outputs = std::move(outputs), .memory = std::move(memory)};
}

}  // namespace

InstanceProcess::InstanceProcess(Loop& loop, JailProcess& jail, Making making,
                                 InstanceEvents events, std::function<void()> on_gone)
    : loop_(loop),
      jail_(jail),
      making_(std::move(making)),
      events_(std::move(events)),
      on_gone_(std::move(on_gone)),
      report_wait_(loop, [this] { finish(); }),
      fork_wait_(loop, [this] { jail_.kill(); }),
      ring_(loop, [this] { ring(); }) {}

InstanceProcess::~InstanceProcess() {
  doorbell_watch_.reset();
  pidfd_watch_.reset();
}

// ---- Requests and their replies -----------------------------------------------------------------

void InstanceProcess::run(RequestMemory request) {
  CHECK(!gone_ && (burst_.empty() || may_join(request)));
  ring_.request();
  paused_ = closing_ = calling_ = false;
  burst_.emplace_back(std::move(request));
}

bool InstanceProcess::may_join(const RequestMemory& request) const {
  return !rung_ && !killed_ && !burst_.empty() && burst_.size() < kLanes &&
         burst_.front().request.fits_lane() && request.fits_lane();
}

// Hands the burst over.
void InstanceProcess::ring() {
  if (burst_.empty() || gone_) return;
  rung_ = true;
  DoorbellMessage message{.kind = DoorbellKind::Run,
                          .sequence = ++sequence_,
                          .lanes = static_cast<std::uint32_t>(burst_.size())};
  int descriptor = -1;
  const RequestSpan own = making_.own->bytes();
  for (std::size_t i = 0; i < burst_.size(); ++i) {
    Held& held = burst_[i];
    held.memory = burst_.size() == 1 ? own : lane(own, i);
    if (!held.request.inlined()) held.memory = held.request.region().bytes();
    held.request.place(held.memory);
  }
  if (!burst_.front().request.inlined()) {
    const Region& once = burst_.front().request.region();
    message.use = RegionUse::Once;
    message.bytes = once.size();
    descriptor = once.fd();
  } else if (!std::exchange(own_sent_, true)) {
    message.use = RegionUse::Own;
    message.bytes = making_.own->size();
    descriptor = making_.own->fd();
  }
  // When it cannot be sent the instance is gone, and its exit is on the way.
  std::ignore = send_message(making_.doorbell.get(), message, descriptor);
  if (closing_) tell(DoorbellKind::Close);
}

void InstanceProcess::tell(DoorbellKind kind) {
  std::ignore =
      send_message(making_.doorbell.get(), DoorbellMessage{.kind = kind, .sequence = sequence_});
}

void InstanceProcess::go_on() {
  if (!std::exchange(paused_, false) || closing_ || gone_) return;
  tell(DoorbellKind::GoOn);
}

void InstanceProcess::close_stream() {
  if (!streams() || gone_ || std::exchange(closing_, true)) return;
  if (!rung_) return;
  paused_ = false;  // it goes on, to its end
  tell(DoorbellKind::Close);
}

Replies InstanceProcess::collect() {
  Replies replies;
  if (streams()) return replies;  // a chunk is no reply
  while (host_ != 0 && rung_ && answered_ < burst_.size() && has_reply(burst_[answered_].memory)) {
    replies.push_back(reply_of(burst_[answered_++]));
  }
  return replies;
}

std::vector<RequestMemory> InstanceProcess::take_back() {
  const std::size_t kept = answered_ + (violated_ ? 0 : 1);
  std::vector<RequestMemory> back;
  while (burst_.size() > kept && (!rung_ || claim(burst_.back().memory, Claim::TakenBack))) {
    back.push_back(std::move(burst_.back().request));
    burst_.pop_back();
  }
  std::ranges::reverse(back);
  return back;
}

void InstanceProcess::handle_doorbell() {
  auto received = receive_message(making_.doorbell.get());
  if (received && !*received) return;
  if (received) return handle_message(std::move(**received));
  if (received.error().code == Code::DataLoss) return violate("a malformed message");
  // Hung up. The pidfd says when the process is gone; one that only closed its doorbell is of no
  // use.
  doorbell_watch_.reset();
  kill();
}

void InstanceProcess::handle_message(ReceivedMessage received) {
  // What rings is what is metered: the kernel vouches for the sender's number.
  if (received.pid != host_) return violate("a message of another process");
  const DoorbellMessage& message = received.message;
  if (message.kind == DoorbellKind::Started && !started_) {
    started_ = true;
    if (!abandoned_ && events_.on_started) events_.on_started();
    return;
  }
  if (abandoned_) return;
  const bool current = started_ && rung_ && message.sequence == sequence_;
  if (current && calling_) return violate("a message while it waits for an answer");
  if (current && message.kind == DoorbellKind::Done) return handle_done();
  if (current && message.kind == DoorbellKind::NeedOutputRegion) return handle_need(message);
  if (!current || paused_) return violate("a message that nobody waits for");
  handle_midway(message);
}

// Of a request that goes on.
void InstanceProcess::handle_midway(const DoorbellMessage& message) {
  if (message.kind == DoorbellKind::Chunk && streams()) return handle_chunk();
  const bool may_call = burst_.size() == 1;
  if (may_call && message.kind == DoorbellKind::NeedCallRegion) return handle_need_call(message);
  if (may_call && message.kind == DoorbellKind::Call && call_region_) return handle_call();
  violate("a message that nobody waits for");
}

Result<std::shared_ptr<Region>> InstanceProcess::make_room(std::uint64_t bytes) const {
  if (bytes > making_.max_reply.count) {
    return refuse(reason::kTooLarge,
                  fmt::format("the reply needs {}; the limit is {} (limits.max_reply)",
                              to_string(Bytes{bytes}), to_string(making_.max_reply)));
  }
  auto region = Region::create(bytes);
  if (!region) return std::unexpected(std::move(region).error().in("memory for the reply"));
  return std::make_shared<Region>(*std::move(region));
}

void InstanceProcess::handle_need(const DoorbellMessage& message) {
  if (message.lane < answered_ || message.lane >= burst_.size())
    return violate("a message about no request of its");
  Held& held = burst_[message.lane];
  if (held.room || held.refused) return violate("a message that nobody waits for");
  DoorbellMessage answer{.kind = DoorbellKind::OutputRegion, .sequence = sequence_};
  if (auto room = make_room(message.bytes)) {
    held.room = *std::move(room);
    answer.bytes = held.room->size();
  } else {
    held.refused = std::move(room).error();
  }
  std::ignore = send_message(making_.doorbell.get(), answer, held.room ? held.room->fd() : -1);
}

void InstanceProcess::handle_chunk() {
  paused_ = !closing_;
  Held& held = burst_.front();
  // Told to close it goes on at once, and writes its end where the chunk was.
  if (closing_) return held.room.reset();
  auto chunk = chunk_of(held);
  held.room.reset();
  if (!chunk) return spoil(std::unexpected(std::move(chunk).error()));
  if (events_.on_chunk) events_.on_chunk(*std::move(chunk));
}

// The memory of the request is the next chunk's, so that this one is copied out of it.
Result<Reply> InstanceProcess::chunk_of(Held& held) const {
  const RequestSpan memory = held.room ? held.room->bytes() : held.memory;
  auto outputs = read_reply(held.memory, memory, held.request.layout(), *making_.signature);
  if (!outputs && outputs.error().reason == reason::kBadReply)
    return std::unexpected(std::move(outputs).error());
  if (!outputs) return refuse(reason::kBadReply, "the instance rang for a chunk without one");
  if (!held.room) return copied_out(*std::move(outputs));
  return Reply{.outputs = *std::move(outputs), .memory = held.room};
}

void InstanceProcess::handle_need_call(const DoorbellMessage& message) {
  DoorbellMessage answer{.kind = DoorbellKind::CallRegion, .sequence = sequence_};
  // Each is at least twice the one before: there are few of them, whatever it asks for.
  const std::uint64_t had = call_region_ ? call_region_->size() : 0;
  if (call_region_ && message.bytes <= had) return violate("a message that nobody waits for");
  const std::uint64_t twice = std::min<std::uint64_t>(2 * had, making_.max_reply.count);
  if (auto room = make_room(std::max({message.bytes, twice, std::uint64_t{kCallRoom}}))) {
    call_region_ = *std::move(room);
    answer.bytes = call_region_->size();
    std::ignore = send_message(making_.doorbell.get(), answer, call_region_->fd());
  } else {
    std::ignore = send_message(making_.doorbell.get(), answer);
  }
}

void InstanceProcess::handle_call() {
  auto call = read_call(call_region_->bytes());
  if (!call) return spoil(std::unexpected(std::move(call).error()));
  calling_ = true;
  PlacedCall placed{.message = *std::move(call), .memory = call_region_};
  if (events_.on_call) return events_.on_call(std::move(placed));
  answer({.message = {.kind = CallKind::Failed,
                      .status = 501,
                      .name = std::string(reason::kUnsupported),
                      .text = "nothing is called from here"}});
}

void InstanceProcess::answer(PlacedCall answer) {
  if (gone_ || !std::exchange(calling_, false)) return;
  DoorbellMessage done{.kind = DoorbellKind::CallDone, .sequence = sequence_};
  if (!answer.region && call_bytes(answer.message) > call_region_->size()) {
    auto room = make_room(call_bytes(answer.message));
    if (room) {
      answer.region = *std::move(room);
      write_call(answer.region->bytes(), answer.message);
    } else {
      answer.message = {.kind = CallKind::Failed,
                        .status = static_cast<std::uint32_t>(http_status(room.error())),
                        .name = std::string(room.error().reason),
                        .text = room.error().message};
    }
  }
  if (!answer.region) {
    write_call(call_region_->bytes(), answer.message);
    std::ignore = send_message(making_.doorbell.get(), done);
    return;
  }
  call_region_ = std::move(answer.region);
  done.bytes = call_region_->size();
  std::ignore = send_message(making_.doorbell.get(), done, call_region_->fd());
}

void InstanceProcess::handle_done() {
  call_region_.reset();
  Replies replies;
  replies.reserve(burst_.size() - answered_);
  while (answered_ < burst_.size()) replies.push_back(reply_of(burst_[answered_++]));
  burst_.clear();
  answered_ = 0;
  rung_ = false;
  const auto malformed = [](const Result<Reply>& reply) {
    return !reply && reply.error().reason == reason::kBadReply;
  };
  if (std::ranges::any_of(replies, malformed)) kill();
  if (events_.on_replies) events_.on_replies(std::move(replies));
}

Result<Reply> InstanceProcess::reply_of(Held& held) {
  if (held.refused) return std::unexpected(*std::move(held.refused));
  if (held.request.streams()) {
    if (has_ended(held.memory)) return Reply{};
    TRY(read_reply(held.memory, held.memory, held.request.layout(), *making_.signature));
    return refuse(reason::kBadReply, "the instance ended a stream without saying so");
  }
  const RequestSpan outputs_memory = held.room ? held.room->bytes() : held.memory;
  auto outputs =
      TRY(read_reply(held.memory, outputs_memory, held.request.layout(), *making_.signature));
  if (!held.room && held.request.inlined()) return copied_out(std::move(outputs));
  return Reply{
      .outputs = std::move(outputs),
      .memory = std::make_shared<ReplyMemory>(std::move(held.request), std::move(held.room))};
}

void InstanceProcess::violate(std::string_view what) {
  spoil(refuse(reason::kBadReply, fmt::format("the instance sent {}", what)));
}

void InstanceProcess::spoil(std::unexpected<Error> why) {
  doorbell_watch_.reset();
  violated_ = true;
  kill();
  if (abandoned_ || answered_ == burst_.size()) return;
  // While it waits for an answer nothing that it wrote is its reply.
  Replies replies = calling_ ? Replies() : collect();
  if (answered_ < burst_.size()) {
    replies.push_back(std::move(why));
    ++answered_;
  }
  if (events_.on_replies) events_.on_replies(std::move(replies));
}

// ---- The process --------------------------------------------------------------------------------

void InstanceProcess::handle_forked(pid_t inside, Fd pidfd) {
  if (pidfd_) return;
  inside_ = inside;
  pidfd_ = std::move(pidfd);
  fork_wait_.cancel();
  const auto host = pid_of(pidfd_);
  if (host) {
    host_ = *host;
    doorbell_watch_ = std::make_unique<Watch>(loop_, making_.doorbell.get(), Trigger::Readable,
                                              [this](Ready) { handle_doorbell(); });
  }
  if (!host && host.error().code != Code::NotFound) {
    // Whatever that descriptor is, it cannot be killed: the jail can.
    jail_.kill();
    return;
  }
  pidfd_watch_ = std::make_unique<Watch>(loop_, pidfd_.get(), Trigger::Readable,
                                         [this](Ready) { handle_pidfd(); });
  if (killed_) kill();
}

void InstanceProcess::handle_never_forked() {
  if (!pidfd_) finish();
}

void InstanceProcess::handle_template_gone() {
  // It cannot be killed by itself any more; without its doorbell it ends.
  if (!pidfd_) finish();
}

void InstanceProcess::kill() {
  killed_ = true;
  if (gone_) return;
  if (!pidfd_) {
    if (!fork_wait_.armed()) fork_wait_.arm_in(kForkWait);
    return;
  }
  if (!kill_process(pidfd_)) jail_.kill();
}

Duration InstanceProcess::cpu() const {
  if (host_ != 0 && !gone_) {
    if (const auto spent = cpu_time(host_, pidfd_)) cpu_ = *spent;
  }
  return cpu_;
}

Bytes InstanceProcess::peak_memory() const {
  if (gone_) return peak_;
  std::optional<Bytes> seen;
  if (making_.slot && jail_.groups()) seen = jail_.groups()->peak_memory(*making_.slot);
  if (!seen && host_ != 0) seen = private_memory(host_);
  return peak_ = std::max(peak_, seen.value_or(Bytes{}));
}

void InstanceProcess::abandon() {
  abandoned_ = true;
  burst_.clear();
  call_region_.reset();
  rung_ = false;
  kill();
}

void InstanceProcess::handle_pidfd() {
  pidfd_watch_.reset();
  if (host_ == 0) look_for_start();
  // A last reply may lie in the doorbell: it was given before the end.
  while (doorbell_watch_ && rung_) {
    auto received = receive_message(making_.doorbell.get());
    if (!received || !*received) break;
    handle_message(std::move(**received));
  }
  jail_.read_reports();
  if (exit_) return finish();
  report_wait_.arm_in(kReportWait);
}

// It was gone before its fork was told of, and has no number any more that a reply could be checked
// by. That it had started is still worth knowing: what ended it then was its request.
void InstanceProcess::look_for_start() {
  const auto received = receive_message(making_.doorbell.get());
  if (!received || !*received || (*received)->message.kind != DoorbellKind::Started) return;
  started_ = true;
  if (!abandoned_ && events_.on_started) events_.on_started();
}

void InstanceProcess::handle_report(const JailExit& report) {
  if (report.pid != inside_ || exit_) return;
  exit_ = exit_of(report);
  // Otherwise the pidfd has not been looked at yet: it decides, the report only explains.
  if (report_wait_.armed()) finish();
}

void InstanceProcess::handle_jail_end() { finish(); }

void InstanceProcess::finish() {
  if (gone_) return;
  peak_memory();
  gone_ = true;
  call_region_.reset();
  doorbell_watch_.reset();
  pidfd_watch_.reset();
  report_wait_.cancel();
  fork_wait_.cancel();
  // Nobody told how: then it was killed with its jail.
  Exit exit = exit_.value_or(Exit{.code = 0, .signal = SIGKILL});
  if (making_.slot && jail_.groups()) {
    exit.oom = jail_.groups()->oom_kills(*making_.slot).value_or(0) > 0;
    jail_.groups()->release(*making_.slot);
  }
  if (!abandoned_ && events_.on_exit) events_.on_exit(exit);
  const auto on_gone = std::move(on_gone_);
  on_gone();  // may destroy this
}

}  // namespace mayfly
