"""
The numbered facts about httptools that the readers rely on, each against httptools itself.

When one of these fails after an upgrade of httptools, the library has changed, and the reader that relies on the
fact must be looked at again.
"""

from typing import Any

import httptools
import pytest

from pyproxy.http1.head import END, RequestHead
from pyproxy.http1.response import ResponseReader
from tests.unit.http1.feeding import normal, read_requests, request, response


class Recorder:
    """Note every callback of a parser."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.parser: Any = None

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [call[0] for call in self.calls]

    def on_message_begin(self) -> None:
        self.calls.append(("begin",))

    def on_url(self, url: bytes) -> None:
        self.calls.append(("url", url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls.append(("header", name, value))

    def on_headers_complete(self) -> None:
        self.calls.append(("headers complete", self.parser.should_keep_alive()))

    def on_body(self, body: bytes) -> None:
        self.calls.append(("body", body))

    def on_message_complete(self) -> None:
        self.calls.append(("complete", self.parser.should_keep_alive()))


def recorder(kind: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser]) -> Recorder:
    """Make a parser and what listens to it."""
    record = Recorder()
    record.parser = kind(record)
    return record


OK = response("Content-Length: 2", body=b"hi")


def test_fact_01_a_head_answer_swallows_what_follows() -> None:
    """A parser doesn't know that it was HEAD: it takes the next answer's first bytes for this one's body."""
    record = recorder(httptools.HttpResponseParser)
    record.parser.feed_data(response("Content-Length: 5"))
    with pytest.raises(httptools.HttpParserError):  # of what is left of it
        record.parser.feed_data(OK)
    assert ("body", OK[:5]) in record.calls


def test_fact_02_upgrade_with_a_body_skips_the_body() -> None:
    """The message is complete behind the head, the body is the "rest": tunnelling it would be smuggling."""
    record = recorder(httptools.HttpRequestParser)
    raw = request("Connection: upgrade", "Upgrade: x", "Content-Length: 5", start="POST / HTTP/1.1")
    with pytest.raises(httptools.HttpParserUpgrade) as caught:
        record.parser.feed_data(raw + b"hello")
    assert caught.value.args[0] == len(raw)
    assert record.names[-2:] == ["headers complete", "complete"]
    assert "body" not in record.names


def test_fact_03_a_body_until_the_end_never_completes() -> None:
    """There is no call that says that the connection ended; the reader has ``end_of_stream``."""
    record = recorder(httptools.HttpResponseParser)
    record.parser.feed_data(response(body=b"hi"))
    assert record.names[-1] == "body"
    assert not hasattr(record.parser, "feed_eof")
    reader = ResponseReader()
    reader.begin(head_only=False)
    reader.feed(response(body=b"hi"))
    assert reader.end_of_stream(clean=True) is END


def test_fact_04_keep_alive_is_right_inside_the_callbacks() -> None:
    """Behind the message its flags are gone: after Connection: close the parser says yes again, or no for no reason."""
    seen = []
    for raw, keep in ((OK, True), (response("Connection: close", "Content-Length: 2", body=b"hi"), False)):
        record = recorder(httptools.HttpResponseParser)
        record.parser.feed_data(raw)
        assert ("headers complete", keep) in record.calls
        seen.append(record.parser.should_keep_alive() == keep)
    assert seen != [True, True], "it can be asked afterwards now: nice, but nobody needs to"


def test_fact_05_there_is_no_pause() -> None:
    """Every pipelined request of a segment arrives within one feed."""
    record = recorder(httptools.HttpRequestParser)
    record.parser.feed_data(request() * 50)
    assert record.names.count("complete") == 50
    assert len(read_requests([request() * 50])[0]) == 50


def test_fact_06_unsolicited_bytes_are_another_response() -> None:
    """The parser doesn't know how many were asked for: the reader must."""
    record = recorder(httptools.HttpResponseParser)
    record.parser.feed_data(OK + OK)
    assert record.names.count("complete") == 2
    reader = ResponseReader()
    reader.begin(head_only=False)
    assert normal(reader.feed(OK + OK))[1:] == [b"hi", END]
    assert not reader.reusable


def test_fact_07_trailers_are_headers_after_the_head() -> None:
    """Trailers come through ``on_header`` behind ``on_headers_complete``, and a target may come in pieces."""
    record = recorder(httptools.HttpRequestParser)
    raw = request("Transfer-Encoding: chunked", start="POST /ab HTTP/1.1") + b"1\r\na\r\n0\r\nX: y\r\n\r\n"
    record.parser.feed_data(raw[:6])
    record.parser.feed_data(raw[6:])
    assert record.calls.index(("header", b"X", b"y")) > record.names.index("headers complete")
    assert [call[1] for call in record.calls if call[0] == "url"] == [b"/", b"ab"]


@pytest.mark.parametrize(
    "raw",
    [
        request("X: " + "a" * 3_000_000),
        request(*["X: y"] * 1000),
        request(host=""),
        request("Host: b"),
        request(start="GET http://b/ HTTP/1.1"),
        request(start="GET / HTTP/0.9"),
    ],
    ids=["3 MB", "1000 fields", "no Host", "two Hosts", "other authority", "0.9"],
)
def test_fact_08_httptools_has_no_limits_and_no_host_check(raw: bytes) -> None:
    """All this passes there and is ours to check; none of it passes here."""
    record = recorder(httptools.HttpRequestParser)
    record.parser.feed_data(raw)
    assert record.names[-1] == "complete"
    assert not any(isinstance(event, RequestHead) for event in read_requests([raw])[0])


@pytest.mark.parametrize(
    "raw",
    [
        request("Content-Length: 5", "Transfer-Encoding: chunked", start="POST / HTTP/1.1"),
        request("Content-Length: 5", "Content-Length: 5", start="POST / HTTP/1.1"),
        request("Content-Length: +3", start="POST / HTTP/1.1"),
        b"GET / HTTP/1.1\nHost: a\n\n",
        request("X : y"),
        request("X: a", " b"),
        request("X: a\0b"),
        request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", start="POST / HTTP/1.1"),
    ],
    ids=["CL and TE", "CL twice", "+3", "bare LF", "space before colon", "obs-fold", "NUL", "chunked twice"],
)
def test_fact_09_httptools_rejects_by_default(raw: bytes) -> None:
    """What makes two readers disagree is refused by the parser, without any leniency set by us."""
    with pytest.raises(httptools.HttpParserError):
        recorder(httptools.HttpRequestParser).parser.feed_data(raw + b"0\r\n\r\n")


def test_fact_10_an_exception_in_a_callback_is_a_parser_error() -> None:
    """It would look like the client's mistake: the readers' callbacks therefore never raise."""

    class Raises(Recorder):
        def on_header(self, name: bytes, value: bytes) -> None:
            raise ValueError("ours")

    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        httptools.HttpRequestParser(Raises()).feed_data(request())
    assert isinstance(caught.value.__context__, ValueError)


def test_fact_11_an_interim_answer_is_a_message_of_its_own() -> None:
    """100 and then 200 complete twice: the first must not complete the exchange."""
    record = recorder(httptools.HttpResponseParser)
    record.parser.feed_data(response(start="HTTP/1.1 100 Continue") + OK)
    assert record.names.count("complete") == 2
