"""
Every error the program raises on purpose.

::

    PyproxyError
    ├── ConfigError               a file that can't be used; carries all its problems; exit code 2
    ├── ExchangeError             ends an attempt or an exchange: status, source, retry
    │   ├── DownstreamError       the client's doing
    │   │   └── BadRequest 400 · RequestTimeout 408 · BodyTooLarge 413 · TargetTooLong 414 · HeadTooLarge 431 · ...
    │   ├── UpstreamError         the backend's doing
    │   │   └── DialFailed 502 · DialTimeout 504 · ConnectionStale 502 · ResponseTimeout 504 · BadResponse 502 · ...
    │   └── ProxyError            ours
    │       └── NoRoute 404 · NoBackend 503 · ShuttingDown 503 · ConnectionLimit 503 · Internal 500
    └── ChannelError              supervisor and worker don't understand each other

``status`` is what the client is told when nothing has been sent yet, ``end`` the termination code of the
access log, ``retry`` the permission that the error gives; whether it is used is ``proxy.retry``'s decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Retry(Enum):
    """What an error permits: another attempt always, only for a request that may be sent twice, or never."""

    ALWAYS = "always"
    IF_REPEATABLE = "if_repeatable"
    NEVER = "never"


class PyproxyError(Exception):
    """The root of the tree."""


class ChannelError(PyproxyError):
    """A frame between supervisor and worker that can't be read."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a configuration file; line and column count from 1."""

    line: int
    column: int
    path: str
    text: str


class ConfigError(PyproxyError):
    """A configuration that can't be used, with every problem found in it."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{file}: {len(problems)} problem(s)")
        self.file = file
        self.problems = tuple(problems)

    def lines(self) -> list[str]:
        """One line a problem: ``file:line:column: path: text``."""
        return [
            f"{self.file}:{p.line}:{p.column}: {p.path}: {p.text}"
            if p.path
            else f"{self.file}:{p.line}:{p.column}: {p.text}"
            for p in sorted(self.problems)
        ]
