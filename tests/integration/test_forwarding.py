"""What a backend receives of a request: target, Host, forwarding headers, ids, and what is taken away."""

import asyncio
import re

import pytest

from tests.integration.client import chunked, get, post, unique_source
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.origin import Origin
from tests.integration.shared import SharedProgram

MADE_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")


async def test_plain_request_arrives_as_it_was_plus_ours(
    proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """End-to-end headers travel unchanged, the target without dot segments; exactly our headers are added."""
    client = await connect()
    await client.ask(
        get("Solo.test:8080", "/a%20b/../?q=%22&x", "Accept: */*", "X-Odd:  two  words ", "Cookie: a=b; c=d")
    )
    request = origin.requests[0]
    assert request.raw.startswith(b"GET /?q=%22&x HTTP/1.1\r\n")
    own = {
        b"host": b"Solo.test:8080",
        b"accept": b"*/*",
        b"x-odd": b"two  words",
        b"cookie": b"a=b; c=d",
    }
    ours = {
        b"x-forwarded-for": client.source.encode(),
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"Solo.test:8080",
        b"x-forwarded-port": str(proxy.port).encode(),
    }
    got = dict(request.headers)
    assert len(got) == len(request.headers), "a header came twice"
    assert MADE_ID.fullmatch(got.pop(b"x-request-id"))
    got.pop(b"connection", None)
    assert got == own | ours
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.request == "GET /a%20b/../?q=%22&x HTTP/1.1"
    assert line.id == request.all("x-request-id")[0].decode()


async def test_order_and_repetition_of_headers_survive(connect: Connect, origin: Origin) -> None:
    """Two headers of one name stay two, in their order, in their spelling."""
    await (await connect()).ask(get("solo.test", "/", "X-B: 1", "x-a: 2", "X-B: 3", "X-EMPTY:"))
    raw = origin.requests[0].raw
    places = [raw.index(line) for line in (b"X-B: 1\r\n", b"x-a: 2\r\n", b"X-B: 3\r\n", b"X-EMPTY:")]
    assert places == sorted(places)


async def test_header_value_bytes_survive(connect: Connect, origin: Origin) -> None:
    """Bytes beyond ASCII and tabs in a value are nobody's business on the way."""
    await (await connect()).ask(get("solo.test", "/", "X-Name: J\xfcrgen\ta"))
    assert origin.requests[0].get("x-name") == b"J\xfcrgen\ta"


FORGED = [
    "X-Forwarded-For: 1.1.1.1",
    "x-forwarded-for: 2.2.2.2",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 443",
    "Forwarded: for=1.1.1.1",
    "X-Real-IP: 1.1.1.1",
]


async def test_untrusted_sender_is_not_believed(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """From anyone, the forwarding headers are set anew, Forwarded and X-Real-IP removed."""
    client = await connect()
    await client.ask(get("solo.test", "/", *FORGED))
    request = origin.requests[0]
    assert request.all("x-forwarded-for") == [client.source.encode()]
    assert request.all("x-forwarded-proto") == [b"http"]
    assert request.all("x-forwarded-host") == [b"solo.test"]
    assert request.all("x-forwarded-port") == [str(proxy.port).encode()]
    assert request.all("forwarded") == request.all("x-real-ip") == []
    assert b"1.1.1.1" not in request.raw
    assert len(await proxy.log.await_lines(1, client.source)) == 1


async def test_trusted_sender_is_believed(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """
    From a trusted proxy, X-Forwarded-For is appended and the others are kept.

    The log has the client it names.
    """
    source = unique_source(trusted=True)
    named = unique_source()
    client = await connect(source=source)
    forwarded = [
        f"X-Forwarded-For: {named}",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: www.test",
        "X-Forwarded-Port: 443",
    ]
    await client.ask(get("solo.test", "/", *forwarded))
    request = origin.requests[0]
    joined = b", ".join(request.all("x-forwarded-for"))
    assert [part.strip() for part in joined.split(b",")] == [named.encode(), source.encode()]
    assert request.all("x-forwarded-proto") == [b"https"]
    assert request.all("x-forwarded-host") == [b"www.test"]
    assert request.all("x-forwarded-port") == [b"443"]
    (line,) = await proxy.log.await_lines(1, named)
    assert line.status == 200


async def test_trusted_sender_without_headers(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A trusted sender that says nothing is the client itself."""
    client = await connect(source=unique_source(trusted=True))
    await client.ask(get("solo.test"))
    request = origin.requests[0]
    assert request.all("x-forwarded-for") == [client.source.encode()]
    assert request.all("x-forwarded-proto") == [b"http"]
    assert request.all("x-forwarded-host") == [b"solo.test"]
    assert len(await proxy.log.await_lines(1, client.source)) == 1


async def test_client_is_the_last_untrusted_address(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Behind several trusted proxies the client is what the outermost saw, not what it claimed."""
    forged, real = unique_source(), unique_source()
    inner, outer = unique_source(trusted=True), unique_source(trusted=True)
    client = await connect(source=inner)
    await client.ask(get("solo.test", "/", f"X-Forwarded-For: {forged}, {real}, {outer}"))
    assert origin.requests[0].get("x-forwarded-for") == f"{forged}, {real}, {outer}, {inner}".encode()
    assert len(await proxy.log.await_lines(1, real)) == 1
    assert proxy.log.lines(forged) == []


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128], ids=["one", "all-kinds", "longest"])
async def test_request_id_is_kept(given: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A proper X-Request-Id travels on and is the one in the log."""
    client = await connect()
    await client.ask(get("solo.test", "/", f"X-Request-Id: {given}"))
    assert origin.requests[0].all("x-request-id") == [given.encode()]
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.id == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a,b", "\xe9"])
async def test_bad_request_id_is_replaced(given: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Anything else is replaced by one of ours, different for each request."""
    client = await connect()
    for _ in range(2):
        await client.ask(get("solo.test", "/", f"X-Request-Id: {given}"))
    first, second = (request.all("x-request-id") for request in origin.requests)
    assert len(first) == len(second) == 1
    assert first != second
    assert MADE_ID.fullmatch(first[0])
    assert [line.id.encode() for line in await proxy.log.await_lines(2, client.source)] == first + second


@pytest.mark.parametrize(
    "header",
    [
        "X_Forwarded_For: 6.6.6.6",
        "x_request_id: 6.6.6.6",
        "Content_Length: 6.6.6.6",
        "_: 6.6.6.6",
        "A-B_C: 6.6.6.6",
    ],
)
async def test_names_with_underscore_are_dropped(header: str, connect: Connect, origin: Origin) -> None:
    """A name that a CGI program would take for another header's doesn't pass."""
    await (await connect()).ask(get("solo.test", "/", header))
    assert b"6.6.6.6" not in origin.requests[0].raw


@pytest.mark.parametrize(
    "headers",
    [
        ["Connection: X-Secret", "X-Secret: 6.6.6.6"],
        ["Connection: close, x-secret", "X-SECRET: 6.6.6.6"],
        ["X-Secret: 6.6.6.6", "Connection: keep-alive", "Connection: X-Secret"],
        ["Connection: x-one,,X-Secret ,", "X-Secret: 6.6.6.6"],
        ["Keep-Alive: 6.6.6.6"],
        ["Proxy-Connection: 6.6.6.6"],
        ["TE: 6.6.6.6", "Connection: TE"],
        ["Proxy-Authorization: 6.6.6.6"],
        ["Connection: 6.6.6.6"],
    ],
    ids=str,
)
async def test_hop_by_hop_request_headers_end_here(headers: list[str], connect: Connect, origin: Origin) -> None:
    """Hop-by-hop headers and those that Connection names are ours alone."""
    await (await connect()).ask(get("solo.test", "/", *headers))
    assert b"6.6.6.6" not in origin.requests[0].raw


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"])
async def test_ours_are_added_after_connection_was_obeyed(name: str, connect: Connect, origin: Origin) -> None:
    """A client can't have our headers removed by naming them in Connection."""
    await (await connect()).ask(get("solo.test", "/", f"Connection: close, {name}"))
    assert len(origin.requests[0].all(name)) == 1


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Transfer-Encoding"])
async def test_connection_cannot_take_host_or_framing(name: str, connect: Connect, origin: Origin) -> None:
    """Naming Host or the framing in Connection doesn't turn a request into another one."""
    client = await connect()
    smuggled = get("solo.test", "/smuggled")
    assert (await client.ask(post("solo.test", smuggled, f"Connection: {name}"))).status == 200
    head = get("solo.test", "/", "Transfer-Encoding: chunked", f"Connection: {name}", method="POST")
    assert (await client.ask(head + chunked(smuggled))).status == 200
    assert [(request.body, request.get("host")) for request in origin.requests] == [(smuggled, b"solo.test")] * 2


async def test_te_trailers_reaches_the_backend_as_such_at_most(connect: Connect, origin: Origin) -> None:
    """Of TE only ``trailers`` may travel on, and then only named in Connection."""
    await (await connect()).ask(get("solo.test", "/", "TE: gzip;q=0.5, trailers", "Connection: TE"))
    request = origin.requests[0]
    assert request.all("te") in ([], [b"trailers"])
    if request.all("te"):
        assert b"te" in request.all("connection")[0].lower()


async def test_via_is_not_added(connect: Connect, origin: Origin) -> None:
    """Via passes when it is there and is not added."""
    client = await connect()
    answer = await client.ask(get("solo.test"))
    await client.ask(get("solo.test", "/", "Via: 1.0 fred"))
    first, second = origin.requests
    assert (first.all("via"), second.all("via"), answer.all("via")) == ([], [b"1.0 fred"], [])


async def test_absolute_form_is_served(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A target in absolute form whose authority is the Host is routed by it."""
    client = await connect()
    assert (await client.ask(get("solo.test", "http://solo.test/x?y"))).status == 200
    request = origin.requests[0]
    assert request.target in {b"/x?y", b"http://solo.test/x?y"}
    assert request.get("host") == b"solo.test"
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.request == "GET http://solo.test/x?y HTTP/1.1"


async def test_options_star(connect: Connect, origin: Origin) -> None:
    """``OPTIONS *`` is about the server as a whole and is forwarded as it came."""
    assert (await (await connect()).ask(get("solo.test", "*", method="OPTIONS"))).status == 200
    assert origin.requests[0].start[:2] == (b"OPTIONS", b"*")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "PURGE"])
async def test_methods_pass(method: str, connect: Connect, origin: Origin) -> None:
    """Methods are the backend's business, all but CONNECT and TRACE."""
    assert (await (await connect()).ask(get("solo.test", method=method))).status == 200
    assert origin.requests[0].method == method.encode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_body_on_any_method(method: str, connect: Connect, origin: Origin) -> None:
    """A body belongs to its request whatever the method is; the next request is not in it."""
    client = await connect()
    body = get("solo.test", "/smuggled")
    await client.send(post("solo.test", body, method=method) + get("solo.test", "/next"))
    first = await client.read_response(bodiless=method == "HEAD")
    second = await client.read_response()
    assert (first.status, second.body) == (200, b"/next")
    assert [request.body for request in origin.requests] == [body, b""]


async def test_empty_post_keeps_its_length(connect: Connect, origin: Origin) -> None:
    """``Content-Length: 0`` is forwarded, so that a backend that insists on a length gets one."""
    assert (await (await connect()).ask(post("solo.test", b""))).status == 200
    assert origin.requests[0].get("content-length") == b"0"


async def test_request_chunks_are_framed_anew(connect: Connect, origin: Origin) -> None:
    """A chunked body arrives chunked and whole; extensions and trailers end here."""
    head = get("solo.test", "/", "Transfer-Encoding: chunked", "Trailer: X-T", method="POST")
    body = b'3;name="v"\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 6.6.6.6\r\n\r\n'
    client = await connect()
    assert (await client.ask(head + body)).status == 200
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    request = origin.requests[0]
    assert (request.body, request.trailers) == (b"abcd", ())
    assert request.get("transfer-encoding") == b"chunked"
    assert request.get("content-length") is None
    assert b"6.6.6.6" not in request.raw
    assert b"name=" not in request.raw


async def test_request_byte_by_byte(connect: Connect, origin: Origin) -> None:
    """A request that comes in segments of one byte is served as any other, head, chunks and all."""
    client = await connect()
    await client.drip(get("solo.test", "/slow", "Transfer-Encoding: chunked", method="POST") + chunked(b"ab", b"c"))
    assert (await client.read_response()).body == b"/slow"
    assert origin.requests[0].body == b"abc"


async def test_body_streams_before_it_is_whole(connect: Connect, origin: Origin) -> None:
    """The backend reads the first part of a body while the client hasn't sent the rest."""
    client = await connect()
    raw = post("solo.test", b"first" + b"second")
    await client.send(raw[:-6])
    connection = await origin.connection()
    while b"first" not in connection.received:
        assert connection.end.value == "open"
        await asyncio.sleep(0.005)
    await client.send(raw[-6:])
    assert (await client.read_response()).status == 200
    assert origin.requests[0].body == b"firstsecond"


async def test_ipv6_both_sides(proxy: SharedProgram, connect: Connect, start_origin: StartOrigin) -> None:
    """An IPv6 client reaches an IPv6 backend, and the address is written as text without brackets."""
    six = start_origin(proxy.origin_port, "::1", "six")
    client = await connect(proxy.port6, host="::1")
    answer = await client.ask(get("six.test"))
    assert answer.get("x-origin") == b"six"
    request = six.requests[0]
    assert request.get("x-forwarded-for") == b"::1"
    assert request.get("x-forwarded-port") == str(proxy.port6).encode()
    line = await proxy.log.await_line("::1", lambda line: line.id.encode() == request.get("x-request-id"))
    assert (line.status, line.ua, line.end) == (200, ["six"], "--")


async def test_ipv6_client_to_ipv4_backend(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """The families of the two sides have nothing to do with each other."""
    assert (await (await connect(proxy.port6, host="::1")).ask(get("solo.test"))).status == 200
    assert origin.requests[0].get("x-forwarded-for") == b"::1"
