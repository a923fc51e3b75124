"""
The checked model to plain data, the form in which a configuration travels to the workers.

Must not know files or workers. The shape is documented in ``runtime``; the admin section stays behind.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import count
from typing import Any

import orjson

from pyproxy.config.model import Config, Listener
from pyproxy.config.model_pool import Backend, Health, Outlier, Pool, Sticky
from pyproxy.config.model_route import HeaderChanges, Route
from pyproxy.config.pages import ErrorPage

_DIGEST_CHARACTERS = 12


def compile_config(
    config: Config, secrets: Mapping[str, tuple[str, ...]] | None = None, *, cpus: int = 1
) -> dict[str, Any]:
    """
    Make the plain data that ``runtime.from_plain`` takes.

    ``secrets`` are what stands in the ``sticky.secret_file`` of pools that have one, by the pool's name.
    ``workers: auto`` becomes ``cpus``; with one pool and no routes the one route is added.
    Only names that lead somewhere are expected: the model came from ``load``.
    """
    data: dict[str, Any] = {
        "workers": cpus if config.workers == "auto" else config.workers,
        "user": config.user,
        "shutdown_grace": config.shutdown_grace,
        "log_level": config.log_level,
        "listeners": [_listener(item) for item in config.listeners],
        "trusted_proxies": list(config.trusted_proxies),
        "routes": [_route(item) for item in config.routes or [Route(pool=name) for name in config.pools]],
        "pools": _pools(config.pools, secrets or {}),
        "client": {
            "header_timeout": config.client.header_timeout,
            "body_timeout": config.client.body_timeout,
            "keepalive": config.client.keepalive,
            "write_timeout": config.client.write_timeout,
            "max_requests": config.client.max_requests,
        },
        "limits": {
            "request_line": config.limits.request_line,
            "headers": config.limits.headers,
            "header_count": config.limits.header_count,
            "body": config.limits.body,
            "connections": config.limits.connections,
        },
        "error_pages": [_error_page(status, page) for status, page in sorted(config.error_pages.items())],
        "dns": {"servers": [str(server) for server in config.dns.servers]},
        "access_log": {"to": config.access_log.to, "format": config.access_log.format},
    }
    return {"digest": digest(data), **data}


def digest(data: dict[str, Any]) -> str:
    """Name the content of plain data; the order of its keys doesn't matter."""
    return sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_DIGEST_CHARACTERS]


def _listener(listener: Listener) -> dict[str, Any]:
    return {
        "name": listener.name,
        "host": listener.bind.host,
        "port": listener.bind.port,
        "path": listener.bind.path,
        "mode": listener.mode,
        "owner": listener.owner,
        "proxy_protocol": listener.proxy_protocol,
    }


def _route(route: Route) -> dict[str, Any]:
    return {
        "host": route.host,
        "path": route.path,
        "listeners": _list(route.listeners),
        "methods": _list(route.methods),
        "headers": None if route.headers is None else _pairs(route.headers),
        "allow": _list(route.allow),
        "pool": route.pool,
        "strip_prefix": route.strip_prefix,
        "body_limit": route.body_limit,
        "request_headers": _changes(route.request_headers),
        "response_headers": _changes(route.response_headers),
        "redirect": None if route.redirect is None else {"to": route.redirect.to, "status": route.redirect.status},
    }


def _list(items: tuple[str, ...] | None) -> list[str] | None:
    return None if items is None else list(items)


def _pairs(items: dict[str, str]) -> list[list[str]]:
    return [[name, value] for name, value in items.items()]


def _changes(changes: HeaderChanges) -> dict[str, Any]:
    return {"set": _pairs(changes.set), "remove": list(changes.remove)}


def _pools(pools: dict[str, Pool], secrets: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Give every backend of every pool a seat of its own, in the order of the file."""
    seats = count()
    return [_pool(name, pool, seats, secrets.get(name, ())) for name, pool in pools.items()]


def _pool(name: str, pool: Pool, seats: Iterator[int], secrets: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "policy": pool.policy,
        "hash": pool.hash,
        "unit": 1,
        "backends": [compile_backend(item, next(seats)) for item in pool.backends],
        "timeouts": {
            "connect": pool.timeouts.connect,
            "response": pool.timeouts.response,
            "idle": pool.timeouts.idle,
            "tunnel": pool.timeouts.tunnel,
        },
        "retry": {
            "attempts": pool.retry.attempts,
            "on": sorted(set(pool.retry.on)),
            "budget": pool.retry.budget,
            "min": pool.retry.min,
            "timeout": pool.timeouts.response if pool.retry.timeout is None else pool.retry.timeout,
        },
        "keepalive": {
            "max_idle": pool.keepalive.max_idle,
            "idle": pool.keepalive.idle,
            "max_requests": pool.keepalive.max_requests,
        },
        "queue": {"size": pool.queue.size, "timeout": pool.queue.timeout},
        "send_proxy": pool.send_proxy,
        "health": _health(pool.health) if pool.health is not None else None,
        "on_down": pool.on_down,
        "outlier": _outlier(pool.outlier) if pool.outlier is not None else None,
        "slow_start": pool.slow_start,
        "when_all_down": pool.when_all_down,
        "sticky": _sticky(pool.sticky, secrets) if pool.sticky is not None else None,
    }


def _sticky(sticky: Sticky, secrets: tuple[str, ...]) -> dict[str, Any]:
    if sticky.secret is not None:
        secrets = tuple(item.get_secret_value() for item in sticky.secret)
    return {
        "cookie": sticky.cookie,
        "secrets": list(secrets),
        "max_age": sticky.max_age,
        "secure": None if sticky.secure == "auto" else sticky.secure,
        "samesite": sticky.samesite,
        "path": sticky.path,
        "domain": sticky.domain,
    }


def _health(health: Health) -> dict[str, Any]:
    return {
        "type": health.type,
        "path": health.path,
        "host": health.host,
        "expect": [list(codes) for codes in health.expect],
        "body": health.body,
        "interval": health.interval,
        "timeout": health.timeout,
        "rise": health.rise,
        "fall": health.fall,
        "port": health.port,
        "steer": health.steer,
    }


def _outlier(outlier: Outlier) -> dict[str, Any]:
    return {
        "consecutive": outlier.consecutive,
        "eject": outlier.eject,
        "max_eject": outlier.max_eject,
        "min_available": outlier.min_available,
    }


def compile_backend(backend: Backend, seat: int = 0) -> dict[str, Any]:
    """Make the plain data of one backend."""
    return {
        "name": backend.name,
        "host": backend.address.host,
        "port": backend.address.port,
        "path": backend.address.path,
        "lookup": _lookup(backend),
        "weight": backend.weight,
        "backup": backend.backup,
        "max_conns": backend.max_conns,
        "seat": seat,
        "state": "ready",
        "health": "up",
        "ejected": False,
        "rising": 0.0,
    }


def _lookup(backend: Backend) -> str:
    if backend.srv:
        return "srv"
    return "" if backend.address.is_ip or backend.address.is_unix else "address"


def _error_page(status: int, page: ErrorPage) -> dict[str, Any]:
    return {"status": status, "content_type": page.content_type, "body": page.body.decode("latin-1")}
