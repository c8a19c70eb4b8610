"""The machine while something is measured: how much of it others took.

Steal comes from /proc/stat. Foreign CPU time is what the machine spent minus what this run and all its children spent.
Both are taken from the kernel's cpuacct groups where those can be used, exact to the nanosecond; elsewhere from
/proc/stat and /proc/PID/stat, in ticks.
"""

from __future__ import annotations

import atexit
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count() or 1


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return f"{line.split(':', 1)[1].strip()} x {CPUS}"
    return f"{platform.machine()} x {CPUS}"


def kernel() -> str:
    return platform.release()


@dataclass(frozen=True)
class Disturbance:
    """Shares of all processor time, 0..1."""

    steal: float
    foreign: float

    @property
    def worst(self) -> float:
        return max(self.steal, self.foreign)


class Account:
    """Puts this process, and so every child it starts, into a cpuacct group of its own, and takes it out at exit."""

    def __init__(self):
        self._root, self._group = _join_cpuacct()
        if self._group:
            atexit.register(self._leave)

    def watch(self) -> Watch:
        return Watch(self)

    def own_seconds(self) -> float:
        if self._group:
            return int((self._group / "cpuacct.usage").read_text()) / 1e9
        return _tree_seconds(os.getpid())

    def machine_seconds(self) -> float:
        if self._root:
            return int((self._root / "cpuacct.usage").read_text()) / 1e9
        user, nice, system, *_ = _stat_seconds()
        return user + nice + system

    def _leave(self) -> None:
        try:
            (self._group.parent / "cgroup.procs").write_text(str(os.getpid()))
            self._group.rmdir()
        except OSError:
            pass  # a process that was left behind keeps the group; it goes with the machine


class Watch:
    """From its making to `stop`."""

    def __init__(self, account: Account):
        self._account = account
        self._begin = self._read()

    def stop(self) -> Disturbance:
        now = self._read()
        wall, machine, own, steal = (b - a for a, b in zip(self._begin, now, strict=True))
        capacity = max(wall * CPUS, 1e-6)
        return Disturbance(max(steal, 0.0) / capacity, max(machine - own, 0.0) / capacity)

    def _read(self) -> tuple[float, float, float, float]:
        return (
            time.monotonic(),
            self._account.machine_seconds(),
            self._account.own_seconds(),
            _stat_seconds()[7],
        )


def cpuacct_folder() -> Path | None:
    """This process's group in the cpuacct hierarchy of cgroup v1, where there is one."""
    mount = Path("/sys/fs/cgroup/cpuacct")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            folder = mount / path.lstrip("/")
            return folder if (folder / "cpuacct.usage").exists() else None
    return None


@contextmanager
def memory_group() -> Iterator[Path | None]:
    """cgroup.procs of a fresh group with a memory controller; None where none can be made."""
    for mount in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = mount / f"bench-tighten-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / "cgroup.procs").exists():  # else it is a folder of a tmpfs
                yield group / "cgroup.procs"
                return
        finally:
            group.rmdir()
    yield None


def _join_cpuacct() -> tuple[Path | None, Path | None]:
    """The group of the whole machine and ours; None where there is no such thing or no right to it."""
    here = cpuacct_folder()
    if here is None:
        return None, None
    group = here / f"bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None, None
    root = Path("/sys/fs/cgroup/cpuacct")
    whole = int((root / "cpuacct.usage").read_text()) / 1e9
    user, nice, system, *_ = _stat_seconds()
    # Inside a container the mounted root is not the machine's.
    return (root if whole > 0.5 * (user + nice + system) else None), group


def _stat_seconds() -> list[float]:
    first = Path("/proc/stat").read_text().splitlines()[0]
    return [int(ticks) / TICKS for ticks in first.split()[1:]]


def _tree_seconds(root: int) -> float:
    """User and system time of a process, its descendants, and those of them that were waited for."""
    times: dict[int, float] = {}
    parents: dict[int, int] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry)] = int(fields[1])
        times[int(entry)] = sum(int(ticks) for ticks in fields[11:15]) / TICKS
    total = 0.0
    for pid, seconds in times.items():
        above = pid
        while above not in (root, 0):
            above = parents.get(above, 0)
        total += seconds if above == root else 0.0
    return total


def private_bytes(pid: int) -> int:
    """Of one process, from smaps_rollup."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    return sum(int(fields[key].split()[0]) for key in ("Private_Clean", "Private_Dirty")) * 1024
