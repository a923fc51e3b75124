"""
``pyproxy explain``: what the running program would do with a request, as a text for people.

Must not know how that is found out: it asks the admin API and writes down the answer.
"""

import json
from collections.abc import Sequence
from typing import Any

from pyproxy.cli.api import AdminApi
from pyproxy.cli.table import align

View = dict[str, Any]  # the answer's parts; their shapes are in admin.control

PICKED, PASSED = "->", "  "


def explain(api: AdminApi, question: View, *, as_json: bool) -> str:
    """Ask, and return what to print."""
    answer = api.ask("POST", "/api/v1/explain", question)
    return json.dumps(answer, indent=2) if as_json else describe(answer)


def describe(answer: View) -> str:
    """Write an explanation down, in the order in which the program decides."""
    request = answer["request"]
    host = f"host {request['host']}" if request["host"] is not None else "no host"
    lines = [
        _line("request", f"{request['method']} {request['target']}, {host}"),
        _line("client", answer["client"]),
        _line("listener", answer["listener"]),
    ]
    if answer["routes"] or answer["others"]:
        lines += ["routes", *align(_route(route) for route in answer["routes"]), *_others(answer["others"])]
    if answer["pool"] is not None:
        waiting = f", {answer['queued']} waiting" if answer["queued"] else ""
        lines.append(_line("pool", f"{answer['pool']} ({answer['policy']}{waiting})"))
        lines += ["backends", *align(_backend(backend) for backend in answer["backends"])]
    if answer["sticky"] is not None:
        lines.append(_line("sticky", answer["sticky"]))
    lines.append(_line("result", _result(answer)))
    lines += [_line("note", note) for note in answer["notes"]]
    return "\n".join(lines)


def _line(label: str, text: str) -> str:
    return f"{label:8}  {text}"


def _others(count: int) -> list[str]:
    return [f"{PASSED} {count} other{'s' if count > 1 else ''}: host or path doesn't fit"] if count else []


def _route(route: View) -> Sequence[str]:
    mark = PICKED if route["chosen"] else PASSED
    conditions = f"host {route['host'] or 'any'}, path {route['path'] or 'any'}"
    return f"{mark} routes[{route['index']}]", conditions, "chosen" if route["chosen"] else route["reason"] or ""


def _backend(backend: View) -> Sequence[str]:
    score = backend["score"]
    rising = f"slow start, {backend['slow_start']:.3g} s left" if backend.get("slow_start") else ""
    return (
        f"{PICKED if backend['picked'] else PASSED} {backend['name']}",
        backend["address"],
        f"weight {backend['weight']:.4g}",
        f"{backend['active']} active",
        ", ".join(filter(None, (backend["reason"] or (f"score {score:.4g}" if score is not None else ""), rising))),
    )


def _result(answer: View) -> str:
    refused, redirect = answer["refused"], answer["redirect"]
    if refused is not None:
        return f"refused with {refused['status']}: {refused['reason']}"
    if redirect is not None:
        return f"redirected with {redirect['status']} to {redirect['location']}"
    if answer["backend"] is not None:
        return f"served by {answer['pool']}/{answer['backend']}"
    backends = answer["backends"]
    if any(item["reason"] == "checking" for item in backends) and not any(item["eligible"] for item in backends):
        return f"waits for the first check in pool {answer['pool']}"
    return f"waits for room in pool {answer['pool']}, {answer['queued']} before it"
