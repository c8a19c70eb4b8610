#include "sandbox/seccomp.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <new>

#include <doctest/doctest.h>
#include "sandbox/seccomp_table.h"
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
namespace {

constexpr int kLastNumber = 600;
constexpr std::array kProfiles = {Profile::Template,         Profile::Instance,
                                  Profile::ThreadedInstance, Profile::Publish,
                                  Profile::PythonTemplate,   Profile::PythonInstance,
                                  Profile::PythonPublish,    Profile::PythonBuild,
                                  Profile::PythonTraining,   Profile::TrainingGroup};

struct Call {
  long number;
  std::array<unsigned long, 6> arguments;
};

// Arguments with which the kernel itself never answers EPERM or ENOSYS, and does no harm.
Call harmless(int number) {
  constexpr unsigned long kNone = ~0UL;
  switch (number) {
    case SYS_wait4:
    case SYS_waitid:
      return {number, {kNone, 0, 0, 1 /* WNOHANG */, 0, 0}};
    case SYS_kill:
      return {number, {1UL << 30, 0, 0, 0, 0, 0}};
    case SYS_close_range:
      return {number, {10, 5, 0, 0, 0, 0}};
    case SYS_futex:
      return {number, {0, 1 /* FUTEX_WAKE */, 0, 0, 0, 0}};
    case SYS_madvise:
      return {number, {0, 0, 0, 0, 0, 0}};
    case SYS_brk:
    case SYS_munmap:
      return {number, {0, 0, 0, 0, 0, 0}};
    default:
      return {number, {kNone, kNone, kNone, kNone, kNone, kNone}};
  }
}

long invoke(const Call& call) {
  const auto& a = call.arguments;
  const long result = ::syscall(call.number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return result < 0 ? -errno : result;
}

// Its child would run on the stack of whoever called it.
bool borrows_the_stack(int number) {
#ifdef SYS_vfork
  return number == SYS_vfork;
#else
  return number < 0;
#endif
}

// Numbers with no answer to read: they end the process, or jump.
bool ends_the_process(int number) {
  return number == SYS_exit || number == SYS_exit_group || number == SYS_rt_sigreturn;
}

constexpr int kAnsweredEperm = 10;
constexpr int kAnsweredEnosys = 11;
constexpr int kAnsweredElse = 12;

// Exit code, or 128 + signal, of a child that lives under the filter and does one thing.
template <typename Action>
int under_filter(const SeccompProgram& program, Action action) {
  // Not fork(): ThreadSanitizer would give the child a thread, which outlives SYS_exit.
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, 0UL, nullptr, 0UL, 0UL));
  if (pid == 0) {
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // no core file of the ones that are killed
    // … and no report of a crash by doctest or a sanitizer.
    for (const int number : {SIGILL, SIGSEGV, SIGBUS}) ::signal(number, SIG_DFL);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !install_seccomp(program)) ::_exit(99);
    ::_exit(action());
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int classify(long result) {
  if (result == -EPERM) return kAnsweredEperm;
  if (result == -ENOSYS) return kAnsweredEnosys;
  return kAnsweredElse;
}

int answer(const SeccompProgram& program, const Call& call) {
  return under_filter(program, [&call] { return classify(invoke(call)); });
}

SeccompProgram compiled(Profile profile) {
  auto program = compile_seccomp(profile);
  REQUIRE(program.has_value());
  return *std::move(program);
}

using Answers = std::array<std::uint8_t, kLastNumber + 1>;

// All the numbers that return, tried by one child, which leaves its answers in shared memory.
Answers answers_of(const SeccompProgram& program, Profile profile) {
  void* shared =
      ::mmap(nullptr, sizeof(Answers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  auto* answers = new (shared) Answers{};
  Answers returns{};
  for (int number = 0; number <= kLastNumber; ++number) {
    const Verdict verdict = seccomp_verdict(profile, number);
    returns.at(static_cast<std::size_t>(number)) =
        verdict != Verdict::Unfiltered &&
        !(verdict == Verdict::Allowed && (ends_the_process(number) || borrows_the_stack(number)));
  }
  CHECK(under_filter(program, [&] {
          for (int number = 0; number <= kLastNumber; ++number) {
            const auto index = static_cast<std::size_t>(number);
            if (returns[index] == 0) continue;
            (*answers)[index] = static_cast<std::uint8_t>(classify(invoke(harmless(number))));
          }
          return 0;
        }) == 0);
  const Answers copy = *answers;
  ::munmap(shared, sizeof(Answers));
  return copy;
}

void check_answer(const SeccompProgram& program, Verdict verdict, int number, int got) {
  switch (verdict) {
    case Verdict::Denied:
    case Verdict::AllowedByArgument:  // all bits set satisfy no argument rule
      CHECK(got == kAnsweredEperm);
      return;
    case Verdict::NotImplemented:
      CHECK(got == kAnsweredEnosys);
      return;
    case Verdict::Unfiltered: {
      const int alone = answer(program, {number, {}});
      // EPERM from kernels that do not know the number.
      CHECK((alone == kAnsweredEperm || alone == kAnsweredElse || alone == 128 + SIGILL));
      return;
    }
    case Verdict::Allowed:
      if (borrows_the_stack(number)) return;
      if (ends_the_process(number)) {
        CHECK(answer(program, {number, {}}) != kAnsweredEperm);
      } else {
        CHECK(got == kAnsweredElse);
      }
      return;
  }
}

TEST_CASE("every system-call number is answered as the table says") {
  for (const Profile profile : kProfiles) {
    CAPTURE(to_string(profile));
    const SeccompProgram program = compiled(profile);
    const Answers answers = answers_of(program, profile);
    for (int number = 0; number <= kLastNumber; ++number) {
      CAPTURE(number);
      const int got = answers.at(static_cast<std::size_t>(number));
      check_answer(program, seccomp_verdict(profile, number), number, got);
    }
  }
}

#ifdef __x86_64__
long through_int80(long number) {
  long result = number;
  asm volatile("int $0x80"
               : "+a"(result)
               : "b"(0), "c"(0), "d"(0)
               : "memory", "r8", "r9", "r10", "r11");
  return result;
}

TEST_CASE("every number through the 32-bit entry is answered by death") {
  const SeccompProgram program = compiled(Profile::Template);
  for (int number = 0; number <= kLastNumber; ++number) {
    CAPTURE(number);
    CHECK(under_filter(program, [number] { return classify(through_int80(number)); }) ==
          128 + SIGSYS);
  }
}

TEST_CASE("x32 numbers are answered by death") {
  const SeccompProgram program = compiled(Profile::Template);
  constexpr long kX32 = 0x4000'0000;
  for (const long number : {SYS_read, SYS_getpid, SYS_socket}) {
    CHECK(answer(program, {kX32 | number, {}}) == 128 + SIGSYS);
  }
}
#endif

TEST_CASE("an instance may do nothing that its template may not") {
  const auto covers = [](const SyscallRule& wide, Profile owner, const SyscallRule& narrow) {
    return wide.name == narrow.name && wide.profiles.has(owner) &&
           (wide.argument.mask == 0 || (wide.argument.index == narrow.argument.index &&
                                        wide.argument.mask == narrow.argument.mask &&
                                        wide.argument.value == narrow.argument.value));
  };
  constexpr std::array<std::pair<Profile, Profile>, 3> kOwners = {
      {{Profile::Instance, Profile::Template},
       {Profile::ThreadedInstance, Profile::Template},
       {Profile::PythonInstance, Profile::PythonTemplate}}};
  for (const auto& [instance, owner] : kOwners) {
    for (const SyscallRule& rule : seccomp_table()) {
      if (!rule.profiles.has(instance)) continue;
      CAPTURE(rule.name);
      bool covered = false;
      for (const SyscallRule& wide : seccomp_table())
        covered = covered || covers(wide, owner, rule);
      CHECK(covered);
    }
  }
}

TEST_CASE("every row of the table has a reason") {
  for (const SyscallRule& rule : seccomp_table()) {
    CAPTURE(rule.name);
    CHECK(rule.reason.size() > 5);
  }
}

TEST_CASE("clone is admitted with exactly the listed flags") {
  const unsigned long fork_flags = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
  const unsigned long instance_flags = CLONE_PARENT | CLONE_PIDFD | SIGCHLD;
  struct Case {
    Profile profile;
    unsigned long flags;
    bool admitted;
  };
  const Case cases[] = {
      {Profile::Template, SIGCHLD, true},
      {Profile::Template, SIGCHLD | CLONE_NEWUSER, false},
      {Profile::Template, SIGCHLD | CLONE_NEWNS, false},
      {Profile::Template, SIGCHLD | CLONE_NEWPID | CLONE_PARENT | CLONE_PIDFD, false},
      {Profile::Template, CLONE_VM | CLONE_VFORK | SIGCHLD, false},
      {Profile::Publish, instance_flags, false},
      {Profile::Publish, SIGCHLD | CLONE_NEWUSER, false},
      {Profile::Instance, SIGCHLD, false},
      {Profile::Instance, fork_flags, false},
      {Profile::Instance, instance_flags, false},
      {Profile::ThreadedInstance, SIGCHLD, false},
      {Profile::ThreadedInstance, fork_flags, false},
      {Profile::ThreadedInstance, instance_flags, false},
      {Profile::PythonPublish, CLONE_VM | CLONE_VFORK | SIGCHLD, false},
      {Profile::PythonBuild, fork_flags | CLONE_NEWUSER, false},
      {Profile::PythonTraining, fork_flags, true},
      {Profile::TrainingGroup, fork_flags, true},
      {Profile::TrainingGroup, SIGCHLD | CLONE_NEWNET, false},
      {Profile::PythonTraining, instance_flags, false},
      {Profile::PythonTraining, SIGCHLD | CLONE_NEWUSER, false},
  };
  for (const Case& c : cases) {
    CAPTURE(to_string(c.profile));
    CAPTURE(c.flags);
    const int got = under_filter(compiled(c.profile), [&c] {
      const long result = invoke({SYS_clone, {c.flags, 0, 0, 0, 0, 0}});
      if (result == 0) ::_exit(0);
      return classify(result);
    });
    CHECK((got != kAnsweredEperm) == c.admitted);
  }
}

TEST_CASE("no page becomes executable") {
  for (const Profile profile : kProfiles) {
    if (is_python(profile)) continue;
    CAPTURE(to_string(profile));
    const int got = under_filter(compiled(profile), [] {
      const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
      void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, anonymous, -1, 0);
      if (page == MAP_FAILED) return 1;
      if (::mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 || errno != EPERM) return 2;
      if (::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, anonymous, -1, 0) != MAP_FAILED) return 3;
      return ::mprotect(page, 4096, PROT_READ) == 0 ? 0 : 4;
    });
    CHECK(got == 0);
  }
}

TEST_CASE("Python maps code, and no mapping is or becomes writable and executable") {
  for (const Profile profile : kProfiles) {
    if (!is_python(profile)) continue;
    CAPTURE(to_string(profile));
    const int got = under_filter(compiled(profile), [] {
      const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
      const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
      if (::mmap(nullptr, 4096, all, anonymous, -1, 0) != MAP_FAILED) return 1;
      void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, anonymous, -1, 0);
      if (page == MAP_FAILED) return 2;
      if (::mprotect(page, 4096, all) == 0 || errno != EPERM) return 3;
      page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, anonymous, -1, 0);
      if (page == MAP_FAILED) return 4;
      return ::mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 ? 5 : 0;
    });
    CHECK(got == 0);
  }
}

TEST_CASE("threads start where a session may have them, and nowhere else") {
  // Not std::thread: the sanitizers check its virtual calls with a pipe, which the filter refuses.
  const auto start_thread = [] {
    int seen = 0;
    const auto body = [](void* where) -> void* {
      *static_cast<int*>(where) = 7;
      return nullptr;
    };
    pthread_t thread{};
    if (::pthread_create(&thread, nullptr, body, &seen) != 0) return 1;
    ::pthread_join(thread, nullptr);
    return seen == 7 ? 0 : 2;
  };
  CHECK(under_filter(compiled(Profile::ThreadedInstance), start_thread) == 0);
  CHECK(under_filter(compiled(Profile::Publish), start_thread) == 0);
  CHECK(under_filter(compiled(Profile::Instance), start_thread) == 1);
}

TEST_CASE("prctl may name threads and nothing else") {
  const SeccompProgram program = compiled(Profile::Instance);
  CHECK(answer(program, {SYS_prctl, {PR_SET_NAME, reinterpret_cast<unsigned long>("x")}}) ==
        kAnsweredElse);
  for (const int option : {PR_SET_DUMPABLE, PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_MM}) {
    CAPTURE(option);
    CHECK(answer(program, {SYS_prctl, {static_cast<unsigned long>(option)}}) == kAnsweredEperm);
  }
}

TEST_CASE("the instance's filter is short") {
  // Installing costs by length; the whole tightening has 100 µs.
  CHECK(compiled(Profile::Instance).size() < 220);
}

}  // namespace
}  // namespace mayfly
