"""
The checked model to plain data, the form in which a configuration travels to the workers.

Must not know files or workers. The shape is documented in ``runtime``; the admin section stays behind.
"""

import os
from hashlib import sha256
from typing import Any

import orjson

from pyproxy.config.model import Config
from pyproxy.config.model_pool import Pool

_DIGEST_CHARACTERS = 12


def compile_config(config: Config) -> dict[str, Any]:
    """
    Make the plain data that ``runtime.from_plain`` takes.

    ``workers: auto`` becomes the number of CPUs that this process may use; with one pool and no routes the
    one route is added. Only names that lead somewhere are expected: the model came from ``load``.
    """
    data: dict[str, Any] = {
        "workers": len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers,
        "user": config.user,
        "shutdown_grace": config.shutdown_grace,
        "log_level": config.log_level,
        "listeners": [{"name": item.name, "host": item.bind.host, "port": item.bind.port} for item in config.listeners],
        "trusted_proxies": list(config.trusted_proxies),
        "routes": _routes(config),
        "pools": [_pool(name, pool) for name, pool in config.pools.items()],
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
        "access_log": {"to": config.access_log.to, "format": config.access_log.format},
    }
    return {"digest": digest(data), **data}


def digest(data: dict[str, Any]) -> str:
    """Name the content of plain data; the order of its keys doesn't matter."""
    return sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_DIGEST_CHARACTERS]


def _routes(config: Config) -> list[dict[str, Any]]:
    if not config.routes:
        return [{"host": None, "path": None, "pool": name} for name in config.pools]
    return [{"host": item.host, "path": item.path, "pool": item.pool} for item in config.routes]


def _pool(name: str, pool: Pool) -> dict[str, Any]:
    return {
        "name": name,
        "policy": pool.policy,
        "backends": [
            {
                "name": item.name,
                "host": item.address.host,
                "port": item.address.port,
                "weight": item.weight,
                "backup": item.backup,
                "max_conns": item.max_conns,
            }
            for item in pool.backends
        ],
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
        },
        "keepalive": {
            "max_idle": pool.keepalive.max_idle,
            "idle": pool.keepalive.idle,
            "max_requests": pool.keepalive.max_requests,
        },
    }
