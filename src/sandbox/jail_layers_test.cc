// For each layer a probe that the full jail contains and the jail without that layer does not.
// Where other layers would contain the same probe they are taken away in both, so that it is this
// one that is seen to work.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ipc.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <doctest/doctest.h>
#include "base/file.h"
#include "sandbox/cgroup.h"
#include "sandbox/landlock.h"
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
namespace {

constexpr const char* kContained = "contained";
constexpr const char* kEscaped = "escaped";

const char* verdict(bool escaped) { return escaped ? kEscaped : kContained; }

std::string outcome(const JailRun& run) {
  return run.error.empty() ? run.report : fmt::format("no jail: {}", run.error);
}

struct LayerCase {
  Layer layer;
  std::initializer_list<Layer> masking;
  RunAs as = RunAs::Self;
};

void check_layer(const LayerCase& c, const Probe& probe,
                 JailPlan plan = full_plan(Profile::Template)) {
  CAPTURE(to_string(c.layer));
  CAPTURE(c.as == RunAs::OrdinaryUser);
  const JailRunOptions options{.as = c.as};
  const JailPlan unmasked = JailPlanSurgeon::without(plan, c.masking);
  const JailPlan lacking = JailPlanSurgeon::without(unmasked, {c.layer});
  CHECK(outcome(run_in_jail(plan, probe, options)) == kContained);
  CHECK(outcome(run_in_jail(unmasked, probe, options)) == kContained);
  CHECK(outcome(run_in_jail(lacking, probe, options)) == kEscaped);
}

// As whoever runs the tests, and as an ordinary user when that is root.
void check_layer_as_anyone(LayerCase c, const Probe& probe) {
  check_layer(c, probe);
  if (!running_as_root()) return;
  c.as = RunAs::OrdinaryUser;
  check_layer(c, probe);
}

std::string open_passwd() {
  const int fd = ::open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  return verdict(fd >= 0);
}

TEST_CASE("user namespace: root's server gives a jail an id that owns nothing") {
  if (!running_as_root()) {
    MESSAGE("skipped: an ordinary user's jail has that user's id outside");
    return;
  }
  const auto folder = TempDir::create();
  REQUIRE(folder.has_value());
  REQUIRE(::chmod(folder->path().c_str(), 0755) == 0);
  const std::string secret = folder->path() / "secret";
  REQUIRE(write_file_durably(secret, "root's").has_value());
  REQUIRE(::chmod(secret.c_str(), 0600) == 0);
  check_layer({Layer::UserNs, {Layer::MountNs, Layer::Landlock}}, [secret] {
    return std::string(verdict(::open(secret.c_str(), O_RDONLY | O_CLOEXEC) >= 0));
  });
}

TEST_CASE("pid namespace: other processes cannot be named") {
  const pid_t outside = ::getpid();
  check_layer_as_anyone({Layer::PidNs, {Layer::Seccomp}}, [outside] {
    const bool seen = ::kill(outside, 0) == 0 || errno != ESRCH;
    // The filter's EPERM says nothing about who exists.
    const bool filtered = seen && ::kill(1 << 30, 0) != 0 && errno == EPERM;
    return std::string(verdict(seen && !filtered));
  });
}

TEST_CASE("mount namespace: there is no path to the host's files") {
  check_layer_as_anyone({Layer::MountNs, {Layer::Landlock}}, open_passwd);
}

TEST_CASE("landlock: the host's files stay closed even where a path leads to them") {
  if (landlock_version() == 0) {
    MESSAGE("skipped: this kernel has no Landlock");
    return;
  }
  check_layer_as_anyone({Layer::Landlock, {Layer::MountNs}}, open_passwd);
}

TEST_CASE("network namespace: the host's loopback cannot be reached") {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(::bind(listener.get(), generic, size) == 0);
  REQUIRE(::listen(listener.get(), 16) == 0);
  REQUIRE(::getsockname(listener.get(), generic, &size) == 0);
  check_layer_as_anyone({Layer::NetNs, {Layer::Seccomp, Layer::Landlock}}, [address] {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    const auto* to = reinterpret_cast<const sockaddr*>(&address);
    return std::string(verdict(fd >= 0 && ::connect(fd, to, sizeof address) == 0));
  });
}

TEST_CASE("ipc namespace: the host's shared memory is not found") {
  const key_t key = 0x6d61'0000 + (::getpid() & 0xFFFF);
  const int id = ::shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0666);
  REQUIRE(id >= 0);
  check_layer_as_anyone({Layer::IpcNs, {Layer::Seccomp}},
                        [key] { return std::string(verdict(::shmget(key, 0, 0) >= 0)); });
  ::shmctl(id, IPC_RMID, nullptr);
}

TEST_CASE("uts namespace: the host's name is not told") {
  check_layer_as_anyone({Layer::UtsNs, {Layer::Seccomp}}, [] {
    utsname name{};
    return std::string(verdict(::uname(&name) == 0 && std::string_view(name.nodename) != "mayfly"));
  });
}

// A set-user-id copy of id(1) says 0 where the bit works.
std::string run_set_user_id(const std::string& program) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return kContained;
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::execl(program.c_str(), "id", "-u", nullptr);
    ::_exit(1);
  }
  ::close(ends[1]);
  char first = 0;
  const bool answered = ::read(ends[0], &first, 1) == 1;
  ::waitpid(child, nullptr, 0);
  return verdict(answered && first == '0');
}

TEST_CASE("no_new_privs: a set-user-id program gives nothing") {
  const auto folder = TempDir::create();
  REQUIRE(folder.has_value());
  struct statvfs mount{};
  REQUIRE(::statvfs(folder->path().c_str(), &mount) == 0);
  if (!running_as_root() || (mount.f_flag & ST_NOSUID) != 0) {
    MESSAGE(
        "skipped: it takes root, and a temporary folder without nosuid, to make such a program");
    return;
  }
  REQUIRE(::chmod(folder->path().c_str(), 0755) == 0);
  const std::string program = folder->path() / "id";
  std::filesystem::copy_file("/usr/bin/id", program);
  REQUIRE(::chmod(program.c_str(), 04755) == 0);
  // A user namespace without root's id ignores the bit, too, and an ordinary user needs one for the
  // others: so without any.
  const LayerCase c{Layer::NoNewPrivs,
                    {Layer::UserNs, Layer::PidNs, Layer::MountNs, Layer::NetNs, Layer::IpcNs,
                     Layer::UtsNs, Layer::Seccomp, Layer::Landlock},
                    RunAs::OrdinaryUser};
  check_layer(c, [program] { return run_set_user_id(program); });
}

TEST_CASE("undumpable: a process cannot attach to another of its own id") {
  // Root's jail changes ids, which makes it undumpable already; an ordinary user's does not.
  const LayerCase c{.layer = Layer::Undumpable,
                    .masking = {Layer::Seccomp},
                    .as = running_as_root() ? RunAs::OrdinaryUser : RunAs::Self};
  check_layer(
      c,
      [] {
        const pid_t victim = ::fork();
        if (victim == 0) {
          while (true) ::pause();
        }
        const bool attached = ::ptrace(PTRACE_SEIZE, victim, nullptr, nullptr) == 0;
        ::kill(victim, SIGKILL);
        return std::string(verdict(attached));
      },
      full_plan(Profile::Publish));
}

TEST_CASE("seccomp: no socket is made, not even in an empty network") {
  check_layer_as_anyone({Layer::Seccomp, {}}, [] {
    return std::string(verdict(::socket(AF_INET, SOCK_STREAM, 0) >= 0));
  });
}

TEST_CASE("rlimits: descriptors run out early") {
  check_layer_as_anyone({Layer::Rlimits, {Layer::Seccomp}}, [] {
    int made = 0;
    while (made < 200 && ::dup(STDERR_FILENO) >= 0) ++made;
    return std::string(verdict(made == 200));
  });
}

TEST_CASE("capabilities: what the namespaces' owner could change is out of reach") {
  check_layer_as_anyone({Layer::Capabilities, {Layer::Seccomp}},
                        [] { return std::string(verdict(::sethostname("mine", 4) == 0)); });
}

TEST_CASE("cgroup: a fork bomb ends at the version's limit") {
  RealCgroupFs fs;
  const auto support = detect_cgroups(fs);
  REQUIRE(support.has_value());
  if (!support->limits_processes()) {
    MESSAGE("skipped: ", support->describe());
    return;
  }
  auto node = NodeCgroups::open(fs, *support, fmt::format("layer{}", ::getpid()));
  REQUIRE(node.has_value());
  auto version = node->make_version("v", {.cpus = 0, .processes = 16, .instance_memory = {}});
  REQUIRE(version.has_value());
  JailPlan plan = full_plan(Profile::Template);
  plan.cgroups = version->template_joins();
  const Probe bomb = [] {
    constexpr int kMany = 64;  // fewer than RLIMIT_NPROC
    int forked = 0;
    // The dead count until they are reaped, which this process never does.
    while (forked < kMany) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      if (child < 0) break;
      ++forked;
    }
    return std::string(verdict(forked == kMany));
  };
  check_layer({Layer::Cgroup, {}}, bomb, plan);
}

}  // namespace
}  // namespace mayfly
