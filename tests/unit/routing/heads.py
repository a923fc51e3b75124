"""Request heads for the tests of this directory, made the way a reader leaves them."""

from pyproxy.config.runtime import Limits
from pyproxy.http1.head import RequestHead
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.request import RequestReader

_LIMITS = Limits(request_line=8192, headers=32768, header_count=100, body=None, connections=0)


def make_head(*fields: str, target: str = "/") -> RequestHead:
    """Read a request with these fields, such as ``"X-Canary: 1"``."""
    text = "".join(f"{line}\r\n" for line in (f"GET {target} HTTP/1.1", "Host: h", *fields, ""))
    (head,) = RequestReader(HeadLimits(_LIMITS)).feed(text.encode())
    assert isinstance(head, RequestHead)
    return head
