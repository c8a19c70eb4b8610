// Small facts about processes, from the kernel: what a pidfd stands for, CPU time and memory of a
// process seen from outside.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "sandbox/spawner.h"

namespace mayfly {

Result<Fd> open_pidfd(pid_t pid);
// The process's number here, as the kernel says it. NotFound when it has been reaped.
Result<pid_t> pid_of(const Fd& pidfd);
// ok also when it is gone already.
Status kill_process(const Fd& pidfd);
// Of a child that has ended, reaping it; nullopt while it runs.
std::optional<Exit> reap(const Fd& pidfd);
Exit wait_and_reap(const Fd& pidfd);

// CPU time of a process since it began. `pidfd` proves that the number still means the same
// process; nullopt when it has ended.
std::optional<Duration> cpu_time(pid_t pid, const Fd& pidfd);
// Private bytes now (RssAnon); nullopt when it has ended or cannot be looked at.
std::optional<Bytes> private_memory(pid_t pid);
// Its threads, likewise.
std::optional<std::int64_t> threads_of(pid_t pid);
// The only child of a process, such as a jail's worker of jail init.
std::optional<pid_t> first_child(pid_t pid);

}  // namespace mayfly
