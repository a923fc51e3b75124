"""
The failover section of the model to plain data, the form in which it travels to the speaker.

Must not know the speaker or open a key file. The shape is documented in ``failover.settings``.
"""

from ipaddress import ip_interface
from typing import Any
from urllib.parse import urlsplit

from pyproxy.config.addresses import Address
from pyproxy.config.model_failover import AuthHmac, Failover, Guard, Link, Track, VipExec

_HEX = "hex:"
_MAX_KEY_BYTES = 1024
_USUAL_INTERVAL, _LEAST_INTERVAL = 0.25, 0.002  # seconds between two messages of the link


def compile_failover(failover: Failover) -> dict[str, Any]:
    """Make the plain data that ``failover.settings.from_plain`` takes."""
    preempt = failover.preempt
    return {
        "interface": failover.interface,
        "virtual_ips": [_virtual_ip(item) for item in failover.virtual_ips],
        "vrid": failover.vrid,
        "priority": failover.priority,
        "advert_interval": failover.advert_interval,
        "down_adverts": failover.down_adverts,
        "preempt": preempt is not False,
        "preempt_delay": 0.0 if isinstance(preempt, bool) else float(preempt),
        "version": failover.version,
        "peers": list(failover.peers),
        "checksum": failover.checksum,
        "lease": failover.lease,
        "startup_delay": failover.startup_delay,
        "link_up_delay": failover.link_up_delay,
        "garp": {
            "repeat": failover.garp.repeat,
            "delay": failover.garp.delay,
            "refresh": failover.garp.refresh,
        },
        "gateway": failover.gateway,
        "witnesses": [_endpoint(item) for item in failover.witnesses],
        "link": None if failover.link is None else _link(failover, failover.link),
        "split_hold": failover.split_hold,
        "guards": [_guard(item) for item in failover.guards],
        "track": [_track(item) for item in failover.track],
        "track_interfaces": list(failover.track_interfaces),
        "notify": {
            "master": _words(failover.notify.master),
            "backup": _words(failover.notify.backup),
            "fault": _words(failover.notify.fault),
        },
        "notify_timeout": failover.notify_timeout,
        "vip_backend": failover.vip_backend,
        "vip_exec": None if failover.vip_exec is None else _vip_exec(failover.vip_exec),
        "release_when": {
            "no_worker": failover.release_when.no_worker,
            "no_backend": failover.release_when.no_backend,
        },
        "auth_hmac": None if failover.auth_hmac is None else _auth_hmac(failover.auth_hmac),
        "fence": _words(failover.fence),
    }


def parse_key(content: bytes) -> bytes:
    r"""
    Read the content of a key file: ``hex:`` and hexadecimal digits, or the key itself; space around it is dropped.

    Raises ``ValueError`` for a key that is empty, too long or not hexadecimal.

    >>> parse_key(b"hex:00ff\n"), parse_key(b"secret\n")
    (b'\x00\xff', b'secret')
    """
    text = content.strip()
    if text.startswith(_HEX.encode()):
        try:
            text = bytes.fromhex(text.decode("ascii").removeprefix(_HEX))
        except ValueError:
            raise ValueError("must have an even number of hexadecimal digits after hex:") from None
    if not text:
        raise ValueError("is empty")
    if len(text) > _MAX_KEY_BYTES:
        raise ValueError(f"must have a key of at most {_MAX_KEY_BYTES} bytes")
    return text


def _virtual_ip(text: str) -> dict[str, Any]:
    interface = ip_interface(text)
    return {"address": str(interface.ip), "prefix": interface.network.prefixlen}


def _endpoint(address: Address) -> dict[str, Any]:
    return {"host": address.host, "port": address.port}


def link_interval(failover: Failover, link: Link) -> float:
    """
    Give the seconds between two messages; with ``auto`` the link is dead within two adverts.

    A backup takes over when three adverts are missing, but the last of them may have been due when the master died. So
    it must know by then that the link is dead, too: it would wait for that otherwise.
    """
    if not isinstance(link.interval, str):
        return link.interval
    return max(min(_USUAL_INTERVAL, 2 * failover.advert_interval / link.dead_after), _LEAST_INTERVAL)


def _link(failover: Failover, link: Link) -> dict[str, Any]:
    return {
        "bind": _endpoint(link.bind),
        "peer": _endpoint(link.peer),
        "key_file": link.key_file,
        "interval": link_interval(failover, link),
        "dead_after": link.dead_after,
    }


def _guard(guard: Guard) -> dict[str, Any]:
    return {
        "run": list(guard.run),
        "timeout": guard.timeout,
        "interval": guard.interval,
        "on_fail": guard.on_fail,
    }


def _track(track: Track) -> dict[str, Any]:
    endpoint = None if track.tcp is None else _endpoint(track.tcp)
    path = ""
    if track.http is not None:
        url = urlsplit(track.http)
        endpoint = {"host": str(url.hostname), "port": url.port or 80}
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return {
        "run": _words(track.run),
        "endpoint": endpoint,
        "url": track.http or "",
        "path": path,
        "interval": track.interval,
        "timeout": track.timeout,
        "rise": track.rise,
        "fall": track.fall,
        "on_fail": track.on_fail,
        "by": track.by,
    }


def _vip_exec(command: VipExec) -> dict[str, Any]:
    return {"run": list(command.run), "timeout": command.timeout, "interval": command.interval}


def _auth_hmac(auth: AuthHmac) -> dict[str, Any]:
    return {"mode": auth.mode, "replay": auth.replay, "keys": [[number, file] for number, file in auth.keys.items()]}


def _words(command: tuple[str, ...] | None) -> list[str] | None:
    return None if command is None else list(command)
