#include "runner/train/xgboost_workers.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <optional>
#include <tuple>
#include <utility>

namespace mayfly {
namespace {

// To a worker: a Command with so many bytes behind it. From it: a text, when it fails.
enum CommandKind : std::uint32_t { kJoin, kRestore, kStep };
struct Command {
  std::uint32_t kind = 0;
  std::uint64_t bytes = 0;
};
constexpr std::uint64_t kLongestOrder = std::uint64_t{4} << 30;
constexpr std::size_t kLongestComplaint = 4000;
constexpr int kPatienceForComplaints = 5000;  // milliseconds
constexpr int kPatienceForOthers = 200;

Status send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return fail_errno("tell a worker of this training");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

// Fewer only at the end.
Result<std::size_t> receive(int socket, char* to, std::size_t size) {
  std::size_t got = 0;
  while (got < size) {
    const ssize_t some = ::recv(socket, to + got, size - got, 0);
    if (some < 0 && errno == EINTR) continue;
    if (some < 0) return fail_errno("hear the first worker of this training");
    if (some == 0) break;
    got += static_cast<std::size_t>(some);
  }
  return got;
}

Status obey(const WorkerDuties& duties, const Command& command, const std::string& bytes) {
  switch (command.kind) {
    case kJoin:
      return duties.join(bytes);
    case kRestore:
      return duties.restore(bytes);
    case kStep: {
      std::uint32_t round = 0;
      if (bytes.size() != sizeof round) break;
      std::memcpy(&round, bytes.data(), sizeof round);
      return duties.step(round);
    }
    default:
      break;
  }
  return fail(Code::Internal, "a worker was told what it does not know");
}

// Until it is dismissed.
Status serve(int socket, const WorkerDuties& duties) {
  while (true) {
    Command command;
    const std::size_t got = TRY(receive(socket, reinterpret_cast<char*>(&command), sizeof command));
    if (got == 0) return {};
    if (got < sizeof command || command.bytes > kLongestOrder)
      return fail(Code::Internal, "a worker was told half of something");
    std::string bytes(command.bytes, '\0');
    if (TRY(receive(socket, bytes.data(), bytes.size())) < bytes.size())
      return fail(Code::Internal, "a worker was told half of something");
    TRY(obey(duties, command, bytes));
  }
}

int run_worker(int socket, const std::function<WorkerDuties(std::uint32_t)>& duties,
               std::uint32_t rank) {
  try {
    // It complains before it leaves the others, who then complain about that.
    const WorkerDuties mine = duties(rank);
    const Status done = serve(socket, mine);
    if (done) return 0;
    std::ignore = send_all(socket, done.error().message.substr(0, kLongestComplaint));
  } catch (const std::exception& e) {  // of libraries, and of memory that is not there
    std::ignore = send_all(socket, e.what());
  } catch (...) {
    std::ignore = send_all(socket, "an exception of no known kind");
  }
  return 1;
}

std::string text_left(int socket) {
  std::string text(kLongestComplaint, '\0');
  const ssize_t got = ::recv(socket, text.data(), text.size(), MSG_DONTWAIT);
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return text;
}

}  // namespace

Result<XgboostWorkers> XgboostWorkers::fork(
    std::uint32_t count, const std::function<WorkerDuties(std::uint32_t)>& duties) {
  XgboostWorkers all;
  for (std::uint32_t rank = 1; rank < count; ++rank) {
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      return fail_errno("socketpair");
    Worker worker{.pid = -1, .socket = Fd(ends[0])};
    Fd theirs(ends[1]);
    worker.pid = ::fork();
    if (worker.pid < 0) return fail_errno("fork a worker of this training");
    if (worker.pid == 0) {
      // Who ends is seen by the end of its socket: nobody else may hold it.
      worker.socket.reset();
      for (Worker& other : all.workers_) other.socket.reset();
      ::_exit(run_worker(theirs.get(), duties, rank));
    }
    all.workers_.push_back(std::move(worker));
  }
  return all;
}

XgboostWorkers::~XgboostWorkers() {
  dismiss();
  for (const Worker& worker : workers_) {
    while (::waitpid(worker.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

Status XgboostWorkers::tell(std::uint32_t kind, std::string_view bytes) {
  const Command command{.kind = kind, .bytes = bytes.size()};
  const std::string_view head(reinterpret_cast<const char*>(&command), sizeof command);
  for (const Worker& worker : workers_) {
    TRY(send_all(worker.socket.get(), head));
    TRY(send_all(worker.socket.get(), bytes));
  }
  return {};
}

Status XgboostWorkers::join(std::string_view tracker) { return tell(kJoin, tracker); }

Status XgboostWorkers::restore(std::string_view saved) { return tell(kRestore, saved); }

Status XgboostWorkers::step(std::uint32_t round) {
  return tell(kStep, {reinterpret_cast<const char*>(&round), sizeof round});
}

void XgboostWorkers::dismiss() {
  for (const Worker& worker : workers_) {
    if (worker.socket) ::shutdown(worker.socket.get(), SHUT_WR);
  }
}

void XgboostWorkers::kill() {
  for (const Worker& worker : workers_) ::kill(worker.pid, SIGKILL);
}

Error XgboostWorkers::cause_of(Error error) {
  // One that ended makes others fail, but none of them before.
  std::vector<pollfd> open;
  for (const Worker& worker : workers_)
    open.push_back({.fd = worker.socket.get(), .events = POLLIN, .revents = 0});
  int patience = kPatienceForComplaints;
  std::optional<std::string> why;
  while (::poll(open.data(), open.size(), patience) > 0) {
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i].revents == 0) continue;
      const std::string said = text_left(open[i].fd);
      open[i].fd = -1;
      if (why && !said.empty()) continue;
      why = fmt::format("worker {} of {} failed: {}", i + 2, open.size() + 1,
                        said.empty() ? "it was killed" : said);
    }
    patience = kPatienceForOthers;
  }
  return why ? std::move(error).in(*why) : error;
}

}  // namespace mayfly
