"""Pins what a backend knows of itself."""

import pytest

from pyproxy.balance.backend import Backend
from pyproxy.config.runtime import Backend as BackendConfig


@pytest.mark.parametrize(("host", "address"), [("10.0.0.1", b"10.0.0.1:81"), ("fd00::1", b"[fd00::1]:81")])
def test_address(host: str, address: bytes) -> None:
    """The address is what a Host field may say, IPv6 in brackets."""
    backend = Backend("web", BackendConfig("a", host, 81, 3, True, 0))
    assert backend.address == address
    assert (backend.host, backend.port, backend.weight, backend.backup, backend.active) == (host, 81, 3, True, 0)


def test_repr() -> None:
    """Logs say who, where and how busy."""
    backend = Backend("web", BackendConfig("a", "10.0.0.1", 80, 3, False, 0))
    backend.active = 12
    assert repr(backend) == "<Backend web/a 10.0.0.1:80 weight 3 12 active>"
