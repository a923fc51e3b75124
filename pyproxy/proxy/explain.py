"""
What would become of a request, without sending it: the decisions of an exchange, taken by the code that takes them.

Must not know who asks, nor change anything: no connection, no counter, no turn of a policy. The question is plain
data, as is the answer (``admin.control`` has both shapes).
"""

import re
from typing import TYPE_CHECKING, Any, Final

from pyproxy.clock import monotonic
from pyproxy.errors import BadRequest, ExchangeError, MethodNotAllowed
from pyproxy.http1.head import RequestHead
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.request import RequestReader
from pyproxy.proxy import refusals
from pyproxy.proxy.exchange import REFUSED_METHODS
from pyproxy.proxy.forwarding import find_client, make_variables, take_prefix_off
from pyproxy.proxy.log_lines import escape
from pyproxy.proxy.sticky import Bond
from pyproxy.routing.forwarded import Sender
from pyproxy.routing.networks import UNIX

if TYPE_CHECKING:
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedListener, ServedPool, ServedRoute

Answer = dict[str, Any]

#: Scheme, authority, and path with query; the fragment stays with the client.
_URL = re.compile(r"(?:([A-Za-z]+)://([^/?#]*))?([^#]*)")
_PORT = re.compile(r":([0-9]{1,5})$")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Url:
    """
    A URL as a client takes it apart; without scheme and authority it is only a target.

    >>> url = Url("https://www.example.com?x#y")
    >>> url.authority, url.target, url.port
    ('www.example.com', '/?x', 443)
    """

    __slots__ = ("authority", "port", "target")

    def __init__(self, text: str) -> None:
        found = _URL.match(text)
        assert found is not None
        scheme, self.authority, target = found.groups(default="")
        self.target = target if target.startswith("/") else "/" + target
        port = _PORT.search(self.authority)
        self.port = int(port[1]) if port is not None else _DEFAULT_PORTS.get(scheme.lower(), 0)  # 0: not told


def explain(plane: "DataPlane", question: Answer) -> Answer:
    """Answer a question: a method, a URL, headers as pairs, and the address that the request comes from."""
    url = Url(question["url"])
    listener, is_certain = _find_listener(plane, url.port, is_unix=question["sender"] == UNIX)
    sender = Sender(question["sender"], listener.port, plane.trusted_proxies)
    answer: Answer = {
        "listener": listener.name,
        "client": sender.address.decode(),
        "request": {"method": question["method"], "target": url.target, "host": None},
        "refused": None,
        "routes": [],
        "others": 0,
        "route": None,
        "redirect": None,
        "pool": None,
        "policy": None,
        "backends": [],
        "backend": None,
        "sticky": None,
        "queued": 0,
        "worker": plane.slot,
        "notes": _notes(plane, url, listener, is_certain=is_certain),
    }
    read = _read(plane.head_limits, url, question)
    if isinstance(read, ExchangeError):
        answer["refused"] = _refusal(read)
    else:
        _explain_request(plane, read, sender, listener, answer)
    return answer


def _find_listener(plane: "DataPlane", port: int, *, is_unix: bool) -> tuple["ServedListener", bool]:
    """Give the listener with the port, else the first that the sender can reach; and whether there was no doubt."""
    listeners = list(plane.listeners.values())
    fitting = [listener for listener in listeners if listener.is_unix == is_unix]
    for listener in fitting:
        if is_unix or listener.port == port:
            return listener, True
    return (fitting or listeners)[0], len(fitting) < 2


def _notes(plane: "DataPlane", url: Url, listener: "ServedListener", *, is_certain: bool) -> list[str]:
    notes = []
    if url.port and not is_certain:
        # A single one may be behind a mapped port, and then it doesn't matter.
        notes.append(f"no listener has port {url.port}: explained as if it came in on {listener.name}")
    if plane.config.workers > 1:
        notes.append(f"as worker {plane.slot} of {plane.config.workers} sees it; each picks for itself")
    return notes


def _read(limits: HeadLimits, url: Url, question: Answer) -> RequestHead | ExchangeError:
    """Let the reader of the byte path read the head that a client would write."""
    headers = [(name, value) for name, value in question["headers"]]
    if url.authority and not any(name.lower() == "host" for name, _ in headers):
        headers.insert(0, ("Host", url.authority))
    method = question["method"]
    target = url.authority if method == "CONNECT" and url.authority else url.target
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers], "", ""]
    reader = RequestReader(limits)
    events = reader.feed("\r\n".join(lines).encode())
    reader.close()
    found = events[0] if events else BadRequest()
    assert isinstance(found, (RequestHead, ExchangeError))
    return found


def _explain_request(
    plane: "DataPlane", head: RequestHead, sender: Sender, listener: "ServedListener", answer: Answer
) -> None:
    """Find the route as ``Exchange.start`` does."""
    if head.forwarded and not sender.is_trusted:
        said = ", ".join(sorted({_text(name) for name, _ in head.forwarded}))
        answer["notes"].append(f"{said} from {answer['client']} doesn't count: it is not in trusted_proxies")
    client = find_client(head, sender)
    answer["client"] = client.decode()
    answer["request"] = {
        "method": head.method.decode(),
        "target": _text(head.received),
        "host": _text(head.host) if head.host is not None else None,
    }
    route = plane.routes.match(head.host, head.target, head.method, listener.name, head)
    answer["routes"] = _explain_routes(plane, head, listener)
    answer["others"] = len(plane.routes) - len(answer["routes"])
    if head.method in REFUSED_METHODS:
        answer["refused"] = _refusal(MethodNotAllowed(note=head.method))
    elif route is None:
        answer["refused"] = _refusal(refusals.no_route(head))
    else:
        _explain_route(plane, route, head, sender, answer)


def _explain_routes(plane: "DataPlane", head: RequestHead, listener: "ServedListener") -> list[Answer]:
    rows = []
    for verdict in plane.routes.explain(head.host, head.target, head.method, listener.name, head):
        config = plane.config.routes[verdict.index]
        rows.append(
            {
                "index": verdict.index,
                "host": config.host,
                "path": config.path,
                "chosen": verdict.chosen,
                "reason": verdict.reason,
            }
        )
    return rows


def _explain_route(plane: "DataPlane", route: "ServedRoute", head: RequestHead, sender: Sender, answer: Answer) -> None:
    """Do what the route says."""
    answer["route"] = route.index
    client = answer["client"]
    served = route.pool
    limit = route.body_limit
    key = b""
    if served is not None and served.hash_key is not None:
        key = served.hash_key.of(head, client.encode())
    if route.allow is not None and client not in route.allow:
        answer["refused"] = _refusal(refusals.forbidden(client.encode(), route.index))
    elif served is None:
        assert route.redirect is not None
        host = head.host or b""  # an HTTP/1.1 request without one was refused
        variables = make_variables(head, host, sender, client.encode(), head.request_id or plane.make_request_id())
        location = route.redirect.render_location(variables)
        answer["redirect"] = {"status": route.redirect_status, "location": _text(location)}
    elif limit is not None and (head.content_length or 0) > limit:
        answer["refused"] = _refusal(refusals.body_too_large(head.content_length or 0, limit))
    else:
        problem = take_prefix_off(head, route.prefix) if route.prefix is not None else None
        if problem is not None:
            answer["refused"] = _refusal(problem)
            return
        if head.target != head.received:
            answer["notes"].append(f"the backend is asked for {_text(head.target)}")
        _explain_pool(plane, served, head, key, answer)


def _explain_pool(plane: "DataPlane", served: "ServedPool", head: RequestHead, key: bytes, answer: Answer) -> None:
    """Look who would be picked, as ``ServedPool.pick`` does."""
    pool, queued = served.pool, served.line.count()
    own = None
    if served.sticky is not None:
        values = served.sticky.take_values(head)
        own = Bond(served.sticky, values).own()
        answer["sticky"] = served.sticky.explain(values)
    picked, rows = pool.explain(key, monotonic(), own)
    if served.must_wait() and (own is None or not served.is_apart(own)):
        picked = None  # nobody overtakes those who wait
    if picked is None and served.line.is_full():
        picked = pool.peek_spare(key, monotonic())
    for row in rows:
        row["picked"] = row["name"] == picked
    answer["pool"] = pool.name
    answer["policy"] = next(config.policy for config in plane.config.pools if config.name == pool.name)
    answer["backends"] = rows
    answer["backend"] = picked
    answer["queued"] = queued
    if picked is None and not pool.eligible and not pool.is_checking:
        answer["refused"] = _refusal(refusals.no_backend(pool))
    elif picked is None and served.line.is_full():
        answer["refused"] = _refusal(served.line.refuse())


def _refusal(error: ExchangeError) -> Answer:
    return {"status": error.status, "reason": escape(error.why).decode()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
