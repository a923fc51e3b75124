"""
Which header fields mean something to a proxy, and what each does to the head that is being read.

A table maps a field name, in each spelling seen so far, to a handler or to None for "just passes". A handler
returns True when the field travels on as it came. Must not know framing rules that need the whole head: those
are ``request`` and ``response``.
"""

import re
from collections.abc import Callable
from typing import Final

from pyproxy.errors import BadRequest, BadResponse, LoopDetected, TransferCodingUnsupported
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
#: Members that a list may have which we take apart, empty ones among them, and bytes of Upgrade. Nobody needs as many.
MEMBERS_MAX: Final = 100
UPGRADE_MAX_BYTES: Final = 1024
#: What fits into 63 bits, as with nginx and HAProxy; a number with more digits is refused even if these are zeros.
LENGTH_MAX: Final = 2**63 - 1
LENGTH_DIGITS_MAX: Final = 19
#: Fields that Connection may name without any of ``lines`` having to go.
_HANDLED: Final = frozenset({b"upgrade", b"te", b"http2-settings"})
_UNDERSCORE: Final = ord("_")
_BLANKS: Final = b" \t"
_LIST_ENDS: Final = b", \t"  # empty members among them
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9a-z-]+"
_TOKENS: Final = re.compile(rb"(?:\A|,)[ \t]*(%b)[ \t]*(?=,|\Z)" % _TOKEN)
_PROTOCOLS: Final = re.compile(rb"(?:\A|,)[ \t]*(%b(?:/%b)?)[ \t]*(?=,|\Z)" % (_TOKEN, _TOKEN))
_FORWARDED: Final = b"x-forwarded-"
_NO_LETTER_OR_DIGIT: Final = re.compile(rb"[^a-z0-9]")
#: A quoted string, up to the end where nobody closes it.
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?$)', re.DOTALL)
_CONNECTION_SCHEME: Final = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE)
#: Sent to backends that are our own listeners, and to nobody else: how often a request has taken that way.
TURNS: Final = b"X-Pyproxy-Turns"
#: Listeners may stand in a row; what comes back more often goes round in a loop.
MAX_TURNS: Final = 8
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def tokens(value: bytes) -> list[bytes]:
    r"""
    Give the tokens of a comma-separated list, lower-cased (RFC 9110, sections 5.6.1 and 5.6.2).

    A member that isn't a token is left out, whatever somebody else would make of it.

    >>> tokens(b"Keep-Alive, ,X-Foo "), tokens(b"close\xa0, a b,c/d, e")
    ([b'keep-alive', b'x-foo'], [b'e'])
    """
    return _TOKENS.findall(value.lower())


def protocols(value: bytes) -> list[bytes]:
    r"""
    Give the protocols that ``Upgrade`` lists, lower-cased; what isn't one is left out (RFC 9110, section 7.8).

    >>> protocols(b"WebSocket, TLS/1.0, h2c\xa0, a/b/c")
    [b'websocket', b'tls/1.0']
    """
    return _PROTOCOLS.findall(value.lower())


def drop_nominated(head: RequestHead, nominated: set[bytes]) -> None:
    """Leave out of a request what Connection names; Host and framing stay."""
    if nominated <= _HANDLED:
        return
    head.lines = without_nominated(head.lines, nominated)
    if head.forwarded is not None:
        head.forwarded = [field for field in head.forwarded if field[0] not in nominated]
    head.handled = [field for field in head.handled if field[0].lower() not in nominated]
    if b"x-request-id" in nominated:
        head.request_id = None


def offered_upgrade(head: RequestHead, value: bytes) -> bytes | None:
    """Give what the backend is offered: never h2c, and nothing from HTTP/1.0 (RFC 9110, section 7.8)."""
    offered = [protocol for protocol in protocols(value) if protocol.partition(b"/")[0] != b"h2c"]
    return b", ".join(offered) if offered and head.version == 11 else None


def _complain(head: Head, reason: str) -> None:
    """Note what is wrong, unless something was before."""
    head.problem = head.problem or head.make_problem(reason)


def _members(head: Head, name: str, value: bytes) -> list[bytes]:
    """Take a list apart unless it is too long."""
    if value.count(b",") < MEMBERS_MAX:
        return tokens(value)
    _complain(head, f"more than {MEMBERS_MAX} members in {name}")
    return []


def agrees(chosen: bytes | None, offered: bytes | None) -> bool:
    """
    Whether a 101 names one protocol, and one that was offered (RFC 9110, section 7.8).

    >>> agrees(b"WebSocket", b"websocket, x"), agrees(b"h2c", b"websocket"), agrees(b"x, y", b"x, y")
    (True, False, False)
    """
    if chosen is None or offered is None:
        return False
    return chosen.strip(_LIST_ENDS).lower() in protocols(offered)


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
    for token in _SPELLED.get(value) or _members(head, "Connection", value):
        if token == b"close":
            head.keep_alive = False
        elif token == b"keep-alive":
            head.keep_alive = head.keep_alive is not False
        else:
            _nominate(head, token)
    return False


def _nominate(head: Head, name: bytes) -> None:
    if head.nominated is None:
        head.nominated = set()
    head.nominated.add(name)
    if len(head.nominated) > MEMBERS_MAX:
        _complain(head, f"more than {MEMBERS_MAX} members in Connection")


def _proxy_connection(head: Head, _name: bytes, value: bytes) -> bool:
    """Note what the parser takes from it, though it never was a standard: only that it ends the connection."""
    if b"close" in _members(head, "Proxy-Connection", value):
        head.keep_alive = False
    return False


def _content_length(head: Head, _name: bytes, value: bytes) -> bool:
    if len(value) < LENGTH_DIGITS_MAX:  # nearly all: so few digits are never too large
        head.content_length = int(value)
        return False
    digits = value.strip(_BLANKS)  # the parser has refused everything but digits and blanks around them
    # Digits are counted first: int() takes quadratic time for them, and refuses thousands even of zeros.
    if len(digits) > LENGTH_DIGITS_MAX or int(digits) > LENGTH_MAX:
        _complain(head, "Content-Length is too large")
        return False
    head.content_length = int(digits)
    return False


def _drop(_head: Head, _name: bytes, _value: bytes) -> bool:
    return False


def _upgrade(head: Head, _name: bytes, value: bytes) -> bool:
    head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value
    if len(head.upgrade) > UPGRADE_MAX_BYTES:
        _complain(head, "Upgrade too long")
        head.upgrade = b""
    return False


# requests


def _host(head: RequestHead, _name: bytes, value: bytes) -> bool:
    if head.host is not None:
        head.problem = head.problem or BadRequest("more than one Host")
    head.host = value.rstrip(_BLANKS)
    return False


def _request_transfer_encoding(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.chunked = True
    if value.strip(_BLANKS).lower() != b"chunked":
        head.problem = head.problem or TransferCodingUnsupported()
    return False


def _te(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.te_trailers = b"trailers" in _members(head, "TE", value) or head.te_trailers
    return False


def _expect(head: RequestHead, _name: bytes, value: bytes) -> bool:
    head.expect = value
    return False


def _request_id(head: RequestHead, _name: bytes, value: bytes) -> bool:
    value = value.strip(_BLANKS)
    if _REQUEST_ID.fullmatch(value):
        head.request_id = value
    return False


def _turns(head: RequestHead, _name: bytes, value: bytes) -> bool:
    """Take our own count of how often a request has come back; whoever else sends it refuses himself at most."""
    head.turns = int(value) if value.isdigit() and len(value) < 4 else 0
    if head.turns >= MAX_TURNS:
        head.problem = head.problem or LoopDetected(f"it has come back to this proxy {head.turns} times")
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


#: What Keep-Alive said so far: nearly all nodes that send it say one of a hundred things, again and again.
_HINTS: Final[dict[bytes, tuple[float, int]]] = {}
_HINTS_MAX: Final = 256
_HINT: Final = re.compile(rb"(timeout|max)[ \t]*=[ \t]*\"?([0-9]{1,9})(?![0-9])", re.IGNORECASE)


def read_hint(value: bytes) -> tuple[float, int]:
    """
    Read a backend's ``Keep-Alive``: for how many seconds it keeps an idle connection, and for how many requests more.

    What it doesn't say, or nobody can read, is without a limit.

    >>> read_hint(b"timeout=5, max=99"), read_hint(b"Timeout = 20"), read_hint(b"timeout=soon")
    ((5.0, 99), (20.0, 1000000000), (inf, 1000000000))
    """
    seconds, requests = float("inf"), 1_000_000_000
    for name, number in _HINT.findall(value[:256]):
        if name.lower() == b"timeout":
            seconds = min(seconds, float(number))
        else:
            requests = min(requests, int(number))
    return seconds, requests


def _keep_alive(head: ResponseHead, _name: bytes, value: bytes) -> bool:
    hint = _HINTS.get(value)
    if hint is None:
        hint = read_hint(value)
        if len(_HINTS) < _HINTS_MAX and len(value) <= SPELLING_LENGTH_MAX:
            _HINTS[value] = hint
    head.hint = hint
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
    TURNS.lower(): _turns,
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
    b"keep-alive": _keep_alive,
    b"www-authenticate": _authenticate,
    b"proxy-authenticate": _proxy_authenticate,
    b"te": _drop,
}


def learn_request_field(head: RequestHead, name: bytes, value: bytes) -> bool:
    """Handle a field whose spelling is new, and remember the spelling."""
    lower = name.lower()
    handler = _drop if _is_mistakable(lower) else _REQUEST.get(lower)
    if handler is None and lower.startswith(_FORWARDED):
        handler = _forwarding
    if len(REQUEST_FIELDS) < SPELLINGS_MAX and len(name) <= SPELLING_LENGTH_MAX:
        REQUEST_FIELDS[name] = handler
    return handler is None or handler(head, name, value)


def _is_mistakable(name: bytes) -> bool:
    """
    Whether somebody might take a name for another one that means something to us.

    PHP and CGI turn both X-Forwarded-For and X_Forwarded_For into HTTP_X_FORWARDED_FOR, PHP also X.Forwarded.For: names
    with ``_`` don't pass, nor do those that are one of ours but for such bytes.
    """
    if _UNDERSCORE in name:
        return True
    plain = _NO_LETTER_OR_DIGIT.sub(b"-", name)
    return plain != name and (plain in _REQUEST or plain.startswith(_FORWARDED))


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
