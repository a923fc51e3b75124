"""Pins when names are looked up again, what is passed on, and what is said about it."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.runtime import Backend, RuntimeConfig, from_plain
from pyproxy.control import resolver as resolver_module
from pyproxy.control.answers import Answer, share_equally
from pyproxy.control.lookup import Found, LookupFailed
from pyproxy.control.resolver import Resolver
from pyproxy.control.settings import make_settings

FILE = """
listeners: [{bind: "127.0.0.1:80"}]
pools:
  web:
    backends:
      - {name: fixed, address: "10.0.0.1:80"}
      - {name: app, address: "app.internal:80"}
"""
CONFIG: RuntimeConfig = from_plain(make_settings(load_text(FILE, "lb.yml", {}), "lb.yml").plain)

Step = Found | Exception


def found(*hosts: str, ttl: float = 30.0, left_out: int = 0) -> Found:
    """An answer."""
    return Found(share_equally(hosts, 80), ttl, left_out)


class Script:
    """What happens at each lookup, and how long the resolver slept after each; the last lookup never ends."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.pauses: list[float] = []
        self.names: list[str] = []
        self.done = asyncio.Event()
        self.answers: list[tuple[str, str, Answer]] = []

    def make(self, backend: Backend, _servers: Sequence[str]) -> "Script":
        """Stand in for ``Lookup``."""
        self.names.append(backend.host)
        return self

    async def find(self) -> Found:
        """Take the next step."""
        if not self.steps:
            self.done.set()
            await asyncio.Event().wait()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def sleep(self, seconds: float) -> None:
        """Note how long it would have been."""
        self.pauses.append(seconds)

    def on_answer(self, pool: str, backend: str, answer: Answer) -> None:
        """Note what came."""
        self.answers.append((pool, backend, answer))


Play = Callable[..., Any]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Play]:
    """Run a resolver through a script."""

    async def run(*steps: Step) -> Script:
        script = Script(steps)
        names = ("Event", "Semaphore", "create_task", "gather", "timeout")
        fake = SimpleNamespace(sleep=script.sleep, **{name: getattr(asyncio, name) for name in names})
        monkeypatch.setattr("pyproxy.control.resolver.asyncio", fake)
        monkeypatch.setattr(resolver_module, "Lookup", script.make)
        resolver = Resolver(CONFIG, script.on_answer)
        resolver.start()
        async with asyncio.timeout(5):
            await script.done.wait()
        await resolver.close()
        return script

    with caplog.at_level(logging.INFO):
        yield run


async def test_only_names_are_looked_up(play: Play) -> None:
    """A backend that has its address needs no name server."""
    script = await play()
    assert script.names == ["app.internal"]


async def test_names_are_followed_as_they_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is added is asked for, one that is removed or stands for another host no more; the others go on."""
    asked: list[str] = []

    class Endless:
        """A lookup that notes its name and never ends."""

        def __init__(self, backend: Backend, _servers: Sequence[str]) -> None:
            self.host = backend.host

        async def find(self) -> Found:
            asked.append(self.host)
            try:
                await asyncio.Event().wait()
            finally:
                asked.remove(self.host)
            raise AssertionError

    monkeypatch.setattr(resolver_module, "Lookup", Endless)
    resolver = Resolver(CONFIG, lambda *_answer: None)
    resolver.start()
    (pool,) = CONFIG.pools
    app = pool.backends[1]
    more = replace(app, name="more", host="more.internal", weight=7)
    steps = [
        ([app, more], ["app.internal", "more.internal"]),
        ([replace(app, weight=9, state="drain"), more], ["app.internal", "more.internal"]),
        ([replace(app, host="other.internal"), more], ["more.internal", "other.internal"]),
        ([more], ["more.internal"]),
        ([], []),
    ]
    for backends, expected in steps:
        resolver.follow(replace(pool, backends=tuple(backends)))
        for _ in range(4):
            await asyncio.sleep(0)
        assert sorted(asked) == expected
    await resolver.close()


async def test_each_change_is_passed_on_once(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """The same answer again is no news, neither for the workers nor for the log."""
    script = await play(found("10.1.0.1"), found("10.1.0.1"), found("10.1.0.2", "fd00::1"))
    assert script.answers == [
        ("web", "app", share_equally(["10.1.0.1"], 80)),
        ("web", "app", share_equally(["10.1.0.2", "fd00::1"], 80)),
    ]
    assert caplog.messages == [
        "app.internal (web/app) is 10.1.0.1:80",
        "app.internal (web/app) is 10.1.0.2:80, [fd00::1]:80",
    ]


async def test_the_time_to_live_says_when_next(play: Play) -> None:
    """Between five seconds and a minute, whatever the record says."""
    script = await play(*(found("10.1.0.1", ttl=ttl) for ttl in (0.0, 1.0, 5.0, 17.0, 60.0, 86400.0)))
    assert script.pauses == [5.0, 5.0, 5.0, 17.0, 60.0, 60.0]


async def test_after_a_failure_it_is_tried_again_soon(play: Play) -> None:
    """A start without DNS isn't one for long; an outage doesn't become a storm. A good answer starts anew."""
    failure = LookupFailed("no")
    script = await play(failure, failure, failure, failure, found("10.1.0.1"), failure)
    assert script.pauses == [1.0, 2.0, 5.0, 5.0, 30.0, 1.0]


async def test_the_last_good_answer_stays(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """A failure passes nothing on; one line for each reason, with what stays, and one when it is over."""
    failures = [LookupFailed(text) for text in ("server failure", "no such name", "server failure", "no such name")]
    script = await play(found("10.1.0.1"), *failures, found("10.1.0.1"), failures[0])
    assert len(script.answers) == 1
    assert caplog.messages[1:] == [
        "can't look up app.internal (web/app): server failure; it stays 10.1.0.1:80",
        "can't look up app.internal (web/app): no such name; it stays 10.1.0.1:80",
        "app.internal (web/app) is answered again, nothing has changed",
        "can't look up app.internal (web/app): server failure; it stays 10.1.0.1:80",
    ]


async def test_a_name_without_an_answer_yet(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """The log says that it gets no traffic."""
    await play(LookupFailed("timeout"), LookupFailed("timeout"))
    assert caplog.messages == ["can't look up app.internal (web/app): timeout; it has no address yet"]


async def test_an_error_of_ours_does_not_end_the_watch(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """A surprise in an answer costs one lookup, with a traceback, and not the name."""
    script = await play(ValueError("surprise"), found("10.1.0.1"))
    assert len(script.answers) == 1
    assert "Traceback" in caplog.text
    assert script.pauses == [1.0, 30.0]


async def test_too_many_addresses_are_said_once(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Not with every lookup, but again when it is so again."""
    crowd, few = found("10.1.0.1", left_out=3), found("10.1.0.1")
    await play(crowd, crowd, few, crowd)
    assert [message for message in caplog.messages if "more than 64" in message] == [
        "app.internal (web/app) has more than 64 addresses, the others are left out"
    ] * 2


async def test_waiting_for_the_first_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first answer or a first failure ends the wait; a name server that says nothing can't hold up the start."""
    for steps in ([found("10.1.0.1")], [LookupFailed("no")]):
        script = Script(steps)
        monkeypatch.setattr(resolver_module, "Lookup", script.make)
        resolver = Resolver(CONFIG, script.on_answer)
        resolver.start()
        async with asyncio.timeout(5):
            await resolver.wait_for_first(1000.0)
        await resolver.close()
    silent = Script([])
    monkeypatch.setattr(resolver_module, "Lookup", silent.make)
    resolver = Resolver(CONFIG, silent.on_answer)
    resolver.start()
    await resolver.wait_for_first(0.01)
    assert silent.done.is_set()
    await resolver.close()
