"""A child process that ends while nobody looks."""

import asyncio
import os
import subprocess

from pyproxy.control.child import Child


async def test_a_child_that_was_killed_is_known_to_have_ended_before_it_is_told() -> None:
    """Who wants to give it work in that moment asks; ``on_end`` is called all the same, once."""
    told: list[str] = []
    ended = asyncio.Event()

    def spawn(fd: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["sleep", "60"], pass_fds=[fd])

    def end(ending: str) -> None:
        told.append(ending)
        ended.set()

    child = Child("sleeper", spawn, lambda _: None, end)
    assert not child.has_ended
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.has_ended
    assert told == []
    await asyncio.wait_for(ended.wait(), 10)
    assert child.has_ended
    assert told == ["signal SIGKILL"]
