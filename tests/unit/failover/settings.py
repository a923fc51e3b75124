"""Settings for the tests of the failover room, made as the program makes them: from plain data."""

from typing import Any

from pyproxy.failover.settings import Settings, from_plain

KEYS = ((1, bytes(range(32))),)


def plain(**changes: Any) -> dict[str, Any]:
    """Plain data in the documented shape, with the defaults of lb.yml."""
    return {
        "interface": "eth0",
        "virtual_ips": [{"address": "10.9.0.100", "prefix": 32}],
        "vrid": 51,
        "priority": 100,
        "advert_interval": 1.0,
        "down_adverts": 3,
        "preempt": False,
        "preempt_delay": 0.0,
        "version": 3,
        "peers": [],
        "checksum": "auto",
        "lease": "auto",
        "startup_delay": 0.0,
        "link_up_delay": 0.0,
        "garp": {"repeat": 5, "delay": 5.0, "refresh": 10.0},
        "gateway": "auto",
        "witnesses": [],
        "link": None,
        "split_hold": 45.0,
        "guards": [],
        "notify": {"master": None, "backup": None, "fault": None},
        "notify_timeout": 30.0,
        "vip_backend": "netlink",
        "vip_exec": None,
        "release_when": {"no_worker": 0.5, "no_backend": False},
        "track": [],
        "track_interfaces": [],
        "auth_hmac": None,
        "fence": None,
        **changes,
    }


def vips(*texts: str) -> list[dict[str, Any]]:
    """Virtual addresses in plain data."""
    return [{"address": text, "prefix": 128 if ":" in text else 32} for text in texts]


def auth(mode: str, replay: str = "time") -> dict[str, Any]:
    """The section of the signatures in plain data, with the one key of ``KEYS``."""
    return {"mode": mode, "replay": replay, "keys": [[1, "/etc/key"]]}


def settings(**changes: Any) -> Settings:
    """Settings with these keys changed."""
    return from_plain(plain(**changes))
