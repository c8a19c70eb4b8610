#include "sandbox/process_job.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <tuple>
#include <utility>

#include "core/reason.h"
#include "sandbox/pass_descriptors.h"
#include "sandbox/spawn_protocol.h"

namespace mayfly {
namespace {

// Jail init speaks before the job does: a StartFailed message, where the job sends plain text.
std::optional<std::string_view> start_failure(std::string_view text) {
  SpawnHeader header;
  if (text.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, text.data(), sizeof header);
  if (header.kind != SpawnKind::StartFailed || header.body_bytes != text.size() - sizeof header)
    return std::nullopt;
  return text.substr(sizeof header);
}

}  // namespace

JobJail::JobJail(Loop& loop, JailProcess::Making making, Limits limits, JobEvents events,
                 std::function<void()> on_end)
    : events_(std::move(events)),
      on_end_(std::move(on_end)),
      limits_(limits),
      timer_(loop,
             [this] {
               timed_out_ = true;
               jail_.kill();
             }),
      jail_(loop, std::move(making),
            {.on_control = [this] { return handle_control(); },
             // What it started and left running ends with it.
             .on_process_exit =
                 [this](const JailExit& exit) {
                   if (exit.pid == kWorkerPid) jail_.kill();
                 },
             .on_end = [this](const JailProcess::Ended& ended) { handle_end(ended); },
             .on_failed = [this](Error error) { complaint_ = std::move(error); }}) {}

Status JobJail::start(BlankProcess& blank, std::function<void(std::string_view line)> on_log) {
  TRY(jail_.make(blank, std::move(on_log)));
  timer_.arm_in(limits_.timeout);
  return {};
}

void JobJail::abandon() {
  abandoned_ = true;
  jail_.kill();
}

void JobJail::send(std::string_view text, Fd descriptor) {
  if (jail_.control() < 0) return;
  iovec part{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  const int number = descriptor.get();
  // A job that does not read, or is gone, waits in vain: that is its own affair, and its
  // time-out's.
  std::ignore = send_with_descriptors(jail_.control(), std::span(&part, 1),
                                      std::span(&number, descriptor ? 1 : 0), MSG_DONTWAIT);
}

bool JobJail::handle_control() {
  std::array<char, kMaxJobMessage> text;
  for (int i = 0; i < kControlPerTurn; ++i) {
    if (jail_.control() < 0) return false;
    const ssize_t got = ::recv(jail_.control(), text.data(), text.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (got <= 0) {
      jail_.close_control();
      return false;
    }
    handle_text({text.data(), static_cast<std::size_t>(got)});
  }
  return true;
}

void JobJail::handle_text(std::string_view text) {
  if (const auto failure = start_failure(text)) {
    complaint_ = refuse(reason::kStartFailed, std::string(*failure)).error();
  } else if (++messages_ > limits_.messages) {
    complaint_ = refuse(reason::kPublishFailed,
                        fmt::format("the job sent more than {} messages", limits_.messages))
                     .error();
    jail_.close_control();
    jail_.kill();
  } else if (!abandoned_ && events_.on_progress) {
    events_.on_progress(text);
  }
}

void JobJail::handle_end(const JailProcess::Ended& ended) {
  timer_.cancel();
  if (!abandoned_ && events_.on_end) {
    if (complaint_) {
      events_.on_end(std::unexpected(*std::move(complaint_)));
    } else {
      events_.on_end(JobEnd{.exit = ended.worker,
                            .timed_out = timed_out_,
                            .peak_memory = ended.peak_memory,
                            .cpu = ended.cpu});
    }
  }
  const auto on_end = std::move(on_end_);
  on_end();  // destroys this
}

}  // namespace mayfly
