"""
The arithmetic of VRRP's times: skew, down interval, and how long the kernel may keep an address on its own.

Must not know states. Everything is in seconds.
"""

from math import floor

GATEWAY_QUESTIONS = 3  # without an answer until the gateway counts as lost
WITNESS_SECONDS = 2.0  # until a witness was asked again, and has answered or not
LEAST_QUESTION, MOST_QUESTION = 0.05, 1.0  # seconds between two of them

_LEAST_LEASE = 1  # the kernel counts lifetimes in whole seconds
_LEASE_MARGIN = 0.35  # the kernel may remove an address that much late
_WIDEST_SKEW_PRIORITY = 254  # of a peer whose priority is unknown: the shortest skew there is
_USUAL_DOWN_ADVERTS = 3


def skew(version: int, priority: int, interval: float) -> float:
    """
    How much longer a backup waits the lower its priority is (RFC 9568, 6.1; RFC 3768, 6.1).

    ``interval`` is the master's, which version 2 doesn't look at.

    >>> skew(3, 100, 1.0), skew(2, 192, 5.0)
    (0.609375, 0.25)
    """
    return (256 - priority) / 256 * (1.0 if version == 2 else interval)


def down_interval(version: int, priority: int, interval: float, down_adverts: int) -> float:
    """
    How long a backup hears nothing until the master counts as dead.

    >>> down_interval(3, 128, 1.0, 3)
    3.5
    """
    return down_adverts * interval + skew(version, priority, interval)


def question_interval(down: float) -> float:
    """
    How often the gateway is asked so that its loss is noticed within about one down interval.

    >>> question_interval(3.6), question_interval(0.36), question_interval(0.036)
    (1.0, 0.12, 0.05)
    """
    return min(max(down / GATEWAY_QUESTIONS, LEAST_QUESTION), MOST_QUESTION)


def lease(
    setting: str | float,
    version: int,
    interval: float,
    peer_priority: int | None = None,
    peer_down_adverts: int = _USUAL_DOWN_ADVERTS,
) -> int | None:
    """
    How many seconds the kernel keeps an address that nobody renews; None is for ever.

    With ``auto`` it is the longest time after which the address is gone before the peer takes over, so that a
    master that hangs never leaves two holders. Below adverts of half a second the kernel's least, one second, is
    longer than that.

    >>> lease("auto", 3, 1.0), lease("auto", 3, 1.0, peer_priority=150), lease("auto", 3, 0.1), lease("off", 3, 1.0)
    (2, 3, 1, None)
    """
    if setting == "off":
        return None
    if setting != "auto":
        return max(floor(float(setting)), _LEAST_LEASE)
    priority = min(peer_priority or _WIDEST_SKEW_PRIORITY, _WIDEST_SKEW_PRIORITY)
    silence = down_interval(version, priority, interval, peer_down_adverts)
    return max(floor(silence - _LEASE_MARGIN), _LEAST_LEASE)
