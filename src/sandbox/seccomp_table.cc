// A table: long, and readable from top to bottom.
#include "sandbox/seccomp_table.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>

namespace mayfly {
namespace {

using enum Profile;

constexpr ProfileSet kAll = {Template, Instance, ThreadedInstance, Publish};
// An instance of the tightest kind opens nothing: its session is built and warmed.
constexpr ProfileSet kOpeners = {Template, ThreadedInstance, Publish};
constexpr ProfileSet kThreads = {Template, ThreadedInstance, Publish};
constexpr ProfileSet kParents = {Template, Publish};
constexpr ProfileSet kTemplate = {Template};
constexpr ProfileSet kPublish = {Publish};

constexpr std::uint64_t kEveryBit = ~std::uint64_t{0};
// The kernel reads an int argument's low half only.
constexpr std::uint64_t kIntBits = 0xFFFF'FFFF;

constexpr ArgumentRule kAny = {};
constexpr ArgumentRule kNotExecutable = {.index = 2, .mask = PROT_EXEC, .value = 0};

constexpr ArgumentRule exactly(unsigned index, std::uint64_t value) {
  return {.index = index, .mask = kEveryBit, .value = value};
}
constexpr ArgumentRule exactly_int(unsigned index, std::uint64_t value) {
  return {.index = index, .mask = kIntBits, .value = value};
}

// fork() of glibc 2.34 and later.
constexpr std::uint64_t kForkFlags = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
// pthread_create() of glibc 2.36 (sysdeps/unix/sysv/linux/createthread.c) once clone3 is ENOSYS.
constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM |
                                       CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |
                                       CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
// clone_instance() of sandbox/jail.h.
constexpr std::uint64_t kInstanceFlags = CLONE_PARENT | CLONE_PIDFD | SIGCHLD;

constexpr SyscallRule kTable[] = {
    // Memory. Nothing here generates code, so no page becomes executable after the jail is entered.
    {"mmap", kAll, kNotExecutable, "heap, arena, weights, invocation memory; never executable"},
    {"mprotect", kAll, kNotExecutable, "malloc's arenas, thread stacks; never executable"},
    {"munmap", kAll, kAny, "gives memory back"},
    {"mremap", kAll, kAny, "realloc of large blocks; keeps the protection"},
    {"madvise", kAll, kAny, "populate weights, huge pages, give memory back"},
    {"brk", kAll, kAny, "the heap"},

    // The doorbell, the control socket, the log: descriptors that exist. No call here makes a
    // socket.
    {"read", kAll, kAny, "doorbell; files already open"},
    {"write", kAll, kAny, "doorbell, log"},
    {"readv", kAll, kAny, "doorbell; files already open"},
    {"writev", kAll, kAny, "log lines"},
    {"recvmsg", kAll, kAny, "requests of the server, with their memory"},
    {"sendmsg", kAll, kAny, "replies to the server"},
    {"recvfrom", kAll, kAny, "recv()"},
    {"sendto", kAll, exactly(4, 0), "send(): on connected sockets, to no address"},
    {"poll", kAll, kAny, "waits for the doorbell"},
    {"ppoll", kAll, kAny, "waits for the doorbell"},
    {"close", kAll, kAny, "descriptors of finished work"},
    {"close_range", kTemplate, kAny, "an instance drops what the template held"},
    {"fstat", kAll, kAny, "sizes of open files"},
    {"fcntl", kAll, exactly_int(1, F_GETFL), "stdio asks how a descriptor was opened"},
    {"fcntl", kParents, exactly_int(1, F_SETFD), "close-on-exec"},
    {"fcntl", kParents, exactly_int(1, F_SETFL), "non-blocking"},

    // Files, read. The mounts and Landlock say which.
    {"openat", kOpeners, kAny, "the artifact's files"},
    {"open", kOpeners, kAny, "as openat; older callers"},
    {"newfstatat", kAll, kAny, "fstat of glibc; sizes and kinds"},
    {"statx", kOpeners, kAny, "sizes and kinds"},
    {"stat", kOpeners, kAny, "sizes and kinds; older callers"},
    {"lstat", kOpeners, kAny, "sizes and kinds; older callers"},
    {"access", kOpeners, kAny, "does a file exist"},
    {"faccessat", kOpeners, kAny, "does a file exist"},
    {"faccessat2", kOpeners, kAny, "does a file exist"},
    {"readlink", kOpeners, kAny, "ONNX Runtime resolves external-data paths before it trusts them"},
    {"readlinkat", kOpeners, kAny, "as readlink"},
    {"getcwd", kOpeners, kAny, "resolves relative paths"},
    {"lseek", kOpeners, kAny, "streams over files"},
    {"pread64", kOpeners, kAny, "reads weights at an offset"},
    {"preadv", kOpeners, kAny, "reads weights at an offset"},
    {"fadvise64", kOpeners, kAny, "read-ahead of weights"},
    {"readahead", kOpeners, kAny, "read-ahead of weights"},
    {"mincore", kOpeners, kAny, "are the weights resident"},
    {"getdents64", kOpeners, kAny, "lists the artifact's folder"},

    // Time, identity, scheduling of the process itself.
    {"clock_gettime", kAll, kAny, "where the vDSO has no answer"},
    {"clock_getres", kAll, kAny, "steady clocks"},
    {"gettimeofday", kAll, kAny, "where the vDSO has no answer"},
    {"nanosleep", kAll, kAny, "back-off of spin locks"},
    {"clock_nanosleep", kAll, kAny, "back-off of spin locks"},
    {"getpid", kAll, kAny, "log lines; a number inside the jail"},
    {"gettid", kAll, kAny, "locks, log lines; a number inside the jail"},
    {"getrandom", kAll, kAny, "child randomness is reseeded after the fork"},
    {"sched_yield", kAll, kAny, "spin locks"},
    {"sched_getaffinity", kAll, kAny, "hardware_concurrency()"},
    {"getcpu", kAll, kAny, "malloc's and the runtime's per-CPU choices"},
    {"getrusage", kPublish, kAny, "measures a trial run"},

    // Locks and threads.
    {"futex", kAll, kAny, "locks and condition variables"},
    {"set_robust_list", kAll, kAny, "each new thread or child"},
    {"rseq", kAll, kAny, "each new thread"},
    {"set_tid_address", kAll, kAny, "each new thread"},
    {"prctl", kAll, exactly_int(0, PR_SET_NAME), "thread names"},
    {"prctl", kAll, exactly_int(0, PR_SET_VMA), "names of malloc's mappings; no other effect"},
    {"clone", kThreads, exactly(0, kThreadFlags), "pthread_create, when a session has threads"},

    // Signals of the process itself. None may be sent: raise() fails and abort() ends in a trap.
    {"rt_sigaction", kAll, kAny, "the runtime's handlers"},
    {"rt_sigprocmask", kAll, kAny, "around forks and thread creation"},
    {"rt_sigreturn", kAll, kAny, "returns from a handler"},
    {"sigaltstack", kAll, kAny, "handlers on their own stack"},
    {"restart_syscall", kAll, kAny, "the kernel resumes an interrupted sleep"},

    // Children. The jail's init forks its worker, a template forks instances, publishing forks
    // trials.
    {"clone", kParents, exactly(0, kForkFlags), "fork()"},
    {"clone", kTemplate, exactly(0, kInstanceFlags), "an instance: child of the jail's init"},
    {"clone", kParents, exactly(0, SIGCHLD), "the jail's init forks its worker"},
    {"wait4", kParents, kAny, "reaps children"},
    {"waitid", kParents, kAny, "reaps children"},
    {"seccomp", kParents, exactly_int(0, SECCOMP_SET_MODE_FILTER),
     "an instance tightens its filter"},
    {"exit", kAll, kAny, "ends a thread"},
    {"exit_group", kAll, kAny, "ends a process"},

    // Publishing writes the compiled artifact beneath /work and kills trials that hang.
    {"pwrite64", kPublish, kAny, "writes the compiled artifact"},
    {"pwritev", kPublish, kAny, "writes the compiled artifact"},
    {"ftruncate", kPublish, kAny, "sizes the compiled artifact"},
    {"fallocate", kPublish, kAny, "sizes the compiled artifact"},
    {"copy_file_range", kPublish, kAny, "copies weights"},
    {"sendfile", kPublish, kAny, "copies weights"},
    {"fsync", kPublish, kAny, "makes the compiled artifact durable"},
    {"fdatasync", kPublish, kAny, "makes the compiled artifact durable"},
    {"mkdir", kPublish, kAny, "folders of the compiled artifact"},
    {"mkdirat", kPublish, kAny, "folders of the compiled artifact"},
    {"rename", kPublish, kAny, "moves finished files into place"},
    {"renameat", kPublish, kAny, "moves finished files into place"},
    {"renameat2", kPublish, kAny, "moves finished files into place"},
    {"unlink", kPublish, kAny, "removes forms that lost"},
    {"unlinkat", kPublish, kAny, "removes forms that lost"},
    {"rmdir", kPublish, kAny, "removes forms that lost"},
    {"pipe2", kPublish, kAny, "a trial's result"},
    {"dup", kPublish, kAny, "a trial's descriptors"},
    {"dup3", kPublish, kAny, "a trial's descriptors"},
    {"kill", kPublish, kAny, "ends a trial that hangs; only this jail's processes have numbers"},
};

}  // namespace

std::span<const SyscallRule> seccomp_table() { return kTable; }

Verdict seccomp_verdict(Profile profile, int number) {
  if (number == SYS_clone3) return Verdict::NotImplemented;
#ifdef __x86_64__
  constexpr int kUretprobe = 335;
  constexpr int kUprobe = 336;
  if (number == kUretprobe || number == kUprobe) return Verdict::Unfiltered;
#endif
  Verdict verdict = Verdict::Denied;
  for (const SyscallRule& rule : kTable) {
    if (!rule.profiles.has(profile)) continue;
    // The names are string literals, so data() ends with a zero.
    if (seccomp_syscall_resolve_name(rule.name.data()) != number) continue;
    if (rule.argument.mask == 0) return Verdict::Allowed;
    verdict = Verdict::AllowedByArgument;
  }
  return verdict;
}

}  // namespace mayfly
