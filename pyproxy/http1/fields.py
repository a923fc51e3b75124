"""
Which header fields mean something to a proxy, and what each does to the head that is being read.

A table maps a field name, in each spelling seen so far, to a handler or to None for "just passes". A handler
returns True when the field travels on as it came. Must not know framing rules that need the whole head: those
are ``request`` and ``response``.
"""

import re
from collections.abc import Callable
from typing import Final

from pyproxy.errors import BadRequest, BadResponse, TransferCodingUnsupported
from pyproxy.http1.head import Head, RequestHead, ResponseHead

RequestHandler = Callable[[RequestHead, bytes, bytes], bool]
ResponseHandler = Callable[[ResponseHead, bytes, bytes], bool]

#: A spelling is remembered (one dict lookup instead of lower() and classification) until this many are known,
#: so that a client inventing names can't grow the table.
SPELLINGS_MAX: Final = 1024
SPELLING_LENGTH_MAX: Final = 64

#: What Connection mostly says: 0.5 µs less than taking it apart.
_SPELLED: Final = {
    b"keep-alive": [b"keep-alive"],
    b"Keep-Alive": [b"keep-alive"],
    b"close": [b"close"],
    b"Close": [b"close"],
}
#: Fields that the parser acts on, wherever they stand.
FRAMING_FIELDS: Final = frozenset(
    {b"connection", b"proxy-connection", b"content-length", b"transfer-encoding", b"upgrade"}
)
#: What fits into 63 bits, as with nginx and HAProxy; a number with more digits is refused even if these are zeros.
LENGTH_MAX: Final = 2**63 - 1
LENGTH_DIGITS_MAX: Final = 19
_UNDERSCORE: Final = ord("_")
#: A quoted string, up to the end where nobody closes it.
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?$)', re.DOTALL)
_CONNECTION_SCHEME: Final = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def tokens(value: bytes) -> list[bytes]:
    """
    Split a comma-separated list of tokens, lower-cased, empty members dropped (RFC 9110, section 5.6.1).

    >>> tokens(b"Keep-Alive, ,X-Foo ")
    [b'keep-alive', b'x-foo']
    """
    return [member for member in (part.strip() for part in value.lower().split(b",")) if member]


def agrees(chosen: bytes | None, offered: bytes | None) -> bool:
    """
    Whether a 101 names one protocol, and one that was offered (RFC 9110, section 7.8).

    >>> agrees(b"WebSocket", b"websocket, x"), agrees(b"h2c", b"websocket"), agrees(b"x, y", b"x, y")
    (True, False, False)
    """
    if chosen is None or offered is None:
        return False
    named = tokens(chosen)
    return len(named) == 1 and named[0] in tokens(offered)


def offers_connection_login(challenges: bytes) -> bool:
    """
    Whether one of the challenges is a login that holds for the connection, which HTTP itself knows nothing of.

    >>> offers_connection_login(b'Basic realm="NTLM, or what", negotiate')
    True
    >>> offers_connection_login(b'Basic realm="a, NTLM"'), offers_connection_login(b"Ntlmish, Basic ntlm=x")
    (False, False)
    """
    return _CONNECTION_SCHEME.search(_QUOTED.sub(b"", challenges)) is not None


def without_nominated(lines: list[bytes], nominated: set[bytes]) -> list[bytes]:
    """Leave out the lines whose field is named in ``Connection`` (RFC 9110, section 7.6.1)."""
    return [line for line in lines if line[: line.index(b":")].lower() not in nominated]


def _connection(head: Head, _name: bytes, value: bytes) -> bool:
    """Note what Connection says of the connection, and collect the fields that must not travel on."""
    for token in _SPELLED.get(value) or tokens(value):
        if token == b"close":
            head.keep_alive = False
        elif token == b"keep-alive":
            head.keep_alive = head.keep_alive is not False
        else:
            head.nominated = (head.nominated or set()) | {token}
    return False


def _proxy_connection(head: Head, _name: bytes, value: bytes) -> bool:
    """Note what the parser takes from it, though it never was a standard: only that it ends the connection."""
    if b"close" in tokens(value):
        head.keep_alive = False
    return False


def _content_length(head: Head, _name: bytes, value: bytes) -> bool:
    digits = value.strip()  # the parser has refused everything but digits and blanks around them
    # Digits are counted first: int() takes quadratic time for them, and refuses thousands even of zeros.
    if len(digits) > LENGTH_DIGITS_MAX or int(digits) > LENGTH_MAX:
        head.problem = head.problem or head.make_problem("Content-Length is too large")
        return False
    head.content_length = int(digits)
    return False


def _drop(_head: Head, _name: bytes, _value: bytes) -> bool:
    return False


def _upgrade(head: Head, _name: bytes, value: bytes) -> bool:
    head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value
    return False


# requests


def _host(head: RequestHead, _name: bytes, value: bytes) -> bool:
    if head.host is not None:
        head.problem = head.problem or BadRequest("more than one Host")
    head.host = value.rstrip(b" \t")
    return False


def _request_transfer_encoding(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.chunked = True
    if value.strip().lower() != b"chunked":
        head.problem = head.problem or TransferCodingUnsupported()
    return False


def _te(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.te_trailers = head.te_trailers or b"trailers" in tokens(value)
    return False


def _expect(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.expect = value
    return False


def _request_id(head: RequestHead, _name: bytes, value: bytes) -> bool:
    value = value.strip()
    if _REQUEST_ID.fullmatch(value):
        head.request_id = value
    return False


def _authorization(head: RequestHead, _name: bytes, value: bytes) -> bool:
    if value[:1] in b"Nn" and offers_connection_login(value):
        head.logs_in = True
    return True


def _referer(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.referer = value
    return True


def _user_agent(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.user_agent = value
    return True


def _forwarding(head: RequestHead, name: bytes, value: bytes) -> bool:
    if head.forwarded is None:
        head.forwarded = []
    head.forwarded.append((name.lower(), value))
    return False


# responses


def _response_transfer_encoding(head: ResponseHead, _name: bytes, value: bytes) -> bool:
    # The parser knows no tab behind it, and would let two fields pass for one.
    if head.chunked or value.strip(b" ").lower() != b"chunked":
        head.problem = head.problem or BadResponse("transfer coding other than one chunked")
    head.chunked = True
    return False


def _date(head: ResponseHead, _name: bytes, _value: bytes) -> bool:
    head.has_date = True
    return True


def _authenticate(head: ResponseHead, _name: bytes, value: bytes) -> bool:
    if offers_connection_login(value):
        head.asks_login = True
    return True


def _proxy_authenticate(head: ResponseHead, name: bytes, value: bytes) -> bool:
    _authenticate(head, name, value)
    return False


def _trailer(head: ResponseHead, _name: bytes, value: bytes) -> bool:
    head.trailer = value
    return False


_REQUEST: Final[dict[bytes, RequestHandler]] = {
    b"host": _host,
    b"connection": _connection,
    b"proxy-connection": _proxy_connection,
    b"content-length": _content_length,
    b"transfer-encoding": _request_transfer_encoding,
    b"upgrade": _upgrade,
    b"te": _te,
    b"expect": _expect,
    b"x-request-id": _request_id,
    b"authorization": _authorization,
    b"referer": _referer,
    b"user-agent": _user_agent,
    b"x-forwarded-for": _forwarding,
    b"x-forwarded-proto": _forwarding,
    b"x-forwarded-host": _forwarding,
    b"x-forwarded-port": _forwarding,
    b"forwarded": _forwarding,
    b"x-real-ip": _forwarding,
    b"keep-alive": _drop,
    b"proxy-authenticate": _drop,
    b"proxy-authorization": _drop,
    b"http2-settings": _drop,
    b"trailer": _drop,
}

_RESPONSE: Final[dict[bytes, ResponseHandler]] = {
    b"connection": _connection,
    b"proxy-connection": _proxy_connection,
    b"content-length": _content_length,
    b"transfer-encoding": _response_transfer_encoding,
    b"upgrade": _upgrade,
    b"trailer": _trailer,
    b"date": _date,
    b"keep-alive": _drop,
    b"www-authenticate": _authenticate,
    b"proxy-authenticate": _proxy_authenticate,
    b"te": _drop,
}


def learn_request_field(head: RequestHead, name: bytes, value: bytes) -> bool:
    """Handle a field whose spelling is new, and remember the spelling."""
    lower = name.lower()
    # PHP turns both X-Forwarded-For and X_Forwarded_For into HTTP_X_FORWARDED_FOR: names with "_" don't pass.
    handler = _drop if _UNDERSCORE in lower else _REQUEST.get(lower)
    if len(REQUEST_FIELDS) < SPELLINGS_MAX and len(name) <= SPELLING_LENGTH_MAX:
        REQUEST_FIELDS[name] = handler
    return handler is None or handler(head, name, value)


def learn_response_field(head: ResponseHead, name: bytes, value: bytes) -> bool:
    """Handle a field whose spelling is new, and remember the spelling."""
    handler = _RESPONSE.get(name.lower())
    if len(RESPONSE_FIELDS) < SPELLINGS_MAX and len(name) <= SPELLING_LENGTH_MAX:
        RESPONSE_FIELDS[name] = handler
    return handler is None or handler(head, name, value)


REQUEST_FIELDS: Final[dict[bytes, RequestHandler | None]] = dict(_REQUEST)
RESPONSE_FIELDS: Final[dict[bytes, ResponseHandler | None]] = dict(_RESPONSE)
#: What the tables are asked with; as Final a C variable where this is compiled, unlike a function's own name.
LEARN_REQUEST_FIELD: Final[RequestHandler] = learn_request_field
LEARN_RESPONSE_FIELD: Final[ResponseHandler] = learn_response_field
#: By which the reader knows a Date without calling anything: nearly every answer has one.
DATE: Final[ResponseHandler] = _date
