"""Pins what cookies' values stand for: for whom, made with which secret, and for how long."""

import re

from pyproxy.balance.sticky import Tokens
from tests.unit.balance.backends import backend, backends

A, B = backend("a"), backend("app[10.0.0.1:80]")


def values(tokens: Tokens) -> list[bytes | None]:
    """What clients of both backends are given."""
    return [tokens.value_of(A), tokens.value_of(B)]


def test_machines_with_the_same_secret_agree() -> None:
    """Without a word: the value comes from secret, pool and name alone, so it survives everything."""
    one, other = Tokens("web", ["sesame"], [A, B]), Tokens("web", ["sesame"], [B, A])
    assert values(one) == values(other)
    assert len(set(values(one))) == 2
    assert one.value_of(A) == b"df38.ZU-wN7E0uTXAeaVr2eQrtw", "every cookie out there would be lost"


def test_a_value_can_stand_in_a_cookie() -> None:
    """A key id and 128 bits, in characters that need no quotation marks."""
    for value in values(Tokens("web", ["sesame"], [A, B])):
        assert value is not None
        assert re.fullmatch(rb"[0-9a-f]{4}\.[A-Za-z0-9_-]{22}", value)


def test_each_value_leads_to_its_backend() -> None:
    """And nothing else leads anywhere: no other pool's, no piece, no name, no other secret's."""
    tokens = Tokens("web", ["sesame"], [A, B])
    value = tokens.value_of(A)
    assert value is not None
    assert tokens.find(value) is A
    foreign = [Tokens("api", ["sesame"], [A]).value_of(A), Tokens("web", ["Sesame"], [A]).value_of(A)]
    for forged in (value[:-1], value + b"A", value.swapcase(), b"", b"a", *foreign):
        assert forged is not None
        assert tokens.find(forged) is None
        assert tokens.first([forged, value, b""]) == value
    assert tokens.first(foreign) == b""  # type: ignore[arg-type]


def test_an_old_secret_is_believed_but_makes_nothing() -> None:
    """Clients of both secrets are found; what is handed out is the new one's."""
    old, new = Tokens("web", ["sesame"], [A, B]), Tokens("web", ["swordfish", "sesame"], [A, B])
    value = old.value_of(A)
    assert value is not None
    assert new.find(value) is A
    assert new.value_of(A) == Tokens("web", ["swordfish"], [A]).value_of(A) != value
    assert Tokens("web", ["swordfish"], [A]).find(value) is None


def test_members_come_and_go() -> None:
    """A value leads to whoever has the name now; that of one who left leads nowhere until it is back."""
    tokens = Tokens("web", ["sesame", "old one"], [A, B])
    value = tokens.value_of(A)
    assert value is not None
    again = backend("a")
    tokens.rebuild([again])
    assert tokens.find(value) is again
    tokens.rebuild([B])
    assert tokens.find(value) is None
    assert tokens.value_of(A) is None
    assert tokens.has_known_key([value]), "it was made by us, only its backend is gone"
    assert not tokens.has_known_key([b"0000." + value[5:], b""])
    tokens.rebuild([A])
    assert tokens.find(value) is A


def test_many_backends_have_values_of_their_own() -> None:
    """None is mixed up with another."""
    members = backends([1] * 300)
    tokens = Tokens("web", ["sesame", "old one"], members)
    assert [tokens.find(tokens.value_of(member) or b"") for member in members] == members


def test_no_secret_is_shown() -> None:
    """Whatever is logged of it."""
    assert repr(Tokens("web", ["sesame"], [A])) == "<Tokens of 1 backends, 1 secrets>"
