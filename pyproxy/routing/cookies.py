"""
A cookie of ours among a request's others: what it says, and the head without it.

Must not know what the cookie means. Takes cookies apart as RFC 6265 has them sent: pairs between semicolons, whatever
quotation marks there are. No browser sends a semicolon within a value.
"""

from collections.abc import Sequence
from typing import Final

_BLANKS: Final = b" \t"
_C: Final = ord("c")
_LOWER: Final = ord("a") ^ ord("A")


def take_cookie(lines: list[bytes], name: bytes) -> Sequence[bytes]:
    r"""
    Take the cookie of this name out of a head's ready lines; give its values in the order in which they came.

    Other cookies stay byte for byte; a line that is left without any goes. Names have a case, values lose blanks and
    quotation marks around them.

    >>> lines = [b"Host: a\r\n", b"Cookie: a=1; SRV=x; b=2\r\n", b"Cookie: SRV=y\r\n"]
    >>> take_cookie(lines, b"SRV")
    [b'x', b'y']
    >>> lines
    [b'Host: a\r\n', b'Cookie: a=1; b=2\r\n']
    """
    # The first letter first: with 15 headers 0.8 µs, where looking for the name in each line takes 7.
    places = [place for place, line in enumerate(lines) if line[0] | _LOWER == _C and line[:7].lower() == b"cookie:"]
    if not places:
        return ()
    values: list[bytes] = []
    is_empty = False
    for place in places:
        rest = _without(lines[place], name, values)
        lines[place] = rest
        is_empty = is_empty or not rest
    if is_empty:
        lines[:] = [line for line in lines if line]
    return values


def _without(line: bytes, name: bytes, values: list[bytes]) -> bytes:
    """Take the cookies of this name out of a line and into ``values``; nothing is left if there was no other."""
    if line.find(name, 7) < 0:
        return line
    others: list[bytes] = []
    count = len(values)
    for pair in line[7:-2].split(b";"):
        key, sign, value = pair.partition(b"=")
        if sign and key.strip(_BLANKS) == name:
            values.append(value.strip(_BLANKS).strip(b'"'))
        else:
            others.append(pair)
    if len(values) == count:
        return line
    rest = b";".join(others).lstrip(_BLANKS)
    return b"%b %b\r\n" % (line[:7], rest) if rest.strip(b"; \t") else b""
