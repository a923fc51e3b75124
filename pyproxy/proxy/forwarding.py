"""
What a backend is sent for a request: the head as it came with our fields added, changed as the route says.

Pure. Must not know attempts or connections.
"""

from typing import TYPE_CHECKING

from pyproxy.balance.backend import Backend
from pyproxy.http1.head import RequestHead
from pyproxy.http1.writer import changed_request_head, request_head
from pyproxy.routing.forwarded import Sender
from pyproxy.routing.rewrite import Variables, strip_prefix

if TYPE_CHECKING:
    from pyproxy.proxy.served import ServedRoute


def make_variables(head: RequestHead, sender: Sender, client: bytes, request_id: bytes) -> Variables:
    """Give what the variables of a route stand for in this request."""
    return Variables(head.host or b"", head.target, sender.scheme(head.forwarded), client, request_id)


def make_request(
    head: RequestHead, route: "ServedRoute", backend: Backend, sender: Sender, client: bytes, request_id: bytes
) -> bytes:
    """Write the head for a backend, which is named as the host where the client named none (HTTP/1.0)."""
    forwarded = sender.forwarded_lines(head.forwarded, head.host)
    host = head.host if head.host is not None else b"localhost" if backend.path else backend.address
    if route.is_plain:
        return request_head(head, host, forwarded, request_id)
    target = head.target if route.prefix is None else strip_prefix(head.target, route.prefix)
    lines = [b"Host: %b\r\n" % host, *head.lines, *forwarded.splitlines(keepends=True)]
    lines.append(b"X-Request-Id: %b\r\n" % request_id)
    if route.request_rewrite is not None:
        lines = route.request_rewrite.apply(lines, make_variables(head, sender, client, request_id))
    return changed_request_head(head, target, lines)
