"""Pins how the speaker's word is shown: in full, in part, not at all, and as metrics."""

import doctest
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyproxy.control import pair_view
from pyproxy.control.pair_view import MAX_REASONS, Known, Transitions, kind_of, make_view, render, state_of
from tests.unit.admin.fake_pair import pair_view as shown

SPEAKER: dict[str, Any] = {
    "priority": 100,
    "vrid": 51,
    "virtual_ips": [{"address": "192.0.2.1", "prefix": 32}],
    "link": {"peer": {"host": "10.1.0.2", "port": 9901}},
}
STATUS: dict[str, Any] = {
    "state": "master",
    "since": 100.0,
    "reason": "preempts",
    "priority": 100,
    "vip_present": True,
    "last_advert": 99.0,
    "peer": {"state": "backup", "heard": 99.5, "well": True, "healthy_backends": 3},
    "link": {"state": "up", "heard_age": 0.1, "speaking": True, "boot": "x", "refused": {"wrong key": 1}},
    "guards": [{"name": "drbd", "ok": None, "detail": "", "at": None}],
    "tracks": [{"name": "web", "ok": True, "detail": "", "at": 100.0}],
    "transitions": [{"at": 100.0, "from": "backup", "to": "master", "reason": "preempts"}],
    "alarms": [{"name": "one_way", "text": "deaf", "since": 100.0}],
    "dual_master_seconds": 1.5,
    "rejected": {"version": 7},
}


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(pair_view).failed == 0


def test_a_full_status_is_shown_in_full() -> None:
    """Times as people and scripts read them; the shape is the API's."""
    view = make_view(Known(SPEAKER, 1.0, STATUS, drift=["client"], kept=["web/a"], config_digest="abc", now=107.5))
    assert view.keys() == shown().keys()
    assert (view["state"], view["since"], view["vip_present"]) == ("master", "1970-01-01T00:01:40.000Z", True)
    assert view["peer"].keys() == shown()["peer"].keys()
    assert (view["peer"]["address"], view["peer"]["state"], view["peer"]["link"]) == ("10.1.0.2", "backup", "up")
    assert view["peer"]["heard"] == "1970-01-01T00:01:39.500Z"
    assert view["guards"] == [{"name": "drbd", "ok": None, "detail": "", "at": None, "age": None}]
    assert view["tracks"] == [{"name": "web", "ok": True, "detail": "", "at": "1970-01-01T00:01:40.000Z", "age": 7.5}]
    assert view["transitions"][0]["from"] == "backup"
    assert (view["drift"], view["kept"], view["dual_master_seconds"]) == (["client"], ["web/a"], 1.5)
    assert view["dropped"] == {"version": 7}


def test_nothing_said_yet_is_the_begin() -> None:
    """From the settings what they tell, unknown else."""
    view = make_view(Known({**SPEAKER, "link": None}, 1.0))
    assert view.keys() == shown().keys()
    assert (view["state"], view["vrid"], view["virtual_ips"]) == ("init", 51, ["192.0.2.1/32"])
    assert (view["peer"]["address"], view["peer"]["state"], view["peer"]["link"]) == (None, None, "down")


@pytest.mark.parametrize("state", [None, "", "king", 7])
def test_a_state_that_is_none_counts_as_the_begin(state: Any) -> None:
    """Nobody may take it for a healthy one."""
    assert state_of(Known(SPEAKER, 1.0, {"state": state})) == "init"


def test_without_a_speaker_there_is_an_alarm() -> None:
    """What is shown is old then."""
    view = make_view(Known(SPEAKER, 1.0, STATUS, is_speaking=False))
    assert [alarm["name"] for alarm in view["alarms"]] == ["one_way", "speaker"]


def test_metrics_are_what_prometheus_reads() -> None:
    """With each state, and names that hold what a label must escape."""
    transitions = Transitions()
    transitions.count("master", "no advert for 3.2 s")
    transitions.count("master", "no advert for 3.4 s")
    status = {**STATUS, "guards": [{"name": 'grep "x\\y"', "ok": True}]}
    text = render(make_view(Known(SPEAKER, 1.0, status, drift=["a", "b"])), transitions, 2)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["pyproxy_peer_state", "master"] == 1
    assert found["pyproxy_peer_state", "fault"] == 0
    assert found["pyproxy_peer_transitions_total", "master", "no advert for"] == 2
    assert found["pyproxy_peer_drift",] == 2
    assert found["pyproxy_peer_link_up",] == 1
    assert found["pyproxy_peer_guard_ok", 'grep "x\\y"'] == 1
    assert found["pyproxy_peer_alarm", "one_way"] == 1
    assert found["pyproxy_peer_dual_master_seconds_total",] == 1.5
    assert found["pyproxy_peer_adverts_dropped_total", "version"] == 7
    assert found["pyproxy_peer_speaker_restarts_total",] == 2


def test_a_pair_without_a_link_has_none_that_is_down() -> None:
    """Nobody is to be woken for what isn't configured."""
    status = {**STATUS, "link": {"state": "none"}}
    assert "pyproxy_peer_link_up" not in render(make_view(Known(SPEAKER, 1.0, status)), Transitions(), 0)


def test_there_is_an_end_to_the_reasons_that_are_told_apart() -> None:
    """A guard's name, or the peer's words, must not make series without end."""
    transitions = Transitions()
    for number in range(10 * MAX_REASONS):
        transitions.count("fault", "abcdefghij"[number % 10] * (1 + number // 10))
    assert len(transitions.counts) <= MAX_REASONS + 1
    assert sum(transitions.counts.values()) == 10 * MAX_REASONS


def test_a_reason_keeps_what_is_the_same_each_time() -> None:
    """Numbers and what follows a colon are left out."""
    assert kind_of("interface eth") == "interface eth"
    assert kind_of("") == ""


@pytest.mark.parametrize(("age", "is_old"), [(None, False), (0.9, False), (3.5, True)])
def test_an_old_word_of_the_speaker_is_an_alarm(age: float | None, is_old: bool) -> None:
    """What a speaker said that hangs now may be wrong in everything."""
    view = make_view(Known(SPEAKER, 1.0, STATUS, age=age))
    assert view["age"] == age
    assert [alarm["name"] for alarm in view["alarms"]] == ["one_way", *(["speaker"] if is_old else [])]
