"""Pins that the tables of joint rules are complete, and what a client reads."""

import doctest
from itertools import product

import pytest

from pyproxy import errors
from pyproxy.errors import ExchangeError
from pyproxy.observe.metrics import ENDS
from pyproxy.proxy import outcome
from pyproxy.proxy.outcome import (
    CLIENT_GONE,
    CLOSE,
    LINGER,
    NEXT,
    REQUEST_BODY,
    REQUEST_DONE,
    Fate,
    RequestSide,
    ResponseSide,
    error_text,
    fate_after_answer,
)


def test_doctests() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(outcome).failed == 0


def test_client_gone_is_complete() -> None:
    """A client may leave in every state, and each has a code that the metrics know."""
    assert set(CLIENT_GONE) == set(product(RequestSide, ResponseSide))
    assert set(CLIENT_GONE.values()) <= set(ENDS)


@pytest.mark.parametrize(("states", "end"), CLIENT_GONE.items())
def test_client_gone_follows_the_contract(states: tuple[RequestSide, ResponseSide], end: str) -> None:
    """Sending CR, queued CQ, connecting CC, waiting for the head CH, in the body CD."""
    request, response = states
    if response >= ResponseSide.BODY:
        assert end == "CD"
    elif response is ResponseSide.QUEUED:
        assert end == "CQ"
    elif request is REQUEST_BODY:
        assert end == "CR"
    else:
        assert end == ("CH" if response is ResponseSide.WAITING else "CC")


def test_after_an_answer() -> None:
    """Next only if all was read, linger if the client may still send, whatever was wished."""
    assert fate_after_answer(REQUEST_DONE, keep=True) is NEXT
    assert fate_after_answer(REQUEST_DONE, keep=False) is CLOSE
    assert fate_after_answer(REQUEST_BODY, keep=True) is LINGER
    assert fate_after_answer(REQUEST_BODY, keep=False) is LINGER


def test_short_names() -> None:
    """The short names are the members, in order."""
    names = {name: getattr(outcome, name) for name in ("NEXT", "CLOSE", "LINGER", "CUT", "RESET")}
    assert list(names.values()) == list(Fate)
    assert [member.name for member in names.values()] == list(names)
    sides = ("UNASKED", "QUEUED", "CONNECTING", "WAITING", "ANSWERING", "ANSWERED")
    assert [getattr(outcome, name) for name in sides] == list(ResponseSide)


EVERY_ERROR = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ExchangeError) and kind is not errors.GatewayStatus
]


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_error_text(kind: type[ExchangeError]) -> None:
    """One short line; what the client did wrong is named, nothing behind us ever is."""
    if kind.status == 499:
        return
    text = error_text(kind("10.0.0.1 broke"))
    assert text.startswith(f"{kind.status} ")
    assert "\n" not in text
    assert ("10.0.0.1" in text) is issubclass(kind, errors.DownstreamError)
