"""
What a backend is sent for a request: the head as it came with our fields added, changed as the route says.

Pure. Must not know attempts or connections.
"""

from typing import TYPE_CHECKING

from pyproxy.balance.backend import Backend
from pyproxy.http1.head import RequestHead
from pyproxy.http1.writer import changed_request_head
from pyproxy.routing.forwarded import Sender, without_forwarding
from pyproxy.routing.rewrite import Variables, strip_prefix

if TYPE_CHECKING:
    from pyproxy.proxy.served import ServedRoute


def find_client(head: RequestHead, sender: Sender) -> bytes:
    """Find out who asks; what a sender that isn't trusted says of it is forgotten, so that no route goes by it."""
    if head.forwarded is None:
        return sender.address
    if not sender.is_trusted:
        head.handled = without_forwarding(head.handled)
    return sender.resolve_client(head.forwarded)


def make_variables(head: RequestHead, host: bytes, sender: Sender, client: bytes, request_id: bytes) -> Variables:
    """Give what the variables of a route stand for in this request; ``host`` is the request's, or our own address."""
    return Variables(host, head.target, sender.scheme(head.forwarded), client, request_id)


def host_for(head: RequestHead, backend: Backend) -> bytes:
    """Name the backend as the host where the client named none (HTTP/1.0)."""
    if head.host is not None:
        return head.host
    return b"localhost" if backend.path else backend.address


def change_request(
    head: RequestHead, route: "ServedRoute", host: bytes, forwarded: bytes, request_id: bytes, variables: Variables
) -> bytes:
    """Write the head for a backend with the changes of a route that isn't plain; ``forwarded`` is ready-made lines."""
    target = head.target if route.prefix is None else strip_prefix(head.target, route.prefix)
    lines = [b"Host: %b\r\n" % host, *head.lines, *forwarded.splitlines(keepends=True)]
    lines.append(b"X-Request-Id: %b\r\n" % request_id)
    if route.request_rewrite is not None:
        lines = route.request_rewrite.apply(lines, variables)
    return changed_request_head(head, target, lines)
