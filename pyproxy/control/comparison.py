"""
Both machines' files beside each other: what is told of ours, what is known of theirs, and in what they differ.

Must not know how a message gets there. In ``kind`` and ``body``::

    config       {"digests": {section: digest}, "host", "settings"}    at the begin of each connection
    config_ask   {"id", "names"}  ->  config_tell  {"id", "sections"}  for a diff
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from pyproxy.admin.control import Unavailable
from pyproxy.admin.pair import DiffView
from pyproxy.control import drift
from pyproxy.control.drift import Sections

ANSWER_SECONDS = 3.0  # that the other machine has for a question

Message = dict[str, Any]


class Comparison:
    """``tell`` sends a message to the other machine, or loses it; ``settings`` are the speaker's, for simulations."""

    def __init__(
        self, sections: Sections, host: str, settings: Mapping[str, Any], tell: Callable[[str, Any], None]
    ) -> None:
        self._sections = sections
        self._host = host
        self._settings = settings
        self._tell = tell
        self._digests = drift.digests(sections)
        self._theirs: Message = {}
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Comparison {len(self._sections)} sections, {len(self.drift())} differ>"

    @property
    def digest(self) -> str | None:
        """Name all of ours together; None if nothing is compared."""
        return drift.digest_of(self._digests) if self._digests else None

    @property
    def peer_settings(self) -> Any:
        """The settings of the other machine's speaker, None as long as it hasn't told them."""
        return self._theirs.get("settings")

    def greet(self) -> None:
        """Tell the other machine what it needs to compare."""
        self._tell("config", {"digests": self._digests, "host": self._host, "settings": self._settings})

    def handle(self, kind: str, body: Any) -> bool:
        """Take a message; False if it isn't for us."""
        match kind:
            case "config" if isinstance(body, dict):
                self._theirs = body
            case "config_ask" if isinstance(body, dict):
                found = {name: self._sections[name] for name in self._known_names(body.get("names"))}
                self._tell("config_tell", {"id": body.get("id"), "sections": found})
            case "config_tell" if isinstance(body, dict):
                number = body.get("id")
                future = self._questions.pop(number, None) if isinstance(number, int) else None
                if future is not None and not future.done():
                    future.set_result(body.get("sections"))
            case _:
                return False
        return True

    def drift(self) -> list[str]:
        """Name the sections that differ, none as long as nothing was told."""
        if not self._theirs:
            return []
        return drift.compare(self._digests, drift.read_digests(self._theirs.get("digests")))

    async def diff(self) -> DiffView:
        """Ask for the sections that differ; raises ``Unavailable`` if the other machine doesn't tell."""
        if not self._theirs:
            raise Unavailable("the other machine has not told its configuration: there is no link to it")
        names = self.drift()
        theirs = await self._ask(names) if names else {}
        hosts = f"{self._theirs.get('host') or 'peer'} (peer)", self._host
        mine = {name: self._sections[name] for name in names if name in self._sections}
        return {"drift": names, "diff": drift.difference(mine, theirs if isinstance(theirs, dict) else {}, hosts)}

    def _known_names(self, names: Any) -> list[str]:
        return [name for name in self._sections if isinstance(names, list) and name in names]

    async def _ask(self, names: list[str]) -> Any:
        number = next(self._numbers)
        future = self._questions[number] = asyncio.get_running_loop().create_future()
        try:
            self._tell("config_ask", {"id": number, "names": names})
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        except TimeoutError:
            raise Unavailable("the other machine doesn't answer") from None
        finally:
            self._questions.pop(number, None)
