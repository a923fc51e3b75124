"""
Read requests from a client's bytes. Knows nothing of routes, sockets or time.

Obligations of the caller: after an ExchangeError event nothing more is fed. After a request with ``upgrade`` set,
body included, the reader is suspended: the caller keeps what arrives until the answer is known, then either
never feeds again (a tunnel) or calls ``resume()`` and feeds ``rest`` and what it kept.

The parser takes a head with Upgrade for the end of HTTP and would skip a body behind it, and it doesn't tell where in
what it was fed a chunked body ends. Such bodies are therefore framed here: by their length, without a parser, or by a
new parser that is led to the beginning of a chunked one and gets no more than that.
"""

from typing import Final

import httptools

from pyproxy.errors import (
    BadRequest,
    ExchangeError,
    HeadTooLarge,
    TargetTooLong,
    VersionUnsupported,
    excerpt,
)
from pyproxy.http1.chunks import ChunkCounter
from pyproxy.http1.faults import explain_fault, first_line
from pyproxy.http1.fields import (
    FRAMING_FIELDS,
    LEARN_REQUEST_FIELD,
    REQUEST_FIELDS,
    drop_nominated,
    offered_upgrade,
)
from pyproxy.http1.head import END, RequestHead
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.reader import Event
from pyproxy.http1.request_line import (
    RequestLine,
    is_line_refused,
    may_become_line,
    read_line,
    version_at,
)
from pyproxy.http1.target import find_target_problem
from pyproxy.http1.tracking import TrackingReader

_VERSIONS: Final = {"1.1": 11, "1.0": 10}
_LINE_FEED: Final = ord("\n")
_REQUEST_LINE_EXTRA: Final = len(b"  HTTP/1.1")
#: How far counting may run ahead: the feed that completes one message may begin the next.
_FEED_SLACK_BYTES: Final = 16 * 1024
#: Blank lines that may come before a request.
_BLANK_BYTES_MAX: Final = 1024
#: Leads a parser to where a chunked body begins; only of the body anything is reported.
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
#: What the parser says of a method that it doesn't know.
_METHOD_REFUSED: Final = "Invalid method encountered"


class _ChunkedBodyError(Exception):
    """Stops the parser in front of a chunked body, which isn't its own to read."""


class RequestReader(TrackingReader):
    """
    One client's connection as events: RequestHead, then bytes and END for a body, or an ExchangeError.

    A request without a body is its RequestHead alone (``head.has_body`` is False, no END follows).
    """

    __slots__ = (
        *("_complete", "_fed", "_head", "_is_last", "_limits", "_original", "_parser", "_size", "_waits"),
        *("_skipped", "_suspends", "rest", "suspended"),
        *("_counter", "_stumbled"),
    )

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__()
        self._limits = limits
        self._head: RequestHead | None = None  # of the message being read
        self._complete = False  # its head has been reported
        self._is_last = False  # nothing is read behind it
        self._fed = 0  # bytes fed before this feed of an incomplete head
        self._size = 0  # of the present feed
        self._original: RequestLine | RequestHead | None = None  # what the parser reads a stand-in for
        self._waits = False  # there is a request line for us to read, once it is whole
        self._skipped = False  # the parser has left the body of this message, of known length, unread
        self._suspends = False  # the body that is being read belongs to an upgrade
        self._counter = ChunkCounter()  # of the chunked body that is being read
        self._stumbled = False  # the parser can't read its trailers
        self.suspended = False
        self.rest = b""
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    @property
    def in_head(self) -> bool:
        """Whether something of a head has come, but not all of it."""
        return self._fed > 0

    @property
    def in_plain_body(self) -> bool:
        """Whether what comes next is body that needs no parsing, so that its size doesn't matter."""
        return self._remaining > 0

    def close(self) -> None:
        """Let go of the parser, which holds on to us: without this only the garbage collector would free both."""
        self._failed = True
        self._remaining = 0
        self._head = None
        self._parser = None

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes as they arrived; at most one refused message ends the list."""
        if self._remaining:
            return self._feed_plain(data)
        events: list[Event] = []
        self._events = events
        if self._failed or self._parser is None:
            return events  # closed or refused: the caller may still be in the middle of something
        if self._complete:  # and not in a plain body
            data = self._feed_chunked(data)
        elif not self._fed:
            self._begun = data
            self._at = self._walked = 0
        else:
            data = self._go_on(data)
        while data:
            data = self._parse(data)
        self._begun = b""
        return events

    def _parse(self, data: bytes) -> bytes:
        """Feed the parser; return what has to be fed again, written in another way or to another parser."""
        parser = self._parser
        assert parser is not None
        self._size = len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._handle_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            return self._handle_parser_error(error, data)
        if self._head is not None:
            if not self._complete and parser.get_method() == b"PRI":
                # For the parser HTTP/2 begins here, whatever the line says, and it would wait for the next one.
                return self._read_line(self._begun[self._find_start() :], _METHOD_REFUSED)
            self._handle_unfinished(len(data))
        elif not self._events or data[-1] != _LINE_FEED:
            self._handle_remainder(len(data))
        return b""

    def pass_by(self) -> None:
        """Take what remains of a plain body for read: it went another way."""
        self._remaining = 0
        self._end_body(b"")

    def resume(self) -> None:
        """Read requests again after an upgrade that came to nothing."""
        self.suspended = False
        self.rest = b""

    def _feed_plain(self, data: bytes) -> list[Event]:
        events: list[Event] = [self._take_plain(data)]
        if not self._remaining:
            events.append(END)
            rest = data[len(events[0]) :] if len(data) > len(events[0]) else b""
            self._end_body(rest)
            if rest and not self.suspended:
                events += self.feed(rest)
        return events

    def _end_body(self, rest: bytes) -> None:
        """Go on behind a body that the parser hasn't seen, or was led to."""
        self._parser = httptools.HttpRequestParser(self)
        if self._suspends:
            self._suspends = False
            self.suspended = True
            self.rest = rest

    def _begin_chunked(self) -> bytes:
        """Let a new parser read the chunked body of the head that was reported last; return what follows the body."""
        head = self._events[-1]
        rest = self._begun[self._find_head_end() :]
        parser = self._parser = httptools.HttpRequestParser(self)
        self._original = head
        self._head = None
        self._complete = False
        self._suspends = head.upgrade is not None
        self._is_last = not head.keep_alive
        parser.feed_data(_CHUNKED_HEAD)
        return self._feed_chunked(rest)

    def _feed_chunked(self, data: bytes) -> bytes:
        """Take more of a chunked body; return what follows it and is to be parsed."""
        parser = self._parser
        assert parser is not None
        end = self._counter.find_end(data)
        if not self._stumbled:
            try:
                parser.feed_data(data if end < 0 else data[:end])
            except httptools.HttpParserUpgrade:
                pass  # so say the trailers, behind which it ends
            except httptools.HttpParserError as error:
                if not self._handle_body_error(str(error)):
                    return b""
        if self._stumbled and end >= 0:
            self._stumbled = False
            self.on_message_complete()
        if (self._head is None) != (end >= 0):
            self._fail(BadRequest("the end of the chunked body isn't clear"))
            return b""
        if end < 0:
            self._handle_unfinished(len(data))
            return b""
        rest = data[end:]
        self._end_body(rest)
        return b"" if self.suspended or self._failed else self._begin_anew(rest)

    def _fail(self, error: ExchangeError) -> None:
        """Report the error with as much of the request line as was valid."""
        head, parser = self._head, self._parser
        if head is not None and parser is not None and not self._complete and type(error) is not VersionUnsupported:
            head.version = _VERSIONS.get(parser.get_http_version(), 0)
            if head.version:
                head.method = head.method or parser.get_method()
                if type(self._original) is RequestLine:
                    self._original.name(head)
                error.head = head
        if error.head is None and not error.note and not self._complete:
            error.note = self._understood()
        super()._fail(error)
        self._head = None  # a refused client may linger, and need hold nothing then

    def _understood(self) -> bytes:
        """Give the request line of a message that has no valid one, as far as it was read."""
        start = self._find_start()
        if start >= 0:  # and isn't TLS, or blank lines
            return first_line(self._begun[start:]) if self._begun[start : start + 1] > b" " else b""
        return excerpt(self._head.target) if self._head is not None else b""

    # callbacks of the parser; none of them raises

    def on_url(self, url: bytes) -> None:
        """Begin a head; a long target comes in pieces."""
        if self._head is None:
            self._head = RequestHead(url)
        else:
            self._head.target += url
            self._head.received = self._head.target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; trailers come here too and are dropped."""
        head = self._head
        if head is None or self._complete:
            if name.lower() in FRAMING_FIELDS:
                self._distrust()
            return
        handler = REQUEST_FIELDS.get(name, LEARN_REQUEST_FIELD)
        if handler is None or handler(head, name, value):
            head.lines.append(b"%b: %b\r\n" % (name, value))
        else:
            head.handled.append((name, value))

    def _distrust(self) -> None:
        """Read no other request behind one whose trailers would frame something if they were fields."""
        self._is_last = True
        if self._head is not None:
            self._head.keep_alive = False

    def on_headers_complete(self) -> None:
        """Check the head as a whole and report it."""
        head, parser = self._head, self._parser
        if head is None or parser is None or self._failed:
            return
        head.method = parser.get_method()
        head.version = self._find_version(parser, len(head.method) + 1 + len(head.target))
        if self._original is not None and self._restore(head):
            return
        head.has_body = head.chunked or bool(head.content_length)
        head.keep_alive = parser.should_keep_alive() and head.keep_alive is not False
        # The parser is asked only where the answer can be yes.
        upgrading = (head.upgrade is not None or head.method == b"CONNECT") and parser.should_upgrade()
        problem = self._find_problem(head)
        if problem is not None:
            self._fail(problem)
            return
        if head.nominated is not None:
            drop_nominated(head, head.nominated)
        if head.upgrade is not None:
            asked = upgrading and head.nominated is not None and b"upgrade" in head.nominated
            head.upgrade = offered_upgrade(head, head.upgrade) if asked else None
        self._skipped = upgrading and head.has_body and not head.chunked
        self._complete = True
        self._fed = 0
        if head.has_body:
            self._length = head.content_length or 0
            self._seen = self._overhead = 0
        self._events.append(head)
        if head.chunked:
            self._counter = ChunkCounter()
            if upgrading or self._find_head_end() < len(self._begun):
                raise _ChunkedBodyError

    def _find_version(self, parser: httptools.HttpRequestParser, at: int) -> int:
        """
        Give the version, 0 if it isn't ours; ``at`` is where it stands if the message began with the feed.

        Asking the parser costs 0.2 µs, which makes a string each time. It takes "GET /" and a bare line feed for
        HTTP/0.9 and RTSP/1.0 for HTTP/1.0, so only what follows the very target that it found says the version.
        """
        if not self._fed and not self._events and self._begun.startswith(b" HTTP/1.1\r\n", at):
            return 11
        said, self._said = self._said, -1
        self._past = b""
        if said >= 0:
            return said
        start = self._find_start()
        return _VERSIONS.get(parser.get_http_version(), 0) if start < 0 else version_at(self._begun, start)

    def _restore(self, head: RequestHead) -> bool:
        """Put in what the parser read a stand-in for; True if that was a whole head, which has been reported."""
        original, self._original = self._original, None
        if type(original) is RequestLine:
            original.name(head)
            return False
        assert type(original) is RequestHead
        self._head = original
        self._complete = True
        return True

    def on_message_complete(self) -> None:
        """End the message: what follows is another one."""
        head, self._head = self._head, None
        self._complete = False
        if head is not None and head.has_body and not self._failed and not self._skipped:
            self._length = 0
            self._flush_body()
            self._events.append(END)
        if self._is_last:
            self._failed = True

    # what the callbacks and feed rely on

    def _handle_upgrade(self, rest: bytes) -> bytes:
        """Go on behind a head with Upgrade: the parser says that it is over and has skipped any body."""
        if self._failed:
            return b""
        head = self._events[-1]
        if self._skipped:
            return self._read_skipped(head, rest)
        if head.upgrade is None:
            return self._begin_anew(rest)
        self.suspended = True
        self.rest = rest
        return b""

    def _read_skipped(self, head: RequestHead, rest: bytes) -> bytes:
        """Read a body that the parser takes for what follows an upgrade."""
        self._skipped = False
        self._suspends = head.upgrade is not None
        self._remaining, self._length = self._length, 0
        if rest:
            events = self._events
            events += self.feed(rest)
            self._events = events
        return b""

    def _handle_parser_error(self, error: httptools.HttpParserError, data: bytes) -> bytes:
        """Refuse the message, or return what it is to be read from instead."""
        if self._complete and not self._failed:
            return self._begin_chunked()  # so want we, or the parser knows no tab behind "chunked"
        text = str(error)
        if self._failed or (self._head is None and text.startswith("Data after")):
            return b""  # pipelined behind "Connection: close": nobody will answer it
        if is_line_refused(error) and self._original is None:
            start = self._find_start()
            if start >= 0:
                return self._read_line(self._begun[start:], text)
        if text in {"Invalid HTTP version", "Expected SOURCE method for ICE/x.x request", "Pause on PRI/Upgrade"}:
            self._fail(VersionUnsupported())
        else:
            words, note = explain_fault(text, data, begins=self._find_start() == 0, is_request=True)
            self._fail(BadRequest(words, note))
        return b""

    def _handle_body_error(self, text: str) -> bool:
        """Refuse a chunked body, unless the parser stumbled over trailers that frame nothing, as all of them."""
        if "Content-Length" in text or "Transfer-Encoding" in text:
            self._distrust()
            self._stumbled = True
        else:
            words, note = explain_fault(text, b"", begins=False, is_request=True)
            self._fail(BadRequest(words, note))
        return self._stumbled

    def _handle_unfinished(self, size: int) -> None:
        """Bound what an unfinished message may take; leave the parser where the body is plain."""
        head = self._head
        assert head is not None
        if not self._complete:
            self._keep_past()
            self._fed += size
            limits = self._limits
            if len(head.target) > limits.request_line:
                self._fail(TargetTooLong(note=b"limits.request_line is %d bytes" % limits.request_line))
            elif len(head.lines) + len(head.handled) > limits.header_count:
                self._fail(HeadTooLarge(note=b"limits.header_count is %d" % limits.header_count))
            elif self._fed > limits.request_line + limits.headers + _FEED_SLACK_BYTES:
                self._fail(HeadTooLarge(note=b"limits.headers is %d bytes" % limits.headers))
            return
        if self._bypass_parser():
            self._head = None
            self._complete = False
        elif not self._count_overhead(size):
            self._fail(BadRequest("chunk extensions or trailers too large"))
        self._flush_body()

    # where a message begins

    def _handle_remainder(self, size: int) -> None:
        """Take note of what has come of the next message: blank lines, or less than a target."""
        if self._failed:
            return
        begun, start = self._begun, self._find_start()
        if start < len(begun) or not self._events:
            self._keep_past()
            self._fed += size
            if start == len(begun) and self._fed > _BLANK_BYTES_MAX:
                self._fail(BadRequest("too many blank lines"))
            elif self._fed > self._limits.request_line + _FEED_SLACK_BYTES:
                self._fail(TargetTooLong(note=b"limits.request_line is %d bytes" % self._limits.request_line))

    def _go_on(self, data: bytes) -> bytes:
        """Take more of an incomplete head, and return what the parser is to be fed."""
        begun, self._past = self._past + data, b""
        self._walked = 0
        if self._said >= 0:
            self._at = -1
        elif self._waits:
            return self._read_line(begun, _METHOD_REFUSED)
        else:
            self._at = 0
        self._begun = begun
        return data

    def _read_line(self, begun: bytes, text: str) -> bytes:
        """
        Take a request line apart that the parser can't read; return the message with one that it can.

        ``text`` is what the parser said.
        """
        self._begin_anew(begun)
        self._parser = httptools.HttpRequestParser(self)
        self._head = None
        self._waits = False
        self._fed = 0
        line, end, rest = begun.partition(b"\r\n")
        if len(line) > self._limits.request_line:
            self._fail(TargetTooLong(note=b"limits.request_line is %d bytes" % self._limits.request_line))
        elif not end and may_become_line(line):
            self._past = begun
            self._fed = len(begun)
            self._waits = True
        else:
            found = read_line(line)
            if type(found) is RequestLine:
                self._original = found
                return self._begin_anew(found.stand_in() + rest)
            if found is None:
                words, note = explain_fault(text, begun, begins=True, is_request=True)
                self._fail(BadRequest(words, note))
            else:
                assert isinstance(found, ExchangeError)
                self._fail(found)
        return b""

    def _find_problem(self, head: RequestHead) -> ExchangeError | None:
        if not head.version:
            return VersionUnsupported()
        limits = self._limits
        # Sizes are only added up when what was fed could be too much at all.
        if self._fed + self._size > limits.harmless:
            if len(head.method) + len(head.received) + _REQUEST_LINE_EXTRA > limits.request_line:
                return TargetTooLong(note=b"limits.request_line is %d bytes" % limits.request_line)
            handled = sum(len(name) + len(value) + 4 for name, value in head.handled)
            if sum(map(len, head.lines)) + handled > limits.headers:
                return HeadTooLarge(note=b"limits.headers is %d bytes" % limits.headers)
        if len(head.lines) + len(head.handled) > limits.header_count:
            return HeadTooLarge(note=b"limits.header_count is %d" % limits.header_count)
        if head.chunked and head.version == 10:
            return BadRequest("Transfer-Encoding in HTTP/1.0")
        if head.problem is not None:
            return head.problem
        return find_target_problem(head)
