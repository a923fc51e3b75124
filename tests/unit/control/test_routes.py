"""Whether a default route leads through an interface."""

from pathlib import Path

import pytest

from pyproxy.control.routes import has_default_route

V4_HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
V4_ROUTE = "eth0\t00000000\tFE00090A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
V6_ROUTE = f"{'0' * 32} 00 {'0' * 32} 00 fe8{'0' * 28}1 00000400 00000001 00000000 00450003     eth0\n"
V6_NOWHERE = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n"


@pytest.mark.parametrize(
    ("v4", "v6", "is_there"),
    [
        (V4_HEAD + V4_ROUTE, "", True),
        (V4_HEAD, V6_ROUTE + V6_NOWHERE, True),
        (V4_HEAD, V6_NOWHERE, False),
        (V4_HEAD + V4_ROUTE.replace("eth0", "eth1"), "", False),
        (V4_HEAD + V4_ROUTE.replace("FE00090A", "00000000"), "", False),
        (V4_HEAD, "", False),
    ],
)
def test_a_default_route_has_a_gateway_behind_the_interface(
    v4: str, v6: str, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either family; a route to another interface or to nowhere is none."""
    files = {"/proc/net/route": v4, "/proc/net/ipv6_route": v6}
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    assert has_default_route("eth0") is is_there


def test_a_machine_that_hides_its_tables_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be seen isn't warned of."""

    def refuse(_: Path) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert has_default_route("eth0")
