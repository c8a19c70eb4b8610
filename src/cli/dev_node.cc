#include "cli/dev_node.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::chrono::milliseconds kLook(20);

// In the child; does not return.
[[noreturn]] void become_node(const std::string& data, const std::string& listen, pid_t parent) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setpgid(0, 0);  // Ctrl-C is its parent's to hear
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  std::array<std::string, 12> words = {"mayfly",        "serve", "--listen",        listen,
                                       "--grpc-listen", "off",   "--data",          data,
                                       "--log-level",   "warn",  "--drain-timeout", "1s"};
  std::array<char*, 13> arguments{};
  for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
  ::execv("/proc/self/exe", arguments.data());
  ::_exit(127);
}

}  // namespace

Result<DevNode> DevNode::start(const Path& data, const std::string& listen) {
  TRY(make_directories(data));
  ::unlink((data / "run" / "url").c_str());
  const pid_t parent = ::getpid();
  const std::string& folder = data.native();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) become_node(folder, listen, parent);
  DevNode node(pid);
  TRY(node.wait_until_ready(data));
  return node;
}

DevNode::DevNode(DevNode&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), url_(std::move(other.url_)) {}

DevNode::~DevNode() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
}

bool DevNode::ended() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

Status DevNode::wait_until_ready(const Path& data) {
  while (!ended()) {
    std::this_thread::sleep_for(kLook);
    const auto told = read_file(data / "run" / "url");
    if (!told || !told->ends_with('\n')) continue;
    url_ = told->substr(0, told->size() - 1);
    if (NodeClient(url_).get_raw("/v2/health/ready")) return {};
  }
  return refuse(reason::kStartFailed, "the node did not start; what it said stands above");
}

}  // namespace mayfly
