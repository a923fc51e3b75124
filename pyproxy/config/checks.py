"""
What must hold between the keys of lb.yml: names that are unique, references that lead somewhere.

Must not know types and bounds (``model``) or what is available (``unavailable``). Works on the values as they
were written and passes over whatever has the wrong type, so that one mistake doesn't hide the others.
"""

from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_interface
from typing import Any

from pyproxy.config.addresses import Address, parse_address, parse_backend, route_host
from pyproxy.config.source import Path, Source, show_path
from pyproxy.config.values import did_you_mean, parse_duration

_MAX_NAME_CHARACTERS = 64
_NEVER_SEEN = "is never seen; names with _ are dropped"


def check_relations(source: Source) -> None:
    """Report every relation between keys that doesn't hold."""
    data = source.data if isinstance(source.data, dict) else {}
    listener_names = _check_listeners(source, _sections(data.get("listeners"), ("listeners",)))
    pools = {name: pool for name, pool in _mapping(data.get("pools")).items() if isinstance(name, str)}
    for name, pool in pools.items():
        _check_pool(source, ("pools", name), _mapping(pool))
    _check_routes(source, data, listener_names, pools)
    _check_admin(source, data)
    _check_failover(source, _mapping(data.get("failover")))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sections(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and content of each mapping in a list."""
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, dict):
            yield (*path, index), item


def _parsed(parse: Callable[[Any], Any], value: Any) -> Any:
    """Give the parsed value; None if it has another problem, which is told elsewhere."""
    try:
        return parse(value)
    except ValueError:
        return None


def _is_set(section: dict[str, Any], key: str) -> bool:
    return section.get(key) is not None


class _Unique:
    """Values seen so far and where; the second of a kind is a problem."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text
        self.seen: dict[Any, Path] = {}

    def add(self, value: Any, path: Path, *, at_key: bool = False) -> None:
        first = self.seen.setdefault(value, path)
        if first != path:
            self.source.report(path, self.text.format(first=show_path(first)), at_key=at_key)


def _check_listeners(source: Source, listeners: Iterator[tuple[Path, dict[str, Any]]]) -> list[str]:
    names = _Unique(source, "same name as {first}")
    binds = _Unique(source, "same address as {first}")
    for path, listener in listeners:
        address = _parsed(parse_address, listener.get("bind"))
        _check_name(source, path, listener, ("bind", address), names)
        if address and (address.is_unix or address.port):
            binds.add(address, (*path, "bind"))
        if address and not address.is_unix:
            for key in ("mode", "owner"):
                if _is_set(listener, key):
                    source.report((*path, key), "is for unix sockets only")
    admin = _mapping(_mapping(source.data).get("admin", {"bind": "127.0.0.1:9900"}))
    admin_address = _parsed(parse_address, admin.get("bind", "127.0.0.1:9900"))
    if admin and admin_address in binds.seen:
        source.report(binds.seen[admin_address], "same address as admin.bind")
    return [name for name in names.seen if isinstance(name, str)]


def _check_name(
    source: Source, path: Path, section: dict[str, Any], stand_in: tuple[str, Address | None], names: _Unique
) -> None:
    """Check that a name, or the address that stands for it, is the only one of its kind."""
    key, address = stand_in
    if isinstance(section.get("name"), str):
        names.add(section["name"], (*path, "name"))
    elif "name" not in section and address:
        if address.is_unix or len(str(address)) > _MAX_NAME_CHARACTERS:
            kind = "unix" if address.is_unix else "long"
            source.report((*path, "name"), f"is missing; a {kind} address needs a name")
        else:
            names.add(str(address), (*path, key))


def _check_pool(source: Source, path: Path, pool: dict[str, Any]) -> None:
    names = _Unique(source, "same name as {first}")
    for backend_path, backend in _sections(pool.get("backends"), (*path, "backends")):
        address = _parsed(parse_backend, backend.get("address"))
        _check_name(source, backend_path, backend, ("address", address), names)
        if address and isinstance(backend.get("srv", False), bool):
            _check_port(source, (*backend_path, "address"), address, is_srv=backend.get("srv", False))
    if pool.get("policy") == "hash" and not _is_set(pool, "hash"):
        source.report((*path, "hash"), "is missing; policy hash needs it")
    if _is_set(pool, "hash") and isinstance(pool.get("policy", ""), str) and pool.get("policy") != "hash":
        source.report((*path, "hash"), "is for policy hash only")
    kind, _, name = str(pool.get("hash")).partition(":")
    if kind == "header" and "_" in name:
        source.report((*path, "hash"), _NEVER_SEEN)
    tls = _mapping(pool.get("tls"))
    if _is_set(tls, "cert") != _is_set(tls, "key"):
        source.report((*path, "tls"), "cert and key go together")
    sticky = pool.get("sticky")
    if isinstance(sticky, dict):
        _check_sticky(source, (*path, "sticky"), sticky)
    health = _mapping(pool.get("health"))
    for key in ("path", "host", "expect", "body", "steer") if health.get("type") == "tcp" else ():
        if _is_set(health, key):
            source.report((*path, "health", key), "is for type http only")
    outlier = _mapping(pool.get("outlier"))
    eject = _parsed(parse_duration, outlier.get("eject", 10))
    longest = _parsed(parse_duration, outlier.get("max_eject", 120))
    if eject is not None and longest is not None and longest < eject:
        at = "max_eject" if "max_eject" in outlier else "eject"
        source.report((*path, "outlier", at), "max_eject must not be less than eject")
    _check_retry(source, (*path, "retry"), pool)


def _check_retry(source: Source, path: Path, pool: dict[str, Any]) -> None:
    """Warn of an attempt that can't be followed by another, since it takes the time of all of them."""
    retry = _mapping(pool.get("retry"))
    on = retry.get("on")
    response = _parsed(parse_duration, _mapping(pool.get("timeouts")).get("response", 60))
    together = _parsed(parse_duration, retry.get("timeout")) if _is_set(retry, "timeout") else response
    if response is None or together is None or together > response:
        return
    if isinstance(on, list) and "timeout" in on:
        source.warn(
            (*path, "timeout" if _is_set(retry, "timeout") else "on"),
            "timeout is tried again only within the time of all attempts, and the first one may take all of it: "
            "make retry.timeout longer than timeouts.response",
        )


def _check_sticky(source: Source, path: Path, sticky: dict[str, Any]) -> None:
    _check_one_of(source, path, sticky, "secret", "secret_file")
    name = str(sticky.get("cookie", "")).lower()
    if sticky.get("secure") is False:
        if sticky.get("samesite") == "none":
            source.report((*path, "secure"), "browsers drop a cookie with samesite none that isn't secure")
        elif name.startswith(("__secure-", "__host-")):
            source.report((*path, "secure"), "browsers drop a cookie of this name that isn't secure")
    else:
        _warn_of_secure(source, path, sticky, name)
    if name.startswith("__host-"):
        if sticky.get("path", "/") != "/":
            source.report((*path, "path"), "must be / for a cookie of this name, or browsers drop it")
        if _is_set(sticky, "domain"):
            source.report((*path, "domain"), "must not be set for a cookie of this name, or browsers drop it")


def _warn_of_secure(source: Source, path: Path, sticky: dict[str, Any], name: str) -> None:
    """Warn of cookies that browsers drop for how their client came (RFC 6265bis, 5.7)."""
    what = "with samesite none" if sticky.get("samesite") == "none" else "of this name"
    needs_secure = sticky.get("samesite") == "none" or name.startswith(("__secure-", "__host-"))
    if sticky.get("secure", "auto") == "auto":
        if needs_secure:
            at = "samesite" if sticky.get("samesite") == "none" else "cookie"
            text = f"browsers drop a cookie {what} that isn't secure, as with secure: auto after plain HTTP; "
            source.warn((*path, at), f"{text}write secure: true, and serve these clients over HTTPS only")
    elif sticky.get("secure") is True and not _may_be_https(_mapping(source.data)):
        text = "browsers drop a secure cookie that comes over plain HTTP, and no listener has tls and nobody is in "
        source.warn((*path, "secure"), f"{text}trusted_proxies who could say that the client came over HTTPS")


def _may_be_https(data: dict[str, Any]) -> bool:
    listeners = [listener for _, listener in _sections(data.get("listeners"), ("listeners",))]
    return bool(data.get("trusted_proxies")) or any(_is_set(listener, "tls") for listener in listeners)


def _check_port(source: Source, path: Path, address: Address, *, is_srv: bool) -> None:
    if is_srv and address.has_port:
        source.report(path, "must be a name without a port with srv: true; the SRV records have the ports")
    elif not is_srv and not address.has_port:
        source.report(path, "must have a port; only one with srv: true has none")


def _check_one_of(source: Source, path: Path, section: dict[str, Any], first: str, second: str) -> None:
    if not _is_set(section, first) and not _is_set(section, second):
        source.report((*path, first), f"is missing; this or {second} is required")
    _check_exclusive(source, path, section, first, second)


def _check_exclusive(source: Source, path: Path, section: dict[str, Any], first: str, second: str) -> None:
    if _is_set(section, first) and _is_set(section, second):
        source.report((*path, second), f"{first} and {second} can't be used together")


def _check_routes(source: Source, data: dict[str, Any], listeners: list[str], pools: Collection[str]) -> None:
    routes = data.get("routes")
    if len(pools) > 1 and ("routes" not in data or routes == []):
        source.report(("routes",), "is missing; with more than one pool it says what goes where")
    identical = _Unique(source, "same host, path and conditions as {first}")
    for path, route in _sections(routes, ("routes",)):
        _check_one_of(source, path, route, "pool", "redirect")
        _check_headers(source, path, route)
        _check_reference(source, (*path, "pool"), route.get("pool"), "pool", pools)
        wanted = route.get("listeners")
        for index, name in enumerate(wanted if isinstance(wanted, list) else []):
            _check_reference(source, (*path, "listeners", index), name, "listener", listeners)
        if route.get("strip_prefix") is True and not _is_set(route, "path"):
            source.report((*path, "strip_prefix"), "needs a path")
        for key in ("strip_prefix", "request_headers"):
            if _is_set(route, "redirect") and _is_filled(route.get(key)):
                source.report((*path, key), "is for requests that go to a pool; a redirect sends none")
        if not any(source.is_broken((*path, key)) for key in route):
            identical.add(_condition(route), path)


def _is_filled(value: Any) -> bool:
    """Whether a switch is on, or a mapping holds anything but what is empty."""
    return any(value.values()) if isinstance(value, dict) else value is True


def _check_headers(source: Source, path: Path, route: dict[str, Any]) -> None:
    """Check the header names of one route, whose case doesn't matter."""
    for key in ("headers", "request_headers", "response_headers"):
        is_wanted = key == "headers"
        place = (*path, key) if is_wanted else (*path, key, "set")
        names = _Unique(source, "same name as {first}")
        for name in _mapping(route.get(key) if is_wanted else _mapping(route.get(key)).get("set")):
            names.add(name.lower(), (*place, name), at_key=True)
            if is_wanted and "_" in name:
                source.report((*place, name), _NEVER_SEEN, at_key=True)
    removed = _mapping(route.get("request_headers")).get("remove")
    for index, name in enumerate(removed if isinstance(removed, list) else []):
        if isinstance(name, str) and name.lower() == "host":
            source.report((*path, "request_headers", "remove", index), "can be set, but not removed")


def _check_reference(source: Source, path: Path, name: Any, what: str, known: Collection[str]) -> None:
    if known and isinstance(name, str) and name not in known and not source.is_broken(path):
        source.report(path, f"unknown {what}{did_you_mean(name, known)}")


def _condition(route: dict[str, Any]) -> str:
    """Give what a route asks of a request in one normal form; a prefix means the same with a final slash."""
    host, path, headers = route.get("host"), route.get("path"), _mapping(route.get("headers"))
    return repr(
        (
            _parsed(route_host, host) or host if isinstance(host, str) else host,
            path.rstrip("/") or None if isinstance(path, str) else path,
            *(
                sorted(map(str, value)) if isinstance(value, list) else value
                for value in (route.get("listeners"), route.get("methods"))
            ),
            sorted((key.lower(), str(value)) for key, value in headers.items()),
        )
    )


def _check_admin(source: Source, data: dict[str, Any]) -> None:
    admin = _mapping(data.get("admin"))
    _check_exclusive(source, ("admin",), admin, "token", "token_file")
    address: Address | None = _parsed(parse_address, admin.get("bind"))
    has_token = _is_set(admin, "token") or _is_set(admin, "token_file")
    if address and not has_token and not (address.is_unix or address.is_loopback):
        source.report(("admin", "bind"), "other than loopback or unix needs a token or token_file")


def _check_failover(source: Source, failover: dict[str, Any]) -> None:
    _check_advert_interval(source, failover)
    backend = failover.get("vip_backend", "netlink")
    if backend == "exec" and not _is_set(failover, "vip_exec"):
        source.report(("failover", "vip_exec"), "is missing; vip_backend exec needs it")
    if backend != "exec" and _is_set(failover, "vip_exec"):
        source.report(("failover", "vip_exec"), "is for vip_backend exec only")
    _check_tracks(source, failover)
    virtual_ips = failover.get("virtual_ips")
    places = _Unique(source, "same address as {first}")
    for index, text in enumerate(virtual_ips if isinstance(virtual_ips, list) else []):
        address = _parsed(ip_interface, text) if isinstance(text, str) else None
        if address:
            path = ("failover", "virtual_ips", index)
            places.add(address.ip, path)
            if address.version == 6 and failover.get("version", 3) == 2:
                source.report(path, "must be IPv4 with version 2")


def _check_tracks(source: Source, failover: dict[str, Any]) -> None:
    tracks = failover.get("track")
    for index, track in enumerate(tracks if isinstance(tracks, list) else []):
        given = _mapping(track)
        path = ("failover", "track", index)
        if sum(_is_set(given, kind) for kind in ("run", "tcp", "http")) != 1:
            source.report(path, "must have one of run, tcp and http")
        if given.get("on_fail") == "lower" and failover.get("preempt", False) is False:
            source.report((*path, "on_fail"), "does nothing with preempt: false, where no priority moves the addresses")


def _check_advert_interval(source: Source, failover: dict[str, Any]) -> None:
    """Check that the wire can carry the interval: whole seconds in version 2, hundredths in version 3."""
    interval = _parsed(parse_duration, failover.get("advert_interval", 1))
    path = ("failover", "advert_interval")
    if interval is None:
        return
    if failover.get("version", 3) == 2:
        if interval % 1:
            source.report(path, "must be whole seconds with version 2")
    elif round(interval * 100, 6) % 1:
        source.report(path, "must be a multiple of 10ms")
