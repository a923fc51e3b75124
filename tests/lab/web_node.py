"""
A web node that says who it is: `python -I web_node.py NAME PORT`.

A program of its own in a machine's namespace; it imports little, because many of them are started.
"""

import socket
import sys


def main(name: str, port: int) -> None:
    """Answer every connection, until killed."""
    answer = f"HTTP/1.1 200 OK\r\nX-Machine: {name}\r\nContent-Length: {len(name)}\r\nConnection: close\r\n\r\n{name}"
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256) as server:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while True:
            sock, _ = server.accept()
            with sock:
                try:
                    sock.settimeout(0.1)
                    sock.recv(4096)
                    sock.sendall(answer.encode())
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    continue  # the client left; the next one is waiting


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
