"""The addresses by netlink, by a command, and by nobody here."""

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Any, cast

import pytest

from pyproxy.errors import VipFailed
from pyproxy.failover.interface import Interface
from pyproxy.failover.jobs import Jobs, Result
from pyproxy.failover.netlink import FOREVER, AddressState
from pyproxy.failover.netlink import Interface as Address
from pyproxy.failover.netlink_socket import Netlink
from pyproxy.failover.settings import Settings, VipExec, VirtualIp
from pyproxy.failover.vips import RESTORE_SECONDS, RESTORES, CommandVips, KernelVips, NoVips, Vips, make_vips
from tests.unit.failover.settings import settings

FIRST, SECOND = VirtualIp("10.9.0.100", 32), VirtualIp("10.9.0.101", 32)
BOTH = (FIRST, SECOND)
EXEC = {"run": ["move-ip"], "timeout": 30.0, "interval": 0.0}


class FakeNetlink:
    """Addresses in a dict; ``refuses`` are those that can't be changed."""

    def __init__(self) -> None:
        self.lifetimes: dict[str, int | None] = {}
        self.refuses: set[str] = set()

    def set_address(self, index: int, address: Address, lifetime: int | None) -> None:
        """Add or renew."""
        assert index == 3
        if str(address) in self.refuses:
            raise VipFailed(f"can't add {address}")
        self.lifetimes[str(address)] = lifetime

    def remove_address(self, index: int, address: Address) -> bool:
        """Remove."""
        assert index == 3
        if str(address) in self.refuses:
            raise VipFailed(f"can't remove {address}")
        return self.lifetimes.pop(str(address), 0) != 0

    def addresses(self, index: int | None = None) -> list[AddressState]:
        """List."""
        return [AddressState(3, ip_interface(text), True, True, FOREVER) for text in self.lifetimes]


class FakeInterface:
    index = 3


def kernel_vips() -> tuple[KernelVips, FakeNetlink]:
    """Make the addresses of a kernel that is a dict."""
    netlink = FakeNetlink()
    return KernelVips(cast(Netlink, netlink), cast(Interface, FakeInterface())), netlink


def gone(vip: VirtualIp) -> AddressState:
    """Make the event of an address that went."""
    return AddressState(3, ip_interface(str(vip)), False, True, 0)


def test_the_kernel_gets_and_loses_the_addresses() -> None:
    """With their lifetime, and renewed by the same call."""
    vips, netlink = kernel_vips()
    assert not vips.is_held
    vips.add(BOTH, 2, "why")
    assert netlink.lifetimes == {"10.9.0.100/32": 2, "10.9.0.101/32": 2}
    assert (vips.is_held, vips.is_present) == (True, True)
    vips.add(BOTH, 3, "why")
    assert netlink.lifetimes == {"10.9.0.100/32": 3, "10.9.0.101/32": 3}
    vips.remove(BOTH, "why")
    assert netlink.lifetimes == {}
    assert (vips.is_held, vips.is_present) == (False, False)


def test_one_that_cannot_be_removed_keeps_no_other() -> None:
    """All are tried before the error is told."""
    vips, netlink = kernel_vips()
    vips.add(BOTH, 2, "why")
    netlink.refuses = {str(FIRST)}
    with pytest.raises(VipFailed, match=r"10\.9\.0\.100"):
        vips.remove(BOTH, "why")
    assert list(netlink.lifetimes) == [str(FIRST)]


def test_an_address_that_somebody_removes_is_put_back() -> None:
    """With the lifetime that it had."""
    vips, netlink = kernel_vips()
    vips.add((FIRST,), 2, "why")
    netlink.lifetimes.clear()
    assert not vips.is_present
    assert vips.lost(gone(FIRST), 1.0)
    assert netlink.lifetimes == {str(FIRST): 2}


@pytest.mark.parametrize("event", [gone(SECOND), AddressState(3, ip_interface("10.9.0.100/32"), True, True, 2)])
def test_what_is_not_ours_or_not_gone_is_left_alone(event: AddressState) -> None:
    """Nor is one that we have given away ourselves."""
    vips, _ = kernel_vips()
    vips.add((FIRST,), 2, "why")
    assert not vips.lost(event, 1.0)
    vips.remove((FIRST,), "why")
    assert not vips.lost(gone(FIRST), 1.0)


def test_a_fight_over_an_address_ends() -> None:
    """Another program that removes it again and again wins, and that is told; old fights don't count."""
    vips, _ = kernel_vips()
    vips.add((FIRST,), 2, "why")
    for number in range(RESTORES):
        assert vips.lost(gone(FIRST), float(number))
    with pytest.raises(VipFailed, match="taken away"):
        vips.lost(gone(FIRST), RESTORES)
    assert vips.lost(gone(FIRST), RESTORE_SECONDS + 1)


@pytest.mark.parametrize("start", [0.0, 0.5, 5.0])
def test_a_machine_that_has_just_booted_fights_as_long_as_any(start: float) -> None:
    """Its clock is near 0, which must not look like a fight that is going on."""
    vips, _ = kernel_vips()
    vips.add((FIRST,), 2, "why")
    for _ in range(RESTORES):
        assert vips.lost(gone(FIRST), start)
    with pytest.raises(VipFailed, match="taken away"):
        vips.lost(gone(FIRST), start + RESTORE_SECONDS - 0.1)
    assert vips.lost(gone(FIRST), start + RESTORE_SECONDS + 0.1)


class FakeJobs:
    """Commands that end when a test says how."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.reasons: list[str] = []
        self.posted: list[str] = []
        self._results: asyncio.Queue[Result] = asyncio.Queue()

    async def run(
        self, argv: Sequence[str], timeout: float, environ: Mapping[str, str] | None = None, queue: str = ""
    ) -> Result:
        """Wait for the test."""
        assert (timeout, queue) == (30.0, "vip")
        assert environ is not None
        self.asked.append(list(argv))
        self.reasons.append(environ["PYPROXY_REASON"])
        return await self._results.get()

    def post(self, argv: Sequence[str], timeout: float, environ: Mapping[str, str], queue: str) -> bool:
        """Take down what is to be done after us."""
        self.posted.append(argv[1])
        return True

    async def end(self, result: Result) -> None:
        """Let a command end, and what follows happen."""
        self._results.put_nowait(result)
        await settle()


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(10):
        await asyncio.sleep(0)


OK, FAILED = Result(0, ""), Result(1, "no quota")


async def command_vips(**changes: Any) -> tuple[CommandVips, FakeJobs]:
    """Make addresses of a cloud that says at first that they are not here."""
    chosen = settings(vip_backend="exec", vip_exec={**EXEC, **changes})
    assert isinstance(chosen.vip_exec, VipExec)
    jobs = FakeJobs()
    vips = CommandVips(chosen, chosen.vip_exec, cast(Jobs, jobs))
    await settle()
    await jobs.end(FAILED)
    assert jobs.asked == [["move-ip", "check", "10.9.0.100/32"]]
    return vips, jobs


async def test_a_command_moves_the_addresses() -> None:
    """It hears which and why; they are here when it says so."""
    vips, jobs = await command_vips()
    vips.add((FIRST,), None, "no advert")
    await settle()
    assert (jobs.asked[-1], jobs.reasons[-1]) == (["move-ip", "add", "10.9.0.100/32"], "no advert")
    assert (vips.is_held, vips.is_present) == (True, False)
    await jobs.end(OK)
    assert vips.is_present
    vips.remove((FIRST,), "stopped")
    await settle()
    assert jobs.asked[-1] == ["move-ip", "remove", "10.9.0.100/32"]
    await jobs.end(OK)
    assert (vips.is_held, vips.is_present) == (False, False)
    await vips.close()
    assert jobs.posted == []


async def test_commands_never_overlap_and_the_last_wish_wins() -> None:
    """A release during a slow claim waits for its end; a claim and a release that nobody began cancel out."""
    vips, jobs = await command_vips()
    vips.add((FIRST,), None, "")
    await settle()
    vips.remove((FIRST,), "")
    vips.add((FIRST,), None, "")
    vips.remove((FIRST,), "")
    await settle()
    assert [argv[1] for argv in jobs.asked] == ["check", "add"]
    await jobs.end(OK)
    assert [argv[1] for argv in jobs.asked] == ["check", "add", "remove"]
    await jobs.end(OK)
    await vips.close()


async def test_a_failing_command_says_why_and_another_wish_is_heard_meanwhile() -> None:
    """The pause before the next attempt doesn't keep a release waiting: there is nothing to release then."""
    vips, jobs = await command_vips()
    vips.add((FIRST,), None, "")
    await settle()
    await jobs.end(FAILED)
    assert vips.failure == "exit status 1: no quota"
    assert not vips.is_present
    vips.remove((FIRST,), "")
    await settle()
    assert [argv[1] for argv in jobs.asked] == ["check", "add"]
    await vips.close()
    assert jobs.posted == []


async def test_what_is_under_way_at_the_end_is_undone_by_the_runner() -> None:
    """The speaker doesn't wait for a cloud; the runner does, in the order of the queue."""
    vips, jobs = await command_vips()
    vips.add((FIRST,), None, "")
    await settle()
    vips.remove((FIRST,), "stopped")
    await vips.close()
    assert jobs.posted == ["remove"]


async def test_leftovers_of_an_earlier_life_are_removed() -> None:
    """The first check finds them here, though nobody wants them."""
    chosen = settings(vip_backend="exec", vip_exec=EXEC)
    jobs = FakeJobs()
    vips = make_vips(chosen, cast(Netlink, None), cast(Interface, None), cast(Jobs, jobs))
    await settle()
    await jobs.end(OK)
    assert jobs.asked[-1][1] == "remove"
    await jobs.end(OK)
    await vips.close()


def no_vips(chosen: Settings, netlink: FakeNetlink) -> Vips:
    """Make addresses that somebody else moves."""
    vips = make_vips(chosen, cast(Netlink, netlink), cast(Interface, FakeInterface()), None)
    assert isinstance(vips, NoVips)
    return vips


async def test_none_touches_nothing_and_looks() -> None:
    """Whether they are here is what the kernel says."""
    netlink = FakeNetlink()
    vips = no_vips(settings(vip_backend="none"), netlink)
    vips.add((FIRST,), None, "")
    assert (vips.is_held, vips.is_present, netlink.lifetimes) == (True, False, {})
    netlink.lifetimes = {str(FIRST): None}
    assert vips.is_present
    vips.remove((FIRST,), "")
    assert (vips.is_held, netlink.lifetimes) == (False, {str(FIRST): None})
    assert not vips.lost(gone(FIRST), 1.0)
    await vips.close()


def test_an_interface_with_another_number_gets_the_addresses_and_the_old_one_loses_them() -> None:
    """It was renamed, or made anew, and another one may have its name now: no address stays where nobody renews it."""
    removed: list[int] = []

    class Moving(FakeNetlink):
        def set_address(self, index: int, address: Address, lifetime: int | None) -> None:
            self.lifetimes[f"{index} {address}"] = lifetime

        def remove_address(self, index: int, address: Address) -> bool:
            removed.append(index)
            return True

    netlink, interface = Moving(), FakeInterface()
    held = KernelVips(cast(Netlink, netlink), cast(Interface, interface))
    held.add([FIRST], None, "")
    interface.index = 7
    held.add([FIRST], None, "")
    assert (removed, "7 10.9.0.100/32" in netlink.lifetimes) == ([3], True)
    interface.index = 0  # nothing has the name any more
    held.remove([FIRST], "")
    assert removed == [3, 7]
    held.remove([FIRST], "")
    assert removed == [3, 7], "nothing is left to be removed"


def test_addresses_that_somebody_else_put_here_are_strays() -> None:
    """Those that are wanted here are not."""
    vips, netlink = kernel_vips()
    netlink.lifetimes = {str(SECOND): 0}
    assert vips.strays(BOTH) == [SECOND]
    vips.add((SECOND,), 2, "why")
    assert vips.strays(BOTH) == []
