#include "runner/publish_child.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "base/fd.h"
#include "core/reason.h"
#include "sandbox/jail.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxOutput = 4 * 1024 * 1024;  // of one child in all
// The first character of a line says what it is.
constexpr char kLine = '+';
constexpr char kError = '-';

std::string one_line(std::string_view text) {
  std::string line(text.substr(0, kMaxChildLine));
  std::ranges::replace(line, '\n', ' ');
  return line;
}

// A handler that the parent, or a test's framework, had would speak of a crash of its own.
void crash_as_born() {
  for (const int signal : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGINT, SIGSEGV, SIGSYS, SIGTERM}) {
    ::signal(signal, SIG_DFL);
  }
}

[[noreturn]] void be_child(int pipe, const std::function<Status(const ChildSay&)>& work) {
  crash_as_born();
  const auto send = [pipe](char kind, std::string_view text) {
    const std::string line = kind + one_line(text) + '\n';
    if (!write_all(pipe, line)) ::_exit(3);
  };
  Status done;
  try {
    done = work([&](std::string_view line) { send(kLine, line); });
  } catch (const std::exception& e) {  // bad_alloc, before the kernel would kill
    done = refuse(reason::kPublishFailed, fmt::format("ran out of memory ({})", e.what()));
  }
  if (!done) {
    const Error& error = done.error();
    send(kError, fmt::format("{}\t{}", error.reason.empty() ? reason::kPublishFailed : error.reason,
                             error.message));
  }
  ::_exit(0);
}

// The child, killed and reaped on every way out.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    (void)wait();
  }
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

Status how_it_ended(int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status)) {
    return refuse(reason::kPublishFailed, fmt::format("exited with {}", WEXITSTATUS(status)));
  }
  const int signal = WTERMSIG(status);
  if (signal == SIGKILL) {
    return refuse(reason::kPublishFailed,
                  "was killed, most likely because it ran out of memory (publish_memory)");
  }
  const char* name = ::sigabbrev_np(signal);
  return refuse(reason::kPublishFailed,
                fmt::format("crashed (SIG{})", name == nullptr ? "?" : name));
}

class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}

  // The next line; nullopt at the end.
  Result<std::optional<std::string>> next(Duration limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (true) {
      const std::size_t end = buffer_.find('\n');
      if (end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      const auto left = deadline - std::chrono::steady_clock::now();
      TRY(wait_readable(left, limit));
      if (!TRY(fill())) return std::nullopt;
    }
  }

 private:
  Status wait_readable(Duration left, Duration limit) const {
    pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::clamp<long>(wait, 0, 3'600'000)));
    if (ready < 0 && errno != EINTR) return fail_errno("poll");
    if (ready == 0) {
      return refuse(reason::kPublishFailed,
                    fmt::format("did not end within {} s",
                                std::chrono::ceil<std::chrono::seconds>(limit).count()));
    }
    return {};
  }

  Result<bool> fill() {
    char chunk[16 * 1024];
    const ssize_t got = ::read(fd_, chunk, sizeof chunk);
    if (got < 0) {
      if (errno == EINTR) return true;
      return fail_errno("read from a child");
    }
    total_ += static_cast<std::size_t>(got);
    if (total_ > kMaxOutput) return refuse(reason::kPublishFailed, "told more than it should");
    buffer_.append(chunk, static_cast<std::size_t>(got));
    return got > 0;
  }

  int fd_;
  std::string buffer_;
  std::size_t total_ = 0;
};

// "slug\tmessage" of a child that reported its own failure.
Error error_of(std::string_view line) {
  const std::size_t tab = std::min(line.find('\t'), line.size());
  const ReasonEntry* entry = find_reason(line.substr(0, tab));
  std::string message(line.substr(std::min(tab + 1, line.size())));
  if (entry == nullptr) return {Code::Internal, std::move(message), reason::kPublishFailed};
  return {entry->code, std::move(message), entry->slug};
}

Result<pid_t> make_child(ChildLimits::Birth birth) {
  if (birth == ChildLimits::Birth::Clone) return fork_worker();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  return pid;
}

}  // namespace

Result<std::vector<std::string>> run_in_child(const ChildLimits& limits,
                                              const std::function<Status(const ChildSay&)>& work) {
  Pipe pipe = TRY(make_pipe());
  const pid_t pid = TRY(make_child(limits.birth));
  if (pid == 0) {
    pipe.read_end.reset();
    be_child(pipe.write_end.get(), work);
  }
  Child child(pid);
  pipe.write_end.reset();
  LineReader reader(pipe.read_end.get());
  std::vector<std::string> lines;
  std::optional<Error> error;
  Duration limit = limits.first;
  while (auto line = TRY(reader.next(limit))) {
    if (line->starts_with(kError)) {
      error = error_of(std::string_view(*line).substr(1));
    } else {
      lines.push_back(line->substr(1));
    }
    limit = limits.next;
  }
  TRY(how_it_ended(child.wait()));
  if (error) return std::unexpected(*std::move(error));
  return lines;
}

}  // namespace mayfly
