"""What the readers make of a message's head. Plain values: no parsing, no writing, no routing."""

from enum import IntEnum
from typing import Final

from pyproxy.errors import BadRequest, BadResponse, ExchangeError


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


class Head:
    r"""
    What both heads have; header lines that travel on are ready to be written.

    ``lines`` holds ``b"Name: value\r\n"`` of every end-to-end field but those with a slot of their own and the
    framing. ``version`` is 10 or 11, ``keep_alive`` what the fields say until the head is complete. ``problem`` is the
    first thing found wrong while the fields came in.
    """

    __slots__ = ("chunked", "content_length", "keep_alive", "lines", "nominated", "problem", "upgrade", "version")

    def __init__(self) -> None:
        self.version = 11
        self.lines: list[bytes] = []
        self.content_length: int | None = None
        self.chunked = False
        self.keep_alive: bool | None = None
        self.nominated: set[bytes] | None = None
        self.upgrade: bytes | None = None
        self.problem: ExchangeError | None = None

    def make_problem(self, text: str) -> ExchangeError:
        """Say whose mistake a malformed field is."""
        raise NotImplementedError


class RequestHead(Head):
    """
    A request's head, checked.

    Beside ``lines`` stand ``host``, ``request_id`` and the forwarding fields: ``forwarded``, as a list of lower-case
    name and value; whether they are believed is routing's business. ``received`` is the target as the client wrote it,
    ``target`` what a backend is asked for. ``upgrade`` is the very list that is offered to it, None for nothing.
    """

    __slots__ = (
        "expect",
        "forwarded",
        "handled",
        "has_body",
        "host",
        "logs_in",
        "method",
        "received",
        "referer",
        "request_id",
        "target",
        "te_trailers",
        "turns",
        "user_agent",
    )

    def __init__(self, target: bytes) -> None:
        super().__init__()
        self.target = target
        self.received = target
        self.method = b""
        self.handled: list[tuple[bytes, bytes]] = []  # the other fields, as they came
        self.host: bytes | None = None
        self.has_body = False  # whether body bytes follow; "Content-Length: 0" is no body
        self.expect: bytes | None = None
        self.te_trailers = False
        self.request_id: bytes | None = None
        self.forwarded: list[tuple[bytes, bytes]] | None = None
        self.referer: bytes | None = None
        self.user_agent: bytes | None = None
        self.turns = 0  # how often it has come from ourselves
        self.logs_in = False  # with credentials that hold for the connection (NTLM, Negotiate)

    def make_problem(self, text: str) -> ExchangeError:
        return BadRequest(text)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.received!r} HTTP/{self.version / 10}>"


class ResponseHead(Head):
    """
    A response's head, checked.

    ``asks_login`` says that it asks for a login that holds for the connection, ``hint`` is what its Keep-Alive says, as
    seconds and requests (``fields``).
    """

    __slots__ = ("asks_login", "framing", "has_date", "hint", "reason", "status", "trailer")

    def __init__(self) -> None:
        super().__init__()
        self.status = 0
        self.reason = b""
        self.framing: Framing = NO_BODY
        self.hint: tuple[float, int] | None = None
        self.trailer: bytes | None = None
        self.has_date = False
        self.asks_login = False

    def make_problem(self, text: str) -> ExchangeError:
        return BadResponse(text)

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.reason!r} {self.framing.name}>"
