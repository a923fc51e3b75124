"""
What the process may and how it runs: capabilities given up, memory locked, scheduled before others.

Must not know VRRP. Order matters to the caller: start the runner, then ``settle``, which can't be undone.

The speaker reads packets that anybody on the network may write, so it keeps what it can't do without: CAP_NET_RAW
for the sockets, CAP_NET_ADMIN to move addresses (the kernel asks for it at each change, so it can't be given up
later), CAP_SYS_NICE and CAP_IPC_LOCK where they are there. What it lacks to run before others costs precision, not
correctness, so it is told and nothing more. Under SCHED_FIFO a runaway would own a core: a limit kills it, and the
supervisor starts another. Both ways of scheduling are reset for whatever this process might start.
"""

import contextlib
import ctypes
import errno
import gc
import logging
import os
import resource
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_interface
from pathlib import Path

from pyproxy.errors import FailoverError, VipFailed
from pyproxy.failover.netlink_socket import Netlink

CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_SYS_NICE = 12, 13, 14, 23
NAMES = {
    CAP_NET_ADMIN: "CAP_NET_ADMIN",
    CAP_NET_RAW: "CAP_NET_RAW",
    CAP_IPC_LOCK: "CAP_IPC_LOCK",
    CAP_SYS_NICE: "CAP_SYS_NICE",
}

FIFO_PRIORITY = 20  # 1..99; below the kernel's own threads, which are at 50
NICE = -20
RUNAWAY_SECONDS = 1.0  # of uninterrupted work under SCHED_FIFO, then the kernel kills us

_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_NOBODYS_ADDRESS = ip_interface("192.0.2.1/32")  # of the block for documentation (RFC 5737)

_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)


def check(interface_index: int, *, moves_addresses: bool) -> None:
    """Try what the speaker will do, without any effect; ``FailoverError`` names the capability that is missing."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError as error:
        raise FailoverError(f"{NAMES[CAP_NET_RAW]} is missing: adverts need raw sockets") from error
    if not moves_addresses:
        return
    netlink = Netlink()
    try:
        # Nobody has this address, and who may not remove addresses is told so before it is looked for.
        netlink.remove_address(interface_index, _NOBODYS_ADDRESS)
    except VipFailed as error:
        raise FailoverError(f"{NAMES[CAP_NET_ADMIN]} is missing: the addresses can't be moved ({error})") from error
    finally:
        netlink.close()


def settle() -> list[str]:
    """
    Give up what isn't needed and take a place before others; returns what could not be had, for the log.

    Afterwards neither this process nor what it might start can gain a privilege.
    """
    lacking = [*_protect_from_oom_killer(), *_schedule()]
    kept = keep_capabilities(NAMES)
    lacking += _lock_memory() if CAP_IPC_LOCK in kept else ["memory isn't locked (CAP_IPC_LOCK is missing)"]
    gc.collect()
    gc.freeze()
    gc.disable()  # the speaker collects by itself, when it has time
    return lacking


def keep_capabilities(wanted: Iterable[int]) -> set[int]:
    """Give up every capability but these, for ever; returns those of them that are there."""
    has = effective_capabilities()
    kept = has & set(wanted)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    with contextlib.suppress(OSError):  # without CAP_SETPCAP they stay in the bounding set, out of reach
        for number in range(64):
            if number not in kept and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                _prctl(_PR_CAPBSET_DROP, number)
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0))
    if _libc.capset(header, data) != 0:
        raise _error("capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return kept


def effective_capabilities() -> set[int]:
    """Tell which capabilities this process has."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    if _libc.capget(header, data) != 0:
        raise _error("capget")
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw[:24])
    mask = low | high << 32
    return {number for number in range(64) if mask >> number & 1}


def _schedule() -> list[str]:
    """Run before others: in real time, or at least favoured; what could not be had."""
    limit = int(RUNAWAY_SECONDS * 1e6)
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_RTTIME, (limit, limit))
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(FIFO_PRIORITY))
    except (OSError, ValueError) as error:
        fault = f"no real-time scheduling ({error})"
    else:
        return []
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except OSError as error:
        return [fault, f"no nice value of {NICE} ({error.strerror})"]
    return [fault]


def _lock_memory() -> list[str]:
    """Keep all pages that there are, and those to come as soon as they are touched."""
    for flags in (_MCL_CURRENT, _MCL_FUTURE | _MCL_ONFAULT):
        if _libc.mlockall(flags) != 0:
            return [f"memory isn't locked ({os.strerror(ctypes.get_errno())})"]
    return []


def _protect_from_oom_killer() -> list[str]:
    try:
        Path("/proc/self/oom_score_adj").write_text("-1000")
    except OSError as error:
        return [f"not spared when memory runs out ({error.strerror})"]
    return []


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
        raise _error("prctl")


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
