"""
A speaker that only speaks the link and its supervisor's channel: `python -m tests.integration.fake_speaker FD`.

Knows nothing of VRRP: who has a priority above 100 begins as master, and who is told that the other released takes
over. Misbehaves by its interface's name: ``failing`` can't start, ``fault`` is never fit.
"""

import asyncio
import contextlib
import socket
import sys
import time
from typing import Any

from pyproxy.failover.link import Link
from pyproxy.failover.settings import Settings, from_plain
from pyproxy.failover.wire import Wire

Message = dict[str, Any]


class FakeSpeaker:
    """Lives until it is told to stop, or its supervisor is gone."""

    def __init__(self, fd: int) -> None:
        self.ended = asyncio.Event()
        self.wire = Wire(socket.socket(fileno=fd), self.handle, lambda _: self.ended.set())
        self.state, self.reason = "init", ""
        self.peer: Message | None = None
        self.facts: Message = {}
        self.settings: Settings
        self.link: Link | None = None
        self.released = False
        self.transitions: list[Message] = []

    def handle(self, message: Message) -> None:
        match message["type"]:
            case "start":
                self.facts = message["facts"]
                self.task = asyncio.ensure_future(self.start(message))
            case "ping":
                self.wire.send({"type": "pong", "facts": self.facts.get("version")})
            case "facts":
                self.facts = message
                self.tell()
            case "peer_out" if self.link is not None:
                self.link.send(message["kind"], message["body"])
            case "handover":
                self.handover(message["reason"])
            case "handover_ready":
                self.released = True
                self.change("backup", "released")
                self.wire.send({"type": "handover_done"})
            case "stop":
                self.ended.set()

    async def start(self, message: Message) -> None:
        self.settings = settings = from_plain(message["settings"])
        if settings.interface == "failing":
            self.wire.send({"type": "failed", "error": "CAP_NET_RAW is missing"})
            return
        if settings.link is not None:
            key = bytes.fromhex(message["keys"]["link"])
            self.link = Link(settings.link, key, message["boot_id"], self.on_peer, self.on_message, self.on_connect)
            await self.link.start()
        self.wire.send({"type": "ready"})
        fit = "master" if settings.priority > 100 else "backup"
        self.change("fault" if settings.interface == "fault" else fit, "start")

    def handover(self, reason: str) -> None:
        if self.peer is None or self.peer["state"] != "backup":
            what = f"the other machine is {self.peer['state']}" if self.peer else "there is no link"
            self.wire.send({"type": "handover_refused", "reason": what})
        else:
            self.wire.send({"type": "handover_begin"})

    def change(self, state: str, reason: str) -> None:
        entry = {"at": time.time(), "from": self.state, "to": state, "reason": reason}
        self.transitions.append(entry)
        self.state, self.reason = state, reason
        self.wire.send({"type": "event", "kind": "transition", **entry})
        self.tell()

    def on_peer(self, state: Message | None) -> None:
        before, self.peer = self.peer, state
        if state is not None and state["released"] and self.state == "backup" and not self.released:
            self.change("master", "the peer released the addresses")
        elif state != before:
            self.tell()

    def on_message(self, kind: str, body: Any) -> None:
        self.wire.send({"type": "peer_in", "kind": kind, "body": body})

    def on_connect(self) -> None:
        self.wire.send({"type": "peer_connected"})

    def tell(self) -> None:
        healthy = self.facts.get("healthy_backends")
        if self.link is not None:
            self.link.announce({"state": self.state, "released": self.released, "healthy_backends": healthy})
        self.wire.send(
            {
                "type": "status",
                "state": self.state,
                "since": time.time(),
                "reason": self.reason,
                "vip_present": self.state == "master",
                "peer": self.peer,
                "link": self.link.facts().to_plain() if self.link is not None else None,
                "transitions": self.transitions,
                "facts": {"told": self.facts},
            }
        )


async def main(fd: int) -> None:
    """Live."""
    speaker = FakeSpeaker(fd)
    while not speaker.ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(speaker.ended.wait(), 1.0)
        if speaker.state != "init":
            speaker.tell()  # as the real one does: its silence would be an alarm
    if speaker.link is not None:
        await speaker.link.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
