"""
Carry out what the machine wants done.

Must not know why it wants that. A command is done when ``carry_out`` returns, except for three that take time: a
probe, a fence and a notification; what the first two find comes back as an event.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyproxy.errors import VipFailed
from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover.adverts import Adverts
from pyproxy.failover.jobs import Jobs, Result
from pyproxy.failover.machine import Machine
from pyproxy.failover.neighbours import Neighbours
from pyproxy.failover.netlink import Ip
from pyproxy.failover.notify import Notifier, notify_environ
from pyproxy.failover.report import Report
from pyproxy.failover.settings import VirtualIp
from pyproxy.failover.vips import Vips

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tools:
    """What the hands work with."""

    adverts: Adverts
    vips: Vips
    neighbours: Neighbours
    notifier: Notifier
    report: Report
    jobs: Jobs | None


class Hands:
    """
    See the module's docstring; made inside a running event loop.

    ``post`` takes events for the machine, ``tell`` messages for the supervisor, ``tell_link`` is called when the
    other machine is to hear of our state.
    """

    def __init__(
        self,
        machine: Machine,
        tools: Tools,
        post: Callable[[on.Event], None],
        tell: Callable[[dict[str, Any]], object],
        tell_link: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._tools = tools
        self._post = post
        self._tell = tell
        self._tell_link = tell_link
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Hands {len(self._tasks)} busy>"

    def carry_out(self, command: do.Command) -> None:
        """Do one thing; what fails is told to the machine or logged, never raised."""
        neighbours = self._tools.neighbours
        match command:
            case do.SendAdvert(priority):
                self._tools.adverts.send(priority)
            case do.AddVips(vips, lifetime) | do.RenewLease(vips, lifetime):
                self._add(vips, lifetime)
            case do.RemoveVips(vips):
                self._remove(vips)
            case do.Announce(vips, repeat):
                neighbours.announce(addresses_of(vips), repeat)
            case do.AnnounceSelf():
                neighbours.announce(map(ip_address, self._machine.facts.sources.values()))
            case do.ProbeVips(vips):
                self._begin(self._probe(vips))
            case do.Fence():
                self._begin(self._fence(command))
            case do.TellLink():
                self._tell_link()
            case _:
                self._pass_on(command)

    def _pass_on(self, command: do.Command) -> None:
        """Tell the supervisor, the log and the operator's command."""
        match command:
            case do.Notify(state, before, reason):
                self._notify(state.value, before.value, reason)
            case do.Alarm(name, is_on, text):
                self._alarm(name, text if is_on else "")
            case do.BeginHandover():
                self._tell({"type": "handover_begin"})
            case do.RefuseHandover(reason):
                _log.warning("no handover: %s", reason)
                self._tell({"type": "handover_refused", "reason": reason})
            case do.EndHandover():
                _log.info("the hand-over is over: the addresses are given away")
                self._tell({"type": "handover_done"})

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _add(self, vips: Sequence[VirtualIp], lifetime: int | None) -> None:
        if not self._tools.vips.is_held:
            self._tools.neighbours.forget()  # what the old master said before it went is no conflict
        try:
            self._tools.vips.add(vips, lifetime, self._machine.reason)
        except VipFailed as error:
            _log.error("%s", error)
            self._post(on.VipsFailed(str(error)))

    def _remove(self, vips: Sequence[VirtualIp]) -> None:
        try:
            self._tools.vips.remove(vips, self._machine.reason)
        except VipFailed as error:
            _log.error("%s", error)  # the lease ends it

    async def _probe(self, vips: Sequence[VirtualIp]) -> None:
        self._post(on.ProbeDone(await self._tools.neighbours.find_holder(addresses_of(vips))))

    async def _fence(self, command: do.Fence) -> None:
        result = Result(None, "", "there is no runner")
        if self._tools.jobs is not None:
            state = self._machine.state.value
            environ = notify_environ(self._machine.settings, state, state, "fence")
            environ["PYPROXY_HOLDER"] = command.holder
            _log.warning("fencing the old master (%s)", command.holder or "its hardware address is unknown")
            result = await self._tools.jobs.run(command.command, command.timeout, environ)
        _log.log(logging.INFO if result.is_ok else logging.ERROR, "fence: %s", result.detail)
        self._post(on.FenceDone(result.is_ok, result.detail))

    def _notify(self, state: str, before: str, reason: str) -> None:
        matters = {state, before} & {"master", "fault"}
        _log.log(logging.WARNING if matters else logging.INFO, "%s, was %s: %s", state, before, reason)
        self._tell(self._tools.report.change(before, state, reason))
        self._tools.notifier.changed(state, before, reason)

    def _alarm(self, name: str, text: str) -> None:
        if text:
            _log.warning("alarm %s: %s", name, text)
        else:
            _log.info("alarm %s is over", name)
        self._tell(self._tools.report.alarm(name, text))


def addresses_of(vips: Sequence[VirtualIp]) -> list[Ip]:
    """Give the addresses as objects."""
    return [ip_address(vip.address) for vip in vips]
