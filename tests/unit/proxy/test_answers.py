"""Pins what our own answers say."""

import pytest

from pyproxy.config.runtime import ErrorPage, HeaderChanges
from pyproxy.errors import BadRequest, DialFailed, MethodNotAllowed, NoBackend
from pyproxy.proxy.answers import redirect, refuse
from pyproxy.routing.rewrite import Variables, make_rewrite

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
PAGES = {503: ErrorPage(503, "text/html; charset=utf-8", b"<p>Back soon.")}


def test_a_refusal_is_a_short_line() -> None:
    """The client's mistake is named."""
    answer = refuse(BadRequest("no Host"), {}, DATE)
    assert (answer.status, answer.content) == (400, b"400 Bad Request: no Host\n")
    assert answer.lines == [b"Date: %b\r\n" % DATE, b"Content-Type: text/plain; charset=utf-8\r\n"]


def test_the_operators_page_takes_its_place() -> None:
    """For its own status only."""
    answer = refuse(NoBackend(), PAGES, DATE)
    assert (answer.status, answer.content) == (503, b"<p>Back soon.")
    assert b"Content-Type: text/html; charset=utf-8\r\n" in answer.lines
    assert refuse(DialFailed(), PAGES, DATE).content == b"502 Bad Gateway\n"


def test_405_says_what_is_allowed() -> None:
    """RFC 9110, section 15.5.6; no other refusal has the field."""
    assert any(line.startswith(b"Allow: GET, ") for line in refuse(MethodNotAllowed(), {}, DATE).lines)
    assert not any(line.startswith(b"Allow:") for line in refuse(NoBackend(), {}, DATE).lines)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_names_the_place(status: int) -> None:
    """With its status, and a line for those who read it."""
    answer = redirect(status, b"https://a/b", DATE)
    assert answer.status == status
    assert b"Location: https://a/b\r\n" in answer.lines
    assert answer.content.startswith(b"%d " % status)


def test_a_route_may_change_the_headers() -> None:
    """As those of a backend's answer."""
    rewrite = make_rewrite(HeaderChanges((("X-From", "$host"),), ("Date",)))
    assert rewrite is not None
    answer = redirect(308, b"/b", DATE)
    answer.change(rewrite, Variables(b"a", b"/", b"http", b"192.0.2.1", b"ID"))
    assert b"X-From: a\r\n" in answer.lines
    assert not any(line.startswith(b"Date:") for line in answer.lines)
