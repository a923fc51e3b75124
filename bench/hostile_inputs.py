"""
What peers send that mean no good: names and bytes only, nothing is sent from here.

Each input is long enough for its bytes to cost more than the connection and the request that they come with. An input
that a limit refuses stays in: what is refused was received, and had its price.
"""

from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase
from typing import NamedTuple

#: As much as a head may have by default, so that what is refused for its size is refused as late as possible.
HEAD_BYTES = 32 * 1024
#: So much of an answer's head is read before it must be complete.
ANSWER_HEAD_BYTES = 60 * 1024
BODY_BYTES = 96 * 1024
COOKIE = b"SRV"

#: Fields that mean something to us in a request, and a value that is valid where any is.
REQUEST_FIELDS = {
    b"Host": b"a",
    b"Connection": b"close",
    b"Proxy-Connection": b"x",
    b"Content-Length": b"0",
    b"Transfer-Encoding": b"chunked",
    b"Upgrade": b"x",
    b"TE": b"x",
    b"Expect": b"x",
    b"X-Request-Id": b"x",
    b"Referer": b"x",
    b"User-Agent": b"x",
    b"X-Forwarded-For": b"::1",
    b"X-Forwarded-Proto": b"x",
    b"X-Forwarded-Host": b"x",
    b"X-Forwarded-Port": b"1",
    b"Forwarded": b"x",
    b"X-Real-IP": b"::1",
    b"Keep-Alive": b"x",
    b"HTTP2-Settings": b"x",
    b"Trailer": b"x",
    b"Cookie": b"a",
}
#: The same for an answer.
ANSWER_FIELDS = {
    b"Connection": b"x",
    b"Proxy-Connection": b"x",
    b"Content-Length": b"0",
    b"Transfer-Encoding": b"chunked",
    b"Upgrade": b"x",
    b"Trailer": b"x",
    b"Keep-Alive": b"timeout=1",
    b"TE": b"x",
    b"Set-Cookie": b"a",
    b"Date": b"x",
    b"Location": b"/",
    b"WWW-Authenticate": b"Negotiate",
}


class Input(NamedTuple):
    """Some bytes; ``requests`` are those in it, ``step`` is how many make a segment, 0 for all at once."""

    name: str
    data: bytes
    requests: int = 1
    step: int = 0


def words() -> Iterator[bytes]:
    """Give tokens that are all different, the shortest first."""
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            yield "".join(letters).encode()


def fill(size: int, pattern: bytes = b"%b:\r\n") -> bytes:
    """Fill so many bytes with a pattern around words that never come again."""
    found, length = [], 0
    for word in words():
        found.append(pattern % word)
        length += len(found[-1])
        if length > size:
            return b"".join(found[:-1])
    raise AssertionError("words never end")


def repeat(pattern: bytes, size: int) -> bytes:
    """Fill so many bytes with a pattern."""
    return pattern * (size // len(pattern))


def get(lines: bytes = b"", target: bytes = b"/") -> bytes:
    """Write a request after which the connection ends."""
    return b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % (target, lines)


def post(body: bytes, lines: bytes = b"") -> bytes:
    """Write a request with a chunked body."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    return b"%b%b\r\n%b" % (head, lines, body)


def answer(lines: bytes = b"", body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Write an answer after which the connection ends."""
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, lines, body)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMALL_CHUNKS = repeat(b"1\r\nx\r\n", BODY_BYTES)
#: An extension of as much as may come between two pieces of a body.
LONG_EXTENSIONS = repeat(b"1;" + b"x" * 4000 + b"\r\nx\r\n", BODY_BYTES)
SMALL_EXTENSIONS = repeat(b"1;x\r\nx\r\n", BODY_BYTES)
LAST = b"0\r\n\r\n"


def from_clients() -> Iterator[Input]:
    """Give what clients send."""
    size = HEAD_BYTES - 1024
    yield Input("head: many lines", get(repeat(b"A:\r\n", size)))
    yield Input("head: many names", get(fill(size)))
    yield Input("head: one long line", get(b"A: " + b"x" * size + b"\r\n"))
    yield Input("head: 90 long lines", get(repeat(b"A: " + b"x" * 340 + b"\r\n", size)))
    for name, value in REQUEST_FIELDS.items():
        line = b"%b: %b\r\n" % (name, value)
        yield Input(f"head: many {name.decode()}", get(repeat(line, size)))
    for name in (b"Connection", b"Upgrade", b"TE", b"Trailer", b"X-Forwarded-Proto", b"Keep-Alive"):
        value = fill(size, b"%b,")
        nominated = b"Connection: upgrade\r\n" if name == b"Upgrade" else b""
        yield Input(f"head: {name.decode()} with many words", get(b"%b%b: %b\r\n" % (nominated, name, value)))
        yield Input(f"head: {name.decode()} with commas", get(b"%b: %b\r\n" % (name, b"," * size)))
    names = fill(size // 2, b"%b,")
    lines = b"".join([b"%b: x\r\n" % word for word, _ in zip(words(), range(80), strict=False)])
    yield Input("head: Connection names what is there", get(b"Connection: %b\r\n%b" % (names, lines)))
    yield Input(
        "head: X-Forwarded-For with many trusted", get(b"X-Forwarded-For: %b\r\n" % repeat(b"127.1.1.1,", size))
    )
    different = b",".join([b"127.0.%d.%d" % (n // 250, n % 250) for n in range(size // 12)])
    yield Input("head: X-Forwarded-For, all different", get(b"X-Forwarded-For: %b\r\n" % different))
    yield Input("head: X-Forwarded-For with commas", get(b"X-Forwarded-For: %b\r\n" % (b"," * size)))
    yield Input("head: many cookies", get(b"Cookie: %b\r\n" % repeat(b"a;", size)))
    yield Input("head: the sticky cookie, often", get(b"Cookie: %b\r\n" % repeat(COOKIE + b"=x;", size)))
    yield Input("head: cookies in 90 lines", get(repeat(b"Cookie: " + COOKIE + b"=x" + b";a" * 160 + b"\r\n", size)))
    yield Input("head: bytes that the log escapes", get(b"User-Agent: %b\r\n" % (b"\xff" * size)))
    yield Input("head: never ends", b"GET / HTTP/1.1\r\nHost: a\r\n" + repeat(b"A:\r\n", 2 * size))
    yield Input("target: dot segments", get(target=repeat(b"/..", 8000)))
    yield Input("target: as long as a route's, and longer", get(target=repeat(b"/a", 8000)))
    yield Input("target: slashes", get(target=b"/" * 8000))
    yield Input("target: percent signs", get(target=b"/" + repeat(b"%41", 8000)))
    yield Input("target: bytes above ASCII", get(target=b"/" + b"\xff" * 8000))
    yield Input("target: absolute", get(target=b"http://" + b"a" * 8000))
    yield Input("blank lines before a request", b"\r\n" * size + get())
    yield Input("nothing but noise", bytes(range(256)) * 100)
    tiny = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"
    yield Input("pipelined: tiny requests", tiny * 299 + get(), 300)
    yield Input("pipelined: nowhere", b"TRACE / HTTP/1.1\r\nHost:a\r\n\r\n" * 299 + get(), 300)
    yield Input("body: chunks of a byte", post(SMALL_CHUNKS + LAST))
    yield Input("body: chunks with an extension", post(SMALL_EXTENSIONS + LAST))
    yield Input("body: chunks with a long extension", post(LONG_EXTENSIONS + LAST))
    yield Input("body: an extension without end", post(b"1;" + b"x" * BODY_BYTES))
    yield Input("body: leading zeros", post(repeat(b"0" * 1000 + b"1\r\nx\r\n", BODY_BYTES) + LAST))
    yield Input("trailers: many", post(b"0\r\n" + repeat(b"A:\r\n", 60 * 1024) + b"\r\n"))
    yield Input("trailers: many names", post(b"0\r\n" + fill(60 * 1024) + b"\r\n"))
    yield Input("trailers: too many", post(b"0\r\n" + repeat(b"A:\r\n", 2 * BODY_BYTES) + b"\r\n"))
    yield Input("dripped: a head", get(repeat(b"A: b\r\n", 540)), step=1)
    yield Input("dripped: a long line", get(b"A: " + b"x" * 8000 + b"\r\n"), step=1)
    yield Input("dripped: a target", get(target=b"/" + b"x" * 4000), step=1)
    yield Input("dripped: blank lines", b"\r\n" * 2000 + get(), step=1)
    yield Input("dripped: chunks", post(repeat(b"1\r\nx\r\n", 12_000) + LAST), step=6)
    yield Input("dripped: an extension", post(b"1;" + b"x" * 4000), step=1)
    yield Input("dripped: trailers", post(b"0\r\n" + repeat(b"A:\r\n", 4000) + b"\r\n"), step=1)


def with_proxy_header() -> Iterator[Input]:
    """Give what clients send to a listener that wants a PROXY header."""
    signature = b"\r\n\r\n\x00\r\nQUIT\n"
    addresses = bytes((127, 0, 0, 1, 127, 0, 0, 1, 0, 80, 0, 80))
    fields = repeat(b"\xee\x00\x00", 2048 - len(addresses))
    header = signature + b"\x21\x11" + (len(addresses) + len(fields)).to_bytes(2, "big") + addresses + fields
    line = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
    yield Input("PROXY: version 1, dripped", line + get(), step=1)
    yield Input("PROXY: version 2 with many fields", header + get())
    yield Input("PROXY: version 2, dripped", header + get(), step=1)


def from_backends() -> Iterator[Input]:
    """Give what backends answer."""
    size = ANSWER_HEAD_BYTES
    yield Input("head: many lines", answer(repeat(b"A:\r\n", size)))
    yield Input("head: many names", answer(fill(size)))
    yield Input("head: one long line", answer(b"A: " + b"x" * size + b"\r\n"))
    yield Input("head: never ends", b"HTTP/1.1 200 OK\r\n" + repeat(b"A:\r\n", 4 * size))
    for name, value in ANSWER_FIELDS.items():
        yield Input(f"head: many {name.decode()}", answer(repeat(b"%b: %b\r\n" % (name, value), size)))
    for name in (b"Connection", b"Upgrade", b"Trailer", b"Keep-Alive"):
        yield Input(f"head: {name.decode()} with many words", answer(b"%b: %b\r\n" % (name, fill(size, b"%b,"))))
        yield Input(f"head: {name.decode()} with commas", answer(b"%b: %b\r\n" % (name, b"," * size)))
    names = fill(size // 2, b"%b,")
    lines = b"".join([b"%b: x\r\n" % word for word, _ in zip(words(), range(400), strict=False)])
    yield Input("head: Connection names what is there", answer(b"Connection: %b\r\n%b" % (names, lines)))
    yield Input("head: a long reason", answer(status=b"200 " + b"x" * size))
    interim = answer(repeat(b"A: b\r\n", 4000), status=b"103 Early")
    yield Input("interim answers", interim * 15 + answer())
    yield Input("interim answers without end", answer(status=b"103 x") * 3000)
    yield Input("body: chunks of a byte", answer(CHUNKED, SMALL_CHUNKS + LAST))
    yield Input("body: chunks with an extension", answer(CHUNKED, SMALL_EXTENSIONS + LAST))
    yield Input("body: chunks with a long extension", answer(CHUNKED, LONG_EXTENSIONS + LAST))
    yield Input("body: an extension without end", answer(CHUNKED, b"1;" + b"x" * BODY_BYTES))
    yield Input("trailers: many", answer(CHUNKED, b"0\r\n" + repeat(b"A:\r\n", size) + b"\r\n"))
    yield Input("trailers: many names", answer(CHUNKED, b"0\r\n" + fill(size) + b"\r\n"))
    yield Input("trailers: too many", answer(CHUNKED, b"0\r\n" + repeat(b"A:\r\n", 4 * size) + b"\r\n"))
    yield Input("answers nobody asked for", answer(b"Content-Length: 0\r\n") * 2000)
    yield Input("dripped: a head", answer(repeat(b"A: b\r\n", 2000)), step=1)
    yield Input("dripped: a long line", answer(b"A: " + b"x" * 8000 + b"\r\n"), step=1)
    yield Input("dripped: a reason", answer(status=b"200 " + b"x" * 8000), step=1)
    yield Input("dripped: chunks", answer(CHUNKED, repeat(b"1\r\nx\r\n", 12_000) + LAST), step=6)
    yield Input("dripped: until the end", answer(b"", b"x" * 3000), step=1)
    yield Input("dripped: trailers", answer(CHUNKED, b"0\r\n" + repeat(b"A:\r\n", 4000) + b"\r\n"), step=1)


def to_checks() -> Iterator[Input]:
    """Give what backends answer to checks that look for a text in the body."""
    size = ANSWER_HEAD_BYTES
    yield Input("head: many lines", answer(repeat(b"A:\r\n", size)))
    yield Input("head: many X-LB-State", answer(repeat(b"X-LB-State: a\r\n", size)))
    yield Input("head: never ends", b"HTTP/1.1 200 OK\r\n" + repeat(b"A:\r\n", 4 * size))
    yield Input("interim answers", answer(status=b"103 x") * 3000)
    yield Input("body: nearly the text", answer(b"", repeat(b"needl", BODY_BYTES)))
    yield Input("body: chunks of a byte", answer(CHUNKED, SMALL_CHUNKS + LAST))
    yield Input("body: an extension without end", answer(CHUNKED, b"1;" + b"x" * 16 * BODY_BYTES))
    yield Input("trailers: too many", answer(CHUNKED, b"0\r\n" + repeat(b"A:\r\n", 16 * BODY_BYTES)))
    yield Input("dripped: body", answer(b"", b"x" * 3000), step=1)


def to_the_api() -> Iterator[Input]:
    """Give what comes to the admin API."""

    def ask(body: bytes) -> bytes:
        head = b"POST /api/v1/explain HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    size = 60 * 1024
    start = b'{"method":"GET","url":"http://a/","headers":['
    yield Input("JSON: deep", ask(b"[" * size + b"]" * 100))
    yield Input("JSON: unknown keys", ask(b"{" + fill(size, b'"%b":1,') + b'"method":"GET"}'))
    yield Input("JSON: keys nearly right", ask(b"{" + fill(size, b'"method%b":1,') + b'"method":"GET"}'))
    yield Input("JSON: many headers", ask(start + repeat(b'["a","b"],', size) + b'["a","b"]]}'))
    yield Input("JSON: bad headers", ask(start + repeat(b'["\\n",1],', size) + b'["a","b"]]}'))
    yield Input("JSON: no pairs", ask(start + repeat(b"1,", size) + b"1]}"))
    yield Input("JSON: a long URL", ask(b'{"method":"GET","url":"http://a/%b"}' % repeat(b"../", size)))
    yield Input("JSON: a long number", ask(b'{"method":%b}' % (b"9" * size)))
    yield Input("head: many lines", get(repeat(b"A: b\r\n", 30_000)))
    yield Input("head: a long line", get(b"A: " + b"x" * 8000 + b"\r\n"))
    yield Input("dripped: a body", ask(b"[" * 3000), step=1)
    yield Input("body: chunks of a byte", post(SMALL_CHUNKS + LAST).replace(b"POST /", b"POST /api/v1/explain"))
    query = b"GET /api/v1/pools?%b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % repeat(b"wait=1&", 4000)
    yield Input("target: many parameters", query)


def held_by_clients() -> Iterator[Input]:
    """Give what clients send and leave there, incomplete or waiting for a backend that says nothing."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    size = HEAD_BYTES - 1024
    yield Input("head: many lines", start + repeat(b"A:\r\n", 2 * size))
    yield Input("head: 90 lines", start + b"A:\r\n" * 90)
    yield Input("head: many Forwarded", start + repeat(b"Forwarded:\r\n", 2 * size))
    yield Input("head: one long line", start + b"A: " + b"x" * size)
    yield Input("head: Connection with many words", start + b"Connection: " + fill(size, b"%b,") + b"\r\n")
    yield Input("head: Upgrade, often", start + repeat(b"Upgrade:a\r\n", size))
    yield Input("head: blank lines", b"\r\n" * size)
    yield Input("whole: 90 lines", start + b"A:\r\n" * 90 + b"\r\n")
    yield Input("whole: Connection with many words", start + b"Connection: " + fill(size, b"%b,") + b"\r\n\r\n")
    yield Input("whole: many cookies", start + b"Cookie: " + repeat(b"a;", size) + b"\r\n\r\n")
    yield Input("whole: a long line", start + b"A: " + b"x" * size + b"\r\n\r\n")
    yield Input("pipelined: tiny requests", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n" * 4000)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield Input("body: chunks of a byte", head + SMALL_CHUNKS)
    yield Input("body: an extension without end", head + b"1;" + b"x" * 60_000)
    yield Input("trailers: many", head + b"0\r\n" + repeat(b"A:\r\n", 60_000))


def held_by_backends() -> Iterator[Input]:
    """Give what backends answer and leave incomplete, or what a client doesn't read."""
    start = b"HTTP/1.1 200 OK\r\n"
    size = ANSWER_HEAD_BYTES
    yield Input("head: many lines", start + repeat(b"A:\r\n", size))
    yield Input("head: many Upgrade", start + repeat(b"Upgrade:a\r\n", size))
    yield Input("head: Connection with many words", start + b"Connection: " + fill(size, b"%b,") + b"\r\n")
    yield Input("head: a long reason", b"HTTP/1.1 200 " + b"x" * size)
    yield Input("head: one long line", start + b"A: " + b"x" * size)
    yield Input("trailers: many", answer(CHUNKED, b"0\r\n" + repeat(b"A:\r\n", size)))
    yield Input("trailers: many names", answer(CHUNKED, b"0\r\n" + fill(size)))
    yield Input("body: an extension without end", answer(CHUNKED, b"1;" + b"x" * size))
    yield Input("body: chunks of a byte", answer(CHUNKED, SMALL_CHUNKS))
