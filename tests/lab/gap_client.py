"""
A client that opens a new connection every few milliseconds: `python -I gap_client.py ADDRESS PORT INTERVAL TIMEOUT`.

A program of its own in the client's namespace. Each request is a line on stdout when it has ended: when it was sent and
when it ended (CLOCK_MONOTONIC, which all namespaces share), `ok` or what went wrong, and the machine and the node that
answered. No request waits for another one, so a request that hangs hides nothing.
"""

import contextlib
import os
import selectors
import socket
import sys
import time

_REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"


class Request:
    """One request on a connection of its own."""

    def __init__(self, address: tuple[str, int], timeout: float) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sent = time.monotonic()
        self.deadline = self.sent + timeout
        self.received = b""
        self.asked = False
        self.error = ""
        self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self.sock.connect(address)
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = error.strerror or "error"

    def advance(self) -> bool:
        """Do what the socket is ready for; whether the request has ended."""
        try:
            if not self.asked:
                self.sock.send(_REQUEST)
                self.asked = True
                return False
            data = self.sock.recv(65536)
            self.received += data
        except BlockingIOError:
            return False
        except OSError as error:
            self.error = error.strerror or "error"
            return True
        return not data

    def line(self, now: float) -> str:
        """Say how it ended."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        fields = {}
        for field in head.split(b"\r\n")[1:]:
            name, _, value = field.partition(b":")
            fields[name.strip().lower().decode()] = value.strip().decode()
        if not self.error:
            status = head[9:12].decode()
            if status != "200":
                self.error = f"status {status}" if status else "no answer"
            elif int(fields.get("content-length", "-1")) != len(body):
                self.error = "cut short"
        machine, node = (fields.get("x-machine", "?"), body.decode()) if not self.error else ("-", "-")
        return f"{self.sent:.6f} {now:.6f} {self.error.replace(' ', '_') or 'ok'} {machine} {node}\n"


def main(address: tuple[str, int], interval: float, timeout: float) -> None:
    """Send until killed."""
    selector = selectors.DefaultSelector()
    open_requests: dict[socket.socket, Request] = {}

    def end(request: Request) -> None:
        with contextlib.suppress(KeyError):
            selector.unregister(request.sock)
        open_requests.pop(request.sock, None)
        os.write(1, request.line(time.monotonic()).encode())
        request.sock.close()

    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            request = Request(address, timeout)
            due = max(due + interval, now)  # after a pause of its own it doesn't send in a burst
            if request.error:
                end(request)
            else:
                open_requests[request.sock] = request
                selector.register(request.sock, selectors.EVENT_WRITE, request)
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            request = key.data
            if request.advance():
                end(request)
            elif request.asked:
                selector.modify(request.sock, selectors.EVENT_READ, request)
        now = time.monotonic()
        for request in [late for late in open_requests.values() if late.deadline < now]:
            request.error = "timeout"
            end(request)


if __name__ == "__main__":
    main((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]), float(sys.argv[4]))
