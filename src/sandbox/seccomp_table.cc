// A table: long, and readable from top to bottom.
#include "sandbox/seccomp_table.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>

namespace mayfly {
namespace {

using enum Profile;

constexpr ProfileSet kAll = {Template,       Instance,       ThreadedInstance, Publish,
                             PythonTemplate, PythonInstance, PythonPublish,    PythonBuild,
                             PythonTraining, TrainingGroup};
// An instance of the tightest kind opens nothing: its session is built and warmed.
constexpr ProfileSet kOpeners = {Template,       ThreadedInstance, Publish,
                                 PythonTemplate, PythonInstance,   PythonPublish,
                                 PythonBuild,    PythonTraining,   TrainingGroup};
constexpr ProfileSet kThreads = kOpeners;
constexpr ProfileSet kParents = {Template,    Publish,        PythonTemplate, PythonPublish,
                                 PythonBuild, PythonTraining, TrainingGroup};
constexpr ProfileSet kTemplates = {Template, PythonTemplate};
constexpr ProfileSet kPublish = {Publish, PythonPublish, PythonBuild, PythonTraining,
                                 TrainingGroup};
constexpr ProfileSet kPython = {PythonTemplate, PythonInstance, PythonPublish,
                                PythonBuild,    PythonTraining, TrainingGroup};
// Who may write files: what was compiled, or what lies in the jail's own memory.
constexpr ProfileSet kWriters = {Publish,     PythonTemplate, PythonInstance, PythonPublish,
                                 PythonBuild, PythonTraining, TrainingGroup};
// Who speaks with the server over a socket, or is handed connections by it: jobs.
constexpr ProfileSet kHanded = {PythonPublish, PythonBuild, PythonTraining, TrainingGroup};
// Who speaks TCP within its jail.
constexpr ProfileSet kGroup = {TrainingGroup};
// Who may start programs.
constexpr ProfileSet kStarters = {PythonBuild, PythonTraining};

constexpr std::uint64_t kEveryBit = ~std::uint64_t{0};
// The kernel reads an int argument's low half only.
constexpr std::uint64_t kIntBits = 0xFFFF'FFFF;

constexpr ArgumentRule kAny = {};
constexpr ArgumentRule kNotExecutable = {.index = 2, .mask = PROT_EXEC, .value = 0};
constexpr ArgumentRule kCodeNobodyWrites = {
    .index = 2, .mask = PROT_EXEC | PROT_WRITE, .value = PROT_EXEC};

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
// posix_spawn() of glibc 2.36 (sysdeps/unix/sysv/linux/spawni.c) once clone3 is ENOSYS.
constexpr std::uint64_t kSpawnFlags = CLONE_VM | CLONE_VFORK | SIGCHLD;

constexpr SyscallRule kTable[] = {
    // Memory. Nothing here generates code, so no page becomes executable after the jail is entered;
    // Python's modules are mapped as code, never writable at once.
    {"mmap", kAll, kNotExecutable, "heap, arena, weights, invocation memory; never executable"},
    {"mmap", kPython, kCodeNobodyWrites, "modules' shared libraries"},
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
    {"close_range", kTemplates, kAny, "an instance drops what the template held"},
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
    {"getrusage", {Publish}, kAny, "measures a trial run"},

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
    {"clone", kTemplates, exactly(0, kInstanceFlags), "an instance: child of the jail's init"},
    {"clone", kParents, exactly(0, SIGCHLD), "the jail's init forks its worker"},
    {"wait4", kParents, kAny, "reaps children"},
    {"waitid", kParents, kAny, "reaps children"},
    {"seccomp", kParents, exactly_int(0, SECCOMP_SET_MODE_FILTER),
     "an instance tightens its filter"},
    {"exit", kAll, kAny, "ends a thread"},
    {"exit_group", kAll, kAny, "ends a process"},

    // Publishing writes the compiled artifact beneath /work and kills trials that hang. Python
    // writes beneath /tmp and /dev/shm, which are the jail's own memory.
    {"pwrite64", kWriters, kAny, "writes the compiled artifact; scratch files"},
    {"pwritev", kWriters, kAny, "writes the compiled artifact; scratch files"},
    {"ftruncate", kWriters, kAny, "sizes the compiled artifact; scratch files"},
    {"fallocate", kWriters, kAny, "sizes the compiled artifact; scratch files"},
    {"copy_file_range", kWriters, kAny, "copies weights; scratch files"},
    {"sendfile", kWriters, kAny, "copies weights; scratch files"},
    {"fsync", kWriters, kAny, "makes the compiled artifact durable; scratch files"},
    {"fdatasync", kWriters, kAny, "makes the compiled artifact durable; scratch files"},
    {"mkdir", kWriters, kAny, "folders of the compiled artifact; scratch files"},
    {"mkdirat", kWriters, kAny, "folders of the compiled artifact; scratch files"},
    {"rename", kWriters, kAny, "moves finished files into place"},
    {"renameat", kWriters, kAny, "moves finished files into place"},
    {"renameat2", kWriters, kAny, "moves finished files into place"},
    {"unlink", kWriters, kAny, "removes forms that lost; scratch files"},
    {"unlinkat", kWriters, kAny, "removes forms that lost; scratch files"},
    {"rmdir", kWriters, kAny, "removes forms that lost; scratch files"},
    {"pipe2", kWriters, kAny, "a trial's result; queues between threads"},
    {"dup", kWriters, kAny, "a trial's descriptors; open()"},
    {"dup3", kWriters, kAny, "a trial's descriptors; dup2()"},
    {"kill", kPublish, kAny, "ends a trial that hangs; only this jail's processes have numbers"},

    // An interpreter asks who and where it is, and its modules wait for files and each other. The
    // answers are the jail's: one user, no network.
    {"getuid", kPython, kAny, "os.getuid(); the jail's one user"},
    {"geteuid", kPython, kAny, "as getuid"},
    {"getgid", kPython, kAny, "as getuid"},
    {"getegid", kPython, kAny, "as getuid"},
    {"getppid", kPython, kAny, "os.getppid(); a number inside the jail"},
    {"uname", kPython, kAny, "platform; the jail's host name is a constant"},
    {"sysinfo", kPython, kAny, "how much memory the machine has"},
    {"times", kPython, kAny, "os.times()"},
    {"umask", kPython, kAny, "modes of scratch files"},
    {"chdir", kPython, kAny, "os.chdir()"},
    {"getdents", kPython, kAny, "lists folders; older callers"},
    {"prlimit64", kPython, exactly(2, 0), "asks a limit, sets none"},
    {"getrlimit", kPython, kAny, "asks a limit"},
    {"statfs", kPython, kAny, "room for scratch files"},
    {"fstatfs", kPython, kAny, "room for scratch files"},
    {"chmod", kPython, kAny, "modes of scratch files"},
    {"fchmod", kPython, kAny, "modes of scratch files"},
    {"utimensat", kPython, kAny, "times of scratch files"},
    {"flock", kPython, kAny, "scratch files"},
    {"msync", kPython, kAny, "mapped scratch files"},
    {"dup2", kPython, kAny, "descriptors of its own"},
    {"pipe", kPython, kAny, "queues between threads"},
    {"fcntl", kPython, exactly_int(1, F_GETFD), "is a descriptor inherited"},
    {"fcntl", {PythonInstance}, exactly_int(1, F_SETFD), "close-on-exec"},
    {"fcntl", {PythonInstance}, exactly_int(1, F_SETFL), "non-blocking"},
    {"fcntl", kPython, exactly_int(1, F_DUPFD_CLOEXEC), "a copy of a descriptor"},
    {"fcntl", kPython, exactly_int(1, F_SETLK), "locks of scratch files"},
    {"fcntl", kPython, exactly_int(1, F_SETLKW), "locks of scratch files"},
    {"fcntl", kPython, exactly_int(1, F_GETLK), "locks of scratch files"},
    {"ioctl", kPython, exactly_int(1, FIOCLEX), "close-on-exec"},
    {"ioctl", kPython, exactly_int(1, FIONCLEX), "the same, undone"},
    {"ioctl", kPython, exactly_int(1, FIONBIO), "non-blocking"},
    {"select", kPython, kAny, "waits for descriptors of its own"},
    {"pselect6", kPython, kAny, "waits for descriptors of its own"},
    {"epoll_create1", kPython, kAny, "event loops of threads"},
    {"epoll_ctl", kPython, kAny, "event loops of threads"},
    {"epoll_wait", kPython, kAny, "event loops of threads"},
    {"epoll_pwait", kPython, kAny, "event loops of threads"},
    {"eventfd2", kPython, kAny, "event loops of threads"},
    {"socketpair", kPython, exactly_int(0, AF_UNIX), "event loops wake themselves; nobody else"},
    {"getsockopt", kHanded, kAny, "of its socket, and connections that it is handed"},
    {"setsockopt", kHanded, kAny, "of its socket, and connections that it is handed"},
    {"getsockname", kHanded, kAny, "of its socket, and connections that it is handed"},
    {"getpeername", kHanded, kAny, "of its socket, and connections that it is handed"},
    {"shutdown", kHanded, kAny, "of its socket, and connections that it is handed"},
    {"sched_setaffinity", kPython, kAny, "threads of numeric libraries; within the group's limit"},
    {"membarrier", kPython, kAny, "threads"},
    {"getrusage", kPython, kAny, "time.process_time(), resource"},

    // Workers of one training add up what they have seen over the loopback of their jail, which is
    // the only interface of its network namespace.
    {"socket", kGroup, exactly_int(0, AF_INET),
     "workers and their tracker; no other network is there"},
    {"bind", kGroup, kAny, "as socket"},
    {"listen", kGroup, kAny, "as socket"},
    {"accept", kGroup, kAny, "as socket"},
    {"accept4", kGroup, kAny, "as socket"},
    {"connect", kGroup, kAny, "as socket"},

    // Programs: compilers of packages that are built, workers of a training run. Which there are
    // the mounts and Landlock say; what they may do is what whoever started them may.
    {"execve", kStarters, kAny, "starts a program"},
    {"vfork", kStarters, kAny, "subprocess, compilers"},
    {"clone", kStarters, exactly(0, kSpawnFlags), "posix_spawn()"},
    {"arch_prctl", kStarters, kAny, "the loader of a program sets its thread's base"},
    {"setpgid", kStarters, kAny, "groups of the jail's own processes"},
    {"getpgid", kStarters, kAny, "groups of the jail's own processes"},
    {"getpgrp", kStarters, kAny, "groups of the jail's own processes"},
    {"setsid", kStarters, kAny, "start_new_session"},
    {"getsid", kStarters, kAny, "sessions of the jail's own processes"},
    {"link", kStarters, kAny, "named semaphores in /dev/shm; files of a build"},
    {"linkat", kStarters, kAny, "as link"},
    {"fcntl", kStarters, exactly_int(1, F_DUPFD), "a shell keeps a descriptor that it redirects"},
    {"listxattr", kStarters, kAny, "shutil.copy2 asks what there is; nothing sets any"},
    {"llistxattr", kStarters, kAny, "as listxattr"},
    {"flistxattr", kStarters, kAny, "as listxattr"},
    {"fchdir", kStarters, kAny, "build tools come back to where they were"},
    {"fchmodat", kStarters, kAny, "modes of a build's files"},
    {"utime", kStarters, kAny, "times of a build's files"},
    {"utimes", kStarters, kAny, "times of a build's files"},
    {"alarm", kStarters, kAny, "time-outs of its own"},
    {"setitimer", kStarters, kAny, "time-outs of its own"},
    {"rt_sigtimedwait", kStarters, kAny, "waits for a child's end"},
    {"rt_sigsuspend", kStarters, kAny, "a shell waits for a child's end"},
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
