"""
Named network namespaces that don't outlive the test process that made them for long.

Must not know what is built in them.

A name tells whose it is: ``pplab-PID-START-NUMBER-ROLE``, with the start time of the process, so that a process id
that was used again isn't taken for the owner. What a killed run left behind is removed by the next one (``reap``).
"""

import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, groupby
from pathlib import Path
from typing import TypeVar

PREFIX = "pplab"
DIRECTORY = Path("/run/netns")
DEADLINE = 15.0

_CLONE_NEWNET = 0x40000000
_OPTIONS = re.compile(r"(-n \S+ |-o )*")
# rtnetlink: types of messages, flags of a question, attributes of an address.
_DONE, _NEWADDR, _GETADDR = 3, 20, 22
_REQUEST, _DUMP = 0x1, 0x300
_ADDRESS, _LOCAL = 1, 2
_numbers = count(1)
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def new_group() -> str:
    """Return a prefix for the names of namespaces that belong together; used by nobody else."""
    return f"{PREFIX}-{os.getpid()}-{_start_ticks(os.getpid())}-{next(_numbers)}"


def configure(*commands: str) -> str:
    """
    Run ``ip`` commands in order and return what they print; the first one that fails is the last, and is told.

    A command for a namespace begins with ``-n NAME``. Commands in a row for the same one share a process: to start one
    costs more than what it does.
    """
    printed = ""
    for options, group in groupby(commands, _options_of):
        lines = [command.removeprefix(options) for command in group]
        program = ["ip", *options.split(), "-batch", "-"]
        result = subprocess.run(program, input="\n".join(lines), capture_output=True, text=True, check=False)
        if result.returncode:
            raise OSError(f"{' '.join(program)}: {result.stderr.strip()} of {lines}")
        printed += result.stdout
    return printed


def _options_of(command: str) -> str:
    found = _OPTIONS.match(command)
    assert found is not None
    return found[0]


def addresses(name: str, interface: str) -> list[str]:
    """
    Return the addresses of an interface in a namespace, without their prefix lengths.

    The kernel is asked, not ``ip``: tests look every few milliseconds, and a process for each look costs more than what
    they look at.
    """

    def ask() -> list[str]:
        index = socket.if_nametoindex(interface)
        found: list[str] = []
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
            sock.send(struct.pack("=IHHII8x", 24, _GETADDR, _REQUEST | _DUMP, 1, 0))
            while True:
                for kind, body in _messages(sock.recv(65536)):
                    if kind == _DONE:
                        return found
                    assert kind == _NEWADDR, kind
                    family, _, _, _, its_index = struct.unpack_from("=BBBBI", body)
                    values = dict(_attributes(body[8:]))
                    if its_index == index:
                        found.append(socket.inet_ntop(family, values.get(_LOCAL) or values[_ADDRESS]))

    return inside(name, ask)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take netlink messages apart: the type and the rest of each."""
    while data:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]


def inside(name: str, action: Callable[[], T]) -> T:
    """
    Call ``action`` in a namespace and return what it returns; sockets that it opens stay there.

    A thread enters and ends: Python has ``os.setns`` only since 3.12, and the test process itself never moves.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with (DIRECTORY / name).open() as namespace:
                if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {name}")  # noqa: TRY301 - one way out for all errors
            results.append(action())
        except BaseException as error:  # noqa: BLE001, RUF100 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def set_kernel(name: str, **settings: object) -> None:
    """Set kernel parameters below ``net`` in a namespace, ``ipv6_conf_all_forwarding=1`` for net/ipv6/conf/all/…."""

    def write() -> None:
        for key, value in settings.items():
            parts = key.split("_", 3)
            Path("/proc/sys/net", *parts).write_text(str(value))

    inside(name, write)


def destroy(name: str) -> None:
    """End every process in a namespace and remove it; nothing happens if it is gone already."""
    with suppress(FileNotFoundError):
        kill_members(name)
        with suppress(OSError):  # somebody else's reaper may have been faster
            configure(f"netns del {name}")


def kill_members(name: str) -> None:
    """End every process in a namespace, at once, and wait until they are gone."""
    until = time.monotonic() + DEADLINE
    while (members := members_of(name)) and time.monotonic() < until:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def reap() -> list[str]:
    """Remove the namespaces of runs that are over; their names."""
    gone = [path.name for path in sorted(DIRECTORY.glob(f"{PREFIX}-*")) if not _has_owner(path.name)]
    for name in gone:
        destroy(name)
    return gone


def _has_owner(name: str) -> bool:
    _, pid, start, *_ = name.split("-")
    return _start_ticks(int(pid)) == int(start)


def _start_ticks(pid: int) -> int:
    """Return when a process started, in the kernel's ticks; 0 if there is none."""
    return int(_stat(pid)[19])


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that waits to be reaped doesn't count."""
    return _stat(pid)[0] not in "ZX0"


def _stat(pid: int) -> list[str]:
    """Read the fields of /proc/PID/stat from the third on; all "0" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50


def members_of(name: str) -> list[int]:
    """Return the ids of the processes in a namespace."""
    inode = (DIRECTORY / name).stat().st_ino
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "ns" / "net").stat().st_ino == inode:
                found.append(int(process.name))
    return found
