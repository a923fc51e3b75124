"""
The authenticated link to the other machine: it carries each side's state at short intervals, and messages.

Must not know what a state or a message means, nor VRRP. The handshake and the seals are ``link_protocol``'s.

Theory of operation. This machine listens on ``bind`` and dials ``peer``, always from the address of ``bind`` so that
the wire is used that was meant. What it says goes out on the connection that it dialled; what it hears comes in on
the one that it accepted. Either may be there without the other, and both facts are told::

    heard     frames come in: the other machine's state is known, until ``dead_after`` intervals pass without any
    speaking  our connection stands and the other end has shown the key: ``send`` works

A connection that comes in and shows the key replaces the one before: the other machine dials anew only when it has
given that up. When nothing was heard for too long, the connection is closed, so that the other machine dials anew.
Messages are lost with the connection they were on: ``on_connect`` is called for each new one, to send everything.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pyproxy.clock import monotonic
from pyproxy.errors import LinkRefused
from pyproxy.failover.link_ends import HANDSHAKE_SECONDS, Incoming, Outgoing, family_of, set_options
from pyproxy.failover.link_protocol import RANDOM_BYTES, Acceptor, Dialler

FIRST_PAUSE = 0.05  # between two attempts to connect
LAST_PAUSE = 1.0
MAX_STRANGERS = 8  # connections at a time that haven't shown the key
REFUSED_EVERY = 60.0  # seconds between two lines of the log about one kind of refusal
LISTEN_EVERY = 1.0  # seconds between two attempts to listen

_STATE = "state"

State = dict[str, Any]

_log = logging.getLogger(__name__)


class Endpoint(Protocol):
    """An IP address and a port."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class LinkSettings(Protocol):
    """Of the section ``failover.link``; ``interval`` in seconds."""

    @property
    def bind(self) -> Endpoint: ...
    @property
    def peer(self) -> Endpoint: ...
    @property
    def interval(self) -> float: ...
    @property
    def dead_after(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """
    How the link is; ages in seconds.

    ``state`` is none before anything was ever heard, then up or dead. ``boot`` is the other machine's, "" if unknown.
    ``fault`` says why it isn't up, as far as can be told.
    """

    state: str
    heard_age: float | None
    is_speaking: bool
    boot: str
    refused: dict[str, int]
    fault: str = ""

    def to_plain(self) -> State:
        """Write it as JSON can hold it."""
        age = None if self.heard_age is None else round(self.heard_age, 3)
        return {
            "state": self.state,
            "heard_age": age,
            "speaking": self.is_speaking,
            "boot": self.boot,
            "refused": dict(self.refused),
            "fault": self.fault,
        }


class Link:
    """
    See the module's docstring; ``start`` and ``close`` inside a running event loop, ``announce`` at any time before.

    ``on_state`` gets each state of the other machine as it announced it, and None once when nothing is heard any more.
    ``on_message`` gets the kind and the body of what the other end gave to ``send``.
    """

    def __init__(
        self,
        settings: LinkSettings,
        key: bytes,
        boot_id: str,
        on_state: Callable[[State | None], None],
        on_message: Callable[[str, Any], None],
        on_connect: Callable[[], None] = lambda: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.refused: dict[str, int] = {}  # how often by reason
        self._settings = settings
        self._key = key
        self._boot = boot_id
        self._on_state = on_state
        self._on_message = on_message
        self._on_connect = on_connect
        self._now = now
        self._state: State = {}
        self._heard: float | None = None
        self._is_alive = False
        self._peer_boot = ""
        self._fault = ""  # why we couldn't connect, or were refused, last
        self._told: dict[str, float] = {}  # when a refusal was last logged, by reason
        self._failures: set[str] = set()  # why we couldn't connect, since we last could
        self._strangers: set[Incoming] = set()
        self._incoming: Incoming | None = None
        self._outgoing: Outgoing | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._beat: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Link to {self._settings.peer.host} {self.facts().state}>"

    @property
    def is_alive(self) -> bool:
        """Whether the other machine was heard within ``dead_after`` intervals."""
        return self._is_alive

    @property
    def is_speaking(self) -> bool:
        """Whether what is sent now has a way to the other machine."""
        return self._outgoing is not None

    def facts(self) -> LinkFacts:
        """Tell how the link is."""
        state = "none" if self._heard is None else "up" if self._is_alive else "dead"
        age = None if self._heard is None else self._now() - self._heard
        return LinkFacts(state, age, self.is_speaking, self._peer_boot, self.refused, self.fault)

    @property
    def fault(self) -> str:
        """Say why the link isn't up, empty if it is."""
        if self._is_alive:
            return ""
        if self._heard is None and not self._fault:
            return "nothing was heard yet"
        return self._fault or "nothing comes from the peer: it has no power, hangs, or a cable is cut"

    def adapt(self, settings: LinkSettings) -> None:
        """Go on with another interval or another patience; the addresses are as before."""
        self._settings = settings

    async def start(self) -> None:
        """Begin to listen and to dial; neither has to succeed at once."""
        self._tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._dial())]
        self._heartbeat()

    def announce(self, state: State) -> None:
        """Tell the other machine this state from now on, and at once if it is another one; it is ours from here on."""
        is_new = state != self._state
        self._state = state
        if is_new and self._outgoing is not None:
            self._outgoing.say(_STATE, state)

    def send(self, kind: str, body: Any) -> bool:
        """Send a message; False if there is no way at the moment. ``ValueError`` if it is too long."""
        return self._outgoing is not None and self._outgoing.say(kind, body)

    async def close(self) -> None:
        """Close everything. What was announced just before is still in the kernel's hands and arrives."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for timer in (self._beat, self._silence):
            if timer is not None:
                timer.cancel()
        for incoming in [*self._strangers, self._incoming]:
            if incoming is not None:
                incoming.close()
        self._strangers.clear()
        self._incoming = None
        if self._outgoing is not None:
            self._outgoing.close()
            self._outgoing = None

    def _heartbeat(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(self._settings.interval, self._heartbeat)
        if self._outgoing is not None and self._state and not self._outgoing.is_congested:
            self._outgoing.say(_STATE, self._state)

    # what comes in

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with await self._bind() as server:
            while True:
                try:
                    sock, address = await loop.sock_accept(server)
                except OSError as error:  # out of descriptors: the connection waits in the queue
                    self._tell(f"can't accept: {error.strerror}")
                    await asyncio.sleep(LISTEN_EVERY)
                    continue
                self._accept(sock, str(address[0]))

    async def _bind(self) -> socket.socket:
        """Listen as soon as that can be done: another program may still be there, or the address not yet."""
        bind = self._settings.bind
        while True:
            sock = socket.socket(family_of(bind.host), socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((bind.host, bind.port))
                sock.listen(MAX_STRANGERS)
            except OSError as error:
                sock.close()
                self._tell(f"can't listen on {bind.host} port {bind.port}: {error.strerror}")
                await asyncio.sleep(LISTEN_EVERY)
            else:
                _log.info("link: listening on %s port %d", bind.host, bind.port)
                return sock

    def _accept(self, sock: socket.socket, address: str) -> None:
        if address != self._settings.peer.host:
            self.refuse("not the peer's address", address)
            sock.close()
        elif len(self._strangers) >= MAX_STRANGERS:
            self.refuse("too many connections", address)
            sock.close()
        else:
            set_options(sock, self._patience)
            acceptor = Acceptor(self._key, self._boot, secrets.token_bytes(RANDOM_BYTES))
            incoming = Incoming(self, sock, acceptor)
            self._strangers.add(incoming)
            incoming.start()

    @property
    def _patience(self) -> float:
        """Seconds of silence that mean that the other machine is gone."""
        return self._settings.interval * self._settings.dead_after

    def joined(self, incoming: Incoming) -> None:
        """Take a connection that has shown the key for the one to be heard."""
        self._strangers.discard(incoming)
        before, self._incoming = self._incoming, incoming
        self._peer_boot = incoming.boot
        if before is not None:
            before.close()
        self._hear()

    def handle(self, kind: str, body: Any) -> None:
        """Take what was said on the connection that is heard."""
        self._hear()
        if kind == _STATE and isinstance(body, dict):
            self._on_state(body)
        else:
            self._on_message(kind, body)

    def lost(self, incoming: Incoming, reason: str) -> None:
        """Forget a connection that has ended; whether the other machine is dead is the clock's to say."""
        self._strangers.discard(incoming)
        if incoming is self._incoming:
            self._incoming = None
            _log.warning("link: what the peer says has stopped: %s", reason)

    def _hear(self) -> None:
        self._heard = self._now()
        self._fault = ""
        if not self._is_alive:
            self._is_alive = True
            _log.info("link: the peer is heard")
        if self._silence is None:
            self._watch(self._patience)

    def _watch(self, seconds: float) -> None:
        self._silence = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Find out whether the silence has lasted long enough; one timer, not one for each frame."""
        self._silence = None
        assert self._heard is not None
        rest = self._heard + self._patience - self._now()
        if rest > 0:
            self._watch(rest)
            return
        self._is_alive = False
        _log.warning("link: nothing was heard of the peer for %.3g s", self._patience)
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None
        self._on_state(None)

    # what goes out

    async def _dial(self) -> None:
        """Keep a connection to the other machine for as long as we live."""
        pause = FIRST_PAUSE
        while True:
            try:
                outgoing = await self._connect()
            except (OSError, TimeoutError, LinkRefused) as error:
                if isinstance(error, LinkRefused):
                    self.refuse(f"the peer's answer: {error}", self._settings.peer.host)
                else:
                    self.fail(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._failures.clear()
            _log.info("link: connected to %s port %d", self._settings.peer.host, self._settings.peer.port)
            self._outgoing = outgoing
            if self._state:
                outgoing.say(_STATE, self._state)
            self._on_connect()
            reason = await outgoing.ended
            self._outgoing = None
            _log.warning("link: the connection to the peer has ended: %s", reason)
            await asyncio.sleep(pause)

    async def _connect(self) -> Outgoing:
        loop, settings = asyncio.get_running_loop(), self._settings
        sock = socket.socket(family_of(settings.peer.host), socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                sock.setblocking(False)
                sock.bind((settings.bind.host, 0))
                await loop.sock_connect(sock, (settings.peer.host, settings.peer.port))
                set_options(sock, self._patience)
        except BaseException:
            sock.close()
            raise
        outgoing = Outgoing(sock, Dialler(self._key, self._boot, secrets.token_bytes(RANDOM_BYTES)))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await outgoing.joined
        except BaseException:
            outgoing.close()
            raise
        return outgoing

    # what goes wrong

    def fail(self, error: OSError) -> None:
        """Log why there is no connection, each reason once until there was one: the peer may be off for days."""
        if isinstance(error, TimeoutError) and not error.errno:
            reason = f"no answer within {HANDSHAKE_SECONDS:g} s"
        else:
            reason = os.strerror(error.errno) if error.errno else str(error)
        is_off = error.errno == errno.ECONNREFUSED
        self._fault = f"{'the program of the peer is not running' if is_off else 'no connection'} ({reason})"
        if reason not in self._failures:
            self._failures.add(reason)
            peer = self._settings.peer
            _log.warning("link: can't connect to %s port %d: %s; it is tried again", peer.host, peer.port, reason)

    def refuse(self, reason: str, address: str, detail: str = "") -> None:
        """Count a refusal, and log the first of its kind in a while; ``reason`` is one of few, ``detail`` is not."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        if address == self._settings.peer.host:
            self._fault = f"refused: {reason}"
        why = f"{reason}: {detail}" if detail else reason
        self._tell(f"refused, {why} (from {address}, {self.refused[reason]} so far)", reason)

    def _tell(self, text: str, kind: str | None = None) -> None:
        now = self._now()
        if now - self._told.get(kind or text, -REFUSED_EVERY) >= REFUSED_EVERY:
            self._told[kind or text] = now
            _log.warning("link: %s", text)
