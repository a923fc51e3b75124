"""Pins what a backend is sent of a request's body, and when a request can't be sent again."""

import pytest

from pyproxy.http1.head import RequestHead
from pyproxy.proxy.request_body import RequestBody


def body(*, length: int | None = None, limit: int | None = None) -> RequestBody:
    """Make a body, chunked unless its length is known."""
    head = RequestHead(b"/")
    head.content_length = length
    head.chunked = length is None
    return RequestBody(head, limit)


def test_a_body_of_known_length_passes_as_it_is() -> None:
    """Nothing is added, at its end neither."""
    upload = body(length=5)
    assert upload.frame(b"hello") == [b"hello"]
    assert upload.end() == []


def test_a_chunked_body_is_framed_anew() -> None:
    """By the pieces that were read, with an end of its own."""
    upload = body()
    assert (
        b"".join([*upload.frame(b"hello"), *upload.frame(b"!"), *upload.end()]) == b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_was_kept_is_sent_once(is_whole: bool) -> None:
    """In order, and with its end if that has come meanwhile."""
    upload = body()
    upload.hold(b"a")
    upload.hold(b"b")
    assert not upload.is_consumed
    if is_whole:
        upload.end()
    assert b"".join(upload.release()) == b"1\r\na\r\n1\r\nb\r\n" + b"0\r\n\r\n" * is_whole
    assert upload.is_consumed
    assert b"".join(upload.release()) == b"0\r\n\r\n" * is_whole


def test_an_empty_body_can_be_sent_again() -> None:
    """Its end alone consumes nothing."""
    upload = body()
    upload.end()
    assert upload.release() == upload.release() == [b"0\r\n\r\n"]
    assert not upload.is_consumed


@pytest.mark.parametrize(("limit", "is_too_large"), [(4, True), (5, False), (None, False)])
def test_the_limit(limit: int | None, is_too_large: bool) -> None:
    """An announced length counts at once, and not a second time when it comes; the rest counts as it comes."""
    announced = body(length=5, limit=limit)
    assert announced.is_too_large is is_too_large
    announced.count(b"hello")
    assert announced.is_too_large is is_too_large
    upload = body(limit=limit)
    assert not upload.is_too_large
    upload.count(b"hell")
    assert not upload.is_too_large
    upload.count(b"o")
    assert upload.is_too_large is is_too_large
