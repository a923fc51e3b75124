"""
The verbs that talk to the running program: what each asks, and what it prints.

Must not know how the program is reached, nor how arguments are written.
"""

import json
from argparse import Namespace
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from pyproxy.cli.api import AdminApi
from pyproxy.cli.explain import explain
from pyproxy.cli.peer import peer
from pyproxy.cli.result import Result
from pyproxy.cli.status import describe_status
from pyproxy.config.values import parse_duration

View = dict[str, Any]


def _explain(api: AdminApi, arguments: Namespace) -> Result:
    question = {"method": arguments.method, "url": arguments.url, "headers": arguments.headers}
    if arguments.sender is not None:
        question["from"] = arguments.sender
    return Result(explain(api, question, as_json=arguments.json))


def _status(api: AdminApi, arguments: Namespace) -> Result:
    pools = api.ask("GET", "/api/v1/pools")
    return Result(json.dumps(pools, indent=2) if arguments.json else describe_status(pools))


def _state(api: AdminApi, arguments: Namespace) -> Result:
    path, timeout = _path(arguments.backend), 0.0
    if arguments.wait is not None:
        path, timeout = f"{path}?wait={arguments.wait}", parse_duration(arguments.wait)
    answer = api.ask("PATCH", path, {"state": arguments.verb, **_why(arguments)}, patience=timeout)
    problem = f"still {answer['active']} in flight after {arguments.wait}" if timeout and answer["active"] else ""
    return Result(_show(arguments, arguments.backend[0], answer), problem)


def _weight(api: AdminApi, arguments: Namespace) -> Result:
    answer = api.ask("PATCH", _path(arguments.backend), {"weight": arguments.weight, **_why(arguments)})
    return Result(_show(arguments, arguments.backend[0], answer))


def _add(api: AdminApi, arguments: Namespace) -> Result:
    content = {"name": arguments.name, "address": arguments.address, "backup": arguments.backup, **_why(arguments)}
    if arguments.weight is not None:
        content["weight"] = arguments.weight
    answer = api.ask("POST", f"/api/v1/pools/{quote(arguments.pool, safe='')}/backends", content)
    return Result(_show(arguments, arguments.pool, answer))


def _remove(api: AdminApi, arguments: Namespace) -> Result:
    api.ask("DELETE", _path(arguments.backend) + ("?force=true" if arguments.force else ""))
    return Result("null" if arguments.json else f"{'/'.join(arguments.backend)}: removed")


VERBS: dict[str, Callable[[AdminApi, Namespace], Result]] = {
    "explain": _explain,
    "status": _status,
    "drain": _state,
    "ready": _state,
    "maint": _state,
    "weight": _weight,
    "add": _add,
    "remove": _remove,
    "peer": peer,
}


def _path(backend: tuple[str, str]) -> str:
    pool, name = (quote(part, safe="") for part in backend)
    return f"/api/v1/pools/{pool}/backends/{name}"


def _why(arguments: Namespace) -> dict[str, Any]:
    given = {"reason": arguments.reason, "expires": arguments.expires}
    return {name: value for name, value in given.items() if value is not None}


def _show(arguments: Namespace, pool: str, answer: View) -> str:
    if arguments.json:
        return json.dumps(answer, indent=2)
    state, weight, active = answer["state"], answer["weight"], answer["active"]
    return f"{pool}/{answer['name']}: {state}, weight {weight:.4g}, {active} in flight"
