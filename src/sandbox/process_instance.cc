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

// A reply whose slots or outputs lie in memory of its own.
struct ReplyMemory {
  std::optional<RequestMemory> request;
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
  auto memory = std::make_shared<std::vector<std::byte>>(total);
  std::size_t begin = 0;
  for (OutputView& output : outputs) {
    const std::span<std::byte> place = std::span(*memory).subspan(begin, output.bytes.size());
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
      report_wait_(loop, [this] { finish(); }) {
  doorbell_watch_ = std::make_unique<Watch>(loop_, making_.doorbell.get(), Trigger::Readable,
                                            [this](Ready) { handle_doorbell(); });
}

InstanceProcess::~InstanceProcess() {
  doorbell_watch_.reset();
  pidfd_watch_.reset();
}

// ---- A request and its reply --------------------------------------------------------------------

void InstanceProcess::run(RequestMemory request) {
  CHECK(!request_ && !gone_);
  request_.emplace(std::move(request));
  DoorbellMessage message{.kind = DoorbellKind::Run, .sequence = ++sequence_};
  int descriptor = -1;
  if (request_->inlined()) {
    slots_ = &request_->place(*making_.own);
    if (!own_sent_) {
      message.use = RegionUse::Own;
      message.bytes = making_.own->size();
      descriptor = making_.own->fd();
      own_sent_ = true;
    }
  } else {
    slots_ = &request_->place(*making_.own);
    message.use = RegionUse::Once;
    message.bytes = slots_->size();
    descriptor = slots_->fd();
  }
  // When it cannot be sent the instance is gone, and its exit is on the way.
  std::ignore = send_message(making_.doorbell.get(), message, descriptor);
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
  ringer_ = received.pid;
  if (host_ != 0 && ringer_ != host_) return violate("a message of another process");
  const DoorbellMessage& message = received.message;
  if (message.kind == DoorbellKind::Started && !started_) {
    started_ = true;
    if (!abandoned_ && events_.on_started) events_.on_started();
    return;
  }
  if (abandoned_) return;
  const bool current = started_ && request_ && message.sequence == sequence_;
  if (current && message.kind == DoorbellKind::Done) return handle_done();
  if (current && message.kind == DoorbellKind::NeedOutputRegion && !room_)
    return handle_room(message.bytes);
  violate("a message that nobody waits for");
}

void InstanceProcess::handle_room(std::uint64_t bytes) {
  if (bytes > making_.max_reply.count) {
    return answer(refuse(reason::kTooLarge,
                         fmt::format("the reply needs {}; the limit is {} (setting max_reply)",
                                     to_string(Bytes{bytes}), to_string(making_.max_reply))));
  }
  auto region = Region::create(bytes);
  if (!region) return answer(std::unexpected(std::move(region).error().in("memory for the reply")));
  room_ = std::make_shared<Region>(*std::move(region));
  const DoorbellMessage message{
      .kind = DoorbellKind::OutputRegion, .sequence = sequence_, .bytes = room_->size()};
  std::ignore = send_message(making_.doorbell.get(), message, room_->fd());
}

void InstanceProcess::handle_done() {
  auto outputs =
      read_reply(*slots_, room_ ? *room_ : *slots_, request_->layout(), *making_.signature);
  if (!outputs) {
    const bool malformed = outputs.error().reason == reason::kBadReply;
    answer(std::unexpected(std::move(outputs).error()));
    if (malformed) kill();
    return;
  }
  if (!room_ && request_->inlined()) return answer(copied_out(*std::move(outputs)));
  auto memory = std::make_shared<ReplyMemory>(ReplyMemory{.request = {}, .room = std::move(room_)});
  if (!request_->inlined()) memory->request = std::move(request_);
  answer(Reply{.outputs = *std::move(outputs), .memory = std::move(memory)});
}

void InstanceProcess::answer(Result<Reply> reply) {
  request_.reset();
  room_.reset();
  slots_ = nullptr;
  if (!abandoned_ && events_.on_reply) events_.on_reply(std::move(reply));
}

void InstanceProcess::violate(std::string_view what) {
  doorbell_watch_.reset();
  const bool waited_for = request_.has_value();
  kill();
  if (waited_for) answer(refuse(reason::kBadReply, fmt::format("the instance sent {}", what)));
}

// ---- The process --------------------------------------------------------------------------------

void InstanceProcess::handle_forked(pid_t inside, Fd pidfd) {
  if (pidfd_) return;
  inside_ = inside;
  pidfd_ = std::move(pidfd);
  const auto host = pid_of(pidfd_);
  if (host) host_ = *host;
  if (host && ringer_ != 0 && ringer_ != host_) violate("a message of another process");
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
  if (!pidfd_ || gone_) return;
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
  request_.reset();
  kill();
}

void InstanceProcess::handle_pidfd() {
  pidfd_watch_.reset();
  // A last reply may lie in the doorbell: it was given before the end.
  while (doorbell_watch_ && request_) {
    auto received = receive_message(making_.doorbell.get());
    if (!received || !*received) break;
    handle_message(std::move(**received));
  }
  jail_.read_reports();
  if (exit_) return finish();
  report_wait_.arm_in(kReportWait);
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
  doorbell_watch_.reset();
  pidfd_watch_.reset();
  report_wait_.cancel();
  request_.reset();
  Exit exit = exit_.value_or(Exit{});
  if (making_.slot && jail_.groups()) {
    exit.oom = jail_.groups()->oom_kills(*making_.slot).value_or(0) > 0;
    jail_.groups()->release(*making_.slot);
  }
  if (!abandoned_ && events_.on_exit) events_.on_exit(exit);
  const auto on_gone = std::move(on_gone_);
  on_gone();  // may destroy this
}

}  // namespace mayfly
