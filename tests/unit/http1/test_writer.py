"""Pins the bytes that are written, and that our own readers understand them as they were meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.http1 import writer
from pyproxy.http1.head import CHUNKED, END, LENGTH, NO_BODY, UNTIL_EOF, Framing, RequestHead, ResponseHead
from pyproxy.http1.writer import (
    LAST_CHUNK,
    changed_request_head,
    chunk,
    http_date,
    interim_head,
    last_chunk,
    own_response,
    request_head,
    response_head,
)
from tests.unit.http1.feeding import normal, only_head, read_requests, read_response, request, response

DATE = http_date(784111777)


def written(raw: bytes) -> bytes:
    """Read a request's head and write it for a backend; who named no host came to an address."""
    events, _ = read_requests([raw])
    if events[0].host is None:
        events[0].host = b"10.0.0.1:80"
    return request_head(events[0], b"X-Forwarded-For: 1\r\n", b"ID")


def test_request_golden() -> None:
    """Fields keep order and spelling, ours follow them; nothing of the connection's own is left."""
    raw = request(
        "Accept: */*", "Connection: keep-alive", "aCCEPT: x", "X-Request-Id: theirs", start="GET /?q HTTP/1.1"
    )
    assert written(raw) == (
        b"GET /?q HTTP/1.1\r\nHost: a\r\nAccept: */*\r\naCCEPT: x\r\nX-Forwarded-For: 1\r\nX-Request-Id: ID\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "tail"),
    [
        (["Content-Length: 007"], b"Content-Length: 7\r\n"),
        (["Content-Length: 0"], b"Content-Length: 0\r\n"),
        (["Transfer-Encoding: Chunked"], b"Transfer-Encoding: chunked\r\n"),
        (["Expect: 100-continue", "Content-Length: 1"], b"Content-Length: 1\r\nExpect: 100-continue\r\n"),
        (["Connection: upgrade, x", "Upgrade: foo"], b"Connection: upgrade\r\nUpgrade: foo\r\n"),
        (["TE: gzip, trailers"], b"Connection: TE\r\nTE: trailers\r\n"),
        (["TE: gzip"], b""),
    ],
)
def test_request_framing_is_written_anew(lines: list[str], tail: bytes) -> None:
    """Framing never passes as it came; what concerns the connection says what our connection means."""
    assert written(request(*lines, start="POST / HTTP/1.1")).endswith(b"X-Request-Id: ID\r\n" + tail + b"\r\n")


def test_request_of_the_old_version() -> None:
    """The backend is always spoken to in HTTP/1.1: with a Host, and without an Expect it can't keep."""
    raw = b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"
    assert written(raw) == (b"GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nX-Forwarded-For: 1\r\nX-Request-Id: ID\r\n\r\n")


def test_an_empty_host_stays_empty() -> None:
    """An empty Host is allowed and is not the same as none."""
    assert b"\r\nHost: \r\n" in written(request(host="Host:"))


NAMES = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
FIELDS = st.lists(
    st.one_of(
        st.tuples(NAMES, VALUES),
        st.tuples(
            st.sampled_from(["Connection", "TE", "Upgrade", "Expect", "X-Request-Id", "Trailer", "X-Forwarded-For"]),
            st.sampled_from(["close", "keep-alive", "trailers", "upgrade", "a, b", "x-a", "100-continue", ""]),
        ),
    ),
    max_size=8,
)
SIZES = st.one_of(st.none(), st.integers(0, 30))


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    target=st.text("/ab?%2e=.&", max_size=20).map(lambda text: "/" + text),
    fields=FIELDS,
    size=SIZES,
    is_chunked=st.booleans(),
)
def test_a_written_request_means_the_same(
    method: str, target: str, fields: list[tuple[str, str]], size: int | None, is_chunked: bool
) -> None:
    """Any request that we read is read again from what we write: same meaning, same framing, nothing in between."""
    lines = [f"{name}: {value}" for name, value in fields]
    if is_chunked:
        lines.append("Transfer-Encoding: chunked")
    elif size is not None:
        lines.append(f"Content-Length: {size}")
    events, _ = read_requests([request(*lines, start=f"{method} {target} HTTP/1.1")])
    first = events[0]
    if not isinstance(first, RequestHead):
        return
    again, rest = read_requests([request_head(first, b"", b"ID")])
    second = again[0]
    assert isinstance(second, RequestHead), again
    assert len(again) == 1
    assert rest == b""
    for slot in ("method", "target", "host", "lines", "content_length", "chunked", "has_body", "upgrade", "expect"):
        assert getattr(second, slot) == getattr(first, slot), slot
    assert second.keep_alive
    assert second.request_id == b"ID"


PIECES = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"0", b"5", b"\x00", b"\x0b", b"\xff", b"hello", b"X_"),
    *(b"GET / HTTP/1.1\r\n", b"POST http://a/ HTTP/1.0\r\n", b"Host: a\r\n", b"Content-Length: ", b"0\r\n\r\n"),
    *(b"Transfer-Encoding: ", b"chunked", b"identity", b"Connection: upgrade\r\n", b"Upgrade: x", b"Trailer: "),
)


@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from(PIECES),
            st.binary(max_size=3),
        ),
        max_size=14,
    )
)
def test_whatever_comes_in_nothing_ambiguous_goes_out(pieces: list[bytes]) -> None:
    """Garbage never raises, and a head that it does give is written with exactly one meaning (no smuggling)."""
    for raw in (b"".join(pieces), b"POST / HTTP/1.1\r\nHost: a\r\n" + b"".join(pieces) + b"\r\n\r\n"):
        for event in read_requests([raw])[0]:
            if isinstance(event, RequestHead):
                out = request_head(event, b"", b"ID")
                again, _ = read_requests([out])
                assert [type(each) for each in again] == [RequestHead], out
                assert out.count(b"\r\n\r\n") == 1
                assert (again[0].chunked, again[0].content_length) == (event.chunked, event.content_length)


# responses


def a_response(framing: Framing, *, status: int = 200, length: int | None = None) -> ResponseHead:
    """Make a head as the reader would."""
    head = ResponseHead()
    head.status, head.reason, head.framing, head.content_length = status, b"Fine", framing, length
    head.lines = [b"X-A: 1\r\n"]
    head.trailer = b"X-T"
    return head


GOLDEN: list[tuple[ResponseHead, int, bool, bytes]] = [
    (a_response(LENGTH, length=5), 11, True, b"Content-Length: 5\r\n"),
    (a_response(LENGTH, length=5), 11, False, b"Connection: close\r\nContent-Length: 5\r\n"),
    (a_response(LENGTH, length=5), 10, True, b"Connection: keep-alive\r\nContent-Length: 5\r\n"),
    (a_response(NO_BODY, length=0), 11, True, b"Content-Length: 0\r\n"),
    (a_response(NO_BODY, length=5), 11, True, b"Content-Length: 5\r\n"),
    (a_response(NO_BODY), 11, True, b""),
    (a_response(NO_BODY, status=204, length=5), 11, True, b""),
    (a_response(NO_BODY, status=304, length=5), 11, True, b"Content-Length: 5\r\n"),
    (a_response(CHUNKED), 11, True, b"Transfer-Encoding: chunked\r\n"),
    (a_response(UNTIL_EOF), 11, True, b"Transfer-Encoding: chunked\r\n"),
    (a_response(CHUNKED), 10, False, b"Connection: close\r\n"),
    (a_response(UNTIL_EOF), 10, False, b"Connection: close\r\n"),
]


@pytest.mark.parametrize(("head", "version", "keep", "tail"), GOLDEN)
def test_response_golden(head: ResponseHead, version: int, keep: bool, tail: bytes) -> None:
    """What the client is told of framing and connection, for each of its versions."""
    expected = b"HTTP/1.1 %d Fine\r\nX-A: 1\r\n%b\r\n" % (head.status, tail)
    assert response_head(head, version=version, keep=keep, trailers=False) == expected


def test_trailers_are_announced_to_those_who_take_them() -> None:
    """Trailer goes with chunked only, and only where the trailers will follow."""
    announced = b"Trailer: X-T\r\n"
    assert announced in response_head(a_response(CHUNKED), version=11, keep=True, trailers=True)
    assert announced not in response_head(a_response(CHUNKED), version=11, keep=True, trailers=False)
    assert announced not in response_head(a_response(CHUNKED), version=10, keep=False, trailers=True)
    assert announced not in response_head(a_response(LENGTH, length=1), version=11, keep=True, trailers=True)


def test_interim_golden() -> None:
    """A 103 has its fields and no framing; a 101 says what was agreed on."""
    head = a_response(NO_BODY, status=103)
    assert interim_head(head) == b"HTTP/1.1 103 Fine\r\nX-A: 1\r\n\r\n"
    head.status, head.upgrade = 101, b"websocket"
    assert interim_head(head) == (b"HTTP/1.1 101 Fine\r\nX-A: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


def test_a_chunk_is_not_copied() -> None:
    """The piece passes between its size and its end as the object that it is."""
    data = b"x" * 300
    size, piece, end = chunk(data)
    assert (size, end) == (b"12c\r\n", b"\r\n")
    assert piece is data


def test_last_chunk() -> None:
    """With or without trailers."""
    assert last_chunk([]) is LAST_CHUNK
    assert last_chunk([b"A: 1\r\n", b"B: 2\r\n"]) == b"0\r\nA: 1\r\nB: 2\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_chunks_are_read_back(pieces: list[bytes]) -> None:
    """What we chunk, a reader puts together again."""
    body = b"".join(b"".join(chunk(piece)) for piece in pieces) + last_chunk([])
    events, reader = read_response([response_head(a_response(CHUNKED), version=11, keep=True, trailers=False) + body])
    whole = b"".join(pieces)
    assert normal(events)[1:] == ([whole, END] if whole else [END])
    assert reader.reusable


@given(fields=FIELDS, size=SIZES, kind=st.sampled_from(["length", "chunked", "eof"]), head_only=st.booleans())
def test_a_written_response_means_the_same(
    fields: list[tuple[str, str]], size: int | None, kind: str, head_only: bool
) -> None:
    """Any response that we read is read again from what we write: status, fields, a framing to follow."""
    lines = [f"{name}: {value}" for name, value in fields]
    if kind == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif kind == "length":
        lines.append(f"Content-Length: {size or 0}")
    events, _ = read_response([response(*lines, start="HTTP/1.1 299 X")], head_only=head_only)
    first = events[0]
    if not isinstance(first, ResponseHead):
        return
    again, _ = read_response([response_head(first, version=11, keep=True, trailers=False)], head_only=head_only)
    second = again[0]
    assert isinstance(second, ResponseHead)
    assert (second.status, second.reason, second.lines) == (299, b"X", first.lines)
    assert second.framing is (CHUNKED if first.framing is UNTIL_EOF else first.framing)
    assert second.content_length == first.content_length


# our own answers


LINES = [b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b"Content-Type: text/plain; charset=utf-8\r\n"]


def test_own_answer_golden() -> None:
    """The lines as given, then the framing, which is ours."""
    answer = own_response(400, LINES, b"400 Bad Request: no Host\n", version=11, keep=False, body=True)
    assert answer == (
        b"HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 25\r\nConnection: close\r\n\r\n"
        b"400 Bad Request: no Host\n"
    )


@pytest.mark.parametrize("status", [308, 400, 403, 404, 405, 408, 413, 414, 431, 500, 501, 502, 503, 504, 505])
@pytest.mark.parametrize("version", [10, 11])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("body", [True, False])
def test_own_answers_are_read_back(status: int, version: int, keep: bool, body: bool) -> None:
    """Every answer of ours is a valid response, of HEAD as well."""
    answer = own_response(status, LINES, b"text\n", version=version, keep=keep, body=body)
    events, reader = read_response([answer], head_only=not body)
    assert events[0].status == status
    assert events[0].lines == LINES
    assert normal(events)[1:] == ([b"text\n", END] if body else [END])
    assert events[0].content_length == 5
    assert (b"Connection: keep-alive" in answer) == (keep and version == 10)
    assert (b"Connection: close" in answer) == (not keep)
    if body:
        assert reader.reusable == keep


def test_a_changed_head_differs_in_target_and_lines_only() -> None:
    """A route that changes headers doesn't change the framing."""
    head = only_head(b"POST /a HTTP/1.1\r\nHost: h\r\nX: 1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert changed_request_head(head, [b"Host: i\r\n", b"Y: 2\r\n"]) == (
        b"POST /a HTTP/1.1\r\nHost: i\r\nY: 2\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )


def test_reason_phrases_are_the_backends() -> None:
    """Whatever phrase came first with a status, each answer has its own; and they don't pile up."""
    known = len(writer._STATUS_LINES)
    for index in range(2000):
        head = a_response(NO_BODY)
        head.reason = b"R%d" % index
        assert response_head(head, version=11, keep=True, trailers=False).startswith(b"HTTP/1.1 200 R%d\r\n" % index)
    assert len(writer._STATUS_LINES) == known


def test_the_request_id_of_the_client_is_not_written_twice() -> None:
    """The id has a place of its own, whether kept or made."""
    assert written(request("X-Request-Id: abc")).count(b"X-Request-Id") == 1
    assert only_head(request("X-Request-Id: abc")).request_id == b"abc"
