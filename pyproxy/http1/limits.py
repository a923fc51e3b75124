"""What a request's head may have. Must not know heads."""

from pyproxy.config.runtime import Limits


class HeadLimits:
    """
    What a head may have, in bytes and in headers; ``harmless`` is a size at which nothing can be too long.

    A class of our own, shared by all readers: what is read of the configuration's is slow where this is compiled.
    """

    __slots__ = ("harmless", "header_count", "headers", "request_line")

    def __init__(self, limits: Limits) -> None:
        self.request_line = limits.request_line
        self.headers = limits.headers
        self.header_count = limits.header_count
        self.harmless = min(limits.request_line, limits.headers)
