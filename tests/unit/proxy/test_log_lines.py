"""The access log: exact lines of both formats."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.proxy import log_lines
from pyproxy.proxy.exchange import Exchange as RealExchange

WALL = 1795365000.1239  # 2026-11-22 16:30:00 UTC
EVIL = b'a"b\\c\x00\x1b[2J\r\n\x7f\x9b\xff'
EVIL_ESCAPED = r"a\x22b\x5Cc\x00\x1B[2J\x0D\x0A\x7F\x9B\xFF"


@dataclass(frozen=True)
class Attempt:
    """What the byte path remembers of one try."""

    backend: bytes = b"web1"
    status: int = 200
    connect_time: float | None = None
    header_time: float | None = 0.0101
    duration: float = 0.0123


@dataclass(frozen=True)
class Head:
    """A request's head with the headers that a log line shows."""

    method: bytes = b"GET"
    received: bytes = b"/a?b=c"
    version: int = 11
    host: bytes | None = b"www.example.com"
    referer: bytes | None = b"https://example.com/"
    user_agent: bytes | None = b"curl/8.0"


@dataclass(frozen=True)
class Exchange:
    """A finished exchange."""

    client: bytes = b"192.0.2.7"
    head: Head | None = field(default_factory=Head)
    status: int = 200
    bytes_sent: int = 1234
    duration: float = 0.0149
    attempts: Sequence[Attempt] = (Attempt(),)
    end: str = "--"
    request_id: bytes = b"0a1b2c"
    listener: str = "http"
    pool: str = "web"
    why: bytes = b""


def combined(exchange: Exchange, wall: float) -> bytes:
    """Format a stand-in of an exchange."""
    return log_lines.combined(cast(RealExchange, exchange), wall)


def json_line(exchange: Exchange, wall: float) -> bytes:
    """Format a stand-in of an exchange."""
    return log_lines.json_line(cast(RealExchange, exchange), wall)


FAILED_OVER = Exchange(
    duration=0.2104,
    attempts=(Attempt(b"web1", 502, 0.001, 0.009, 0.010), Attempt(b"web2", 200, None, 0.199, 0.200)),
)
REFUSED = Exchange(
    attempts=(Attempt(b"web1", 0, None, None, 0.0004), Attempt(b"web2", 0, None, None, 0.0005)),
    status=502,
    bytes_sent=12,
    duration=0.001,
    end="SC",
)
NO_ROUTE = Exchange(attempts=(), status=404, bytes_sent=10, duration=0.0, end="PR", pool="")
MALFORMED = replace(NO_ROUTE, head=None, status=400)
EVIL_HEAD = Head(method=b"GET", received=b"/" + EVIL, host=EVIL, referer=EVIL, user_agent=EVIL)


@pytest.fixture(autouse=True, scope="module")
def _somewhere_east() -> Iterator[None]:
    """A zone with an offset that no test machine has by itself, so that local and UTC can't be confused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "TST-05:30")
        time.tzset()
        yield
    time.tzset()


COMBINED = {
    "one_attempt": (
        Exchange(),
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.1" 200 1234 "https://example.com/" '
        b'"curl/8.0" rt=0.015 ua=web1 us=200 ut=0.012 tries=1 end=-- id=0a1b2c\n',
    ),
    "two_attempts": (
        FAILED_OVER,
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.1" 200 1234 "https://example.com/" '
        b'"curl/8.0" rt=0.210 ua=web1,web2 us=502,200 ut=0.010,0.200 tries=2 end=-- id=0a1b2c\n',
    ),
    "no_answer": (
        REFUSED,
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.1" 502 12 "https://example.com/" '
        b'"curl/8.0" rt=0.001 ua=web1,web2 us=-,- ut=0.000,0.001 tries=2 end=SC id=0a1b2c\n',
    ),
    "one_attempt_without_answer": (
        replace(REFUSED, attempts=REFUSED.attempts[:1]),
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.1" 502 12 "https://example.com/" '
        b'"curl/8.0" rt=0.001 ua=web1 us=- ut=0.000 tries=1 end=SC id=0a1b2c\n',
    ),
    "no_attempt": (
        NO_ROUTE,
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.1" 404 10 "https://example.com/" '
        b'"curl/8.0" rt=0.000 ua=- us=- ut=- tries=0 end=PR id=0a1b2c\n',
    ),
    "malformed": (
        MALFORMED,
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "-" 400 10 "-" "-" '
        b"rt=0.000 ua=- us=- ut=- tries=0 end=PR id=0a1b2c\n",
    ),
    "with_a_reason": (
        replace(NO_ROUTE, why=b'no route matches: host "a\\b\x07'),
        b'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.1" 404 10 "https://example.com/" '
        b'"curl/8.0" rt=0.000 ua=- us=- ut=- tries=0 end=PR '
        b'why="no route matches: host \\x22a\\x5Cb\\x07" id=0a1b2c\n',
    ),
    "http_1_0_and_no_headers": (
        Exchange(client=b"2001:db8::1", head=Head(version=10, host=None, referer=None, user_agent=None)),
        b'2001:db8::1 - - [22/Nov/2026:22:00:00 +0530] "GET /a?b=c HTTP/1.0" 200 1234 "-" "-" '
        b"rt=0.015 ua=web1 us=200 ut=0.012 tries=1 end=-- id=0a1b2c\n",
    ),
    "escaped": (
        Exchange(head=EVIL_HEAD),
        f'192.0.2.7 - - [22/Nov/2026:22:00:00 +0530] "GET /{EVIL_ESCAPED} HTTP/1.1" 200 1234 '
        f'"{EVIL_ESCAPED}" "{EVIL_ESCAPED}" '
        f"rt=0.015 ua=web1 us=200 ut=0.012 tries=1 end=-- id=0a1b2c\n".encode(),
    ),
}


@pytest.mark.parametrize(("exchange", "line"), COMBINED.values(), ids=COMBINED)
def test_combined_is_nginx_and_our_tail(exchange: Exchange, line: bytes) -> None:
    """Every byte of a combined line is fixed, because people parse it with the regex they have for nginx."""
    assert combined(exchange, WALL) == line


def test_a_quote_in_one_field_is_escaped_in_that_field_only() -> None:
    """What is unsafe in one field doesn't touch the others, nor what the format itself brings."""
    heads = (Head(received=b'x"y'), Head(referer=b'x"y'), Head(user_agent=b'x"y'))
    for head in heads:
        line = combined(Exchange(head=head), WALL)
        assert line.count(rb"x\x22y") == 1
        assert line.count(b'"') == 6


JSON_ONE = {
    "time": "2026-11-22T16:30:00.123Z",
    "client": "192.0.2.7",
    "method": "GET",
    "target": "/a?b=c",
    "protocol": "HTTP/1.1",
    "status": 200,
    "bytes": 1234,
    "duration": 0.015,
    "listener": "http",
    "pool": "web",
    "backend": ["web1"],
    "attempts": 1,
    "upstream_status": [200],
    "upstream_connect_time": [None],
    "upstream_header_time": [0.010],
    "end": "--",
    "why": None,
    "request_id": "0a1b2c",
    "referer": "https://example.com/",
    "user_agent": "curl/8.0",
    "host": "www.example.com",
}
NO_UPSTREAM: dict[str, object] = {
    "backend": [],
    "attempts": 0,
    "upstream_status": [],
    "upstream_connect_time": [],
    "upstream_header_time": [],
}
REFUSED_BY_US: dict[str, object] = {"bytes": 10, "duration": 0.0, "pool": None, "end": "PR", **NO_UPSTREAM}
JSON: dict[str, tuple[Exchange, dict[str, object]]] = {
    "one_attempt": (Exchange(), {}),
    "two_attempts": (
        FAILED_OVER,
        {
            "duration": 0.21,
            "backend": ["web1", "web2"],
            "attempts": 2,
            "upstream_status": [502, 200],
            "upstream_connect_time": [0.001, None],
            "upstream_header_time": [0.009, 0.199],
        },
    ),
    "no_answer": (
        REFUSED,
        {
            "status": 502,
            "bytes": 12,
            "duration": 0.001,
            "backend": ["web1", "web2"],
            "attempts": 2,
            "upstream_status": [None, None],
            "upstream_connect_time": [None, None],
            "upstream_header_time": [None, None],
            "end": "SC",
        },
    ),
    "no_attempt": (NO_ROUTE, {"status": 404, **REFUSED_BY_US}),
    "malformed": (
        MALFORMED,
        {
            "status": 400,
            "method": "-",
            "target": "-",
            "protocol": "-",
            "referer": None,
            "user_agent": None,
            "host": None,
            **REFUSED_BY_US,
        },
    ),
    "with_a_reason": (
        replace(NO_ROUTE, why=b'host "a\\b\x07'),
        {"status": 404, "why": "host \\x22a\\x5Cb\\x07", **REFUSED_BY_US},
    ),
    "no_headers": (
        Exchange(head=Head(host=None, referer=None, user_agent=None)),
        {"host": None, "referer": None, "user_agent": None},
    ),
    "escaped": (
        Exchange(head=EVIL_HEAD),
        {
            "target": f"/{EVIL_ESCAPED}",
            "referer": EVIL_ESCAPED,
            "user_agent": EVIL_ESCAPED,
            "host": EVIL_ESCAPED,
        },
    ),
}


@pytest.mark.parametrize(("exchange", "differences"), JSON.values(), ids=JSON)
def test_json_has_the_keys_of_the_contract_in_order(exchange: Exchange, differences: dict[str, object]) -> None:
    """One object per line with every key always there, null or an empty list where there is nothing."""
    line = json_line(exchange, WALL)
    assert line.count(b"\n") == 1
    assert list(json.loads(line).items()) == list({**JSON_ONE, **differences}.items())


@given(method=st.binary(), target=st.binary(), header=st.none() | st.binary())
def test_no_input_breaks_a_line(method: bytes, target: bytes, header: bytes | None) -> None:
    """Whatever a client sends, a line stays one printable ASCII line, and JSON stays JSON."""
    head = Head(method=method, received=target, host=header, referer=header, user_agent=header)
    for attempts in ((), (Attempt(),), (Attempt(), Attempt())):
        for format_line in (combined, json_line):
            line = format_line(Exchange(head=head, attempts=attempts), WALL)
            assert line.endswith(b"\n")
            assert all(0x20 <= byte <= 0x7E for byte in line[:-1])
        assert combined(Exchange(head=head, attempts=attempts), WALL).count(b'"') == 6
        assert json.loads(json_line(Exchange(head=head, attempts=attempts), WALL))["method"].isascii()


@given(wall=st.floats(min_value=0, max_value=4e9))
def test_milliseconds_never_round_up_into_a_second_that_was_not(wall: float) -> None:
    """The time in JSON is cut, not rounded: .9996 is not .1000 of the same second."""
    stamp: str = json.loads(json_line(Exchange(), wall))["time"]
    assert stamp[-5] == "."
    assert stamp[-4:-1] == f"{int(wall % 1 * 1000):03d}"
