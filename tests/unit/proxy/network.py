"""
Clients and origins on fake transports, and what each of them may see.

Borrows no parser from pyproxy: what came out is read here by the letter of RFC 9112, as a client or a web node
would, and compared with what the other side meant. Must not know how pyproxy is built.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fakes import FakeTransport

BODILESS = {204, 304}
#: What one read of ours brings at most; more is several segments.
SEGMENT_BYTES = 1000


def segments(data: bytes) -> list[bytes]:
    """Cut what is sent at once as the network would."""
    return [data[at : at + SEGMENT_BYTES] for at in range(0, len(data), SEGMENT_BYTES)]


def split_head(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes] | None:
    """Give start line, fields (names in lower case) and the rest; None while the head isn't whole."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    start, *lines = head.split(b"\r\n")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b": ")
        assert colon, line
        assert name.strip() == name, line
        fields.append((name.lower(), value))
    return start, fields, rest


def value_of(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Give a field's value; more than one of them is an error."""
    values = [value for key, value in fields if key == name]
    assert len(values) < 2, fields
    return values[0] if values else None


def take_chunked(data: bytes) -> tuple[bytes, bytes, bool]:
    """Give the body so far, what follows it, and whether it is whole."""
    body = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            return body, b"", False
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            while rest and not rest.startswith(b"\r\n"):
                trailer, found, rest = rest.partition(b"\r\n")
                assert not found or b": " in trailer, trailer
            return body, rest[2:], rest.startswith(b"\r\n")
        body += rest[:size]
        if len(rest) < size + 2:
            return body, b"", False
        assert rest[size : size + 2] == b"\r\n", rest
        data = rest[size + 2 :]


@dataclass
class Asked:
    """A request as its client means it."""

    number: int
    method: bytes = b"GET"
    version: bytes = b"1.1"
    body: bytes = b""
    is_chunked: bool = False
    connection: bytes = b""
    upgrade: bool = False
    is_malformed: bool = False
    target: bytes = b"/"
    #: What origins said to it, by the value of the X-Answer field.
    answers: dict[bytes, "Answer"] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """The bytes to send."""
        lines = [b"%b %b HTTP/%b" % (self.method, self.target, self.version), b"Host: a", b"X-Asked: %d" % self.number]
        if self.is_malformed:
            lines.append(b"Bad Name: x")
        if self.connection:
            lines.append(b"Connection: " + self.connection)
        if self.upgrade:
            lines += [b"Connection: upgrade", b"Upgrade: echo"]
        body = self.body
        if self.is_chunked:
            lines.append(b"Transfer-Encoding: chunked")
            half = len(body) // 2
            pieces = [piece for piece in (body[:half], body[half:]) if piece]
            body = b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nT: u\r\n\r\n"
        elif body:
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass
class Answer:
    """A response as its origin means it; ``raw`` is what is left to send."""

    name: bytes
    status: int
    body: bytes
    raw: bytes
    ends_with_connection: bool = False
    was_sent_whole: bool = False


def write_answer(asked: Asked, kind: str, size: int) -> Answer:
    """Make an answer of a kind; its body says whose it is all the way through."""
    name = b"%d.%d" % (asked.number, len(asked.answers))
    body = (b"<%b>" % name * (size // (len(name) + 2) + 1))[:size]
    status, lines, interim = 200, [b"X-Answer: " + name], b""
    tail = b""
    if kind == "interim":
        interim = b"HTTP/1.1 103 Early Hints\r\nX-Answer: " + name + b"\r\n\r\n"
    if kind == "upgrade":
        status, lines, body = 101, [*lines, b"Connection: upgrade", b"Upgrade: echo"], b""
    elif kind == "no-content":
        status, body = 204, b""
    elif kind == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        pieces = [body[: size // 3], body[size // 3 :]]
        tail = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\nT: u\r\n\r\n"
    elif kind == "until-close":
        tail = body
    else:
        status = 503 if kind == "unavailable" else 200
        lines.append(b"Content-Length: %d" % len(body))
        if kind == "close":
            lines.append(b"Connection: close")
        tail = body
    if asked.method == b"HEAD":
        tail = b""
    head = b"\r\n".join([b"HTTP/1.1 %d X" % status, *lines]) + b"\r\n\r\n"
    raw = b"garbage\r\n\r\n" if kind == "garbage" else interim + head + tail
    answer = Answer(name, status, body, raw, ends_with_connection=kind == "until-close" and asked.method != b"HEAD")
    if kind != "garbage":
        asked.answers[name] = answer
    return answer


class Client:
    """One client connection: what it still has to send, and what it has got."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport
        self.asked: list[Asked] = []
        self.unsent = b""
        self.has_left = False
        self.tunnel_sent = b""
        self.tunnel: Origin | None = None

    def ask(self, asked: Asked) -> None:
        """Queue a request."""
        self.asked.append(asked)
        self.unsent += asked.raw

    def send(self, count: int) -> None:
        """Send the next bytes in one segment."""
        data, self.unsent = self.unsent[:count], self.unsent[count:]
        if data and not self.has_left:
            self.transport.receive(*segments(data))

    @property
    def may_ask(self) -> bool:
        """Whether another request makes sense."""
        return not self.has_left and not any(asked.upgrade or asked.is_malformed for asked in self.asked)

    def check(self) -> list[int]:
        """Hold what came against what was asked and answered; give the numbers answered in whole."""
        whole: list[int] = []
        for asked, is_whole in self._responses(bytes(self.transport.sent)):
            assert not whole or whole[-1] != asked.number
            if is_whole:
                whole.append(asked.number)
        return whole

    def _responses(self, data: bytes) -> Iterator[tuple[Asked, bool]]:
        waiting = list(self.asked)
        while data:
            head = split_head(data)
            if head is None:
                assert data.startswith(b"HTTP/1.1 "[: len(data)])
                return
            assert waiting, f"an answer that nobody asked for: {data!r}"
            start, fields, data = head
            asked, status = waiting[0], int(start.split(b" ")[1])
            name = value_of(fields, b"x-answer")
            if name is not None:
                assert name in asked.answers, f"{asked.number} got the answer {name!r}"
            if status == 101:
                assert asked.upgrade
                self._check_tunnel(asked, data)
                return
            if status < 200:
                assert asked.version == b"1.1"
                continue
            waiting.pop(0)
            answer = asked.answers[name] if name is not None else None
            assert answer is None or answer.status == status
            body, data, is_whole = self._take_body(asked, status, fields, data)
            if answer is None:
                assert status in {400, 404, 408, 413, 502, 503, 504}, start
                assert (b"%d " % status).startswith(body[:4])
            elif asked.method != b"HEAD":
                assert answer.body.startswith(body), f"{body!r} is not of {name!r}"
                assert not is_whole or (body == answer.body and answer.was_sent_whole), f"{name!r} only looks whole"
            yield asked, is_whole
            if not is_whole or value_of(fields, b"connection") == b"close":
                assert data == b"", "more behind the last answer"
                return

    def _take_body(
        self, asked: Asked, status: int, fields: list[tuple[bytes, bytes]], data: bytes
    ) -> tuple[bytes, bytes, bool]:
        length = value_of(fields, b"content-length")
        coding = value_of(fields, b"transfer-encoding")
        assert length is None or coding is None
        is_bodiless = asked.method == b"HEAD" or status in BODILESS
        if value_of(fields, b"x-answer") is None and data and (b"%d " % status).startswith(data[:4]):
            is_bodiless = False  # an error of ours, from before the method was known
        if is_bodiless:
            return b"", data, True
        if coding is not None:
            assert coding == b"chunked"
            assert asked.version == b"1.1"
            return take_chunked(data)
        if length is not None:
            size = int(length)
            return data[:size], data[size:], len(data) >= size
        assert value_of(fields, b"connection") == b"close"
        ended_well = self.transport.has_ended and not self.transport.was_reset and not self.has_left
        return data, b"", ended_well

    def _check_tunnel(self, asked: Asked, data: bytes) -> None:
        assert self.tunnel is not None
        assert self.tunnel.tunnel_sent.startswith(data)


class Origin:
    """One backend connection: what it was asked, and what it still has to say."""

    def __init__(self, transport: FakeTransport, everything: dict[int, Asked]) -> None:
        self.transport = transport
        self.everything = everything
        self.answered = 0
        self.answer: Answer | None = None
        self.unsent = b""
        self.has_left = False
        self.client: Client | None = None  # at the other end of a tunnel
        self.tunnelled: Asked | None = None
        self.tunnel_sent = b""
        self.source_port: int | None = None  # the client's, as a PROXY header told it

    def check(self) -> list[Asked]:
        """Hold what came against what clients sent; give the requests whose heads are here."""
        data = bytes(self.transport.sent)
        seen: list[Asked] = []
        if data.startswith(b"PROXY "):
            line, _, data = data.partition(b"\r\n")
            self.source_port = int(line.split(b" ")[4])
        while data:
            head = split_head(data)
            if head is None:
                break
            start, fields, data = head
            number = value_of(fields, b"x-asked")
            assert number is not None
            asked = self.everything[int(number)]
            assert start == b"%b %b HTTP/1.1" % (asked.method, asked.target)
            seen.append(asked)
            if self.client is not None and asked is self.tunnelled:
                assert self.client.tunnel_sent.startswith(data)
                break
            if value_of(fields, b"transfer-encoding") is not None:
                body, data, is_whole = take_chunked(data)
            else:
                size = int(value_of(fields, b"content-length") or 0)
                body, data, is_whole = data[:size], data[size:], len(data) >= size
            assert asked.body.startswith(body)
            assert not is_whole or body == asked.body
            if not is_whole:
                assert not data
                break
        return seen

    def next_asked(self) -> Asked | None:
        """Give the request that has no answer yet."""
        seen = self.check()
        if self.unsent or self.answer is not None or self.has_left:
            return None
        return seen[self.answered] if self.answered < len(seen) else None

    def begin(self, answer: Answer) -> None:
        """Queue an answer."""
        self.answer = answer
        self.unsent = answer.raw

    def send(self, count: int) -> None:
        """Send the next bytes of the answer in one segment."""
        answer = self.answer
        if answer is None or self.has_left:
            return
        data, self.unsent = self.unsent[:count], self.unsent[count:]
        if data:
            self.transport.receive(*segments(data))
        if not self.unsent and not answer.ends_with_connection:
            answer.was_sent_whole = True
            self.answer = None
            self.answered += 1

    def finish(self) -> None:
        """End the connection in an orderly way; where only that tells the end of a body, it ends wherever it is."""
        if not self.has_left:
            answer = self.answer
            if answer is not None and answer.ends_with_connection and len(self.unsent) <= len(answer.body):
                answer.body = answer.body[: len(answer.body) - len(self.unsent)]
                answer.was_sent_whole = True
            self.has_left = True
            self.transport.receive(None)

    def reset(self) -> None:
        """End the connection with RST."""
        if not self.has_left:
            self.has_left = True
            self.transport.receive(ConnectionResetError("reset"))
