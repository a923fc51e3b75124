"""The PROXY protocol on real connections: believed where it is asked for, written where a backend wants it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.client import get, unique_source
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import Origin, OriginConnection, Script, serve
from tests.integration.peers import haproxy, nginx
from tests.integration.ports import Ports
from tests.integration.program import Program, lend, run_until_stopped
from tests.integration.wire import End, Message, parse_head

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
CLOSE = "Connection: close"


def v1(source: str) -> bytes:
    """A line that says: from ``source``, to 203.0.113.7."""
    return f"PROXY TCP4 {source} 203.0.113.7 4711 8443\r\n".encode()


def v2(source: str, tlvs: bytes = b"") -> bytes:
    """The same in version 2."""
    block = socket.inet_aton(source) + socket.inet_aton("203.0.113.7") + b"\x12\x67\x20\xfb" + tlvs
    return SIGNATURE + b"\x21\x11" + len(block).to_bytes(2) + block


class Proxied(Program):
    """A program with listeners that want a header and such that don't, and pools that send one and such that don't."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.proxied, self.port6 = ports.take(), ports.take()
        self.origin_port, self.haproxy_port, self.nginx_port = ports.take(), ports.take(), ports.take()
        self.path, self.proxied_path = directory / "plain.sock", directory / "proxied.sock"
        origin = [{"name": "a", "address": f"127.0.0.1:{self.origin_port}"}]
        peers = [
            {"name": "haproxy", "address": f"127.0.0.1:{self.haproxy_port}"},
            {"name": "nginx", "address": f"127.0.0.1:{self.nginx_port}"},
        ]
        pools = {
            "plain": {"backends": origin},
            "v1": {"backends": origin, "send_proxy": "v1"},
            "v2": {"backends": origin, "send_proxy": "v2"},
            "peers-v1": {"backends": peers, "send_proxy": "v1"},
            "peers-v2": {"backends": peers, "send_proxy": "v2"},
        }
        routes = [{"host": name, "pool": name} for name in pools]
        super().__init__(directory, ports, {"pools": pools, "routes": routes, "trusted_proxies": ["192.0.2.0/24"]})
        self.config["listeners"] += [
            {"name": "six", "bind": f"[::1]:{self.port6}"},
            {"name": "unix", "bind": f"unix:{self.path}"},
            {"name": "proxied", "bind": f"127.0.0.1:{self.proxied}", "proxy_protocol": True},
            {"name": "proxied-unix", "bind": f"unix:{self.proxied_path}", "proxy_protocol": True},
        ]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Proxied]:
    """One program for all tests here."""
    yield from run_until_stopped(Proxied(tmp_path_factory.mktemp("proxied"), ports))


@pytest.fixture
async def program(running: Proxied) -> AsyncIterator[Proxied]:
    """The program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(running):
        yield lent


@pytest.fixture
async def origin(program: Proxied, start_origin: StartOrigin) -> Origin:
    """The backend of the pools that have no real peers."""
    return start_origin(program.origin_port)


async def ask_unix(path: Path, raw: bytes) -> Message:
    """Send a request that closes its connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return Message(received, *parse_head(received.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"), body=b"")


# ---- in


@pytest.mark.parametrize("header", [v1, v2])
@pytest.mark.parametrize("size", [1, 7, None])
async def test_the_header_is_believed(
    header: Callable[[str], bytes], size: int | None, program: Proxied, origin: Origin, connect_to: Connect
) -> None:
    """However it is split, it says who the client is and where it connected, for every request of the connection."""
    source = unique_source()
    client = await connect_to(program.proxied)
    if size is None:
        await client.send(header(source) + get("plain") * 2 + get("plain", "/", CLOSE))
    else:
        await client.drip(header(source) + get("plain"), size)
        await client.send(get("plain") + get("plain", "/", CLOSE))
    assert [answer.status for answer in await client.responses(3)] == [200] * 3
    await client.expect_eof()
    assert [request.get("x-forwarded-for") for request in origin.requests] == [source.encode()] * 3
    assert [request.get("x-forwarded-port") for request in origin.requests] == [b"8443"] * 3
    assert [line.status for line in await program.log.await_lines(3, source)] == [200] * 3
    assert program.log.lines(client.source) == []


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::1 1 1\r\n", LOCAL])
async def test_a_header_without_addresses(header: bytes, program: Proxied, origin: Origin, connect_to: Connect) -> None:
    """The connection is valid, and the socket says who is there."""
    client = await connect_to(program.proxied)
    assert (await client.ask(header + get("plain"))).status == 200
    (request,) = origin.requests
    assert request.get("x-forwarded-for") == client.source.encode()
    assert request.get("x-forwarded-port") == str(program.proxied).encode()


async def test_who_is_trusted_is_asked_of_the_named_client(
    program: Proxied, origin: Origin, connect_to: Connect
) -> None:
    """``trusted_proxies`` looks at the address in the header; who sent the header doesn't matter."""
    source = unique_source()
    believed, other = await connect_to(program.proxied), await connect_to(program.proxied)
    request = get("plain", "/", f"X-Forwarded-For: {source}")
    await believed.ask(v1("192.0.2.9") + request)
    await other.ask(v2("198.51.100.9") + request)
    chains = {request.get("x-forwarded-for") for request in origin.requests}
    assert chains == {f"{source}, 192.0.2.9".encode(), b"198.51.100.9"}
    assert len(await program.log.await_lines(1, source)) == 1


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(get("plain"), id="HTTP"),
        pytest.param(b"PROXY TCP4 192.0.2.1 203.0.113.7 4711 08443\r\n", id="leading zero"),
        pytest.param(b"PROXY TCP4 192.0.2.1 203.0.113.7 4711 8443\n", id="LF alone"),
        pytest.param(SIGNATURE + b"\x11\x11\x00\x0c", id="v2 of another version"),
        pytest.param(SIGNATURE + b"\x21\x11\x08\x01", id="v2 too long"),
        pytest.param(v2("192.0.2.1", tlvs=b"\x04\x00\x09x"), id="v2 bad TLV"),
    ],
)
async def test_what_is_no_header_is_refused(raw: bytes, program: Proxied, origin: Origin, connect_to: Connect) -> None:
    """400 at once, logged under the socket's address; no byte of it gets to a backend."""
    client = await connect_to(program.proxied)
    await client.send(raw)
    answer = await client.read_response()
    assert (answer.status, answer.get("connection")) == (400, b"close")
    await client.send(get("plain"))
    await client.expect_closed()
    line = await program.log.await_line(client.source)
    assert (line.request, line.status, line.end) == ("-", 400, "PR")
    assert origin.connections == []


async def test_the_header_is_for_those_who_asked_for_it(program: Proxied, origin: Origin, connect_to: Connect) -> None:
    """On a listener without ``proxy_protocol`` nobody can name himself: both versions are malformed requests."""
    for header in (v1("192.0.2.1"), v2("192.0.2.1"), LOCAL):
        client = await connect_to(program.port)
        assert (await client.ask(header + get("plain"))).status == 400
    assert origin.connections == []


async def test_a_header_that_does_not_come(ports: Ports, connect_to: Connect, start_program: StartProgram) -> None:
    """It has the time of a request's head; who says nothing, or only half of it, is not waited for any longer."""
    port = ports.take()
    program = start_program(
        {
            "listeners": [{"name": "proxied", "bind": f"127.0.0.1:{port}", "proxy_protocol": True}],
            "pools": {"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{ports.take()}"}]}},
            "client": {"header_timeout": "300ms"},
        }
    )
    silent, slow, late = [await connect_to(port) for _ in range(3)]
    await slow.send(v1("192.0.2.1")[:-1])
    await late.send(v1("192.0.2.1"))
    for waiting in (silent, slow, late):
        await waiting.read_rest()
        assert waiting.end is not End.OPEN
    await program.await_metric("pyproxy_connections", 0, listener="proxied")


async def test_who_leaves_before_the_header_is_whole(program: Proxied, origin: Origin, connect_to: Connect) -> None:
    """A port check, an aborted connection and a LOCAL one without a request cost nothing and leave nothing."""
    before = program.metric("pyproxy_connections_total", listener="proxied")
    for begun in (b"", b"PROXY TCP4 192", v2("192.0.2.1")[:20], LOCAL):
        client = await connect_to(program.proxied)
        await client.send(begun)
        client.close()
    await program.await_metric("pyproxy_connections_total", before + 4, listener="proxied")
    await program.await_metric("pyproxy_connections", 0, listener="proxied")
    assert (await (await connect_to(program.proxied)).ask(v1("192.0.2.1") + get("plain"))).status == 200


async def test_over_a_unix_socket(program: Proxied, origin: Origin) -> None:
    """There the header is what gives a client an address at all."""
    source = unique_source()
    assert (await ask_unix(program.proxied_path, v2(source) + get("plain", "/named", CLOSE))).status == 200
    assert (await ask_unix(program.proxied_path, LOCAL + get("plain", "/local", CLOSE))).status == 200
    named, unnamed = origin.requests
    assert (named.get("x-forwarded-for"), named.get("x-forwarded-port")) == (source.encode(), b"8443")
    assert (unnamed.get("x-forwarded-for"), unnamed.get("x-forwarded-port")) == (b"unix:", None)
    await program.log.await_line(source, lambda line: line.request.startswith("GET /named "))
    await program.log.await_line("unix:", lambda line: line.request.startswith("GET /local "))


# ---- out


def after_header(headers: list[bytes], size: int | None = None) -> Script:
    """Read one header, a line or so many bytes, then be an ordinary web node."""

    async def script(connection: OriginConnection) -> None:
        headers.append(await (connection.read_until(b"\r\n") if size is None else connection.read(size)))
        await serve()(connection)

    return script


async def test_each_client_has_its_own_connection(program: Proxied, origin: Origin, connect_to: Connect) -> None:
    """
    The header names one client, so nobody else's requests may follow on that connection.

    The client's own may: it is written once. When the client leaves, the connection goes too.
    """
    headers: list[bytes] = []
    origin.play(after_header(headers))
    clients = [await connect_to(program.port) for _ in range(3)]
    for _ in range(3):
        assert [(await client.ask(get("v1"))).status for client in clients] == [200] * 3
    assert [len(connection.requests) for connection in origin.connections] == [3] * 3
    ports = [client.sock.getsockname()[1] for client in clients]
    assert headers == [
        f"PROXY TCP4 {client.source} 127.0.0.1 {port} {program.port}\r\n".encode()
        for client, port in zip(clients, ports, strict=True)
    ]
    clients[0].close()
    assert await origin.connections[0].ended() is End.EOF
    assert (await clients[1].ask(get("v1"))).status == 200


async def test_the_next_client_from_the_same_address(program: Proxied, origin: Origin, connect_to: Connect) -> None:
    """Not even its requests: its port is another one, and the connection of the first is gone."""
    headers: list[bytes] = []
    source = unique_source()
    origin.play(after_header(headers))
    for _ in range(3):
        client = await connect_to(program.port, source=source)
        assert (await client.ask(get("v1"))).status == 200
        client.close()
    assert len(set(headers)) == 3


@pytest.mark.parametrize(("pool", "header"), [("v1", v1), ("v2", v2)])
async def test_from_header_to_header(
    pool: str, header: Callable[[str], bytes], program: Proxied, origin: Origin, connect_to: Connect
) -> None:
    """What came in a header goes out in the next one, ports and all, whichever version it came in."""
    headers: list[bytes] = []
    origin.play(after_header(headers, len(header("192.0.2.1"))))
    for came in (v1, v2):
        client = await connect_to(program.proxied)
        assert (await client.ask(came("192.0.2.1") + get(pool))).status == 200
    assert headers == [header("192.0.2.1")] * 2


async def test_a_client_on_a_unix_socket_is_unknown(program: Proxied, origin: Origin) -> None:
    """It has no address to be told of; in version 2 the header says LOCAL."""
    headers: list[bytes] = []
    origin.play(after_header(headers), after_header(headers, 16))
    assert (await ask_unix(program.path, get("v1", "/", CLOSE))).status == 200
    assert (await ask_unix(program.path, get("v2", "/", CLOSE))).status == 200
    assert headers == [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"]


# ---- HAProxy and nginx on the other side


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_behind_haproxy(
    option: str, host: str, program: Proxied, origin: Origin, connect_to: Connect, ports: Ports, tmp_path: Path
) -> None:
    """HAProxy's own header, of either version and family, with TLVs too, over TCP and over a unix socket."""
    front = ports.take()
    sections = f"""
listen front
    bind {host}:{front}
    unique-id-format %{{+X}}o%ci-%cp
    balance roundrobin
    server tcp 127.0.0.1:{program.proxied} {option}
    server unix unix@{program.proxied_path} {option}
"""
    listeners = ("proxied", "proxied-unix")
    before = [program.metric("pyproxy_connections_total", listener=listener) for listener in listeners]
    with haproxy(tmp_path, sections):
        client = await connect_to(front, host=host.strip("[]"))
        for _ in range(4):
            assert (await client.ask(get("plain"))).status == 200
    assert [request.get("x-forwarded-for") for request in origin.requests] == [client.source.encode()] * 4
    assert [request.get("x-forwarded-port") for request in origin.requests] == [str(front).encode()] * 4
    await program.log.await_line(client.source)
    for listener, count in zip(listeners, before, strict=True):
        assert program.metric("pyproxy_connections_total", listener=listener) > count


async def test_haproxy_checks_us_and_has_clients_without_addresses(
    program: Proxied, origin: Origin, tmp_path: Path
) -> None:
    """Its checks come as LOCAL and are answered; clients of its unix socket are as unknown as that."""
    front = tmp_path / "front.sock"
    sections = f"""
listen front
    bind {front}
    option httpchk
    http-check send meth GET uri /check ver HTTP/1.1 hdr Host plain
    server s 127.0.0.1:{program.proxied} send-proxy-v2 check check-send-proxy inter 50ms
"""
    with haproxy(tmp_path, sections):
        check = await program.log.await_line("127.0.0.1", lambda line: line.request.startswith("GET /check "))
        assert (await ask_unix(front, get("plain", "/asked", CLOSE))).status == 200
        asked = await program.log.await_line("127.0.0.1", lambda line: line.request.startswith("GET /asked "))
    assert (check.status, asked.status) == (200, 200)


@pytest.mark.parametrize("pool", ["peers-v1", "peers-v2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_before_haproxy_and_nginx(
    pool: str, host: str, program: Proxied, connect_to: Connect, tmp_path: Path
) -> None:
    """Both read our header: each says which four values it found, the client's and those of our listener."""
    sections = f"""
frontend one
    bind 127.0.0.1:{program.haproxy_port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""
    server = f"""server {{
        listen 127.0.0.1:{program.nginx_port} proxy_protocol;
        return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";
    }}"""
    port = program.port6 if host == "::1" else program.port
    with haproxy(tmp_path, sections), nginx(tmp_path, server):
        client = await connect_to(port, host=host)
        answers = [await client.ask(get(pool)) for _ in range(4)]
        local = client.sock.getsockname()[1]
        client.close()
    assert [answer.status for answer in answers] == [200] * 4
    assert {answer.body.decode() for answer in answers} == {f"{client.source} {local} {host} {port}"}
