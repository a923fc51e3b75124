"""Pins how responses are read: framing, interim answers, what may follow, and what the end of a connection means."""

import pytest

from pyproxy.errors import BadResponse, ConnectionReset, ExchangeError, HeadTruncated, ResponseTruncated
from pyproxy.http1.head import CHUNKED, END, LENGTH, NO_BODY, UNTIL_EOF, Framing, ResponseHead
from pyproxy.http1.reader import OVERHEAD_MAX_BYTES
from pyproxy.http1.response import FIELDS_MAX, HEAD_MAX_BYTES, INTERIM_MAX, ResponseReader
from tests.unit.http1.feeding import every_cut, normal, read_response, response

OK = response("Content-Length: 2", body=b"hi")
CHUNKED_OK = response("Transfer-Encoding: chunked")
SWITCHING = "HTTP/1.1 101 Switching Protocols"

FIXTURES = {
    "length": OK,
    "length zero": response("Content-Length: 0"),
    "no reason": response("Content-Length: 0", start="HTTP/1.1 200"),
    "fields": response(
        "X:  v ", "Set_Cookie: a", "Empty:", "Connection: x-b", "X-B: 1", "content-length: 1", body=b"x"
    ),
    "chunked": CHUNKED_OK + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
    "chunked with trailers": CHUNKED_OK + b"5\r\nhello\r\n0\r\nX-T: 1\r\nY-T: 2\r\n\r\n",
    "until the end": response("X: y", body=b"some body"),
    "no content": response(start="HTTP/1.1 204 No Content"),
    "no content with a length": response("Content-Length: 5", start="HTTP/1.1 204 No Content"),
    "not modified": response("Content-Length: 5", start="HTTP/1.1 304 Not Modified"),
    "interim": response(start="HTTP/1.1 100 Continue") + response("Link: a", start="HTTP/1.1 103 Early Hints") + OK,
    "interim with a length": response("Content-Length: 5", start="HTTP/1.1 100 Continue") + OK,
    "old version": response("Content-Length: 2", start="HTTP/1.0 200 OK", body=b"hi"),
    "old version kept": response("Connection: keep-alive", "Content-Length: 2", start="HTTP/1.0 200 OK", body=b"hi"),
    "close": response("Connection: close", "Content-Length: 2", body=b"hi"),
    "upgrade advertised": response("Connection: upgrade", "Upgrade: h2c", "Content-Length: 2", body=b"hi"),
    "bad chunk": CHUNKED_OK + b"5\r\nhello\r\nxx\r\n",
    "bad field": response("X Y: z"),
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("raw", FIXTURES.values(), ids=FIXTURES.keys())
def test_every_cut_gives_the_same(raw: bytes) -> None:
    """However the network cuts the bytes, the same heads, bodies, ends, trailers and verdicts come out."""
    events, reader = read_response([raw])
    expected = normal(events), reader.reusable, reader.trailers, type(reader.end_of_stream(clean=True))
    assert events
    for segments in every_cut(raw):
        events, reader = read_response(segments)
        got = normal(events), reader.reusable, reader.trailers, type(reader.end_of_stream(clean=True))
        assert got == expected, segments


@pytest.mark.parametrize("name", [name for name in FIXTURES if name not in {"until the end", "bad field", "no http"}])
@pytest.mark.parametrize("head_only", [False, True])
def test_reusable_means_that_the_next_response_is_read(name: str, head_only: bool) -> None:
    """Whatever we call reusable does read the next response as if it were the first (fact 1)."""
    raw = FIXTURES[name].partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head_only else FIXTURES[name]
    for segments in every_cut(raw):
        _, reader = read_response(segments, head_only=head_only)
        if reader.reusable:
            reader.begin(head_only=False)
            head, body, end = reader.feed(OK)
            assert (head.status, body, end, reader.reusable) == (200, b"hi", END, True)


FRAMINGS = [
    (OK, False, LENGTH),
    (CHUNKED_OK, False, CHUNKED),
    (response(), False, UNTIL_EOF),
    (response("Content-Length: 0"), False, NO_BODY),
    (response("Content-Length: 5"), True, NO_BODY),
    (CHUNKED_OK, True, NO_BODY),
    (response(), True, NO_BODY),
    (response("Content-Length: 5", start="HTTP/1.1 204 No Content"), False, NO_BODY),
    (response("Transfer-Encoding: chunked", start="HTTP/1.1 204 No Content"), False, NO_BODY),
    (response("Content-Length: 5", start="HTTP/1.1 304 Not Modified"), False, NO_BODY),
    (response("Transfer-Encoding: chunked", start="HTTP/1.1 304 Not Modified"), False, NO_BODY),
    (response(start="HTTP/1.0 200 OK"), False, UNTIL_EOF),
]


@pytest.mark.parametrize(("raw", "head_only", "framing"), FRAMINGS)
def test_framing(raw: bytes, head_only: bool, framing: Framing) -> None:
    """How the end of a body is known, in the order of RFC 9112, section 6.3; what has no body ends at once."""
    events, _ = read_response([raw], head_only=head_only)
    assert events[0].framing is framing
    assert (END in events[1:]) == (framing is NO_BODY or raw is OK)


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked", "X: y"])
def test_head_leaves_the_next_response_alone(framing: str) -> None:
    """A HEAD answer may say the length of a body that doesn't come; the next answer is not taken for it (fact 1)."""
    _, reader = read_response([response(framing)], head_only=True)
    if not reader.reusable:
        return  # nobody will ask for a next one
    reader.begin(head_only=False)
    assert normal(reader.feed(OK))[1:] == [b"hi", END]


REUSABLE = [
    ("length", OK, True),
    ("chunked", CHUNKED_OK + b"0\r\n\r\n", True),
    ("chunked with a trailer", CHUNKED_OK + b"0\r\nX: y\r\n\r\n", True),
    ("nothing", response(start="HTTP/1.1 204 No Content"), True),
    ("interim first", response(start="HTTP/1.1 100 Continue") + OK, True),
    ("old version kept", FIXTURES["old version kept"], True),
    ("close", FIXTURES["close"], False),
    ("close among others", response("Connection: x, Close", "Content-Length: 2", body=b"hi"), False),
    ("old version", FIXTURES["old version"], False),
    ("close beside keep-alive", response("Connection: close, keep-alive", "Content-Length: 2", body=b"hi"), False),
    (
        "close beside keep-alive in the old version",
        response("Connection: keep-alive, close", "Content-Length: 2", start="HTTP/1.0 200 OK", body=b"hi"),
        False,
    ),
    (
        "chunked in the old version",
        response("Connection: keep-alive", "Transfer-Encoding: chunked", start="HTTP/1.0 200 OK", body=b"0\r\n\r\n"),
        False,
    ),
    ("no content that says a length", FIXTURES["no content with a length"], False),
    ("no content that says chunked", response("Transfer-Encoding: chunked", start="HTTP/1.1 204 No"), False),
    ("not over", OK[:-1], False),
    ("not begun", b"HTTP/1.1 200 OK\r\n", False),
    ("until the end", response(body=b"hi"), False),
    ("broken", FIXTURES["bad chunk"], False),
    ("one byte too many", OK + b"x", False),
    ("a second response", OK + OK, False),
    ("an interim one behind", OK + response(start="HTTP/1.1 100 Continue"), False),
    ("behind no content", response(start="HTTP/1.1 204 No Content") + b"hello", False),
    ("behind chunks", CHUNKED_OK + b"0\r\n\r\nHTTP/1.1", False),
    ("a trailer that the parser would believe", CHUNKED_OK + b"0\r\nConnection: close\r\n\r\n", False),
]


@pytest.mark.parametrize(("raw", "reusable"), [row[1:] for row in REUSABLE], ids=[row[0] for row in REUSABLE])
def test_reusable(raw: bytes, reusable: bool) -> None:
    """Only a complete response of a connection that stays, with nothing behind it, leaves it fit for another."""
    for segments in every_cut(raw):
        if reusable or len(segments) == 1:
            assert read_response(segments)[1].reusable is reusable, segments


def test_surplus_in_a_later_feed_makes_it_unfit() -> None:
    """Bytes that belong to nobody end the reuse, also when they come alone (fact 6)."""
    for raw, surplus in ((OK, b"x"), (OK, OK), (OK[:-1], b"ix")):
        _, reader = read_response([raw])
        reader.feed(surplus)
        assert not reader.reusable


def test_surplus_is_no_part_of_the_answer() -> None:
    """Neither body nor head of ours change for what came behind them."""
    evil = response("Content-Length: 0", "X-Evil: 1", start="HTTP/1.1 500 Evil")
    for raw in (OK, CHUNKED_OK + b"2\r\nhi\r\n0\r\n\r\n", response("Content-Length: 0"), FIXTURES["no content"]):
        alone, _ = read_response([raw])
        followed, reader = read_response([raw + evil])
        assert normal(followed) == normal(alone)
        assert not reader.reusable


def test_surplus_behind_a_head_answer() -> None:
    """The body that a HEAD answer must not have is surplus."""
    events, reader = read_response([OK], head_only=True)
    assert [type(event) for event in events[:1]] == [ResponseHead]
    assert events[1:] == [END]
    assert not reader.reusable


@pytest.mark.parametrize("name", ["Connection", "Proxy-Connection"])
@pytest.mark.parametrize("word", ["close", "keep-alive"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_we_keep_the_parser_keeps(name: str, word: str, version: str) -> None:
    """A connection that we call reusable is one on which the parser will read again."""
    _, reader = read_response([response(f"{name}: {word}", "Content-Length: 0", start=f"HTTP/{version} 200 OK")])
    if reader.reusable:
        reader.begin(head_only=False)
        assert normal(reader.feed(OK))[1:] == [b"hi", END]


END_OF_STREAM: list[tuple[str, bytes, object, object]] = [
    ("nothing came", b"", ConnectionReset, ConnectionReset),
    ("half a status line", b"HTTP/1.1 2", HeadTruncated, HeadTruncated),
    ("half a head", b"HTTP/1.1 200 OK\r\nX: y\r\n", HeadTruncated, HeadTruncated),
    ("only an interim one", response(start="HTTP/1.1 100 Continue"), HeadTruncated, HeadTruncated),
    ("half a body", OK[:-1], ResponseTruncated, ResponseTruncated),
    ("no body yet", response("Content-Length: 5"), ResponseTruncated, ResponseTruncated),
    ("half a chunk", CHUNKED_OK + b"5\r\nhel", ResponseTruncated, ResponseTruncated),
    ("no last chunk", CHUNKED_OK + b"5\r\nhello\r\n", ResponseTruncated, ResponseTruncated),
    ("half a last chunk", CHUNKED_OK + b"0\r\n", ResponseTruncated, ResponseTruncated),
    ("until the end", response(body=b"hi"), END, ResponseTruncated),
    ("until the end, empty", response(), END, ResponseTruncated),
    ("complete", OK, None, None),
    ("complete without a body", FIXTURES["no content"], None, None),
    ("broken before", FIXTURES["bad chunk"], None, None),
    ("switched", response("Connection: upgrade", "Upgrade: x", start=SWITCHING), None, None),
]


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("row", END_OF_STREAM, ids=[row[0] for row in END_OF_STREAM])
def test_end_of_stream(row: tuple[str, bytes, object, object], clean: bool) -> None:
    """An orderly end is the end of a body only where nothing else is (fact 3), a reset never is."""
    _, raw, by_fin, by_reset = row
    _, reader = read_response([raw])
    event = reader.end_of_stream(clean=clean)
    expected = by_fin if clean else by_reset
    assert (type(event) if isinstance(event, ExchangeError) else event) is expected
    if expected is END:
        assert reader.end_of_stream(clean=clean) is None, "only once"


def test_nothing_is_awaited_before_the_first_request() -> None:
    """The end of a connection that was never asked anything means nothing."""
    assert ResponseReader().end_of_stream(clean=True) is None


def test_an_answer_before_the_question_is_surplus() -> None:
    """Bytes before the first request are nobody's."""
    reader = ResponseReader()
    assert reader.feed(OK) == []
    assert not reader.reusable


# interim answers and 101


def test_interim_answers_are_heads_of_their_own() -> None:
    """100 and 103 come before the answer and don't complete the exchange (fact 11)."""
    events, _ = read_response([FIXTURES["interim"]])
    assert [event.status for event in events if isinstance(event, ResponseHead)] == [100, 103, 200]
    assert events[1].lines == [b"Link: a\r\n"]
    assert events.count(END) == 1


@pytest.mark.parametrize("count", [INTERIM_MAX, INTERIM_MAX + 1])
def test_interim_answers_are_counted(count: int) -> None:
    """A backend may send so many, then it isn't going to answer."""
    events, _ = read_response([response(start="HTTP/1.1 102 Processing")] * count + [OK])
    assert isinstance(events[-1], BadResponse) == (count > INTERIM_MAX)
    assert sum(isinstance(event, ResponseHead) for event in events) == INTERIM_MAX + (count <= INTERIM_MAX)


def test_the_next_exchange_counts_interim_answers_anew() -> None:
    """The bound is for one request."""
    reader = ResponseReader()
    for _ in range(3):
        reader.begin(head_only=False)
        events = reader.feed(response(start="HTTP/1.1 102 Processing") * INTERIM_MAX + OK)
        assert events[-1] is END


def test_switching_protocols_keeps_what_follows() -> None:
    """Behind a 101 there is no HTTP any more: the rest is kept as it came."""
    raw = response("Connection: upgrade", "Upgrade: websocket", start=SWITCHING)
    for segments in every_cut(raw):
        events, reader = read_response(segments)
        assert [event.status for event in events] == [101]
        assert events[0].upgrade == b"websocket"
        assert not reader.reusable
    _, reader = read_response([raw + b"\x81\x05hello"])
    assert reader.rest == b"\x81\x05hello"


@pytest.mark.parametrize("lines", [[], ["Upgrade: x"], ["Connection: upgrade"]])
def test_101_without_upgrade_is_no_tunnel(lines: list[str]) -> None:
    """A 101 that doesn't say to what leaves an error, or a head without ``upgrade``, which the exchange refuses."""
    for segments in every_cut(response(*lines, start=SWITCHING) + b"rest"):
        events, _ = read_response(segments)
        assert len(events) == 1
        event = events[0]
        assert isinstance(event, BadResponse) or (event.status == 101 and event.upgrade is None), segments


# what is refused

REFUSALS = [
    ("status 099", response(start="HTTP/1.1 099 X")),
    ("status 600", response(start="HTTP/1.1 600 X")),
    ("status of four digits", response(start="HTTP/1.1 1000 X")),
    ("status without digits", response(start="HTTP/1.1 abc X")),
    ("HTTP/2.0", response(start="HTTP/2.0 200 OK")),
    ("HTTP/0.9", response(start="HTTP/0.9 200 OK")),
    ("two lengths", response("Content-Length: 2", "Content-Length: 2", body=b"hi")),
    ("list of lengths", response("Content-Length: 2, 2", body=b"hi")),
    ("length and coding", response("Content-Length: 2", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    ("coding and length", response("Transfer-Encoding: chunked", "Content-Length: 2", body=b"0\r\n\r\n")),
    ("gzip", response("Transfer-Encoding: gzip", body=b"hi")),
    ("gzip, chunked", response("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("folded line", response("X: a", " b")),
    ("NUL", response("X: a\0b")),
    ("no head at all", b"<html>hello</html>"),
]


@pytest.mark.parametrize("raw", [row[1] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refusals(raw: bytes) -> None:
    """What isn't valid HTTP/1 is one BadResponse, however it is cut, and the connection is not used again."""
    for segments in every_cut(raw):
        events, reader = read_response(segments)
        assert [type(event) for event in events] == [BadResponse], segments
        assert not reader.reusable
        assert reader.feed(OK) == []


@pytest.mark.parametrize("status", [100, 199, 200, 299, 451, 599])
def test_status_range(status: int) -> None:
    """From 100 to 599 every status passes, known or not."""
    events, _ = read_response([response("Content-Length: 0", start=f"HTTP/1.1 {status} X")])
    assert (events[0].status, events[0].reason) == (status, b"X")


def test_nothing_can_follow_an_interim_answer_that_says_close() -> None:
    """The parser ends with the connection that a 1xx has closed: an error, not a wait."""
    raw = response("Connection: close", start="HTTP/1.1 103 Early Hints") + OK
    events, _ = read_response([raw])
    assert isinstance(events[-1], BadResponse)


@pytest.mark.parametrize("cut", [HEAD_MAX_BYTES * 2, 1000])
def test_head_size(cut: int) -> None:
    """A response head may be large, but not without end."""
    for size, passes in ((HEAD_MAX_BYTES - 2000, True), (HEAD_MAX_BYTES + 2000, False)):
        raw = response("Content-Length: 0", "X: " + "a" * size)
        events, _ = read_response([raw[at : at + cut] for at in range(0, len(raw), cut)])
        assert isinstance(events[0], ResponseHead) is passes
        assert isinstance(events[-1], BadResponse) is not passes


def test_a_large_body_behind_a_head_is_not_counted_as_head() -> None:
    """What one read brings may be much more than a head."""
    body = b"x" * (3 * HEAD_MAX_BYTES)
    events, reader = read_response([response(f"Content-Length: {len(body)}", body=body)])
    assert normal(events)[1:] == [body, END]
    assert reader.reusable


# bodies


def test_a_plain_body_is_not_copied() -> None:
    """From the second feed on, a body of known length passes as the very objects that were fed."""
    pieces = [bytes([65 + index]) * 1000 for index in range(4)]
    events, reader = read_response([response("Content-Length: 4000"), *pieces])
    assert all(event is piece for event, piece in zip(events[1:], pieces, strict=False))
    assert events[5:] == [END]
    assert reader.reusable


def test_a_body_until_the_end_is_not_copied() -> None:
    """Nor one that only the end of the connection ends."""
    pieces = [b"a" * 1000, b"b" * 1000]
    events, _ = read_response([response(), *pieces])
    assert all(event is piece for event, piece in zip(events[1:], pieces, strict=True))


def test_trailers_are_kept_apart() -> None:
    """They come behind the body, without hop-by-hop ones, and are gone with the next response."""
    raw = CHUNKED_OK + b"1\r\na\r\n0\r\nX-T: 1\r\nKeep-Alive: 5\r\n\r\n"
    events, reader = read_response([raw])
    assert reader.trailers == [b"X-T: 1\r\n"]
    assert events[0].lines == []
    reader.begin(head_only=False)
    reader.feed(CHUNKED_OK + b"1\r\na\r\n0\r\n\r\n")
    assert reader.trailers == []


@pytest.mark.parametrize("is_extension", [True, False])
def test_chunk_overhead_is_bounded(is_extension: bool) -> None:
    """Extensions and trailers can't go on for ever: the parser itself would let them."""
    reader = ResponseReader()
    reader.begin(head_only=False)
    reader.feed(CHUNKED_OK + (b"5;a=" if is_extension else b"0\r\nX: "))
    fed = 0
    events: list[object] = []
    while not events and fed < 2 * OVERHEAD_MAX_BYTES:
        events = reader.feed(b"x" * 4096)
        fed += 4096
    assert [type(event) for event in events] == [BadResponse]
    assert fed <= OVERHEAD_MAX_BYTES + 8192


def test_large_chunks_are_no_overhead() -> None:
    """A chunk beyond the bound for overhead is body, however few feeds bring it."""
    size = 4 * OVERHEAD_MAX_BYTES
    raw = CHUNKED_OK + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    for cut in (size * 2, OVERHEAD_MAX_BYTES + 1, 1000):
        events, reader = read_response([raw[at : at + cut] for at in range(0, len(raw), cut)])
        assert normal(events)[1:] == [b"x" * size, END]
        assert reader.reusable


def test_fields_to_the_client() -> None:
    """Hop-by-hop and nominated fields go no further; names with an underscore are the backend's to choose."""
    events, _ = read_response([FIXTURES["fields"]])
    assert events[0].lines == [b"X: v \r\n", b"Set_Cookie: a\r\n", b"Empty: \r\n"]
    assert events[0].content_length == 1


def test_close_lets_go_of_the_parser() -> None:
    """A closed reader gives no more events and needs no garbage collector."""
    for raw in (b"", b"HTTP/1.1", CHUNKED_OK):
        _, reader = read_response([raw])
        reader.close()
        assert reader.feed(OK) == []
        assert not reader.reusable


@pytest.mark.parametrize("line", [b"A:\r\n", b"Upgrade: a\r\n", b"Connection: a\r\n", b"Keep-Alive: a\r\n"])
def test_fields_are_counted_as_they_come(line: bytes) -> None:
    """A head of very many short fields is refused at one too many, not at its end: in memory each is an object."""
    reader = ResponseReader()
    reader.begin(head_only=False)
    events = reader.feed(b"HTTP/1.1 200 OK\r\n")
    fed = 0
    while not events and fed <= 2 * FIELDS_MAX:
        events = reader.feed(line)
        fed += 1
    assert [type(event) for event in events] == [BadResponse]
    assert abs(fed - FIELDS_MAX) <= 2
    assert not reader.reusable


def test_as_many_fields_as_allowed_pass() -> None:
    """In each of two answers: what one has counts nothing for the next."""
    raw = response(*["A: b"] * (FIELDS_MAX - 1), "Content-Length: 0")
    events, reader = read_response([raw])
    assert len(events[0].lines) == FIELDS_MAX - 1
    reader.begin(head_only=False)
    assert reader.feed(raw)[-1] is END


def test_trailers_are_counted_as_they_come() -> None:
    """One too many breaks the answer, which then has no end: it must not look whole."""
    raw = CHUNKED_OK + b"1\r\na\r\n0\r\n" + b"A:\r\n" * (FIELDS_MAX + 1) + b"\r\n"
    for cut in (len(raw), 100):
        events, reader = read_response([raw[at : at + cut] for at in range(0, len(raw), cut)])
        assert normal(events)[1:] == [b"a", BadResponse]
        assert len(reader.trailers) == FIELDS_MAX
        assert not reader.reusable
