"""
Read requests from a client's bytes. Knows nothing of routes, sockets or time.

Obligations of the caller: after an ExchangeError event nothing more is fed. After a request with ``upgrade`` set,
body included, the reader is suspended: the caller keeps what arrives until the answer is known, then either
never feeds again (a tunnel) or calls ``resume()`` and feeds ``rest`` and what it kept.

The parser takes a head with Upgrade for the end of HTTP and would skip a body behind it. That body is therefore
framed here: by its length, without a parser, or by a new parser that is led to the beginning of a chunked one.
"""

import re
from typing import Final

import httptools

from pyproxy.config.runtime import Limits
from pyproxy.errors import (
    BadRequest,
    ExchangeError,
    HeadTooLarge,
    TargetTooLong,
    VersionUnsupported,
    excerpt,
)
from pyproxy.http1.faults import explain_fault, first_line
from pyproxy.http1.fields import FRAMING_FIELDS, LEARN_REQUEST_FIELD, REQUEST_FIELDS, tokens, without_nominated
from pyproxy.http1.head import END, RequestHead
from pyproxy.http1.reader import Event, MessageReader

#: A host is a name or address with an optional port; anything else confuses somebody behind us.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?!\.)[A-Za-z0-9._~%!$&'()*+;=-]+)(?::[0-9]{0,5})?")
#: Hosts that are well-formed (a lookup costs 0.03 µs, a look at the bytes 0.4), up to so many.
_GOOD_HOSTS: Final[set[bytes]] = set()
_GOOD_HOSTS_MAX: Final = 1024
_GOOD_HOST_BYTES_MAX: Final = 255
_VERSIONS: Final = {"1.1": 11, "1.0": 10}
_REQUEST_LINE_EXTRA: Final = len(b"  HTTP/1.1")
#: A number, because CPython looks for bytes in bytes only after an exception (0.2 µs more).
_NUMBER_SIGN: Final = ord("#")
#: How far counting may run ahead: the feed that completes one message may begin the next.
_FEED_SLACK_BYTES: Final = 16 * 1024
#: Leads a parser to where a chunked body begins; only of the body anything is reported.
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Where a chunked body may end: behind an empty line.
_EMPTY_LINE: Final = re.compile(rb"(?<=\n)\r\n")
#: Fields that Connection may name without any of ``lines`` having to go.
_HANDLED: Final = frozenset({b"upgrade", b"te", b"http2-settings"})


class HeadLimits:
    """
    What a head may have, in bytes and in headers; ``harmless`` is a size at which nothing can be too long.

    A class of our own, shared by all readers: what is read of the configuration's is slow where this is compiled.
    """

    __slots__ = ("harmless", "header_count", "headers", "request_line")

    def __init__(self, limits: Limits) -> None:
        self.request_line = limits.request_line
        self.headers = limits.headers
        self.header_count = limits.header_count
        self.harmless = min(limits.request_line, limits.headers)


class RequestReader(MessageReader):
    """
    One client's connection as events: RequestHead, then bytes and END for a body, or an ExchangeError.

    A request without a body is its RequestHead alone (``head.has_body`` is False, no END follows).
    """

    __slots__ = (
        "_begun",
        "_complete",
        "_fed",
        "_head",
        "_limits",
        "_parser",
        "_size",
        "_skipped",
        "_suspends",
        "rest",
        "suspended",
    )

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__()
        self._limits = limits
        self._head: RequestHead | None = None  # of the message being read
        self._complete = False  # its head has been reported
        self._fed = 0  # bytes fed before this feed of an incomplete head
        self._size = 0  # of the present feed
        self._begun = b""  # the present feed while it is known to begin with the message that is read
        self._skipped = False  # the parser has left the body of this message unread
        self._suspends = False  # the body that is being read belongs to an upgrade
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
        parser = self._parser
        if self._failed or parser is None:
            return events  # closed or refused: the caller may still be in the middle of something
        if self._suspends:
            self._feed_upgrade_body(data)
            return events
        self._size = len(data)
        if self._head is None and not self._fed and data[:1] > b" ":
            self._begun = data
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._handle_upgrade(data[upgrade.args[0] :])
            return events
        except httptools.HttpParserError as error:
            self._handle_parser_error(error, data)
        self._begun = b""
        if self._head is not None:
            self._handle_unfinished(len(data))
        elif not events:
            self._fed += len(data)  # less than a target, or blank lines
        return events

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

    def _feed_upgrade_body(self, data: bytes) -> None:
        """Feed a chunked body in pieces that end where it may end: what follows it is not to be parsed."""
        parser, size, begin = self._parser, len(data), 0
        assert parser is not None
        # What leads to the empty line may have begun in the last feed.
        ends = [
            *range(1, min(size, 4)),
            *[found.end() for found in _EMPTY_LINE.finditer(data) if found.end() > 3],
            size,
        ]
        try:
            for end in ends:
                parser.feed_data(data[begin:end])
                begin = end
                if self._head is None:
                    self._end_body(data[end:])
                    return
        except httptools.HttpParserError as error:
            self._handle_parser_error(error, data)
            return
        self._handle_unfinished(size)

    def _fail(self, error: ExchangeError) -> None:
        """Report the error with as much of the request line as was valid."""
        head, parser = self._head, self._parser
        if head is not None and parser is not None and not self._complete:
            head.version = _VERSIONS.get(parser.get_http_version(), 0)
            if head.version:
                head.method = parser.get_method()
                error.head = head
        if error.head is None and not error.note and not self._complete:
            error.note = self._understood()
        super()._fail(error)

    def _understood(self) -> bytes:
        """Give the request line of a message that has no valid one, as far as it was read."""
        if self._begun:
            return first_line(self._begun)
        return excerpt(self._head.target) if self._head is not None else b""

    # callbacks of the parser; none of them raises

    def on_url(self, url: bytes) -> None:
        """Begin a head; a long target comes in pieces."""
        if self._head is None:
            self._head = RequestHead(url)
        else:
            self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; trailers come here too and are dropped."""
        head = self._head
        if head is None or self._complete:
            self._take_trailer(name)
            return
        handler = REQUEST_FIELDS.get(name, LEARN_REQUEST_FIELD)
        if handler is None or handler(head, name, value):
            head.lines.append(b"%b: %b\r\n" % (name, value))
        else:
            head.handled.append((name, value))

    def _take_trailer(self, name: bytes) -> None:
        """Drop a trailer; one that means something to the parser would confuse it over the next request."""
        if name.lower() in FRAMING_FIELDS:
            self._fail(BadRequest("framing field in the trailers"))

    def on_headers_complete(self) -> None:
        """Check the head as a whole and report it."""
        head, parser = self._head, self._parser
        if head is None or parser is None or self._failed:
            return
        head.method = parser.get_method()
        head.version = self._find_version(parser, len(head.method) + 1 + len(head.target))
        head.has_body = head.chunked or bool(head.content_length)
        head.keep_alive = parser.should_keep_alive()
        # The parser is asked only where the answer can be yes.
        upgrading = (head.upgrade is not None or head.method == b"CONNECT") and parser.should_upgrade()
        problem = self._find_problem(head)
        if problem is not None:
            self._fail(problem)
            return
        if head.nominated is not None and not head.nominated <= _HANDLED:
            self._drop_nominated(head, head.nominated)
        if head.upgrade is not None:
            asked = upgrading and head.nominated is not None and b"upgrade" in head.nominated
            head.upgrade = _offered_upgrade(head, head.upgrade) if asked else None
        self._skipped = upgrading and head.has_body
        self._complete = True
        self._fed = 0
        if head.has_body:
            self._length = head.content_length or 0
            self._seen = self._overhead = 0
        self._events.append(head)

    def _find_version(self, parser: httptools.HttpRequestParser, at: int) -> int:
        """
        Give the version, 0 if it isn't ours; ``at`` is where it stands if the message began with the feed.

        Asking the parser costs 0.2 µs, which makes a string each time. It takes "GET /" and a bare line feed for
        HTTP/0.9, so only what follows the very target that it found says the version.
        """
        begun, self._begun = self._begun, b""
        if begun and begun.startswith(b" HTTP/1.1\r\n", at):
            return 11
        return _VERSIONS.get(parser.get_http_version(), 0)

    def on_message_complete(self) -> None:
        """End the message: what follows is another one."""
        head, self._head = self._head, None
        self._complete = False
        if head is not None and head.has_body and not self._failed and not self._skipped:
            self._length = 0
            self._flush_body()
            self._events.append(END)

    # what the callbacks and feed rely on

    def _handle_upgrade(self, rest: bytes) -> None:
        """Go on behind a head with Upgrade: the parser says that it is over and has skipped any body."""
        if self._failed:
            return
        events = self._events
        head = events[-1]
        if self._skipped:
            self._skipped = False
            self._suspends = head.upgrade is not None
            if head.chunked:
                self._begin_chunked()
            else:
                self._remaining, self._length = self._length, 0
        elif head.upgrade is not None:
            self.suspended = True
            self.rest = rest
            return
        if rest:
            events += self.feed(rest)
            self._events = events

    def _begin_chunked(self) -> None:
        """Let a new parser stand at the beginning of a chunked body."""
        parser = self._parser = httptools.HttpRequestParser(self)
        self._events = []
        parser.feed_data(_CHUNKED_HEAD)

    def _handle_parser_error(self, error: httptools.HttpParserError, data: bytes) -> None:
        text = str(error)
        if self._head is None and text.startswith("Data after"):
            return  # pipelined behind "Connection: close": nobody will answer it
        if text in {"Invalid HTTP version", "Pause on PRI/Upgrade"}:
            self._fail(VersionUnsupported())
        else:
            in_head = not self._complete
            begins = bool(self._begun) or not (self._fed or self._events or self._head)
            words, note = explain_fault(text, data if in_head else b"", begins=begins, is_request=True)
            self._fail(BadRequest(words, note))

    def _handle_unfinished(self, size: int) -> None:
        """Bound what an unfinished message may take; leave the parser where the body is plain."""
        if not self._complete:
            self._fed += size
            limits = self._limits
            assert self._head is not None
            if len(self._head.target) > limits.request_line:
                self._fail(TargetTooLong(note=b"limits.request_line is %d bytes" % limits.request_line))
            elif self._fed > limits.request_line + limits.headers + _FEED_SLACK_BYTES:
                self._fail(HeadTooLarge(note=b"limits.headers is %d bytes" % limits.headers))
            return
        if self._bypass_parser():
            self._head = None
            self._complete = False
        elif not self._count_overhead(size):
            self._fail(BadRequest("chunk extensions or trailers too large"))
        self._flush_body()

    def _find_problem(self, head: RequestHead) -> ExchangeError | None:
        if not head.version:
            return VersionUnsupported()
        limits = self._limits
        # Sizes are only added up when what was fed could be too much at all.
        if self._fed + self._size > limits.harmless:
            if len(head.method) + len(head.target) + _REQUEST_LINE_EXTRA > limits.request_line:
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
        return _find_target_problem(head)

    @staticmethod
    def _drop_nominated(head: RequestHead, nominated: set[bytes]) -> None:
        head.lines = without_nominated(head.lines, nominated)
        if head.forwarded is not None:
            head.forwarded = [field for field in head.forwarded if field[0] not in nominated]
        head.handled = [field for field in head.handled if field[0].lower() not in nominated]
        if b"x-request-id" in nominated:
            head.request_id = None


def _offered_upgrade(head: RequestHead, value: bytes) -> bytes | None:
    """Give what the backend is offered: never h2c, and nothing from HTTP/1.0 (RFC 9110, section 7.8)."""
    offered = [token for token in tokens(value) if token != b"h2c"]
    return b", ".join(offered) if offered and head.version == 11 else None


def _is_good_host(host: bytes) -> bool:
    is_good = _HOST.fullmatch(host) is not None
    if is_good and len(_GOOD_HOSTS) < _GOOD_HOSTS_MAX and len(host) <= _GOOD_HOST_BYTES_MAX:
        _GOOD_HOSTS.add(host)
    return is_good


def _find_target_problem(head: RequestHead) -> ExchangeError | None:
    """Check the target's form against the method and Host (RFC 9112, sections 3.2 and 3.3)."""
    target, host = head.target, head.host
    if host is None:
        if head.version == 11:
            return BadRequest("no Host")
    elif host and host not in _GOOD_HOSTS and not _is_good_host(host):
        return BadRequest("bad Host")
    if _NUMBER_SIGN in target:
        return BadRequest("fragment in the request target")
    if target.startswith(b"/") or head.method == b"CONNECT":
        return None
    if target == b"*":
        return None if head.method == b"OPTIONS" else BadRequest("'*' as target")
    scheme, _, rest = target.partition(b"://")
    authority = rest.replace(b"?", b"/", 1).partition(b"/")[0]
    if scheme.lower() not in {b"http", b"https"} or not authority or not _is_good_host(authority):
        return BadRequest("bad request target")
    if host is None:
        head.host = authority
    elif authority.lower() != host.lower():
        return BadRequest("Host differs from the request target")
    return None
