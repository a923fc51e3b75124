"""
Hold the virtual addresses, by the kernel, by a command, or by nobody here: the three values of ``vip_backend``.

Must not know why they are held: the machine decides, the speaker tells.

**netlink**: the kernel has the addresses, for the length of the lease only. As long as the speaker lives it renews
it; if it hangs or is gone for good, the kernel removes the addresses by itself, so that two machines don't hold them
for longer than the lease. Changes are done when the call returns.

**exec**: a command moves the addresses, in a cloud for example. What is wanted is compared with what was done last,
and the command is run until they agree: one at a time, in order, repeated with pauses when it fails. While it holds,
``check`` asks from time to time whether the world still agrees.

**none**: somebody else moves them; only the state is told (``notify``).
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from ipaddress import ip_interface
from typing import Protocol

from pyproxy.errors import VipFailed
from pyproxy.failover.interface import Interface
from pyproxy.failover.jobs import Jobs, vip_command
from pyproxy.failover.netlink import AddressState
from pyproxy.failover.netlink_socket import Netlink
from pyproxy.failover.notify import notify_environ
from pyproxy.failover.settings import Settings, VipExec, VirtualIp

QUEUE = "vip"
RESTORES, RESTORE_SECONDS = 5, 10.0  # how often somebody may take an address away before it becomes a fault
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0  # between two attempts of a command that fails

_log = logging.getLogger(__name__)


class Vips(Protocol):
    """What the speaker asks of any of the three; all but ``close`` return at once."""

    @property
    def is_held(self) -> bool:
        """Whether the addresses are wanted here."""

    @property
    def is_present(self) -> bool:
        """Whether they are here, as far as can be told."""

    def add(self, vips: Sequence[VirtualIp], lifetime: int | None, reason: str) -> None:
        """Have addresses here, or begin their lifetime anew (seconds, None = for ever); raises ``VipFailed``."""

    def remove(self, vips: Sequence[VirtualIp], reason: str) -> None:
        """Have addresses here no longer; raises ``VipFailed`` after having tried all."""

    def lost(self, event: AddressState, now: float) -> bool:
        """Put back what was taken away; whether neighbours are to be told. Raises ``VipFailed`` if that won't do."""

    async def close(self) -> None:
        """Finish what was begun."""


class KernelVips:
    """The addresses of one interface, by netlink."""

    def __init__(self, netlink: Netlink, interface: Interface) -> None:
        self._netlink = netlink
        self._interface = interface
        self._held: dict[VirtualIp, int | None] = {}  # with the lifetime that was given last
        self._places: dict[VirtualIp, int] = {}  # the interface that each was put on: its name may move to another
        self._restored: deque[float] = deque(maxlen=RESTORES)

    def __repr__(self) -> str:
        return f"<KernelVips {len(self._held)} held>"

    @property
    def is_held(self) -> bool:
        """Whether any address is wanted here."""
        return bool(self._held)

    @property
    def is_present(self) -> bool:
        """Whether all that are held are there."""
        return bool(self._held) and not self.missing(self._held)

    def missing(self, vips: Iterable[VirtualIp]) -> list[VirtualIp]:
        """Tell which of some addresses the interface hasn't."""
        there = {str(state.address.ip) for state in self._netlink.addresses(self._interface.index)}
        return [vip for vip in vips if vip.address not in there]

    def strays(self, vips: Sequence[VirtualIp]) -> list[VirtualIp]:
        """Tell which of some addresses the interface has although they aren't wanted here: another program's doing."""
        missing = self.missing(vips)
        return [vip for vip in vips if vip not in missing and vip not in self._held]

    def add(self, vips: Sequence[VirtualIp], lifetime: int | None, reason: str) -> None:
        for vip in vips:
            self._held[vip] = lifetime
            self._put(vip)

    def remove(self, vips: Sequence[VirtualIp], reason: str) -> None:
        failures = []
        for vip in vips:
            self._held.pop(vip, None)
            index = self._places.pop(vip, self._interface.index)
            if not index:
                continue
            try:
                self._netlink.remove_address(index, ip_interface(str(vip)))
            except VipFailed as error:
                failures.append(str(error))
        if failures:
            raise VipFailed("; ".join(failures))

    def lost(self, event: AddressState, now: float) -> bool:
        vip = next((vip for vip in self._held if vip.address == str(event.address.ip)), None)
        if vip is None or event.is_present:
            return False
        if len(self._restored) == RESTORES and now - self._restored[0] < RESTORE_SECONDS:
            raise VipFailed(f"{vip} was taken away {RESTORES} times in {RESTORE_SECONDS:g} s by another program")
        self._restored.append(now)
        _log.warning("%s was taken away by another program, or has expired; it is put back", vip)
        self._put(vip)
        return True

    def _put(self, vip: VirtualIp) -> None:
        """Put an address on the interface that has our name now, and off the one that had it before."""
        index = self._interface.index
        before = self._places.get(vip, index)
        if before != index:
            with contextlib.suppress(VipFailed):  # most often it is gone with its interface
                self._netlink.remove_address(before, ip_interface(str(vip)))
        self._places[vip] = index
        self._netlink.set_address(index, ip_interface(str(vip)), self._held[vip])

    async def close(self) -> None:
        pass


class CommandVips:
    """The addresses by a command; made inside a running event loop."""

    def __init__(self, settings: Settings, run: VipExec, jobs: Jobs) -> None:
        self.is_held = False
        self.is_present = False
        self.failure = ""  # of the last attempt
        self._settings = settings
        self._vips: Sequence[VirtualIp] = settings.virtual_ips
        self._exec = run
        self._jobs = jobs
        self._reason = ""
        self._is_running = False  # a command that may change something
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(self._work())

    def __repr__(self) -> str:
        return f"<CommandVips {'held' if self.is_held else 'not held'}, {'here' if self.is_present else 'not here'}>"

    def add(self, vips: Sequence[VirtualIp], lifetime: int | None, reason: str) -> None:
        self._vips = vips
        self._want(True, reason)

    def remove(self, vips: Sequence[VirtualIp], reason: str) -> None:
        self._want(False, reason)

    def lost(self, event: AddressState, now: float) -> bool:
        return False

    async def close(self) -> None:
        """Have the runner do what is still to be done, after us if need be."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._is_running or self.is_held != self.is_present:
            action = "add" if self.is_held else "remove"
            self._jobs.post(self._argv(action), self._exec.timeout, self._environ(), QUEUE)

    def _want(self, is_held: bool, reason: str) -> None:
        if is_held != self.is_held:
            self.is_held, self._reason = is_held, reason
            self._changed.set()

    async def _work(self) -> None:
        """Begin by asking where the addresses are, then make the world agree with what is wanted, again and again."""
        self.is_present = await self._run("check")
        pause = FIRST_PAUSE
        while True:
            self._changed.clear()
            if self.is_held != self.is_present:
                wanted = self.is_held
                if await self._run("add" if wanted else "remove"):
                    self.is_present, pause = wanted, FIRST_PAUSE
                else:
                    await self._wait(pause)
                    pause = min(2 * pause, LAST_PAUSE)
            elif not await self._wait(self._exec.interval if self.is_held else 0):
                self.is_present = await self._run("check")

    async def _wait(self, seconds: float) -> bool:
        """Wait for another wish, at most some seconds (0 = for ever); whether there was one."""
        try:
            async with asyncio.timeout(seconds or None):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self, action: str) -> bool:
        self._is_running = action != "check"
        result = await self._jobs.run(self._argv(action), self._exec.timeout, self._environ(), QUEUE)
        self._is_running = False
        if action == "check":
            if not result.is_ok and self.is_held:
                _log.warning("the addresses are not here: %s", result.detail)
            return result.is_ok
        self.failure = "" if result.is_ok else result.detail
        if self.failure:
            _log.error("vip_exec %s: %s", action, self.failure)
        return result.is_ok

    def _argv(self, action: str) -> Sequence[str]:
        return vip_command(self._exec, action, self._vips)

    def _environ(self) -> dict[str, str]:
        return notify_environ(self._settings, "master" if self.is_held else "backup", "", self._reason)


class NoVips:
    """Addresses that somebody else moves, on whichever interface of this machine."""

    def __init__(self, settings: Settings, netlink: Netlink) -> None:
        self.is_held = False
        self._wanted = {vip.address for vip in settings.virtual_ips}
        self._netlink = netlink

    def __repr__(self) -> str:
        return f"<NoVips {'wanted' if self.is_held else 'not wanted'} here>"

    @property
    def is_present(self) -> bool:
        """Whether this machine has all of them."""
        return self._wanted <= {str(state.address.ip) for state in self._netlink.addresses()}

    def add(self, vips: Sequence[VirtualIp], lifetime: int | None, reason: str) -> None:
        self.is_held = True

    def remove(self, vips: Sequence[VirtualIp], reason: str) -> None:
        self.is_held = False

    def lost(self, event: AddressState, now: float) -> bool:
        return False

    async def close(self) -> None:
        pass


def make_vips(settings: Settings, netlink: Netlink, interface: Interface, jobs: Jobs | None) -> Vips:
    """Make what ``vip_backend`` asks for; inside a running event loop."""
    if settings.vip_backend == "netlink":
        return KernelVips(netlink, interface)
    if settings.vip_backend == "exec" and settings.vip_exec is not None and jobs is not None:
        return CommandVips(settings, settings.vip_exec, jobs)
    return NoVips(settings, netlink)
