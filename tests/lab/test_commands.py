"""The operator's commands: guards, notifications, a fence, and one that moves the addresses."""

from pathlib import Path
from typing import Any

import pytest

from pyproxy.config.compile_failover import compile_failover
from pyproxy.config.model_failover import Failover
from tests.lab.namespaces import configure
from tests.lab.pair import MULTICAST
from tests.lab.process import await_true, hold
from tests.lab.speaker import Speaker, section
from tests.lab.topology import VIP, Lab

pytestmark = pytest.mark.lab

ADDRESS = f"{VIP}/32"


def sh(script: str) -> list[str]:
    """Make a command of a shell script; its further arguments are $1 and so on."""
    return ["sh", "-c", script, "sh"]


def lines(file: Path) -> list[str]:
    """Read what commands wrote."""
    return file.read_text().splitlines() if file.exists() else []


def guard(file: Path, **options: Any) -> dict[str, Any]:
    """Make a guard that is content while a file is there."""
    return {"run": ["test", "-e", str(file)], "interval": 0.1, **options}


def reconfigure(speaker: Speaker, priority: int, **options: Any) -> None:
    """Give a speaker other settings."""
    plain = compile_failover(Failover.model_validate(section(speaker.machine, MULTICAST, priority, options)))
    speaker.send({"type": "reconfigure", "settings": plain, "keys": {}})


def test_a_refusing_guard_keeps_the_machine_out_and_lets_it_in_again(lab: Lab, tmp_path: Path) -> None:
    """Also where there is no other machine: nobody serves rather than one with old data."""
    fresh = tmp_path / "fresh"
    speaker = Speaker(lab.a, MULTICAST, 100, guards=[guard(fresh)])
    speaker.await_state("fault")
    hold(lambda: not lab.a.has_vip(), 1.0, "it took the address")
    assert "guard refuses: test -e" in speaker.status["reason"]  # the path may be longer than a reason
    assert [state["ok"] for state in speaker.status["guards"]] == [False]
    fresh.touch()
    speaker.await_state("master")
    fresh.unlink()
    hold(lambda: speaker.state == "master", 1.0, "a guard ended a master")


def test_notifications_come_in_order_and_know_why(lab: Lab, tmp_path: Path) -> None:
    """A slow one doesn't let the next one overtake it; the last one runs though the speaker has ended."""
    trace = tmp_path / "trace"
    slow = sh(f'sleep 0.5; echo "$PYPROXY_PREVIOUS $PYPROXY_STATE $PYPROXY_VIPS $PYPROXY_VRID" >> {trace}')
    quick = sh(f'echo "$PYPROXY_PREVIOUS $PYPROXY_STATE $PYPROXY_REASON" >> {trace}')
    speaker = Speaker(lab.a, MULTICAST, 100, notify={"backup": slow, "master": slow, "fault": quick})
    speaker.await_state("master")
    lab.unplug(lab.a)
    speaker.await_state("fault")
    speaker.stop()
    await_true(lambda: len(lines(trace)) == 3, "not all of them ran")
    assert lines(trace) == [
        f"init backup {ADDRESS} 51",
        f"backup master {ADDRESS} 51",
        "master fault interface eth0 is down",
    ]


def test_commands_have_the_privileges_that_the_speaker_gave_up(lab: Lab, tmp_path: Path) -> None:
    """To mount a file system, for example."""
    file = tmp_path / "status"
    speaker = Speaker(lab.a, MULTICAST, 100, notify={"backup": sh(f"grep CapEff /proc/self/status > {file}")})
    speaker.await_state("backup")
    await_true(lambda: lines(file), "it didn't run")
    ours = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")]
    assert lines(file) == ours


def test_a_command_moves_the_addresses(lab: Lab, tmp_path: Path) -> None:
    """It is told what to do with which, once, and again when the world no longer agrees."""
    trace = tmp_path / "trace"
    here = tmp_path / "here"
    move = sh(
        f'case $1 in check) test -e {here} ;; add) echo "$@" >> {trace}; touch {here} ;;'
        f' remove) echo "$@" >> {trace}; rm -f {here} ;; esac'
    )
    speaker = Speaker(lab.a, MULTICAST, 100, vip_backend="exec", vip_exec={"run": move, "interval": 0.2})
    speaker.await_state("master")
    await_true(here.exists, "it didn't claim them")
    here.unlink()
    await_true(here.exists, "it didn't claim them again")
    assert not lab.a.has_vip()
    speaker.stop()
    await_true(lambda: not here.exists(), "it didn't release them")
    assert lines(trace) == [f"add {ADDRESS}", f"add {ADDRESS}", f"remove {ADDRESS}"]


def test_other_settings_need_no_other_process(lab: Lab, tmp_path: Path) -> None:
    """The address stays where it is; what can't be changed, as commands, is told, and changes nothing."""
    trace = tmp_path / "trace"
    notify = {"fault": sh(f"echo $PYPROXY_PRIORITY >> {trace}")}
    speaker = Speaker(lab.a, MULTICAST, 100, notify={**notify, "master": ["true"]})
    speaker.await_state("master")
    capture = lab.capture()
    reconfigure(speaker, 120, notify=notify, advert_interval=0.2)
    await_true(lambda: capture.adverts("a") and capture.adverts("a")[-1].priority == 120, "the priority is as before")
    await_true(lambda: speaker.status["priority"] == 120, "the status says another priority")
    for impossible in ({"vrid": 52}, {"notify": {"master": ["another"]}}):
        reconfigure(speaker, 130, **impossible)
    await_true(lambda: len(speaker.received("restart_needed")) == 2, "it didn't say that it can't")
    assert speaker.status["priority"] == 120
    assert speaker.transitions == ["backup", "master"]
    lab.unplug(lab.a)
    await_true(lambda: lines(trace), "the new command wasn't run")
    assert lines(trace) == ["120"]


def test_who_still_answers_is_fenced_before_the_addresses_are_taken(lab: Lab, tmp_path: Path) -> None:
    """The link is dead and adverts don't come, but the old machine has the address: it is shot first."""
    trace, shot, key = tmp_path / "trace", tmp_path / "shot", tmp_path / "key"
    key.write_text("k" * 32)
    link = {"bind": f"{lab.b.link_address}:9901", "peer": f"{lab.a.link_address}:9901", "key_file": str(key)}
    configure(f"-n {lab.a.namespace} addr add {ADDRESS} dev eth0")
    fence = sh(f"echo $PYPROXY_HOLDER >> {trace}; until [ -e {shot} ]; do sleep 0.05; done")
    speaker = Speaker(lab.b, MULTICAST, 100, link=link, fence=fence, vip_backend="netlink")
    speaker.await_state("fault")
    assert lab.a.mac in speaker.status["reason"], "at the start a stranger has them, which is no time to shoot"
    assert lines(trace) == []
    advertise = Speaker(lab.a, MULTICAST, 150)
    speaker.await_state("backup")
    advertise.await_state("master")
    advertise.freeze()
    configure(f"-n {lab.a.namespace} addr replace {ADDRESS} dev eth0")
    await_true(lambda: lines(trace) == [lab.a.mac], "nobody was fenced")
    hold(lambda: speaker.state == "backup", 0.5, "it didn't wait for the shot")
    configure(f"-n {lab.a.namespace} addr del {ADDRESS} dev eth0")
    shot.touch()
    speaker.await_state("master")
    assert lines(trace) == [lab.a.mac]
    assert lab.holders() == ["b"]
