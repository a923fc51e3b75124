"""Pins what a backend knows of itself."""

from dataclasses import replace

import pytest

from pyproxy.balance.backend import Backend
from pyproxy.config.runtime import Backend as BackendConfig


@pytest.mark.parametrize(("host", "address"), [("10.0.0.1", b"10.0.0.1:81"), ("fd00::1", b"[fd00::1]:81")])
def test_address(host: str, address: bytes) -> None:
    """The address is what a Host field may say, IPv6 in brackets."""
    backend = Backend("web", BackendConfig("a", host, 81, 3, True, 5))
    assert backend.address == address
    assert (backend.host, backend.port, backend.path, backend.weight, backend.backup) == (host, 81, "", 3, True)
    assert (backend.max_conns, backend.active, backend.latency) == (5, 0, None)
    assert (backend.failures, backend.counts_from) == (0, 0.0)


def test_unix_address() -> None:
    """A unix socket has its path."""
    backend = Backend("web", BackendConfig("a", "", 0, 1, False, 0, path="/run/app.sock"))
    assert (backend.path, backend.address) == ("/run/app.sock", b"unix:/run/app.sock")


def test_repr() -> None:
    """Logs say who, where and how busy."""
    backend = Backend("web", BackendConfig("a", "10.0.0.1", 80, 3, False, 0))
    backend.active = 12
    assert repr(backend) == "<Backend web/a 10.0.0.1:80 up ready weight 3 12 active>"


CONFIG = BackendConfig("a", "10.0.0.1", 80, 3, False, 0)


@pytest.mark.parametrize("change", [{}, {"weight": 7}, {"state": "drain"}, {"max_conns": 5}, {"backup": True}])
@pytest.mark.parametrize("standing", [{}, {"health": "down"}, {"ejected": True}])
def test_a_change_that_is_not_about_its_health_leaves_that_alone(
    change: dict[str, object], standing: dict[str, object]
) -> None:
    """What was counted against it stays counted, and nobody is told that it fell, however it stood before."""
    before = replace(CONFIG, **standing)  # type: ignore[arg-type]
    backend = Backend("web", before)
    backend.failures, backend.counts_from = 4, 100.0
    assert not backend.update(replace(before, **change), 200.0)  # type: ignore[arg-type]
    assert (backend.failures, backend.counts_from) == (4, 100.0)


@pytest.mark.parametrize(
    ("before", "after", "falls"),
    [
        ({}, {"health": "down"}, True),
        ({"health": "checking"}, {"health": "down"}, True),
        ({}, {"ejected": True}, True),
        ({"health": "down"}, {"health": "up"}, False),
        ({"ejected": True}, {"ejected": False}, False),
        ({"health": "down"}, {"health": "down", "ejected": True}, True),
    ],
)
def test_another_health_begins_the_count_anew(before: dict[str, object], after: dict[str, object], falls: bool) -> None:
    """In either direction; only what takes it out of service is a fall."""
    backend = Backend("web", replace(CONFIG, **before))  # type: ignore[arg-type]
    backend.failures, backend.counts_from = 4, 100.0
    assert backend.update(replace(CONFIG, **after), 200.0) is falls  # type: ignore[arg-type]
    assert (backend.failures, backend.counts_from) == (0, 200.0)
