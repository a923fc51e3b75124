"""
One of the two machines: what its supervisor tells the speaker and the other one, and what it does at their word.

Must not know VRRP, which is the speaker's, nor how the link works: the speaker passes messages to the other
supervisor and back. Of the program it knows what it is given: facts, changes at run time, and a way to empty it.

On the link, beside what ``comparison`` says, there is ``overrides`` with a list of entries: all that is known at the
begin of each connection, then each change.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from pyproxy.admin.changes import Conflict, Origin
from pyproxy.admin.control import Unavailable
from pyproxy.admin.pair import DiffView, HandoverView, PairView
from pyproxy.clock import monotonic, wall
from pyproxy.control.comparison import Comparison
from pyproxy.control.conversation import Conversation
from pyproxy.control.handover import Emptying
from pyproxy.control.pair_settings import PairSettings
from pyproxy.control.pair_view import Known, Transitions, make_view, render, state_of
from pyproxy.control.shared_changes import SharedChanges
from pyproxy.control.speaker import Speaker
from pyproxy.control.worker import Program, Worker

_log = logging.getLogger(__name__)

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the speaker needs to know of the program; None where there is none beside it."""

    ready_workers: int | None = None
    healthy_backends: int | None = None
    backends: int | None = None
    is_stopping: bool = False


@dataclass(frozen=True, slots=True)
class Hooks:
    """
    The program that the pair is a part of; a speaker alone has none of the first three.

    ``merge`` makes the other machine's changes, ``kept`` names those of them that have no place here, and
    ``make_emptying`` begins to empty it. ``on_hopeless`` gets the reason when no speaker can be brought up,
    ``on_event`` each transition and alarm as the speaker tells it.
    """

    on_hopeless: Callable[[str], None]
    merge: Callable[[Any], Awaitable[None]] | None = None
    kept: Callable[[], list[str]] | None = None
    make_emptying: Callable[[], Emptying] | None = None
    grace: float = 0.0
    on_event: Callable[[Message], None] = lambda _message: None


class Pair:
    """Satisfies ``admin.peer.Pair``; made inside a running event loop."""

    def __init__(
        self, settings: PairSettings, program: Program, hooks: Hooks, shared: SharedChanges | None = None
    ) -> None:
        self.transitions = Transitions()
        self._settings = settings
        self._hooks = hooks
        self._shared = shared
        self._comparison = Comparison(settings.sections, settings.host, settings.told, self._tell)
        self._known = Known(settings.speaker, wall(), config_digest=self._comparison.digest)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._emptying: Emptying | None = None
        self._conversation: Conversation | None = None
        self._told_at: float | None = None  # when the speaker last told its status
        self._handing: asyncio.Task[HandoverView] | None = None
        start = {
            "type": "start",
            "settings": settings.speaker,
            "keys": settings.keys(),
            "boot_id": token_hex(8),
            "runtime_dir": str(settings.directory),
            "log_level": settings.log_level,
        }
        self._speaker = Speaker(program, start, self._handle_message, self._handle_lost, hooks.on_hopeless)

    def __repr__(self) -> str:
        return f"<Pair {self.state} {self._speaker!r}>"

    @property
    def state(self) -> str:
        """The state of this machine."""
        return state_of(self._known)

    def start(self) -> None:
        """Start the speaker; the caller holds the lock of ``lock_instance``."""
        self._speaker.start()

    def set_facts(self, facts: Facts) -> None:
        """Tell the speaker how the program is; what it knows already isn't told again."""
        self._speaker.set_facts(
            {
                "type": "facts",
                "ready_workers": facts.ready_workers,
                "healthy_backends": facts.healthy_backends,
                "backends": facts.backends,
                "stopping": facts.is_stopping,
                "config_digest": self._known.config_digest,
            }
        )

    def handle_yielded(self, worker: Worker) -> None:
        """Hear that the connections that a worker had at the begin of a hand-over are gone."""
        if self._emptying is not None:
            self._emptying.handle_yielded(worker)

    def tell_changes(self, entries: list[Message]) -> None:
        """Tell the other machine of changes at run time, or lose them: all are told when there is a link again."""
        self._tell("overrides", entries)

    # what the admin API asks

    def view(self) -> PairView:
        known = self._known
        known.drift = self._comparison.drift()
        known.kept = self._hooks.kept() if self._hooks.kept is not None else ()
        known.is_handing_over = self._handing is not None
        known.is_speaking = self._speaker.is_ready
        known.now = wall()
        known.age = round(monotonic() - self._told_at, 3) if self._told_at is not None else None
        return make_view(known)

    def metrics(self) -> str:
        """Write the Prometheus text about the pair."""
        return render(self.view(), self.transitions, self._speaker.restarts)

    async def handover(self, origin: Origin) -> HandoverView:
        if self._handing is not None:
            raise Conflict("a hand-over is on its way already")
        if self.state != "master":
            raise Conflict(f"this machine is {self.state}: only the master has addresses to hand over")
        reason = f"handed over by {origin.by}" + (f": {origin.reason}" if origin.reason else "")
        # It goes on when the one who asked goes away: it must be finished either way.
        return await asyncio.shield(self._begin_handover(reason))

    async def diff(self) -> DiffView:
        return await self._comparison.diff()

    def facts(self) -> dict[str, Any]:
        return {
            "settings": self._settings.told,
            "facts": self._known.status.get("facts") or {},
            "peer_settings": self._comparison.peer_settings,
        }

    # hand-over

    async def leave(self, grace: float, reason: str) -> None:
        """
        Give the addresses away for good, and let the speaker end: the program stops.

        The other machine needn't be fit: after ``grace`` seconds the addresses leave in any case.
        """
        try:
            if self.state == "master":
                await self._empty_for(grace, reason)
        finally:
            await self._speaker.stop(reason)
            if self._emptying is not None:
                self._emptying.end()
                self._emptying = None

    async def close(self) -> None:
        """End everything; called again, or after ``leave``, it finds nothing left."""
        for task in list(self._tasks):
            task.cancel()
        await self._speaker.stop("the program ends")
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def _empty_for(self, grace: float, reason: str) -> None:
        """Hand over if the other machine is fit; else empty the program all the same, for whoever takes over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        try:
            await (self._handing or self._begin_handover(reason, grace))
        except (Conflict, Unavailable) as error:
            _log.warning("the addresses aren't handed over, they are released: %s", error)
            if self._emptying is None:
                self._emptying = self._make_emptying()
            if self._emptying is not None:
                await self._emptying.empty(max(deadline - loop.time(), 0.0))

    def _begin_handover(self, reason: str, grace: float | None = None) -> "asyncio.Task[HandoverView]":
        task = self._handing = self._spawn(self._hand_over(reason, self._hooks.grace if grace is None else grace))
        task.add_done_callback(self._forget_handover)
        return task

    def _forget_handover(self, task: "asyncio.Task[HandoverView]") -> None:
        if not task.cancelled():
            task.exception()  # whoever waited for it has got it, or has gone away
        self._handing = None
        self._conversation = None

    async def _hand_over(self, reason: str, grace: float) -> HandoverView:
        loop = asyncio.get_running_loop()
        began = loop.time()
        talk = self._conversation = Conversation()
        if not self._speaker.send({"type": "handover", "reason": reason}):
            raise Unavailable("the speaker is not running")
        await talk.begun()
        _log.info("hand-over: %s; what is in flight has %g s", reason, grace)
        emptying = self._emptying = self._make_emptying()
        try:
            if emptying is not None:
                await talk.meanwhile(emptying.empty(grace))
            self._speaker.send({"type": "handover_ready"})
            await talk.done()
        except BaseException:
            self._hold_syns(False)
            raise
        finally:
            if emptying is not None:
                emptying.end()
            self._emptying = None
        duration = round(loop.time() - began, 3)
        reset = emptying.was_reset if emptying is not None else 0
        _log.info("handed over after %g s, %d connections were reset", duration, reset)
        # The speaker's next status may still be on its way.
        return {"state": "backup" if self.state == "master" else self.state, "duration": duration, "reset": reset}

    def _make_emptying(self) -> Emptying | None:
        if self._hooks.make_emptying is None:
            return None
        emptying = self._hooks.make_emptying()
        emptying.on_block = self._hold_syns
        return emptying

    def _hold_syns(self, is_blocked: bool) -> None:
        """Let the speaker catch what is dropped, and pass it on when the addresses are given away."""
        self._speaker.send({"type": "hold_syns" if is_blocked else "pass_syns"})

    # what the speaker says

    def _handle_message(self, message: Message) -> None:
        match message.get("type"):
            case "status":
                self._known.status, self._told_at = message, monotonic()
            case "event":
                self._handle_event(message)
            case "peer_in":
                self._handle_peer(str(message.get("kind")), message.get("body"))
            case "peer_connected":
                self._tell_everything()
            case "handover_begin" | "handover_done" | "handover_refused" as kind:
                if self._conversation is not None:
                    self._conversation.handle(kind, str(message.get("reason") or ""))
            case kind:
                _log.error("the speaker sent a message of unknown type %r", kind)

    def _handle_event(self, message: Message) -> None:
        """Take a transition or an alarm; the speaker has logged it."""
        self._hooks.on_event(message)
        if message.get("kind") == "transition":
            self.transitions.count(str(message.get("to")), str(message.get("reason") or ""))

    def _handle_lost(self) -> None:
        if self._conversation is not None:
            self._conversation.fail(Unavailable("the speaker has ended"))

    # the other machine

    def _handle_peer(self, kind: str, body: Any) -> None:
        if kind == "overrides":
            if self._hooks.merge is not None:
                self._spawn(self._merge(body))
        elif not self._comparison.handle(kind, body):
            _log.warning("the peer sent a message of unknown kind %r", kind)

    async def _merge(self, entries: Any) -> None:
        assert self._hooks.merge is not None
        try:
            await self._hooks.merge(entries)
        except Unavailable as error:
            _log.warning("a change by the peer is %s", error)

    def _tell_everything(self) -> None:
        self._comparison.greet()
        if self._shared is not None:
            self.tell_changes(self._shared.everything())

    def _tell(self, kind: str, body: Any) -> None:
        self._speaker.send({"type": "peer_out", "kind": kind, "body": body})

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task  # type: ignore[no-any-return]  # ensure_future of a coroutine
