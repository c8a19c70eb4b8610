// What the full jail looks like from inside.
#include "sandbox/jail.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include <doctest/doctest.h>
#include "base/file.h"
#include "sandbox/caps.h"
#include "sandbox/cgroup.h"
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
namespace {

std::vector<RunAs> everyone() {
  if (running_as_root()) return {RunAs::Self, RunAs::OrdinaryUser};
  return {RunAs::Self};
}

// A folder that the jail's id may read: mounting passes over the folders above it.
class Artifact {
 public:
  Artifact() : folder_(TempDir::create()) {
    REQUIRE(folder_.has_value());
    REQUIRE(::chmod(path().c_str(), 0755) == 0);
    REQUIRE(write_file_durably(path() + "/model", "weights").has_value());
    REQUIRE(::chmod((path() + "/model").c_str(), 0644) == 0);
  }
  std::string path() const { return folder_->path(); }

 private:
  Result<TempDir> folder_;
};

JailPlan plan_with(const Artifact& artifact) {
  JailPlan plan = full_plan(Profile::Template);
  plan.mounts = {{.source = artifact.path(), .target = "/artifact"}};
  return plan;
}

// "name:errno " of a call that should have failed with one of `expected`, nothing if it did.
std::string unexpected(std::string_view name, long result, std::initializer_list<int> expected) {
  const int got = result < 0 ? errno : 0;
  for (const int error : expected) {
    if (got == error) return "";
  }
  return fmt::format("{}:{} ", name, got);
}

constexpr std::array kJails = {
    Profile::Template,    Profile::Publish,        Profile::PythonTemplate, Profile::PythonPublish,
    Profile::PythonBuild, Profile::PythonTraining, Profile::TrainingGroup};
// With the template that each is cloned from.
constexpr std::array<std::pair<Profile, Profile>, 3> kInstances = {
    {{Profile::Instance, Profile::Template},
     {Profile::ThreadedInstance, Profile::Template},
     {Profile::PythonInstance, Profile::PythonTemplate}}};

TEST_CASE("templates, instances and publish jobs run, as root and as an ordinary user") {
  const Probe hello = [] { return std::string("hello"); };
  for (const RunAs as : everyone()) {
    for (const Profile profile : kJails) {
      const JailRun run = run_in_jail(full_plan(profile), hello, {.as = as});
      CHECK(run.error.empty());
      CHECK(run.report == "hello");
    }
    for (const auto& [profile, owner] : kInstances) {
      const JailRunOptions options{.as = as, .instance = profile};
      const JailRun run = run_in_jail(full_plan(owner), hello, options);
      CHECK(run.error.empty());
      CHECK(run.report == "hello");
    }
  }
}

std::string try_files() {
  std::string wrong;
  const int model = ::open("/artifact/model", O_RDONLY | O_CLOEXEC);
  std::array<char, 8> text{};
  if (model < 0 || ::read(model, text.data(), text.size()) != 7) wrong += "model unreadable ";
  wrong += unexpected("write", ::open("/artifact/model", O_RDWR), {EROFS, EACCES});
  wrong += unexpected("create", ::open("/artifact/new", O_RDWR | O_CREAT, 0600), {EROFS, EACCES});
  wrong += unexpected("root", ::open("/new", O_RDWR | O_CREAT, 0600), {EROFS, EACCES});
  for (const char* path :
       {"/etc/passwd", "/artifact/../../etc/passwd", "/proc/cpuinfo", "/proc/1/maps", "/proc/sys",
        "/dev/null", "/sys", "/tmp", "/run", "/artifact/../tmp"}) {
    wrong += unexpected(path, ::open(path, O_RDONLY | O_CLOEXEC), {ENOENT, EACCES});
  }
  return wrong;
}

TEST_CASE("a template sees its artifact, cannot write it, and sees nothing else") {
  const Artifact artifact;
  for (const RunAs as : everyone()) {
    const JailRun run = run_in_jail(plan_with(artifact), try_files, {.as = as});
    CHECK(run.error.empty());
    CHECK(run.report.empty());
    // The read-only mount holds without Landlock, too.
    const JailPlan bare = JailPlanSurgeon::without(plan_with(artifact), {Layer::Landlock});
    CHECK(run_in_jail(bare, try_files, {.as = as}).report.empty());
  }
}

// What an interpreter finds: a few devices, files of the jail's own memory that are never code.
std::string try_scratch() {
  std::string wrong;
  wrong += unexpected("null", ::open("/dev/null", O_WRONLY | O_CLOEXEC), {0});
  wrong += unexpected("urandom", ::open("/dev/urandom", O_RDONLY | O_CLOEXEC), {0});
  wrong += unexpected("new device", ::open("/dev/new", O_RDWR | O_CREAT, 0600), {EROFS, EACCES});
  for (const char* path : {"/tmp/file", "/dev/shm/file"}) {
    const int file = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0700);
    if (file < 0 || ::ftruncate(file, 1 << 16) != 0 || ::pwrite(file, "x", 1, 0) != 1)
      wrong += fmt::format("no {} ", path);
    if (::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) != MAP_FAILED)
      wrong += fmt::format("{} is code ", path);
    std::vector<char> more(2 << 20);
    if (::pwrite(file, more.data(), more.size(), 0) == static_cast<ssize_t>(more.size()))
      wrong += fmt::format("{} is not bounded ", path);
  }
  for (const char* path : {"/etc/passwd", "/dev/mem", "/dev/kmsg", "/sys", "/run", "/usr"})
    wrong += unexpected(path, ::open(path, O_RDONLY | O_CLOEXEC), {ENOENT, EACCES});
  return wrong;
}

TEST_CASE("a Python jail has scratch of its own, bounded and never code, and nothing of the host") {
  for (const RunAs as : everyone()) {
    JailPlan plan = full_plan(Profile::PythonTemplate);
    plan.limits.scratch_bytes = 1 << 20;
    plan.limits.file_bytes = 4 << 20;
    const JailRun run = run_in_jail(plan, try_scratch, {.as = as});
    CHECK(run.error.empty());
    CHECK(run.report == "");
  }
}

// What ONNX Runtime needs of /proc, and nothing beyond.
std::string try_proc() {
  std::string wrong;
  const int model = ::open("/artifact/model", O_RDONLY | O_CLOEXEC);
  std::array<char, 64> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(model);
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (std::string_view(target.data(), length < 0 ? 0 : static_cast<std::size_t>(length)) !=
      "/artifact/model") {
    wrong += "own descriptor unresolved ";
  }
  wrong += unexpected("own maps", ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC), {EACCES});
  wrong += unexpected("own memory", ::open("/proc/self/mem", O_RDWR | O_CLOEXEC), {EACCES, EROFS});
  if (::readlink("/proc/1/exe", target.data(), target.size()) >= 0) wrong += "sees jail init ";
  return wrong;
}

TEST_CASE(
    "of /proc a process sees itself alone, and may resolve its descriptors but open nothing") {
  const Artifact artifact;
  for (const RunAs as : everyone()) {
    const JailRun run = run_in_jail(plan_with(artifact), try_proc, {.as = as});
    CHECK(run.error.empty());
    CHECK(run.report == "");
  }
}

TEST_CASE("publishing writes beneath /work and nowhere else") {
  const Artifact source;
  const auto work = TempDir::create();
  REQUIRE(work.has_value());
  for (const RunAs as : everyone()) {
    const bool ordinary = as == RunAs::OrdinaryUser;
    const uid_t owner = ordinary ? kOrdinaryId : IdMapping::for_slot(7).user;
    REQUIRE(::chown(work->path().c_str(), owner, owner) == 0);
    JailPlan plan = full_plan(Profile::Publish);
    plan.mounts = {{.source = source.path(), .target = "/source"},
                   {.source = work->path(), .target = "/work", .access = Access::ReadWrite}};
    const JailRun run =
        run_in_jail(plan,
                    [] {
                      std::string wrong;
                      wrong += unexpected("source", ::open("/source/new", O_RDWR | O_CREAT, 0600),
                                          {EROFS, EACCES});
                      const int fd = ::open("/work/compiled", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
                      if (fd < 0 || ::write(fd, "done", 4) != 4 || ::fsync(fd) != 0)
                        wrong += "work ";
                      if (::rename("/work/compiled", "/work/final") != 0) wrong += "rename ";
                      return wrong;
                    },
                    {.as = as});
    CHECK(run.error.empty());
    CHECK(run.report.empty());
    CHECK(*read_file(work->path() / "final") == "done");
    std::filesystem::remove(work->path() / "final");
  }
}

TEST_CASE("an output bomb ends at the file limit, with an error and not a signal") {
  const auto work = TempDir::create();
  REQUIRE(work.has_value());
  const IdMapping owner = IdMapping::for_slot(7);
  REQUIRE(::chown(work->path().c_str(), owner.user, owner.group) == 0);
  JailPlan plan = full_plan(Profile::Publish);
  plan.mounts = {{.source = work->path(), .target = "/work", .access = Access::ReadWrite}};
  plan.limits.file_bytes = 64 << 10;
  const JailRun run = run_in_jail(plan, [] {
    const int fd = ::open("/work/bomb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    static std::array<char, 16 << 10> block{};
    for (int i = 0; i < 100; ++i) {
      if (::write(fd, block.data(), block.size()) < 0) return unexpected("write", -1, {EFBIG});
    }
    return std::string("not limited");
  });
  CHECK(run.error.empty());
  CHECK(run.report.empty());
  CHECK(run.signal == 0);
  CHECK(*mayfly::file_size(work->path() / "bomb") == 64 << 10);
}

// `connect`: what connect() of no socket is answered.
std::string try_attacks(int connect) {
  std::string wrong;
  const auto refused = [&wrong](std::string_view name, long result) {
    wrong += unexpected(name, result, {EPERM});
  };
  refused("socket", ::syscall(SYS_socket, 1, 1, 0));
  refused("socketpair", ::syscall(SYS_socketpair, AF_INET, SOCK_STREAM, 0, nullptr));
  wrong += unexpected("connect", ::syscall(SYS_connect, -1, nullptr, 0), {connect});
  refused("ptrace", ::syscall(SYS_ptrace, 0, 0, nullptr, nullptr));
  refused("process_vm_readv", ::syscall(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0));
  refused("pidfd_open", ::syscall(SYS_pidfd_open, 1, 0));
  refused("pidfd_getfd", ::syscall(SYS_pidfd_getfd, 0, 0, 0));
  refused("tgkill", ::syscall(SYS_tgkill, 1, 1, SIGKILL));
  refused("tkill", ::syscall(SYS_tkill, 1, SIGKILL));
  refused("io_uring_setup", ::syscall(SYS_io_uring_setup, 1, nullptr));
  refused("bpf", ::syscall(SYS_bpf, 0, nullptr, 0));
  refused("perf_event_open", ::syscall(SYS_perf_event_open, nullptr, 0, 0, 0, 0));
  refused("keyctl", ::syscall(SYS_keyctl, 0, 0, 0, 0, 0));
  refused("add_key", ::syscall(SYS_add_key, nullptr, nullptr, nullptr, 0, 0));
  refused("userfaultfd", ::syscall(SYS_userfaultfd, 0));
  refused("mount", ::syscall(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr));
  refused("umount2", ::syscall(SYS_umount2, "/", 2));
  refused("open_tree", ::syscall(SYS_open_tree, 0, "/", 1));
  refused("pivot_root", ::syscall(SYS_pivot_root, "/", "/"));
  refused("chroot", ::syscall(SYS_chroot, "/"));
  refused("setns", ::syscall(SYS_setns, 0, 0));
  refused("unshare", ::syscall(SYS_unshare, 0x10000000));
  refused("setresuid", ::syscall(SYS_setresuid, 0, 0, 0));
  refused("capset", ::syscall(SYS_capset, nullptr, nullptr));
  // Who may start programs finds none where none is mounted.
  for (const char* program : {"/artifact/model", "/bin/true", "/proc/self/exe"})
    wrong += unexpected(program, ::syscall(SYS_execve, program, nullptr, nullptr),
                        {EPERM, ENOENT, EACCES});
  refused("memfd_create", ::syscall(SYS_memfd_create, "x", 0));
  refused("shmget", ::syscall(SYS_shmget, 1, 4096, 01000));
  refused("ioctl", ::syscall(SYS_ioctl, 0, 0x5412, nullptr));
  refused("personality", ::syscall(SYS_personality, 0x0400000));
  const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  refused("prlimit64", ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &unlimited, nullptr));
  refused("kexec_load", ::syscall(SYS_kexec_load, 0, 0, nullptr, 0));
  return wrong;
}

TEST_CASE("what attacks are made of is refused in every profile") {
  for (const RunAs as : everyone()) {
    for (const Profile profile : kJails) {
      const int connect = has_loopback(profile) ? EBADF : EPERM;
      CHECK(run_in_jail(full_plan(profile), [=] { return try_attacks(connect); }, {.as = as})
                .report == "");
    }
    for (const auto& [profile, owner] : kInstances) {
      const JailRunOptions options{.as = as, .instance = profile};
      CHECK(run_in_jail(full_plan(owner), [] { return try_attacks(EPERM); }, options).report == "");
    }
  }
}

int status_of(const char* program) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::array<char*, 2> arguments = {const_cast<char*>(program), nullptr};
    ::execv(program, arguments.data());
    ::_exit(100 + errno);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

TEST_CASE("programs start from folders that are mounted for it, and not from what a jail wrote") {
  const Artifact data;
  const auto work = TempDir::create();
  REQUIRE(work.has_value());
  std::filesystem::copy_file("/bin/true", data.path() + "/tool");
  REQUIRE(::chmod((data.path() + "/tool").c_str(), 0755) == 0);
  const Probe probe = [] {
    std::string said = fmt::format("{} {}", status_of("/bin/true"), status_of("/artifact/tool"));
    const int from = ::open("/bin/true", O_RDONLY | O_CLOEXEC);
    const int to = ::open("/work/tool", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    std::vector<char> bytes(1 << 20);
    const ssize_t got = ::read(from, bytes.data(), bytes.size());
    if (got <= 0 || ::write(to, bytes.data(), static_cast<std::size_t>(got)) != got)
      said += " not copied";
    ::close(to);
    return said + fmt::format(" {}", status_of("/work/tool"));
  };
  const auto plan_of = [&](Profile profile, Access access) {
    JailPlan plan = full_plan(profile);
    plan.mounts = {{.source = "/bin", .target = "/bin", .access = access},
                   {.source = "/lib", .target = "/lib", .access = access},
                   {.source = data.path(), .target = "/artifact"},
                   {.source = work->path(), .target = "/work", .access = Access::ReadWrite}};
    if (std::filesystem::exists("/lib64"))
      plan.mounts.push_back({.source = "/lib64", .target = "/lib64", .access = access});
    return plan;
  };
  const IdMapping owner = IdMapping::for_slot(7);
  REQUIRE(::chown(work->path().c_str(), owner.user, owner.group) == 0);
  const std::string expected = fmt::format("0 {0} {0}", 100 + EACCES);
  for (const Profile profile : {Profile::PythonBuild, Profile::PythonTraining}) {
    const JailPlan plan = plan_of(profile, Access::Programs);
    CHECK(run_in_jail(plan, probe).report == expected);
    // The mounts hold it without Landlock, too.
    CHECK(run_in_jail(JailPlanSurgeon::without(plan, {Layer::Landlock}), probe).report == expected);
  }
  CHECK_FALSE(validate(plan_of(Profile::PythonPublish, Access::Programs)));
}

sockaddr_in on_loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

int try_connect(std::uint16_t port) {
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = on_loopback(port);
  if (!socket) return -errno;
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0
                                                                                         : -errno;
}

// Its port, 0 where there is none.
std::uint16_t listen_on_loopback(const Fd& socket) {
  sockaddr_in address = on_loopback(0);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  if (::bind(socket.get(), generic, size) != 0 || ::listen(socket.get(), 8) != 0) return 0;
  return ::getsockname(socket.get(), generic, &size) == 0 ? ntohs(address.sin_port) : 0;
}

TEST_CASE("a training group speaks over a loopback of its own, and reaches no other") {
  const Fd outside(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const std::uint16_t port = listen_on_loopback(outside);
  REQUIRE(port != 0);
  for (const RunAs as : everyone()) {
    const JailRun run =
        run_in_jail(full_plan(Profile::TrainingGroup),
                    [port] {
                      const Fd inside(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                      const std::uint16_t own = listen_on_loopback(inside);
                      return fmt::format("{} {} {} {}", own != 0, try_connect(own),
                                         try_connect(port), ::socket(AF_INET6, SOCK_STREAM, 0));
                    },
                    {.as = as});
    CHECK(run.error == "");
    CHECK(run.report == fmt::format("true 0 {} -1", -ECONNREFUSED));
  }
  // Other jobs have no sockets at all.
  const JailRun run = run_in_jail(full_plan(Profile::PythonPublish),
                                  [port] { return fmt::format("{}", try_connect(port)); });
  CHECK(run.report == fmt::format("{}", -EPERM));
}

TEST_CASE("jail init cannot be killed from inside") {
  const JailRun run = run_in_jail(full_plan(Profile::Publish), [] {
    ::kill(1, SIGKILL);
    ::kill(1, SIGSEGV);
    return std::string("alive");
  });
  CHECK(run.report == "alive");
}

TEST_CASE("a process in a jail has the inside id, no group and no capability") {
  const JailPlan plan = JailPlanSurgeon::without(full_plan(Profile::Template), {Layer::Seccomp});
  const JailRun run = run_in_jail(plan, [] {
    const auto capable = holds_capabilities();
    return fmt::format("{} {} {} {} {}", ::getuid(), ::geteuid(), ::getgid(),
                       ::getgroups(0, nullptr), capable && !*capable);
  });
  CHECK(run.report == fmt::format("{0} {0} {0} 0 true", kInsideId));
}

TEST_CASE("an instance holds the descriptors it was told to keep and no other") {
  const JailRunOptions options{.instance = Profile::Instance};
  const JailRun run = run_in_jail(
      full_plan(Profile::Template),
      [] {
        int open = 0;
        for (int fd = 0; fd < 1024; ++fd) open += ::fcntl(fd, F_GETFL) >= 0 ? 1 : 0;
        return fmt::format("{}", open);
      },
      options);
  CHECK(run.report == "1");
}

TEST_CASE("an instance neither opens the artifact nor forks") {
  const Artifact artifact;
  const JailRunOptions options{.instance = Profile::Instance};
  const JailRun run = run_in_jail(
      plan_with(artifact),
      [] {
        return unexpected("open", ::open("/artifact/model", O_RDONLY), {EPERM}) +
               unexpected("fork", ::fork(), {EPERM});
      },
      options);
  CHECK(run.error.empty());
  CHECK(run.report.empty());
}

TEST_CASE("an instance with threads opens the artifact itself") {
  const Artifact artifact;
  const JailRunOptions options{.instance = Profile::ThreadedInstance};
  const JailRun run = run_in_jail(
      plan_with(artifact),
      [] { return fmt::format("{}", ::open("/artifact/model", O_RDONLY) >= 0); }, options);
  CHECK(run.report == "true");
}

TEST_CASE("a memory bomb ends its instance; the neighbour's group is untouched") {
  RealCgroupFs fs;
  const auto support = detect_cgroups(fs);
  REQUIRE(support.has_value());
  if (!support->limits_memory()) {
    MESSAGE("skipped: ", support->describe());
    return;
  }
  auto node = NodeCgroups::open(fs, *support, fmt::format("jail{}", ::getpid()));
  REQUIRE(node.has_value());
  auto version = node->make_version("v", {.cpus = 1, .processes = 32, .instance_memory = mib(48)});
  REQUIRE(version.has_value());
  const auto bomb = version->acquire();
  const auto neighbour = version->acquire();
  REQUIRE(neighbour.has_value());
  JailPlan plan = full_plan(Profile::Template);
  plan.cgroups = version->template_joins();
  const JailRunOptions options{.instance = Profile::Instance, .instance_cgroups = {bomb->join}};
  const JailRun run = run_in_jail(
      plan,
      [] {
        constexpr std::size_t kStep = 1 << 20;
        for (int i = 0; i < 256; ++i) {
          void* block =
              ::mmap(nullptr, kStep, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          if (block == MAP_FAILED) return std::string("refused");
          std::memset(block, 1, kStep);
        }
        return std::string("survived");
      },
      options);
  CHECK(run.error.empty());
  CHECK(run.report.empty());
  CHECK(run.signal == SIGKILL);
  CHECK(version->oom_kills(*bomb) == 1);
  CHECK(version->oom_kills(*neighbour) == 0);
}

TEST_CASE("a fork bomb ends at the process limit without any controller") {
  JailPlan plan = full_plan(Profile::Template);
  plan.limits.processes = 20;
  for (const RunAs as : everyone()) {
    const JailRun run = run_in_jail(plan,
                                    [] {
                                      int forked = 0;
                                      for (pid_t child = 1; child > 0 && forked < 100; ++forked) {
                                        child = ::fork();
                                        if (child == 0) ::_exit(0);
                                      }
                                      return fmt::format("{}", forked < 30);
                                    },
                                    {.as = as});
    CHECK(run.report == "true");
  }
}

TEST_CASE("killing jail init ends processes that spin, and their descendants") {
  // run_in_jail returns when jail init is reaped, which is when its whole namespace is.
  const JailRun run = run_in_jail(full_plan(Profile::Template),
                                  [] {
                                    for (int i = 0; i < 3; ++i) {
                                      if (::fork() == 0) {
                                        for (volatile unsigned spin = 0;; spin = spin + 1) {
                                        }
                                      }
                                    }
                                    return std::string("spinning");
                                  },
                                  {.kill_at_report = true});
  CHECK(run.report == "spinning");
}

TEST_CASE("the end of a template harms no instance") {
  // In the harness the worker exits as soon as it has cloned the instance.
  const JailRunOptions options{.instance = Profile::Instance};
  const JailRun run = run_in_jail(
      full_plan(Profile::Template),
      [] {
        for (int i = 0; i < 50; ++i) ::sched_yield();
        return std::string("alive");
      },
      options);
  CHECK(run.report == "alive");
}

TEST_CASE("a server killed with -9 leaves no process of its jails") {
  auto life = make_pipe();
  REQUIRE(life.has_value());
  const int alive = life->write_end.get();
  const pid_t server = ::fork();
  if (server == 0) {
    (void)run_in_jail(full_plan(Profile::Template), [alive] {
      (void)!::write(alive, "a", 1);
      while (true) ::poll(nullptr, 0, -1);
      return std::string();
    });
    ::_exit(0);
  }
  life->write_end.reset();
  char byte = 0;
  REQUIRE(::read(life->read_end.get(), &byte, 1) == 1);
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  // End of file: every process that inherited the other end is gone.
  CHECK(::read(life->read_end.get(), &byte, 1) == 0);
}

TEST_CASE("a jail whose source is missing says which") {
  JailPlan plan = full_plan(Profile::Template);
  plan.mounts = {{.source = "/no/such/folder", .target = "/artifact"}};
  CHECK(run_in_jail(plan, [] { return std::string(); }).error ==
        "bind /no/such/folder: No such file or directory");
}

}  // namespace
}  // namespace mayfly
