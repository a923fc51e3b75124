"""
Every error the program raises on purpose.

::

    PyproxyError
    ├── ConfigError               a file that can't be used; carries all its problems; exit code 2
    ├── ExchangeError             ends an attempt or an exchange: status, source, retry
    │   ├── DownstreamError       the client's doing
    │   │   └── BadRequest 400 · RequestTimeout 408 · BodyTooLarge 413 · HeadTooLarge 431 · LoopDetected 508 · ...
    │   ├── UpstreamError         the backend's doing
    │   │   └── DialFailed 502 · DialTimeout 504 · ConnectionStale 502 · ResponseTimeout 504 · BadResponse 502 · ...
    │   └── ProxyError            ours
    │       └── NoRoute 404 · NoBackend 503 · QueueFull 503 · ShuttingDown 503 · Internal 500 · ...
    ├── FailoverError             of the speaker and its link; see docs/failover.md
    │   └── PacketInvalid(reason) · VipFailed · LinkRefused(reason) · FrameInvalid · IllegalEvent
    └── ChannelError              supervisor and worker don't understand each other

``status`` is what the client is told when nothing has been sent yet, ``end`` the termination code of the
access log, ``retry`` the permission that the error gives; whether it is used is ``proxy.retry``'s decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final


class Retry(Enum):
    """What an error permits: another attempt always, only for a request that may be sent twice, or never."""

    ALWAYS = "always"
    IF_REPEATABLE = "if_repeatable"
    NEVER = "never"


class PyproxyError(Exception):
    """The root of the tree."""


class ChannelError(PyproxyError):
    """A frame between supervisor and worker that can't be read."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a configuration file; line and column count from 1."""

    line: int
    column: int
    path: str
    text: str

    def line_in(self, file: str, kind: str = "") -> str:
        """Write it as a line: ``file:line:column: path: kind: text``, where path and kind may be empty."""
        return ": ".join(filter(None, (f"{file}:{self.line}:{self.column}", self.path, kind, self.text)))


class ConfigError(PyproxyError):
    """A configuration that can't be used, with every problem found in it."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{file}: {len(problems)} problem(s)")
        self.file = file
        self.problems = tuple(problems)

    def lines(self) -> list[str]:
        """One line a problem: ``file:line:column: path: text``."""
        return [problem.line_in(self.file) for problem in sorted(self.problems)]


#: A reason is at most this long, and what it quotes of a message this much.
WHY_MAX_BYTES: Final = 300
EXCERPT_MAX_BYTES: Final = 60


def excerpt(data: bytes) -> bytes:
    """
    Cut what a reason quotes to a length at which it can still be recognised.

    >>> len(excerpt(b"x" * 1000)), excerpt(b"GET /a HTTP/1.1")
    (63, b'GET /a HTTP/1.1')
    """
    return data if len(data) <= EXCERPT_MAX_BYTES else data[:EXCERPT_MAX_BYTES] + b"..."


class ExchangeError(PyproxyError):
    """
    Something that ends an attempt or the whole exchange; used as a value more often than raised.

    ``note`` is what only the operator is to read behind the reason: a piece of what was sent, a limit, who is down.
    It may hold any bytes, so whoever writes it down escapes it.
    """

    status: ClassVar[int] = 500
    end: ClassVar[str] = "PH"
    retry: ClassVar[Retry] = Retry.NEVER
    #: Whether it counts among the failures in a row that eject a backend.
    blames_backend: ClassVar[bool] = False
    #: The request's head as far as it was understood, for the access log.
    head: Any = None
    #: The word of ``retry.on`` in lb.yml that lets this error be retried.
    cause: str = ""

    def __init__(self, detail: str = "", note: bytes = b"") -> None:
        super().__init__(detail or (self.__doc__ or "").strip().rstrip("."))
        self.note = note

    @property
    def why(self) -> bytes:
        """
        The reason as the access log, events and ``explain`` have it; neither escaped nor for the client.

        >>> DialFailed().why, BadRequest("bad Host", b"a b").why
        (b'the backend refused the connection', b'bad Host: a b')
        """
        text = str(self)
        if text.partition(" ")[0] in _FIRST_WORDS:
            text = text[0].lower() + text[1:]
        why = text.encode("utf-8", "backslashreplace")
        if self.note:
            why += b": " + self.note
        return why if len(why) <= WHY_MAX_BYTES else why[:WHY_MAX_BYTES] + b"..."


#: How the sentences in this module begin, which stand in the middle of a line.
_FIRST_WORDS: Final = frozenset({"The", "Checks", "No", "Every", "Too", "Internal"})


class DownstreamError(ExchangeError):
    """The client's doing; never held against a backend."""

    status = 400
    end = "PR"


class BadRequest(DownstreamError):
    """The request is malformed."""


class RequestTimeout(DownstreamError):
    """The request head did not arrive in time."""

    status = 408
    end = "cR"


class BodyTimeout(DownstreamError):
    """The request body did not arrive in time."""

    status = 408
    end = "cD"


class BodyTooLarge(DownstreamError):
    """The request body is too large."""

    status = 413


class TargetTooLong(DownstreamError):
    """The request line is too long."""

    status = 414


class LoopDetected(DownstreamError):
    """The request has come back to this proxy too often (RFC 5842, section 7.2)."""

    status = 508


class HeadTooLarge(DownstreamError):
    """The request header fields are too large."""

    status = 431


class TransferCodingUnsupported(DownstreamError):
    """The transfer coding is not supported."""

    status = 501


class MethodUnsupported(DownstreamError):
    """The method is not supported."""

    status = 501


class VersionUnsupported(DownstreamError):
    """The HTTP version is not supported."""

    status = 505


class ClientGone(DownstreamError):
    """The client left before the exchange was over; ``outcome`` knows the termination code by phase."""

    status = 499
    end = "CH"


class ClientTooSlow(DownstreamError):
    """The client stopped reading the response."""

    status = 499
    end = "cD"


class UpstreamError(ExchangeError):
    """The backend's doing."""

    status = 502
    end = "SH"
    blames_backend = True


class DialFailed(UpstreamError):
    """The backend refused the connection."""

    end = "SC"
    retry = Retry.ALWAYS
    cause = "connect"


class NoLocalPort(DialFailed):
    """No local port was left for a connection to the backend."""

    blames_backend = False


class DialTimeout(UpstreamError):
    """The backend did not accept the connection in time."""

    status = 504
    end = "sC"
    retry = Retry.ALWAYS
    cause = "connect"


class DescriptorLimit(UpstreamError):
    """No descriptor was left for a connection to the backend."""

    status = 503
    end = "RC"
    blames_backend = False
    retry = Retry.ALWAYS  # another backend may have a connection to spare
    cause = "connect"


class ConnectionReset(UpstreamError):
    """The backend closed the connection before its response began."""

    retry = Retry.IF_REPEATABLE
    cause = "reset"


class HeadTruncated(UpstreamError):
    """The backend closed the connection in the middle of its response head."""


class ResponseTimeout(UpstreamError):
    """The backend did not answer in time."""

    status = 504
    end = "sH"
    retry = Retry.IF_REPEATABLE
    cause = "timeout"


class BadResponse(UpstreamError):
    """The backend's answer is not valid HTTP."""

    end = "PH"


class GatewayStatus(UpstreamError):
    """The backend answered with a status that ``retry.on`` lists."""

    end = "--"
    retry = Retry.IF_REPEATABLE

    def __init__(self, status: int) -> None:
        super().__init__(f"The backend answered {status}")
        self.cause = str(status)


class ResponseTruncated(UpstreamError):
    """The backend closed the connection in the middle of its response."""

    end = "SD"


class BodyStalled(UpstreamError):
    """The backend stopped in the middle of a body."""

    status = 504
    end = "sD"


class ProxyError(ExchangeError):
    """Our own doing."""


class MethodNotAllowed(ProxyError):
    """The method is not allowed."""

    status = 405
    end = "PR"


class NoRoute(ProxyError):
    """No route matches."""

    status = 404
    end = "PR"


class NoBackend(ProxyError):
    """No backend is available."""

    status = 503
    end = "SC"


class Forbidden(ProxyError):
    """The client's address is not allowed."""

    status = 403
    end = "PR"


class QueueFull(ProxyError):
    """Every available backend is at max_conns, and as many requests as allowed wait already."""

    status = 503
    end = "PQ"


class QueueTimeout(ProxyError):
    """No backend came below its max_conns in time."""

    status = 503
    end = "sQ"


class ShuttingDown(ProxyError):
    """The proxy is stopping."""

    status = 503
    end = "PD"


class ConnectionLimit(ProxyError):
    """Too many connections."""

    status = 503
    end = "RC"


class Internal(ProxyError):
    """Internal error."""


class FailoverError(PyproxyError):
    """Something that goes wrong between the two machines of a pair, or with the address that they share."""


class PacketInvalid(FailoverError):
    """An advert that is dropped; ``reason`` is a value of ``failover.packet.Reason``, ``detail`` is for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class VipFailed(FailoverError):
    """A virtual address that could not be added, removed or renewed."""


class LinkRefused(FailoverError):
    """What came over the link is not from the other machine; ``reason`` is one of a few fixed texts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FrameInvalid(FailoverError):
    """Bytes on the way to the speaker that are no frame."""


class IllegalEvent(FailoverError):
    """An event that a machine can't get in its state: a mistake of the program's own."""

    def __init__(self, machine: object, state: str, event: object) -> None:
        super().__init__(f"{machine!r}: {event!r} in state {state}")
