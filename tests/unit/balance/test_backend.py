"""Pins what a backend knows of itself."""

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


def test_unix_address() -> None:
    """A unix socket has its path."""
    backend = Backend("web", BackendConfig("a", "", 0, 1, False, 0, path="/run/app.sock"))
    assert (backend.path, backend.address) == ("/run/app.sock", b"unix:/run/app.sock")


def test_repr() -> None:
    """Logs say who, where and how busy."""
    backend = Backend("web", BackendConfig("a", "10.0.0.1", 80, 3, False, 0))
    backend.active = 12
    assert repr(backend) == "<Backend web/a 10.0.0.1:80 up ready weight 3 12 active>"
