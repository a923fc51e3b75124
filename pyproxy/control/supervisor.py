"""
The program's first process: it binds, starts the workers, watches over them and ends with them.

Must not touch a client's byte, nor know how the configuration is written down: it gets the compiled one.

Start: limit of open files, user, access log, listening sockets, admin socket, then the workers. All that can
fail for an operator's reason fails before the first worker exists, as a ``StartError``. Stop: the first
SIGTERM or SIGINT drains, a second one kills.
"""

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import replace
from typing import Any

from pyproxy.admin.app import make_app
from pyproxy.clock import monotonic
from pyproxy.config.addresses import Address
from pyproxy.config.runtime import from_plain
from pyproxy.control import startup
from pyproxy.control.admin_socket import open_admin
from pyproxy.control.answers import Answer
from pyproxy.control.applied import Applied
from pyproxy.control.changes import LiveChanges, Reach
from pyproxy.control.ejections import Ejector
from pyproxy.control.events import Events
from pyproxy.control.explain import Explainer
from pyproxy.control.handover import Emptying
from pyproxy.control.happenings import tell_addresses, tell_flip, tell_speaker, tell_word, tell_worker
from pyproxy.control.journal import Journal
from pyproxy.control.listeners import open_listeners
from pyproxy.control.loops import OwnListener, OwnListeners, loop_text
from pyproxy.control.members import Members
from pyproxy.control.pair import Facts, Hooks, Pair
from pyproxy.control.pair_settings import lock_instance
from pyproxy.control.report import Parts, Report, make_layout
from pyproxy.control.resolver import Resolver
from pyproxy.control.scoreboard import Scoreboard
from pyproxy.control.seen import Seen
from pyproxy.control.settings import Settings
from pyproxy.control.shared_changes import SharedChanges
from pyproxy.control.speaker import STOP_SECONDS, speaker_program
from pyproxy.control.startup import StartError
from pyproxy.control.worker import Program, Worker, worker_environ
from pyproxy.control.workers import Workers
from pyproxy.health.prober import Prober

KILL_AFTER = 2.0  # seconds beyond the grace until what still runs is killed
SAMPLE_EVERY = 1.0
FIRST_LOOKUPS = 1.0
FLIPS_TOGETHER = 0.01  # changes of health within so many seconds are told in one message
APPLY_SECONDS = 5.0  # that a worker has for a change
CHECK_NEEDS = 4  # idle connections that each worker closes for a check that waits: others may wait before it

_log = logging.getLogger(__name__)


class Supervisor:
    """Everything that lives as long as the program; made inside a running event loop, then ``run`` once."""

    def __init__(self, settings: Settings, program: Program | None = None, speaker: Program | None = None) -> None:
        self._config = from_plain(settings.plain)
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._cleanup = contextlib.AsyncExitStack()
        self._signals = 0
        self._exit_code = 0
        self._program = program or Program(
            environ=worker_environ(os.environ, settings.variables),
            credentials=startup.find_credentials(self._config.user),
        )
        virtual = settings.pair.addresses if settings.pair is not None else ()
        bound = [OwnListener(item.name, Address(item.host, item.port, item.path)) for item in self._config.listeners]
        self._own = OwnListeners(bound, virtual)
        self._members = Members(self._config, self._clear_seat, self._fold_seat, is_own=self._own.has)
        self._layout = make_layout(self._config, self._members.capacity)
        self._events = Events()
        self._ejector = Ejector(self._config, self._members, self._tell, self._events)
        self._prober = Prober(
            self._handle_flip,
            self._handle_word,
            on_pass=self._ejector.handle_pass,
            on_wait=lambda address, began: self._give_way(address, [began] * CHECK_NEEDS),
        )
        journal = Journal(settings.state_dir)
        shared = SharedChanges(settings.pair.host, self._tell_peer) if settings.pair is not None else None
        self._changes = LiveChanges(
            self._config,
            settings,
            self._members,
            journal,
            Reach(self._publish, self._count_in_flight, self._events, self._handle_ready),
            shared,
        )
        self._pair = self._make_pair(speaker or speaker_program(), shared)
        self._changed: set[str] = set()  # pools that the workers don't know of yet
        self._applied = Applied()
        self._seen = Seen()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._looped: set[tuple[str, str]] = set()  # pool and address of backends that lead back here

    def __repr__(self) -> str:
        return f"<Supervisor of {self._settings.file}>"

    async def run(self) -> int:
        """Run until stopped and return the exit code; raises ``StartError`` if it can't start."""
        async with self._cleanup:
            self._open()
            self._make_workers()
            # Both are there before anybody can change who is to be checked or looked up, and end after that.
            self._start_checks()
            self._start_resolver()
            await self._start_admin()
            self._start_pair()
            self._add_signals()
            self._cleanup.push_async_callback(self._end)
            self._sample()
            await self._resolver.wait_for_first(FIRST_LOOKUPS)
            self._workers.start()
            await self._workers.ended.wait()
        _log.info("stopped")
        return self._exit_code

    def _open(self) -> None:
        config = self._config
        if self._settings.pair is not None:
            self._cleanup.callback(lock_instance(self._settings.pair).close)
        self._changes.load()
        startup.raise_nofile(config.limits.connections)
        self._log_fd = startup.open_access_log(config.access_log.to)
        self._cleanup.callback(self._close_log)
        virtual = self._settings.pair.addresses if self._settings.pair is not None else ()
        self._listeners = open_listeners(config.listeners, config.workers, virtual)
        self._cleanup.callback(self._close_listeners)
        for listener in self._listeners:
            _log.info("listening on %s (%s)", listener.address, listener.name)
        self._scoreboard = Scoreboard(config.workers, self._layout.size, self._layout.gauges)
        self._scoreboard.used = self._layout.columns_for(self._members.used)
        self._cleanup.callback(self._scoreboard.close)

    def _make_workers(self) -> None:
        self._workers = Workers(
            self._config.workers,
            self._program,
            on_start=self._handle_start,
            on_answer=self._handle_answer,
            on_end=self._handle_end,
            on_hopeless=self._handle_hopeless,
            on_ready=self._tell_facts,
        )
        self._explainer = Explainer(self._workers)
        parts = Parts(
            config=self._config,
            file=self._settings.file,
            members=self._members,
            layout=self._layout,
            scoreboard=self._scoreboard,
            workers=self._workers,
            listeners=self._listeners,
            is_stopping=lambda: self._signals > 0,
            explainer=self._explainer,
            checks=self._prober.results,
            changes=self._changes,
            ejector=self._ejector,
            seen=self._seen,
            pair=self._pair,
        )
        self._report = Report(parts)

    async def _start_admin(self) -> None:
        admin = self._settings.admin
        if admin is None:
            return
        self._cleanup.push_async_callback(self._changes.close)
        app = make_app(self._report, self._changes, self._events, admin.token, self._pair)
        await open_admin(admin, app, self._cleanup)

    def _make_pair(self, speaker: Program, shared: SharedChanges | None) -> Pair | None:
        if self._settings.pair is None:
            return None
        hooks = Hooks(
            on_hopeless=self._handle_no_speaker,
            merge=self._changes.merge,
            kept=self._changes.kept,
            make_emptying=self._make_emptying,
            grace=self._config.shutdown_grace,
            on_event=lambda message: tell_speaker(self._events, message),
        )
        return Pair(self._settings.pair, speaker, hooks, shared)

    def _tell_peer(self, entries: list[dict[str, Any]]) -> None:
        if self._pair is not None:
            self._pair.tell_changes(entries)

    def _start_pair(self) -> None:
        if self._pair is not None:
            self._cleanup.push_async_callback(self._pair.close)
            self._tell_facts()
            self._pair.start()

    def _make_emptying(self) -> Emptying:
        """Begin to empty the listeners that can be reached by a virtual address."""
        listeners = [listener for listener in self._listeners if listener.unix is None]
        columns = [self._layout.connections(listener.name) for listener in listeners]
        sockets = [sock for listener in listeners for sock in listener.sockets]
        return Emptying(self._workers.alive, sockets, lambda: sum(self._scoreboard.sums(columns)))

    def _tell_facts(self) -> None:
        """Let the speaker know how many workers and backends there are."""
        if self._pair is not None:
            pools = [self._members.pool(pool.name) for pool in self._config.pools]
            backends = [backend for pool in pools for backend in pool.backends if not backend.lookup]
            healthy = sum(backend.state == "ready" and backend.health == "up" for backend in backends)
            self._pair.set_facts(Facts(self._workers.ready, healthy, len(backends), self._signals > 0))

    def _start_checks(self) -> None:
        self._cleanup.push_async_callback(self._prober.close)
        for pool in self._config.pools:
            self._prober.update(self._members.pool(pool.name))
            self._warn_of_loops(pool.name)

    def _warn_of_loops(self, name: str) -> None:
        """Warn once of each backend that is one of our own listeners."""
        for backend in self._members.pool(name).backends:
            if backend.is_own and (name, backend.address) not in self._looped:
                self._looped.add((name, backend.address))
                text = loop_text(self._own.name_of(backend))
                _log.warning("pool %s: backend %s (%s) %s", name, backend.name, backend.address, text)

    def _start_resolver(self) -> None:
        """Look the names among the backends up; they have a moment to be found, but without DNS we start as well."""
        pools = tuple([self._members.configured(pool.name) for pool in self._config.pools])
        resolver = self._resolver = Resolver(replace(self._config, pools=pools), self._handle_addresses)
        self._cleanup.push_async_callback(resolver.close)
        resolver.start()

    def _add_signals(self) -> None:
        handlers = {
            signal.SIGTERM: self._handle_stop,
            signal.SIGINT: self._handle_stop,
            signal.SIGUSR1: self._handle_reopen,
            signal.SIGHUP: self._handle_unavailable,
            signal.SIGUSR2: self._handle_unavailable,
        }
        for number, handler in handlers.items():
            # They stay until the loop closes: a second SIGTERM during the last steps must not kill us.
            self._loop.add_signal_handler(number, handler, number)

    async def _end(self) -> None:
        """Leave no timer and no process behind, whatever ended the program."""
        for timer in self._timers.values():
            timer.cancel()
        self._ejector.close()
        if self._leaving is not None:
            self._leaving.cancel()
        self._workers.kill()
        await self._workers.ended.wait()

    def _sample(self) -> None:
        self._timers["sample"] = self._loop.call_later(SAMPLE_EVERY, self._sample)
        self._report.sample()
        self._release_seats()
        self._changes.expire()
        self._tell_facts()

    def _handle_start(self, worker: Worker) -> None:
        """Give a fresh worker its configuration and its descriptors."""
        fds = [self._scoreboard.fd]
        if self._log_fd is not None:
            fds.append(self._log_fd)
        fds += [listener.sockets[worker.slot].fileno() for listener in self._listeners]
        message = {
            "type": "start",
            "slot": worker.slot,
            "version": self._members.version,
            "config": self._members.start_config(self._settings.plain),
            "seats": self._members.capacity,
            "log": self._log_fd is not None,
        }
        self._applied.note(worker.slot, self._members.version)
        worker.send(message, fds)
        tell_worker(self._events, worker, "started")

    def _handle_answer(self, worker: Worker, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "applied":
                self._applied.note(worker.slot, message["version"])
            case "explained":
                self._explainer.handle_answer(message)
            case "failing":
                self._ejector.handle_report(message)
            case "waiting":
                self._give_way(message["address"], message["since"], worker)
            case "seen":
                self._note_seen(message["pools"])
            case "yielded" if self._pair is not None:
                self._pair.handle_yielded(worker)
            case kind:
                _log.error("%r sent a message of unknown type %r", worker, kind)

    def _give_way(self, address: str, since: list[float], but: Worker | None = None) -> None:
        """Let workers' idle connections to an address give way to a check or another worker's requests: who waits."""
        for worker in self._workers.alive():
            if worker is not but:
                worker.send({"type": "give_way", "address": address, "since": since})

    def _note_seen(self, pools: dict[str, dict[str, list[int]]]) -> None:
        now = monotonic()
        for pool, backends in pools.items():
            for backend, clients in backends.items():
                self._seen.note(pool, backend, clients, now)

    def _handle_end(self, slot: int) -> None:
        worker = self._workers.slots[slot]
        tell_worker(self._events, worker, "ended", worker.ending if worker is not None else None)
        self._scoreboard.retire(slot)
        self._explainer.handle_end(slot)
        self._applied.forget(slot)
        self._tell_facts()

    def _handle_addresses(self, pool: str, backend: str, answer: Answer) -> None:
        before = self._members.pool(pool)
        if self._members.update(pool, backend, answer):
            tell_addresses(self._events, before, self._members.pool(pool))
            self._handle_change(pool)

    async def _publish(self, pool: str) -> list[int]:
        """Tell the workers of a changed pool; return the slots of those that don't go by it in time."""
        self._resolver.follow(self._members.configured(pool))
        self._handle_change(pool)
        return await self._applied.wait(self._members.version, APPLY_SECONDS)

    def _count_in_flight(self, pool: str, backend: str) -> int:
        seats = self._members.seats_of(pool, backend)
        return sum(self._scoreboard.sums(map(self._layout.backend_active, seats)))

    def _handle_change(self, pool: str) -> None:
        self._scoreboard.used = self._layout.columns_for(self._members.used)
        self._tell(pool)
        self._prober.update(self._members.pool(pool))
        self._ejector.follow(pool)
        self._warn_of_loops(pool)

    def _handle_flip(self, pool: str, seat: int, health: str) -> None:
        tell_flip(self._events, pool, self._members.member(pool, seat), health, self._prober.results.get(seat))
        if self._members.set_health(pool, seat, health):
            self._announce_soon(pool)
            self._ejector.follow(pool)

    def _tell(self, pool: str) -> None:
        """Tell the workers in the next turn of the loop: several names are often answered at once."""
        if not self._changed:
            self._loop.call_soon(self._announce)
        self._changed.add(pool)

    def _handle_ready(self, pool: str, backend: str) -> None:
        """Take it that a configured backend is about to be ready, whatever it was."""
        self._ejector.handle_ready(pool, backend)
        configured = next((item for item in self._members.configured(pool).backends if item.name == backend), None)
        if configured is not None and configured.state != "ready":
            self._members.begin_rising(pool, backend)

    def _handle_word(self, pool: str, seat: int, word: str) -> None:
        before = self._members.member(pool, seat)
        if self._members.set_word(pool, seat, word):
            tell_word(self._events, pool, before, self._members.member(pool, seat))
            self._announce_soon(pool)
            self._ejector.follow(pool)

    def _announce_soon(self, pool: str) -> None:
        if not self._changed:
            self._timers["flips"] = self._loop.call_later(FLIPS_TOGETHER, self._announce)
        self._changed.add(pool)

    def _announce(self) -> None:
        pools = [self._members.plain_pool(name) for name in sorted(self._changed)]
        self._changed.clear()
        for worker in self._workers.alive():
            worker.send({"type": "pools", "version": self._members.version, "pools": pools})
        self._tell_facts()

    def _release_seats(self) -> None:
        active, sums = self._layout.backend_active, self._scoreboard.sums
        applied = self._applied.oldest(self._members.version)
        self._members.release(applied, lambda seat: sums([active(seat)]) == [0])

    def _clear_seat(self, seat: int) -> None:
        self._scoreboard.clear(self._layout.seat(seat))

    def _fold_seat(self, source: int, target: int) -> None:
        self._scoreboard.fold(self._layout.seat(source), self._layout.seat(target))

    def _handle_hopeless(self, reason: str) -> None:
        _log.critical("no worker can be started: %s", reason)
        self._exit_code = 1
        self._workers.kill()

    def _handle_no_speaker(self, reason: str) -> None:
        _log.critical("the speaker can't be started: %s", reason)
        self._exit_code = 1
        self._workers.kill()

    def _handle_stop(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            _log.warning("%s again: stopping at once", number.name)
            self._exit_code = 1
            self._workers.kill()
            return
        grace = self._config.shutdown_grace
        _log.info("%s: stopping, what is in flight has %g s", number.name, grace)
        self._events.publish("stopping", reason=number.name)
        if self._pair is None:
            self._drain(grace)
        else:
            self._leaving = asyncio.ensure_future(self._leave(self._pair, grace))

    async def _leave(self, pair: Pair, grace: float) -> None:
        """Give the addresses away before anybody is refused; that and the draining share the grace."""
        began = self._loop.time()
        self._timers["kill"] = self._loop.call_later(grace + KILL_AFTER + STOP_SECONDS, self._handle_grace_over)
        self._tell_facts()
        try:
            await pair.leave(grace, "the program stops")
        except Exception:
            _log.exception("the addresses can't be given away in order")  # the program stops nevertheless
        self._drain(max(grace - (self._loop.time() - began), 0.0))

    def _drain(self, grace: float) -> None:
        self._close_listeners()
        self._workers.drain(grace)
        if "kill" not in self._timers:
            self._timers["kill"] = self._loop.call_later(grace + KILL_AFTER, self._handle_grace_over)

    def _handle_grace_over(self) -> None:
        for worker in self._workers.alive():
            _log.error("%r has not ended in time, killing it", worker)
        self._workers.kill()

    def _handle_reopen(self, _number: signal.Signals) -> None:
        to = self._config.access_log.to
        if to in ("stdout", "off"):
            return
        try:
            fd = startup.open_access_log(to)
        except StartError as error:
            _log.error("the log goes on in the old file: %s", error)
            return
        self._close_log()
        self._log_fd = fd
        if fd is not None:
            for worker in self._workers.alive():
                worker.send({"type": "log"}, [fd])
            _log.info("reopened %s", to)

    def _handle_unavailable(self, number: signal.Signals) -> None:
        what = "reload" if number == signal.SIGHUP else "replacing the running program"
        _log.warning("%s: %s is not available yet in this version", number.name, what)

    def _close_log(self) -> None:
        if self._log_fd is not None:
            os.close(self._log_fd)
            self._log_fd = None

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
