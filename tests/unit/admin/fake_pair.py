"""A failover pair for the admin API to describe. Knows no supervisor."""

from typing import Any

from pyproxy.admin.changes import Conflict, Origin
from pyproxy.admin.pair import DiffView, HandoverView, PairView


def pair_view(**more: Any) -> PairView:
    """A backup whose peer is well, as the program describes it."""
    view: Any = {
        "state": "backup",
        "since": "2026-11-22T16:00:00.000Z",
        "reason": "heard the master",
        "priority": 100,
        "vrid": 51,
        "virtual_ips": ["192.168.0.10/32"],
        "vip_present": False,
        "last_advert": "2026-11-22T16:00:01.000Z",
        "peer": {
            "address": "10.1.0.2",
            "state": "master",
            "heard": "2026-11-22T16:00:01.000Z",
            "config_digest": "abc",
            "healthy_backends": 3,
            "link": "up",
            "well": True,
            "reason": "",
            "priority": 100,
            "released": False,
            "gateway": True,
            "witnesses": None,
            "advert_age": None,
        },
        "drift": [],
        "guards": [],
        "tracks": [],
        "transitions": [{"at": "2026-11-22T16:00:00.000Z", "from": "init", "to": "backup", "reason": "start"}],
        "dual_master_seconds": 0.0,
        "alarms": [],
        "link": {"state": "up", "heard_age": 0.1, "speaking": True, "refused": {}, "fault": ""},
        "gateway": True,
        "witnesses": None,
        "witness_states": [],
        "config_digest": "abc",
        "kept": [],
        "handover": False,
        "dropped": {},
        "age": 0.4,
        **more,
    }
    return view  # type: ignore[no-any-return]


class FakePair:
    """Hands over unless it is told why not."""

    def __init__(self) -> None:
        self.refusal = ""
        self.asked: list[Origin] = []

    def view(self) -> PairView:
        return pair_view()

    async def handover(self, origin: Origin) -> HandoverView:
        self.asked.append(origin)
        if self.refusal:
            raise Conflict(self.refusal)
        return {"state": "backup", "duration": 0.05, "reset": 0}

    async def diff(self) -> DiffView:
        return {"drift": ["client"], "diff": "--- \n"}

    def facts(self) -> dict[str, Any]:
        return {"settings": {}, "facts": {}, "peer_settings": None}
