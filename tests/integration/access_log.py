"""The program's access log as a test reads it: lines parsed into their fields, awaited by a condition."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.integration.wire import DEADLINE

_LINE = re.compile(
    r"(?P<client>\S+) - - \[(?P<time>[^\]]+)\] "
    r'"(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" '
    r"rt=(?P<rt>\d+\.\d{3}) ua=(?P<ua>\S+) us=(?P<us>\S+) ut=(?P<ut>\S+) "
    r'tries=(?P<tries>\d+) end=(?P<end>\S\S)(?: why="(?P<why>[^"]+)")? id=(?P<id>\S+)'
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the combined format."""

    text: str
    client: str
    request: str
    status: int
    bytes: int
    referer: str
    agent: str
    rt: float
    ua: list[str]
    us: list[str]
    ut: list[str]
    tries: int
    end: str
    why: str
    id: str


def has_reason(status: int, end: str) -> bool:
    """Whether a line has a reason: the client got no whole answer of a backend, or one that says as much."""
    return end != "--" or status in {502, 503, 504}


def parse(text: str) -> Line:
    """Take a line apart; a line that is not in the contract's form is an error."""
    found = _LINE.fullmatch(text)
    assert found, f"not a combined line: {text!r}"
    field = found.groupdict()
    why = field["why"] or ""
    assert bool(why) == has_reason(int(field["status"]), field["end"]), f"a reason too many or too few: {text!r}"
    return Line(
        text=text,
        client=field["client"],
        request=field["request"],
        status=int(field["status"]),
        bytes=int(field["bytes"]),
        referer=field["referer"],
        agent=field["agent"],
        rt=float(field["rt"]),
        ua=field["ua"].split(","),
        us=field["us"].split(","),
        ut=field["ut"].split(","),
        tries=int(field["tries"]),
        end=field["end"],
        why=why,
        id=field["id"],
    )


class AccessLog:
    """The file that the program writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def raw_lines(self) -> list[str]:
        """Return the whole lines of the file."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def lines(self, client: str | None = None) -> list[Line]:
        """Return all lines, or those of one client's address."""
        wanted = "" if client is None else f"{client} "
        return [parse(text) for text in self.raw_lines() if text.startswith(wanted)]

    async def await_lines(self, number: int, client: str) -> list[Line]:
        """Wait until a client has so many lines; more of them are an error."""
        until = time.monotonic() + DEADLINE
        while len(lines := self.lines(client)) < number:
            if time.monotonic() > until:
                raise AssertionError(f"{len(lines)} of {number} lines of {client}: {lines}")
            await asyncio.sleep(0.01)
        assert len(lines) == number, f"more than {number} lines: {lines}"
        return lines

    async def await_line(self, client: str, matches: Callable[[Line], bool] = lambda _: True) -> Line:
        """Wait for a line of a client's that matches."""
        until = time.monotonic() + DEADLINE
        while True:
            for line in self.lines(client):
                if matches(line):
                    return line
            if time.monotonic() > until:
                raise AssertionError(f"no such line of {client} in {self.raw_lines()[-20:]}")
            await asyncio.sleep(0.01)
