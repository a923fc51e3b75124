"""Pins what a backend is asked for behind a prefix that a route takes off."""

import pytest

from pyproxy.errors import BadRequest
from pyproxy.http1.head import RequestHead
from pyproxy.proxy.forwarding import take_prefix_off


@pytest.mark.parametrize("target", [b"/api/a\\b", b"/api/..%2fb", b"/api/%2e%2e/b", b"/api/a%00"])
def test_what_is_left_is_checked_like_what_a_client_wrote(target: bytes) -> None:
    """A path that could mean another one to somebody goes to nobody, and stays in the head as it was."""
    head = RequestHead(target)
    assert isinstance(take_prefix_off(head, b"/api/"), BadRequest)
    assert head.target == target


@pytest.mark.parametrize(
    ("target", "left"),
    [(b"/api/a/../b?c", b"/b?c"), (b"/api//a", b"/a"), (b"/api", b"/"), (b"/api/%41%2Fb", b"/%41%2Fb")],
)
def test_what_is_left(target: bytes, left: bytes) -> None:
    """In the one form that everything is forwarded in."""
    head = RequestHead(target)
    assert take_prefix_off(head, b"/api/") is None
    assert head.target == left
