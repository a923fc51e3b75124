"""What the readers make of a message's head. Plain values: no parsing, no writing, no routing."""

from enum import IntEnum
from typing import Final

from pyproxy.errors import ExchangeError


class Framing(IntEnum):
    """How the end of a body is known (RFC 9112, section 6.3)."""

    NO_BODY = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_EOF = 3


# Names of their own: a member looked up on its class costs 55 ns on CPython 3.11, a global 4.
NO_BODY: Final = Framing.NO_BODY
LENGTH: Final = Framing.LENGTH
CHUNKED: Final = Framing.CHUNKED
UNTIL_EOF: Final = Framing.UNTIL_EOF


class End:
    """The one event that says that a message is over."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "END"


END: Final = End()


class RequestHead:
    r"""
    A request's head, checked; header lines that travel on are ready to be written.

    ``lines`` holds ``b"Name: value\r\n"`` of every end-to-end field but those with a slot of their own:
    ``host``, ``request_id``, the forwarding fields (``forwarded``, as a list of lower-case name and value;
    whether they are believed is routing's business) and the framing. ``version`` is 10 or 11.
    ``problem`` is the first thing found wrong while the fields came in.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "expect",
        "forwarded",
        "handled",
        "has_body",
        "host",
        "keep_alive",
        "lines",
        "method",
        "nominated",
        "problem",
        "referer",
        "request_id",
        "target",
        "te_trailers",
        "upgrade",
        "user_agent",
        "version",
    )

    def __init__(self, target: bytes) -> None:
        self.target = target
        self.method = b""
        self.version = 11
        self.lines: list[bytes] = []
        self.handled: list[tuple[bytes, bytes]] = []  # the other fields, as they came
        self.host: bytes | None = None
        self.content_length: int | None = None
        self.chunked = False
        self.has_body = False  # whether body bytes follow; "Content-Length: 0" is no body
        self.keep_alive: bool | None = None  # until the head is complete: what its fields say
        self.nominated: set[bytes] | None = None
        self.upgrade: bytes | None = None
        self.expect: bytes | None = None
        self.te_trailers = False
        self.request_id: bytes | None = None
        self.forwarded: list[tuple[bytes, bytes]] | None = None
        self.referer: bytes | None = None
        self.user_agent: bytes | None = None
        self.problem: ExchangeError | None = None

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.target!r} HTTP/{self.version / 10}>"


class ResponseHead:
    """A response's head, checked; ``lines`` as in RequestHead, without framing and hop-by-hop fields."""

    __slots__ = (
        "chunked",
        "content_length",
        "framing",
        "keep_alive",
        "lines",
        "nominated",
        "problem",
        "reason",
        "status",
        "trailer",
        "upgrade",
        "version",
    )

    def __init__(self) -> None:
        self.status = 0
        self.reason = b""
        self.version = 11
        self.lines: list[bytes] = []
        self.content_length: int | None = None
        self.chunked = False
        self.framing: Framing = NO_BODY
        self.keep_alive: bool | None = None  # what its fields say
        self.nominated: set[bytes] | None = None
        self.upgrade: bytes | None = None
        self.trailer: bytes | None = None
        self.problem: ExchangeError | None = None

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.reason!r} {self.framing.name}>"
