"""What a real name server's answers are read as."""

import asyncio
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import dns.rcode
import pytest

from pyproxy.config.runtime import Backend
from pyproxy.control.answers import MAX_ADDRESSES
from pyproxy.control.lookup import Lookup, LookupFailed
from tests.integration.dns_server import DnsServer
from tests.integration.ports import Ports


@pytest.fixture
def server(ports: Ports) -> Iterator[DnsServer]:
    """A name server without records."""
    server = DnsServer(ports.take()).start()
    yield server
    server.stop()


def lookup(server: DnsServer, name: str = "app.test", kind: str = "address") -> Lookup:
    """Look up a name, with port 80 where it has none of its own."""
    return Lookup(Backend("app", name, 80, 1, False, 0, lookup=kind), [server.address])


async def found(watched: Lookup) -> list[tuple[str, int, str, bool]]:
    """Ask, and return plain tuples with the shares as text."""
    return [(host, port, str(share), backup) for host, port, share, backup in (await watched.find()).answer]


async def test_ipv4_and_ipv6_together(server: DnsServer) -> None:
    """All addresses share the traffic, and the answer is good for as long as its shortest record."""
    server.put("app.test", "A", "127.0.0.3", "127.0.0.2", ttl=30)
    server.put("app.test", "AAAA", "::1", ttl=20)
    answer, ttl, left_out = await lookup(server).find()
    assert [(address.host, address.share) for address in answer] == [
        ("127.0.0.2", Fraction(1, 3)),
        ("127.0.0.3", Fraction(1, 3)),
        ("::1", Fraction(1, 3)),
    ]
    assert (ttl, left_out) == (20, 0)


async def test_one_kind_is_enough(server: DnsServer) -> None:
    """Most names have no IPv6 address; that half of the question being empty is no failure."""
    server.put("app.test", "A", "127.0.0.2")
    assert await found(lookup(server)) == [("127.0.0.2", 80, "1", False)]
    server.put("six.test", "AAAA", "::1")
    assert await found(lookup(server, "six.test")) == [("::1", 80, "1", False)]


async def test_half_a_failure_takes_no_address_away(server: DnsServer) -> None:
    """What a server fails to tell of one kind of address stays; when it says that they are gone, they are."""
    watched = lookup(server)
    server.put("app.test", "A", "127.0.0.2")
    server.put("app.test", "AAAA", "::1")
    both = await found(watched)
    assert [host for host, *_ in both] == ["127.0.0.2", "::1"]
    for kind in ("A", "AAAA"):
        server.failures = {kind: dns.rcode.SERVFAIL}
        assert await found(watched) == both
    server.failures = {}
    server.put("app.test", "AAAA")
    assert await found(watched) == [("127.0.0.2", 80, "1", False)]


async def test_an_alias_is_followed(server: DnsServer) -> None:
    """The name's own time to live counts, if it is the shorter one."""
    server.put("www.test", "CNAME", "app.test.", ttl=7)
    server.put("app.test", "A", "127.0.0.2", ttl=300)
    answer, ttl, _ = await lookup(server, "www.test").find()
    assert [address.host for address in answer] == ["127.0.0.2"]
    assert ttl == 7


async def test_a_change_is_seen_before_the_time_to_live_is_over(server: DnsServer) -> None:
    """We ask at least once a minute, whatever the record says, and get what the server says now."""
    watched = lookup(server)
    server.put("app.test", "A", "127.0.0.2", ttl=3600)
    assert [host for host, *_ in await found(watched)] == ["127.0.0.2"]
    server.put("app.test", "A", "127.0.0.3", ttl=3600)
    assert [host for host, *_ in await found(watched)] == ["127.0.0.3"]


@pytest.mark.parametrize("trouble", ["missing", "empty", "failing", "gone"])
async def test_no_answer_is_a_failure_that_says_why(server: DnsServer, trouble: str) -> None:
    """A name that isn't there, one without addresses, a server that can't or isn't: none is an empty answer."""
    if trouble == "empty":
        server.put("app.test", "TXT", "hello")
    elif trouble == "failing":
        server.failure = dns.rcode.SERVFAIL
    elif trouble == "gone":
        server.stop()
    with pytest.raises(LookupFailed, match=r"\w+"):
        await lookup(server).find()


async def test_the_hosts_file_is_read(server: DnsServer) -> None:
    """What the machine itself calls localhost is not the name server's to say; it is one machine once."""
    server.put("localhost", "A", "192.0.2.1")
    assert await found(lookup(server, "localhost")) == [("127.0.0.1", 80, "1", False)]
    assert not server.asked


async def test_too_many_addresses_are_counted(server: DnsServer) -> None:
    """The answer is cut, and says by how much."""
    server.put("app.test", "A", *(f"127.0.1.{number}" for number in range(1, MAX_ADDRESSES + 7)))
    answer, _, left_out = await lookup(server).find()
    assert (len(answer), left_out) == (MAX_ADDRESSES, 6)


async def test_a_service(server: DnsServer) -> None:
    """Ports, weights and priorities come from the records, the addresses from their targets."""
    server.put("_http._tcp.test", "SRV", "1 3 81 a.test.", "1 1 82 b.test.", "9 1 83 a.test.", ttl=40)
    server.put("a.test", "A", "127.0.0.2", ttl=50)
    server.put("b.test", "A", "127.0.0.3", "127.0.0.4", ttl=30)
    watched = lookup(server, "_http._tcp.test", "srv")
    assert await found(watched) == [
        ("127.0.0.2", 81, "3/4", False),
        ("127.0.0.3", 82, "1/8", False),
        ("127.0.0.4", 82, "1/8", False),
        ("127.0.0.2", 83, "1", True),
    ]
    assert (await watched.find()).ttl == 30


async def test_a_target_that_fails_does_not_hold_up_the_others(server: DnsServer) -> None:
    """It keeps its last good addresses, is left out if it has none, and is asked for again soon."""
    server.put("_http._tcp.test", "SRV", "1 1 81 a.test.", "1 1 82 b.test.", "1 1 83 never.test.")
    server.put("a.test", "A", "127.0.0.2")
    server.put("b.test", "A", "127.0.0.3")
    watched = lookup(server, "_http._tcp.test", "srv")
    assert [host for host, *_ in await found(watched)] == ["127.0.0.2", "127.0.0.3"]
    server.remove("a.test")
    server.put("b.test", "A", "127.0.0.9")
    assert [host for host, *_ in await found(watched)] == ["127.0.0.2", "127.0.0.9"]
    assert (await watched.find()).ttl == 0


async def test_a_service_that_is_not_there(server: DnsServer) -> None:
    """Neither RFC 2782's target of "." nor targets without addresses are an answer."""
    server.put("_http._tcp.test", "SRV", "0 0 0 .")
    with pytest.raises(LookupFailed, match="no such service"):
        await lookup(server, "_http._tcp.test", "srv").find()
    server.put("_http._tcp.test", "SRV", "0 0 80 never.test.")
    with pytest.raises(LookupFailed, match="none of its targets"):
        await lookup(server, "_http._tcp.test", "srv").find()


async def test_lookups_leave_nothing_behind(server: DnsServer) -> None:
    """Days of lookups, answered or broken off, must not use up threads or descriptors."""
    watched = lookup(server)
    server.put("app.test", "A", "127.0.0.2")
    await watched.find()
    before = None
    for _ in range(3):
        for _ in range(10):
            await watched.find()
        server.is_silent = True
        task = asyncio.create_task(watched.find())
        asked = server.asked.total()
        while server.asked.total() == asked:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.is_silent = False
        async with asyncio.timeout(10):
            # c-ares ends its threads in the background.
            while before is not None and usage() > before:
                await asyncio.sleep(0.01)
        before = usage() if before is None else before


def usage() -> int:
    """How many threads and descriptors this process has."""
    return sum(len(list(Path("/proc/self", part).iterdir())) for part in ("task", "fd"))
