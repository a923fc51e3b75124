"""What the speaker gives up is gone, what it needs it keeps, and what is missing is named."""

import subprocess

import pytest

from tests.integration.program import PYTHON
from tests.lab.topology import Lab

pytestmark = pytest.mark.lab

CHECK = "privileges.check(1, moves_addresses=True)"


def run(lab: Lab, *lines: str, drop: str = "") -> str:
    """Run a program on a machine, without some capabilities; what it printed, and its error."""
    code = "\n".join(["from pyproxy.failover import privileges", "from pathlib import Path", *lines])
    prefix = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"] if drop else []
    command = ["ip", "netns", "exec", lab.a.namespace, *prefix, PYTHON, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


@pytest.mark.parametrize(("capability", "name"), [("net_raw", "CAP_NET_RAW"), ("net_admin", "CAP_NET_ADMIN")])
def test_a_missing_capability_is_named(lab: Lab, capability: str, name: str) -> None:
    """At the start, instead of a failover that doesn't happen when it is needed."""
    text = run(lab, CHECK, drop=f"-{capability}")
    assert f"FailoverError: {name} is missing" in text


def test_with_what_it_needs_the_check_is_silent_and_without_effect(lab: Lab) -> None:
    """It is tried on a living machine."""
    before = lab.show("-n", lab.a.namespace, "addr")
    assert run(lab, CHECK, "print('fine')") == "fine\n"
    assert lab.show("-n", lab.a.namespace, "addr") == before


def test_only_what_is_needed_is_kept(lab: Lab) -> None:
    """Four capabilities at most, no way back, and the check still passes."""
    wanted = "sorted(privileges.effective_capabilities()) == sorted(before & set(privileges.NAMES))"
    text = run(
        lab,
        "before = privileges.effective_capabilities()",
        "privileges.settle()",
        f"print({wanted})",
        "status = Path('/proc/self/status').read_text()",
        "print([line.split()[1] for line in status.splitlines() if line.startswith('NoNewPrivs')])",
        CHECK,
    )
    assert text == "True\n['1']\n"


def test_what_it_starts_is_an_ordinary_process(lab: Lab) -> None:
    """Neither in real time nor favoured, whichever of them was to be had."""
    text = run(
        lab,
        "import os, subprocess, sys",
        "privileges.settle()",
        "child = 'import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))'",
        "print(os.sched_getscheduler(0) & 0xff == os.SCHED_FIFO or os.getpriority(os.PRIO_PROCESS, 0) < 0)",
        "sys.stdout.flush()",
        "subprocess.run([sys.executable, '-c', child], check=True)",
    )
    assert text == "True\n0 0\n"
