"""Pins how many workers ``auto`` is."""

import os
from pathlib import Path

import pytest

from pyproxy.control.cpus import usable_cpus

V2 = "0::/pod/box\n"
V1 = "5:cpuset:/\n4:cpu,cpuacct:/pod/box\n1:name=systemd:/\n"


def counted(root: Path, groups: str, files: dict[str, str]) -> int:
    """Count in a machine that has these control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return usable_cpus(root)


@pytest.mark.parametrize(
    ("groups", "files", "count"),
    [
        (V2, {}, 8),
        (V2, {"pod/box/cpu.max": "max 100000\n"}, 8),
        (V2, {"pod/box/cpu.max": "100000 100000\n"}, 1),
        (V2, {"pod/box/cpu.max": "10000 100000\n"}, 1),
        (V2, {"pod/box/cpu.max": "250000 100000\n"}, 3),
        (V2, {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"}, 2),
        (V2, {"pod/box/cpu.max": "9900000 100000\n"}, 8),
        ("0::/../other\n", {"cpu.max": "200000 100000\n"}, 2),
        (V2, {"cpu.max": "300000 100000\n"}, 3),
        (V2, {"pod/box/cpu.max": "nonsense\n"}, 8),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "-1\n", "cpu/pod/box/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "200000\n", "cpu/pod/box/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
        ("garbage without colons\n", {}, 8),
    ],
)
def test_the_strictest_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], count: int
) -> None:
    """Of the group or of any around it, in both versions; part of a CPU is one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    assert counted(tmp_path, groups, files) == count


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without /proc/self/cgroup."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    assert usable_cpus(tmp_path) == 3
