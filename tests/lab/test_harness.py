"""The laboratory itself: what it measures is so, and nothing of it stays behind."""

import errno
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.conftest import StartLab
from tests.lab.gaps import Record
from tests.lab.keepalived import Keepalived
from tests.lab.namespaces import DIRECTORY, configure, inside, is_running, members_of, reap
from tests.lab.noise import advert, frame
from tests.lab.pair import Pair
from tests.lab.process import await_true
from tests.lab.topology import GATEWAY, VIP, VIP6, Lab, Machine

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.lab


def test_a_record_knows_who_answered_and_when_nobody_did() -> None:
    """A failed request is no answer, a line that is half written is no request, the edges of the span count."""
    lines = ["1.0 1.1 ok a n1\n", "1.2 1.7 timeout - -\n", "1.3 1.9 ok b n2\n", "2.0 2.1 ok"]
    record = Record(lines)
    assert record.first_answer("b", 1.0) == 1.9
    assert record.first_answer("a", 1.2) is None
    assert record.machines(after=1.0) == {"a", "b"}
    assert [request.result for request in record.failed(after=1.0)] == ["timeout"]
    assert record.largest_gap(1.0, 2.0) == pytest.approx(0.8)
    assert record.largest_gap(1.2, 1.8) == pytest.approx(0.6)


def test_a_closed_lab_leaves_nothing(start_lab: StartLab) -> None:
    """Namespaces and processes are gone, also those of a child that left its session."""
    lab = start_lab()
    web = lab.a.serve()
    stray = lab.a.start("stray", ["setsid", "--fork", "sleep", "1000"])
    stray.wait()
    names = [path.name for path in DIRECTORY.glob(f"{lab.group}-*")]
    members = members_of(lab.a.namespace)
    assert len(names) == 4
    assert len(members) == 2
    lab.close()
    assert not list(DIRECTORY.glob(f"{lab.group}-*"))
    assert not web.is_running
    assert not [pid for pid in members if is_running(pid)]


def test_the_next_run_removes_what_a_killed_one_left(laboratory: None, tmp_path: Path) -> None:
    """A run that was killed with kill -9 leaves namespaces whose owner is gone; those of living runs stay."""
    code = """
import sys, pathlib
from tests.lab.topology import Lab
lab = Lab(pathlib.Path(sys.argv[1]))
lab.a.serve()
print(lab.group, flush=True)
input()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        group = run.stdout.readline().strip()
        assert group
        assert len(list(DIRECTORY.glob(f"{group}-*"))) == 4
        reap()
        assert len(list(DIRECTORY.glob(f"{group}-*"))) == 4
        run.send_signal(signal.SIGKILL)
    reap()
    assert not list(DIRECTORY.glob(f"{group}-*"))


def test_the_capture_sees_what_a_machine_sends(lab: Lab) -> None:
    """The adverts of keepalived as the RFC says they look, their interval, and the announcements of a new master."""
    capture = lab.capture()
    node = Keepalived(lab.a, Pair(), 150)
    node.await_state("master")
    await_true(lambda: len(capture.adverts("a")) > 5, "no adverts")
    adverts = capture.adverts("a")
    first = adverts[0]
    assert (first.source, first.destination, first.hops) == (lab.a.address, "224.0.0.18", 255)
    assert (first.version, first.vrid, first.priority, first.interval) == (3, 51, 150, 0.1)
    assert (first.mac, first.addresses) == (lab.a.mac, (VIP,))
    assert adverts[5].at - first.at == pytest.approx(0.5, abs=0.2)
    assert not capture.adverts("b")
    assert {one.mac for one in capture.announcements(VIP)} == {lab.a.mac}


@pytest.mark.parametrize("fault", ["part", "block", "unplug"])
def test_faults_do_what_they_say(lab: Lab, fault: str) -> None:
    """Parted machines still reach the gateway, a blocked one has its carrier and nobody, an unplugged one neither."""
    assert _reaches(lab.a, lab.b.address)
    expected = {"part": (False, True, True), "block": (False, False, True), "unplug": (False, False, False)}[fault]
    if fault == "part":
        lab.part()
    else:
        getattr(lab, fault)(lab.a)
    carrier = "LOWER_UP" in lab.show("-n", lab.a.namespace, "-o", "link", "show", "dev", "eth0")
    seen = (_reaches(lab.a, lab.b.address), _reaches(lab.a, GATEWAY), carrier)
    assert seen == expected


def test_the_addresses_are_those_that_ip_shows(lab: Lab) -> None:
    """Of both families, those that come and go, and none of another interface."""

    def shown() -> list[str]:
        return re.findall(r"inet6? (\S+?)/", lab.show("-n", lab.a.namespace, "-o", "addr", "show", "dev", "eth0"))

    before = lab.a.addresses()
    assert sorted(before) == sorted(shown())
    assert {lab.a.address, lab.a.address6} <= set(before)
    assert lab.a.link_address not in before
    for address in (f"{VIP}/32", f"{VIP6}/128"):
        lab.show("-n", lab.a.namespace, "addr", "add", address, "dev", "eth0")
    assert set(lab.a.addresses()) - set(before) == {VIP, VIP6}
    assert sorted(lab.a.addresses()) == sorted(shown())
    lab.show("-n", lab.a.namespace, "addr", "flush", "dev", "eth0")
    assert lab.a.addresses() == []


def test_a_command_that_fails_ends_what_was_to_be_configured(lab: Lab) -> None:
    """With what ip said; what came before it is done, what comes after it isn't."""
    add = f"-n {lab.a.namespace} addr add"
    with pytest.raises(OSError, match="nowhere"):
        configure(f"{add} {VIP}/32 dev eth0", f"{add} {VIP}/32 dev nowhere", f"{add} {VIP6}/128 dev eth0")
    assert lab.a.has_vip(VIP)
    assert not lab.a.has_vip(VIP6)


def _reaches(machine: Machine, address: str) -> bool:
    """Whether a machine gets any answer from an address: a refused connection is one."""
    with inside(machine.namespace, socket.socket) as sock:
        sock.settimeout(0.3)
        return sock.connect_ex((address, 9)) == errno.ECONNREFUSED


def test_the_noise_is_invalid_for_one_reason_only(lab: Lab) -> None:
    """The advert that malformed ones are made from is believed: keepalived gives way to its priority."""
    node = Keepalived(lab.a, Pair(), 150)
    node.await_state("master")
    with inside(lab.client, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sock:
        sock.bind(("eth0", 0))
        sock.send(frame(lab.b.address, advert(lab.b.address, 255)))
    node.await_state("backup")
    assert not node.complaints
