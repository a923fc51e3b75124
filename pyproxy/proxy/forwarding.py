"""
What a backend is sent for a request: the head as it came with our fields added, changed as the route says.

Pure. Must not know attempts or connections.
"""

from pyproxy.errors import BadRequest, ExchangeError
from pyproxy.http1.head import RequestHead
from pyproxy.http1.target import encode_high, forwarded_target
from pyproxy.http1.writer import changed_request_head
from pyproxy.routing.forwarded import Sender, without_forwarding
from pyproxy.routing.rewrite import HeaderRewrite, Variables, strip_prefix


def find_client(head: RequestHead, sender: Sender) -> bytes:
    """Find out who asks; what a sender that isn't trusted says of it is forgotten, so that no route goes by it."""
    if head.forwarded is None:
        return sender.address
    if not sender.is_trusted:
        head.handled = without_forwarding(head.handled)
    return sender.resolve_client(head.forwarded)


def make_variables(head: RequestHead, host: bytes, sender: Sender, client: bytes, request_id: bytes) -> Variables:
    """Give what the variables of a route stand for in this request; ``host`` is the request's, or our own address."""
    target = forwarded_target(encode_high(head.received), head.method)
    return Variables(host, target, sender.scheme(head.forwarded), client, request_id)


def take_prefix_off(head: RequestHead, prefix: bytes) -> ExchangeError | None:
    """Change what the backend is asked for; what has become of the path is checked like one that a client wrote."""
    try:
        head.target = forwarded_target(strip_prefix(head.target, prefix), head.method)
    except BadRequest as error:
        return error
    return None


def change_request(
    head: RequestHead, rewrite: HeaderRewrite, forwarded: bytes, request_id: bytes, variables: Variables
) -> bytes:
    """Write the head for a backend with the changes that a route makes; ``forwarded`` is ready-made lines."""
    lines = [b"Host: %b\r\n" % (head.host or b""), *head.lines, *forwarded.splitlines(keepends=True)]
    lines.append(b"X-Request-Id: %b\r\n" % request_id)
    return changed_request_head(head, rewrite.apply(lines, variables))
