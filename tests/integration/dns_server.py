"""A small real name server on loopback whose records a test changes. Knows nothing of pyproxy."""

import socket
import threading
from collections import Counter

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """
    Answers over UDP, from its own thread, since tests wait for the program without giving way to the event loop.

    A name without any record is NXDOMAIN, one without records of the kind that was asked for is empty.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, port
        self.asked: Counter[tuple[str, str]] = Counter()  # by name and kind
        self.is_silent = False  # hears everything, answers nothing
        self.failure: dns.rcode.Rcode | None = None  # what every answer is
        self.failures: dict[str, dns.rcode.Rcode] = {}  # what answers to questions of one kind are
        self._records: dict[str, dict[str, dns.rrset.RRset]] = {}
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<DnsServer {self.address} {len(self._records)} names>"

    @property
    def address(self) -> str:
        """As ``dns.servers`` wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def put(self, name: str, kind: str, *values: str, ttl: int = 1) -> None:
        """Set all records of a kind that a name has; none makes the answer empty."""
        kinds = dict(self._records.get(name, {}))
        kinds.pop(kind, None)
        if values:
            kinds[kind] = dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *values)
        self._records[name] = kinds

    def remove(self, name: str) -> None:
        """Let a name not exist."""
        self._records.pop(name, None)

    def start(self) -> "DnsServer":
        """Answer from now on."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((self.host, self.port))
        self._thread = threading.Thread(target=self._serve, args=(self._socket,))
        self._thread.start()
        return self

    def stop(self) -> None:
        """Be gone: the port is closed. It may start again."""
        if self._socket is None or self._thread is None:
            return
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (self.host, self.port))
        self._thread.join()
        self._socket.close()
        self._socket = self._thread = None

    def _serve(self, sock: socket.socket) -> None:
        while True:
            data, sender = sock.recvfrom(4096)
            if not data:
                return
            answer = self._answer(dns.message.from_wire(data))
            if not self.is_silent:
                sock.sendto(answer.to_wire(), sender)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query, recursion_available=True)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        kinds = self._records.get(name)
        failure = self.failures.get(kind, self.failure)
        if failure is not None:
            answer.set_rcode(failure)
            return answer
        if kinds is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        while kinds is not None and "CNAME" in kinds and kind != "CNAME":
            answer.answer.append(kinds["CNAME"])
            kinds = self._records.get(kinds["CNAME"][0].target.to_text(omit_final_dot=True))
        if kinds is not None and kind in kinds:
            answer.answer.append(kinds[kind])
        return answer
