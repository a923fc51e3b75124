"""
Whether a default route leads through an interface, by the kernel's tables.

Must not know why that is asked. It is for the check of a file, which runs without privileges and opens no socket.
"""

import contextlib
from pathlib import Path

_ZERO = "00000000"  # an IPv4 address in /proc


def has_default_route(interface: str) -> bool:
    """Look for one with a gateway, of either family; a machine that hides its tables is believed to have one."""
    try:
        v4 = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    except OSError:
        return True
    v6: list[list[str]] = []
    with contextlib.suppress(OSError):  # a kernel without IPv6
        v6 = [line.split() for line in Path("/proc/net/ipv6_route").read_text().splitlines()]
    # Name, destination, gateway, flags, …, mask; and destination, length, source, length, gateway, …, name.
    return any(row[0] == interface and row[1] == row[7] == _ZERO and row[2] != _ZERO for row in v4) or any(
        row[9] == interface and row[1] == "00" and row[4].strip("0") for row in v6
    )
