"""
How many CPUs this program may use: what ``workers: auto`` means.

Must not know workers. A machine has CPUs, an affinity mask picks some, and a quota of a control group (docker
``--cpus``, a limit of Kubernetes, systemd's CPUQuota) lets all processes together run for so much time only: workers
beyond that would take it from each other.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath

_V1_MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")

_log = logging.getLogger(__name__)


def usable_cpus(root: Path = Path("/")) -> int:
    """Count the CPUs, at least 1; part of one counts as one. ``root`` is where /proc and /sys are."""
    allowed = len(os.sched_getaffinity(0))
    quota = min(_quotas(root), default=float(allowed))
    if quota >= allowed:
        return allowed
    _log.info("a quota of %g CPUs holds for this program, of the %d that there are", quota, allowed)
    return max(ceil(quota), 1)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each group around this process, in CPUs."""
    for group, controllers in _groups(root):
        if not controllers:
            for directory in _around(root / "sys/fs/cgroup", group):
                yield from _read(directory, "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in _V1_MOUNTS:
                for directory in _around(root / "sys/fs/cgroup" / mount, group):
                    yield from _read(directory, "cpu.cfs_quota_us", "cpu.cfs_period_us")


def _groups(root: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Yield path and controllers of each control group of this process; version 2 has no controllers there."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            yield PurePosixPath(path), controllers


def _around(mount: Path, group: PurePosixPath) -> Iterator[Path]:
    """
    Yield the directories of a group and of those around it.

    In a container the path may be the one outside; what is mounted is then the group itself.
    """
    parts = group.parts[1:]
    for length in range(len(parts), -1, -1):
        if ".." not in parts[:length]:
            yield mount.joinpath(*parts[:length])


def _read(directory: Path, *names: str) -> Iterator[float]:
    with suppress(OSError, ValueError, IndexError):
        words = [word for name in names for word in (directory / name).read_text().split()]
        if words[0] != "max" and int(words[0]) > 0 and int(words[1]) > 0:
            yield int(words[0]) / int(words[1])
