"""
What a node says of itself in a check's answer, in the header ``X-LB-State``.

Must not know who asks or what becomes of it. The words are those of the admin state, ``ready``, ``drain`` and
``maint``, and of two that are said of one backend, by the operator and by itself, the stricter one holds.
"""

from typing import Final

HEADER: Final = b"x-lb-state"
STATES: Final = ("ready", "drain", "maint")  # the stricter the later


def parse_word(text: str) -> str | None:
    """
    Read the header's value; an answer without it says ``ready``. None is nothing that can be understood.

    >>> [parse_word(text) for text in ("", "drain", " MAINT ", "drain, ready", "weight=50%")]
    ['ready', 'drain', 'maint', None, None]
    """
    word = text.strip().lower() or STATES[0]
    return word if word in STATES else None


def stricter(one: str, other: str) -> str:
    """
    Give the stricter of two states.

    >>> stricter("ready", "drain"), stricter("maint", "drain")
    ('drain', 'maint')
    """
    return max(one, other, key=STATES.index)
