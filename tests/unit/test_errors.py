"""Pins the tree of errors: every one has a status, a termination code and a permission to retry that fit together."""

import pytest

from pyproxy import errors
from pyproxy.errors import (
    ConfigError,
    DownstreamError,
    ExchangeError,
    GatewayStatus,
    Problem,
    ProxyError,
    PyproxyError,
    Retry,
    UpstreamError,
)
from pyproxy.observe.metrics import ENDS

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
LEAVES = [kind for kind in KINDS if issubclass(kind, ExchangeError) and not kind.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS)
def test_one_root(kind: type[Exception]) -> None:
    """Whatever the program raises on purpose can be caught as one."""
    assert issubclass(kind, PyproxyError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", LEAVES)
def test_leaves(kind: type[ExchangeError]) -> None:
    """Each belongs to one source and has a status to answer with and a code that metrics and log know."""
    assert sum(issubclass(kind, source) for source in (DownstreamError, UpstreamError, ProxyError)) == 1
    assert 400 <= kind.status <= 599
    assert kind.end in ENDS


@pytest.mark.parametrize("kind", LEAVES)
def test_what_may_be_retried_says_by_which_word(kind: type[ExchangeError]) -> None:
    """A permission without a word in retry.on could never be used; only a backend's failure is retried."""
    if kind is GatewayStatus:
        return
    assert (kind.retry is not Retry.NEVER) == bool(kind.cause)
    assert kind.retry is Retry.NEVER or issubclass(kind, UpstreamError)


# The contract's list of refusals and ends.
CONTRACT = {
    "BadRequest": (400, "PR"), "Forbidden": (403, "PR"), "QueueFull": (503, "PQ"), "QueueTimeout": (503, "sQ"),
    "MethodNotAllowed": (405, "PR"), "RequestTimeout": (408, "cR"),
    "BodyTimeout": (408, "cD"), "BodyTooLarge": (413, "PR"), "TargetTooLong": (414, "PR"), "HeadTooLarge": (431, "PR"),
    "TransferCodingUnsupported": (501, "PR"), "MethodUnsupported": (501, "PR"), "LoopDetected": (508, "PR"),
    "VersionUnsupported": (505, "PR"), "ClientTooSlow": (499, "cD"),
    "DialFailed": (502, "SC"), "NoLocalPort": (502, "SC"),
    "DialTimeout": (504, "sC"), "ConnectionReset": (502, "SH"), "HeadTruncated": (502, "SH"),
    "ResponseTimeout": (504, "sH"), "BadResponse": (502, "PH"), "ResponseTruncated": (502, "SD"),
    "BodyStalled": (504, "sD"), "NoRoute": (404, "PR"), "NoBackend": (503, "SC"), "ShuttingDown": (503, "PD"),
    "ConnectionLimit": (503, "RC"), "DescriptorLimit": (503, "RC"), "Internal": (500, "PH"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), CONTRACT.items())
def test_status_and_end_follow_the_contract(name: str, expected: tuple[int, str]) -> None:
    """What clients and log readers rely on."""
    kind = getattr(errors, name)
    assert (kind.status, kind.end) == expected


def test_every_leaf_is_in_the_contract() -> None:
    """A new error needs a row above; those that never end an exchange need none."""
    assert {kind.__name__ for kind in LEAVES} - set(CONTRACT) == {"ClientGone", "GatewayStatus"}


def test_text() -> None:
    """An error without words of its own has those of its class."""
    assert str(errors.NoRoute()) == "No route matches"
    assert str(errors.BadRequest("no Host")) == "no Host"
    assert errors.BadRequest().head is None


def test_gateway_status() -> None:
    """A status that is retried is its own word in retry.on."""
    error = GatewayStatus(503)
    assert error.cause == "503"
    assert "503" in str(error)


def test_config_error() -> None:
    """Every problem is a line, in the order of the file, with its place; one of the whole file has no path."""
    error = ConfigError(
        "lb.yml", [Problem(9, 3, "pools.a", "bad"), Problem(2, 7, "", "worse"), Problem(2, 1, "x", "y")]
    )
    assert error.lines() == ["lb.yml:2:1: x: y", "lb.yml:2:7: worse", "lb.yml:9:3: pools.a: bad"]
    assert str(error) == "lb.yml: 3 problem(s)"


def test_a_note_is_for_the_operator_alone() -> None:
    """What the client may read is the text; the log has the note behind it, at a bounded length."""
    error = errors.BadRequest("bad Host", b"a\x00b" + b"x" * 1000)
    assert str(error) == "bad Host"
    assert error.why.startswith(b"bad Host: a\x00bxxx")
    assert len(error.why) == errors.WHY_MAX_BYTES + 3
