"""The PROXY protocol on real connections: believed where it is asked for, written where a backend wants it."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import get, unique_source
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import OriginConnection, Script, serve
from tests.integration.peers import haproxy, nginx
from tests.integration.ports import Ports
from tests.integration.wire import End, Message, parse_head

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CLOSE = get("h", "/", "Connection: close")


def v1(source: str, port: int = 8443) -> bytes:
    """A line that says: from ``source``, to 203.0.113.7 on this port."""
    return f"PROXY TCP4 {source} 203.0.113.7 4711 {port}\r\n".encode()


def v2(source: str, port: int = 8443, tlvs: bytes = b"") -> bytes:
    """The same in version 2."""
    block = socket.inet_aton(source) + socket.inet_aton("203.0.113.7") + (4711).to_bytes(2) + port.to_bytes(2) + tlvs
    return SIGNATURE + b"\x21\x11" + len(block).to_bytes(2) + block


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


def receiving(origin: int, **more: Any) -> dict[str, Any]:
    """A configuration whose listeners want the header, before one origin that is told nothing but HTTP."""
    return {
        "pools": {"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{origin}"}]}},
        **more,
    }


def sending(version: str, address: str) -> dict[str, Any]:
    """A configuration that writes the header to its one backend."""
    return {"pools": {"web": {"backends": [{"name": "a", "address": address}], "send_proxy": version}}}


def required(bind: str) -> dict[str, Any]:
    """A listener that wants the header."""
    return {"name": "proxied", "bind": bind, "proxy_protocol": True}


# ---- in


@pytest.mark.parametrize("header", [v1, v2], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_the_header_is_believed(
    header: Any, size: int, ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """However it is split, it says who the client is and where it connected, for every request of the connection."""
    origin, port, source = start_origin(), ports.take(), unique_source()
    program = start_program(receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")]))
    client = await connect_to(port)
    if size == 10_000:
        await client.send(header(source) + get("h") * 2 + CLOSE)
    else:
        await client.drip(header(source) + get("h"), size)
        await client.send(get("h") + CLOSE)
    assert [answer.status for answer in await client.responses(3)] == [200] * 3
    await client.expect_eof()
    assert [request.get("x-forwarded-for") for request in origin.requests] == [source.encode()] * 3
    assert [request.get("x-forwarded-port") for request in origin.requests] == [b"8443"] * 3
    assert [line.status for line in await program.log.await_lines(3, source)] == [200] * 3
    assert program.log.lines(client.source) == []


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::1 1 1\r\n", LOCAL], ids=["UNKNOWN", "UNKNOWN, more", "LOCAL"]
)
async def test_a_header_without_addresses(
    header: bytes, ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """The connection is valid, and the socket says who is there."""
    origin, port = start_origin(), ports.take()
    start_program(receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")]))
    client = await connect_to(port)
    assert (await client.ask(header + get("h"))).status == 200
    (request,) = origin.requests
    assert request.get("x-forwarded-for") == client.source.encode()
    assert request.get("x-forwarded-port") == str(port).encode()


async def test_who_is_trusted_is_asked_of_the_named_client(
    ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """``trusted_proxies`` looks at the address in the header; who sent the header doesn't matter."""
    origin, port, source = start_origin(), ports.take(), unique_source()
    config = receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")], trusted_proxies=["192.0.2.0/24"])
    program = start_program(config)
    believed, other = await connect_to(port), await connect_to(port)
    request = get("h", "/", f"X-Forwarded-For: {source}")
    await believed.ask(v1("192.0.2.9") + request)
    await other.ask(v2("198.51.100.9") + request)
    assert origin.requests[0].get("x-forwarded-for") == f"{source}, 192.0.2.9".encode()
    assert origin.requests[1].get("x-forwarded-for") == b"198.51.100.9"
    assert len(await program.log.await_lines(1, source)) == 1


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(get("h"), id="HTTP"),
        pytest.param(b"PROXY TCP4 192.0.2.1 203.0.113.7 4711 08443\r\n", id="leading zero"),
        pytest.param(b"PROXY TCP4 192.0.2.1 203.0.113.7 4711 8443\n", id="LF alone"),
        pytest.param(SIGNATURE + b"\x11\x11\x00\x0c", id="v2 of another version"),
        pytest.param(SIGNATURE + b"\x21\x11\x08\x01", id="v2 too long"),
        pytest.param(v2("192.0.2.1", tlvs=b"\x04\x00\x09x"), id="v2 bad TLV"),
    ],
)
async def test_what_is_no_header_is_refused(
    raw: bytes, ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """400 at once, logged under the socket's address; no byte of it gets to a backend."""
    origin, port = start_origin(), ports.take()
    program = start_program(receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")]))
    client = await connect_to(port)
    await client.send(raw)
    answer = await client.read_response()
    assert (answer.status, answer.get("connection")) == (400, b"close")
    await client.send(get("h"))
    await client.expect_closed()
    line = await program.log.await_line(client.source)
    assert (line.request, line.status, line.end) == ("-", 400, "PR")
    assert origin.connections == []


async def test_the_header_is_for_those_who_asked_for_it(
    connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """On a listener without ``proxy_protocol`` nobody can name himself: both versions are malformed requests."""
    origin = start_origin()
    program = start_program(receiving(origin.port))
    for header in (v1("192.0.2.1"), v2("192.0.2.1"), LOCAL):
        client = await connect_to(program.port)
        assert (await client.ask(header + get("h"))).status == 400
    assert origin.connections == []


async def test_a_header_that_does_not_come(
    ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """It has the time of a request's head; who says nothing, or only half of it, is not waited for any longer."""
    origin, port = start_origin(), ports.take()
    client = {"header_timeout": "300ms"}
    program = start_program(receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")], client=client))
    silent, slow, late = [await connect_to(port) for _ in range(3)]
    await slow.send(v1("192.0.2.1")[:-1])
    await late.send(v1("192.0.2.1"))
    for waiting in (silent, slow, late):
        await waiting.read_rest()
        assert waiting.end is not End.OPEN
    await program.await_metric("pyproxy_connections", 0, listener="proxied")
    assert origin.connections == []


async def test_who_leaves_before_the_header_is_whole(
    ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """A port check, an aborted connection and a LOCAL one without a request cost nothing and leave nothing."""
    origin, port = start_origin(), ports.take()
    program = start_program(receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")]))
    for begun in (b"", b"PROXY TCP4 192", v2("192.0.2.1")[:20], LOCAL):
        client = await connect_to(port)
        await client.send(begun)
        client.close()
    await program.await_metric("pyproxy_connections_total", 4, listener="proxied")
    await program.await_metric("pyproxy_connections", 0, listener="proxied")
    assert (await (await connect_to(port)).ask(v1("192.0.2.1") + get("h"))).status == 200


async def test_over_a_unix_socket(tmp_path: Path, start_origin: StartOrigin, start_program: StartProgram) -> None:
    """There the header is what gives a client an address at all."""
    origin, path, source = start_origin(), tmp_path / "x.sock", unique_source()
    program = start_program(receiving(origin.port, listeners=[required(f"unix:{path}")]))
    assert (await _ask_unix(path, v2(source) + CLOSE)).status == 200
    assert (await _ask_unix(path, LOCAL + CLOSE)).status == 200
    named, unnamed = origin.requests
    assert (named.get("x-forwarded-for"), named.get("x-forwarded-port")) == (source.encode(), b"8443")
    assert (unnamed.get("x-forwarded-for"), unnamed.get("x-forwarded-port")) == (b"unix:", None)
    assert len(await program.log.await_lines(1, source)) == 1
    assert len(await program.log.await_lines(1, "unix:")) == 1


async def _ask_unix(path: Path, raw: bytes) -> Message:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return Message(received, *parse_head(received.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"), body=b"")


# ---- out


def after_header(headers: list[bytes]) -> Script:
    """Read one header of version 1, then be an ordinary web node."""

    async def script(connection: OriginConnection) -> None:
        headers.append(await connection.read_until(b"\r\n"))
        await serve()(connection)

    return script


async def test_each_client_has_its_own_connection(
    connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """
    The header names one client, so nobody else's requests may follow on that connection.

    The client's own may: it is written once. When the client leaves, the connection goes too.
    """
    origin, headers = start_origin(), list[bytes]()
    origin.play(after_header(headers))
    program = start_program(sending("v1", f"127.0.0.1:{origin.port}"))
    clients = [await connect_to(program.port) for _ in range(3)]
    for _ in range(3):
        assert [(await client.ask(get("h"))).status for client in clients] == [200] * 3
    assert [len(connection.requests) for connection in origin.connections] == [3] * 3
    ports = [client.sock.getsockname()[1] for client in clients]
    assert headers == [
        f"PROXY TCP4 {client.source} 127.0.0.1 {port} {program.port}\r\n".encode()
        for client, port in zip(clients, ports, strict=True)
    ]
    clients[0].close()
    assert await _ended(origin.connections[0]) is End.EOF
    assert (await clients[1].ask(get("h"))).status == 200


async def _ended(connection: OriginConnection) -> End:
    return await connection.ended()


async def test_the_next_client_from_the_same_address(
    connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """Not even then: its port is another one, and the connection of the first is gone."""
    origin, headers, source = start_origin(), list[bytes](), unique_source()
    origin.play(after_header(headers))
    program = start_program(sending("v1", f"127.0.0.1:{origin.port}"))
    for _ in range(3):
        client = await connect_to(program.port, source=source)
        assert (await client.ask(get("h"))).status == 200
        client.close()
    assert len(set(headers)) == 3
    await program.settled()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_from_header_to_header(
    version: str, ports: Ports, connect_to: Connect, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """What came in a header goes out in the next one, ports and all."""
    origin, port = start_origin(), ports.take()
    expected = {"v1": v1, "v2": v2}[version]("192.0.2.1")
    received: list[bytes] = []

    async def script(connection: OriginConnection) -> None:
        received.append(await connection.read(len(expected)))
        await serve()(connection)

    origin.play(script)
    config = sending(version, f"127.0.0.1:{origin.port}")
    start_program({**config, "listeners": [required(f"127.0.0.1:{port}")]})
    client = await connect_to(port)
    assert (await client.ask(v2("192.0.2.1") + get("h"))).status == 200
    assert received == [expected]


async def test_a_client_on_a_unix_socket_is_unknown(
    tmp_path: Path, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """It has no address to be told of."""
    origin, path, headers = start_origin(), tmp_path / "x.sock", list[bytes]()
    origin.play(after_header(headers))
    config = sending("v1", f"127.0.0.1:{origin.port}")
    start_program({**config, "listeners": [{"name": "main", "bind": f"unix:{path}"}]})
    assert (await _ask_unix(path, CLOSE)).status == 200
    assert headers == [b"PROXY UNKNOWN\r\n"]


# ---- HAProxy and nginx on the other side


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_behind_haproxy(
    option: str,
    host: str,
    ports: Ports,
    tmp_path: Path,
    connect_to: Connect,
    start_origin: StartOrigin,
    start_program: StartProgram,
) -> None:
    """HAProxy's own header, of either version and family, with TLVs too, over TCP and over a unix socket."""
    origin, port, front, path = start_origin(), ports.take(), ports.take(), tmp_path / "x.sock"
    listeners = [required(f"127.0.0.1:{port}"), {**required(f"unix:{path}"), "name": "unix"}]
    program = start_program(receiving(origin.port, listeners=listeners))
    sections = f"""
listen front
    bind {f"[{host}]" if ":" in host else host}:{front}
    unique-id-format %{{+X}}o%ci-%cp
    balance roundrobin
    server tcp 127.0.0.1:{port} {option}
    server unix unix@{path} {option}
"""
    with haproxy(tmp_path, sections):
        client = await connect_to(front, host=host)
        for _ in range(4):
            assert (await client.ask(get("h"))).status == 200
    assert [request.get("x-forwarded-for") for request in origin.requests] == [client.source.encode()] * 4
    assert [request.get("x-forwarded-port") for request in origin.requests] == [str(front).encode()] * 4
    await program.log.await_lines(4, client.source)
    assert program.metric("pyproxy_connections_total", listener="unix") >= 1


async def test_haproxy_checks_us_and_has_clients_without_addresses(
    ports: Ports, tmp_path: Path, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """Its checks come as LOCAL and are answered; clients of its unix socket are as unknown as that."""
    origin, port, front = start_origin(), ports.take(), tmp_path / "front.sock"
    program = start_program(receiving(origin.port, listeners=[required(f"127.0.0.1:{port}")]))
    sections = f"""
listen front
    bind {front}
    option httpchk GET /check
    server s 127.0.0.1:{port} send-proxy-v2 check check-send-proxy inter 50ms fastinter 50ms
"""
    with haproxy(tmp_path, sections):
        check = await program.log.await_line("127.0.0.1", lambda line: line.request.startswith("GET /check "))
        assert (await _ask_unix(front, CLOSE)).status == 200
        request = await program.log.await_line("127.0.0.1", lambda line: line.request.startswith("GET / "))
    assert (check.status, request.status) == (200, 200)
    assert {line.client for line in program.log.lines()} == {"127.0.0.1"}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_before_haproxy_and_nginx(
    version: str, host: str, ports: Ports, tmp_path: Path, connect_to: Connect, start_program: StartProgram
) -> None:
    """Both read our header: each says which four values it found, the client's and those of our listener."""
    port, one, other = ports.take(), ports.take(), ports.take()
    sections = f"""
frontend one
    bind 127.0.0.1:{one} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""
    server = f"""server {{
        listen 127.0.0.1:{other} proxy_protocol;
        return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";
    }}"""
    backends = [{"name": "haproxy", "address": f"127.0.0.1:{one}"}, {"name": "nginx", "address": f"127.0.0.1:{other}"}]
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    start_program(
        {
            "listeners": [{"name": "main", "bind": bind}],
            "pools": {"web": {"backends": backends, "send_proxy": version}},
        }
    )
    with haproxy(tmp_path, sections), nginx(tmp_path, server):
        client = await connect_to(port, host=host)
        answers = [await client.ask(get("h")) for _ in range(4)]
    local = client.sock.getsockname()[1]
    assert [answer.status for answer in answers] == [200] * 4
    assert {answer.body.decode() for answer in answers} == {f"{client.source} {local} {host} {port}"}
