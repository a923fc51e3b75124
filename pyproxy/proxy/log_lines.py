r"""
One line per finished exchange, in one of two formats.

Must not know where lines go. What came from a client is written as printable ASCII only: ``"``, ``\`` and every byte
outside space to ``~`` become ``\xHH``, as nginx does it, in both formats. A reader of either log therefore sees the
same text, a terminal that shows it obeys no control sequence, and ``json`` is valid whatever was sent.
"""

from collections.abc import Callable
from time import gmtime, localtime, strftime, struct_time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyproxy.proxy.exchange import Exchange

UNSAFE: Final = bytes(byte for byte in range(256) if not 0x20 <= byte <= 0x7E or byte in b'"\\')
_ESCAPED: Final = [b"\\x%02X" % byte if byte in UNSAFE else bytes((byte,)) for byte in range(256)]
_PROTOCOLS: Final = {10: b"HTTP/1.0", 11: b"HTTP/1.1"}
#: Numbers as text: a lookup costs a fifth of formatting, and a line has three to five of them.
_NUMBERS: Final = [b"%d" % number for number in range(1000)]
_MILLISECONDS: Final = [b"0.%03d" % number for number in range(1000)]

#: What clients sent and needs no escape: targets, user agents and referers come again and again, and to find one
#: here costs a tenth of looking at its bytes. It grows up to a bound, whoever invents new ones.
_SAFE: Final[set[bytes]] = {b"-"}
_SAFE_MAX: Final = 1024
_SAFE_BYTES_MAX: Final = 256


class _Stamp:
    """The text of a second, kept until the next one."""

    __slots__ = ("_layout", "_second", "_split", "_text")

    def __init__(self, layout: str, split: Callable[[float], struct_time]) -> None:
        self._layout = layout
        self._split = split
        self._second = -1
        self._text = b""

    def at(self, second: int) -> bytes:
        """Format seconds since the epoch."""
        if second != self._second:
            self._text = strftime(self._layout, self._split(second)).encode()
            self._second = second
        return self._text


_local: Final = _Stamp("%d/%b/%Y:%H:%M:%S %z", localtime)
_utc: Final = _Stamp("%Y-%m-%dT%H:%M:%S", gmtime)


def combined(exchange: "Exchange", wall: float) -> bytes:
    """Format nginx's ``combined`` line with our tail; ``wall`` is seconds since the epoch."""
    head = exchange.head
    if head is None:
        request, referer, user_agent = b"-", b"-", b"-"
    else:
        request = b"%b %b %b" % (_escape(head.method), _escape(head.received), _PROTOCOLS[head.version])
        referer = _escape(head.referer or b"-")
        user_agent = _escape(head.user_agent or b"-")
    attempts = exchange.attempts
    if len(attempts) == 1:
        attempt = attempts[0]
        backends = attempt.backend
        statuses = _NUMBERS[attempt.status] if attempt.status else b"-"
        times = _seconds(attempt.duration)
    else:
        backends = b",".join([attempt.backend for attempt in attempts]) or b"-"
        statuses = b",".join([_NUMBERS[attempt.status] if attempt.status else b"-" for attempt in attempts]) or b"-"
        times = b",".join([_seconds(attempt.duration) for attempt in attempts]) or b"-"
    end = exchange.end.encode()
    if exchange.why:
        end += b' why="%b"' % escape(exchange.why)
    return b'%b - - [%b] "%b" %b %b "%b" "%b" rt=%b ua=%b us=%b ut=%b tries=%b end=%b id=%b\n' % (
        exchange.client,
        _local.at(int(wall)),
        request,
        _NUMBERS[exchange.status],
        _number(exchange.bytes_sent),
        referer,
        user_agent,
        _seconds(exchange.duration),
        backends,
        statuses,
        times,
        _number(len(attempts)),
        end,
        exchange.request_id,
    )


def json_line(exchange: "Exchange", wall: float) -> bytes:
    """
    Format one JSON object; ``backend`` and ``upstream_*`` are arrays with one element per attempt.

    Written by hand because the values can only be escaped text and numbers: that costs a third of what
    building a dict and encoding it does. A null in ``upstream_status`` is an attempt without an answer, in
    ``upstream_connect_time`` one on a connection used again or never made.
    """
    head = exchange.head
    attempts = exchange.attempts
    if head is None:
        request = b'"method":"-","target":"-","protocol":"-"'
        referer = user_agent = host = b"null"
    else:
        request = b'"method":%b,"target":%b,"protocol":"%b"' % (
            _quote(head.method),
            _quote(head.received),
            _PROTOCOLS[head.version],
        )
        referer, user_agent, host = _quote(head.referer), _quote(head.user_agent), _quote(head.host)
    return (
        b'{"time":"%b.%03dZ","client":"%b",%b,"status":%d,"bytes":%d,"duration":%b,"listener":"%b","pool":%b,'
        b'"backend":[%b],"attempts":%d,"upstream_status":[%b],"upstream_connect_time":[%b],'
        b'"upstream_header_time":[%b],"end":"%b","why":%b,"request_id":%b,"referer":%b,"user_agent":%b,"host":%b}\n'
    ) % (
        _utc.at(int(wall)),
        int(wall % 1 * 1000),
        exchange.client,
        request,
        exchange.status,
        exchange.bytes_sent,
        _seconds(exchange.duration),
        exchange.listener.encode(),
        b'"%b"' % exchange.pool.encode() if exchange.pool else b"null",
        b",".join([b'"%b"' % attempt.backend for attempt in attempts]),
        len(attempts),
        b",".join([b"%d" % attempt.status if attempt.status else b"null" for attempt in attempts]),
        b",".join([_seconds_or_null(attempt.connect_time) for attempt in attempts]),
        b",".join([_seconds_or_null(attempt.header_time) for attempt in attempts]),
        exchange.end.encode(),
        _quote_once(exchange.why) if exchange.why else b"null",
        b'"%b"' % exchange.request_id,
        referer,
        user_agent,
        host,
    )


def _escape(value: bytes) -> bytes:
    if value in _SAFE:
        return value
    if len(value.translate(None, UNSAFE)) == len(value):
        if len(_SAFE) < _SAFE_MAX and len(value) <= _SAFE_BYTES_MAX:
            _SAFE.add(value)
        return value
    return escape(value)


def escape(value: bytes) -> bytes:
    r"""
    Escape what is seldom the same twice, and remember nothing.

    >>> escape(b'say "a\\b"\n').decode()
    'say \\x22a\\x5Cb\\x22\\x0A'
    """
    return b"".join([_ESCAPED[byte] for byte in value])


def _quote(value: bytes | None) -> bytes:
    """Make a JSON string; after our own escaping only the backslashes that it made need JSON's."""
    return b"null" if value is None else b'"%b"' % _escape(value).replace(b"\\", b"\\\\")


def _quote_once(value: bytes) -> bytes:
    return b'"%b"' % escape(value).replace(b"\\", b"\\\\")


def _number(value: int) -> bytes:
    return _NUMBERS[value] if value < len(_NUMBERS) else b"%d" % value


def _seconds(value: float) -> bytes:
    """
    Write seconds with three decimals.

    >>> _seconds(0.0124), _seconds(0.9996), _seconds(61.5)
    (b'0.012', b'1.000', b'61.500')
    """
    milliseconds = int(value * 1000 + 0.5)
    return _MILLISECONDS[milliseconds] if milliseconds < len(_MILLISECONDS) else b"%.3f" % value


def _seconds_or_null(value: float | None) -> bytes:
    return b"null" if value is None else _seconds(value)
