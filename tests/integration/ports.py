"""Loopback ports that nobody else uses. Knows nothing of what listens on them."""

import os
import random
import socket

# Below 32768, where Linux starts to take ports for outgoing connections.
FIRST = 20_000
PER_WORKER = 1_500
WORKERS = 8


class Ports:
    """Hand out ports, each once, from a range that belongs to this xdist worker alone."""

    def __init__(self) -> None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
        self._first = FIRST + worker * PER_WORKER
        # Two test runs on one machine share the range; they start at different places in it.
        self._next = random.SystemRandom().randrange(PER_WORKER)

    def take(self) -> int:
        """Return a port on which nothing listens on any loopback address."""
        for _ in range(PER_WORKER):
            port = self._first + self._next
            self._next = (self._next + 1) % PER_WORKER
            if _is_free(socket.AF_INET, "0.0.0.0", port) and _is_free(socket.AF_INET6, "::", port):
                return port
        raise RuntimeError("no free port in the range of this test process")


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if family is socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
