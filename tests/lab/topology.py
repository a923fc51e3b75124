"""
The laboratory: two machines and a client on one switch, and a second wire between the machines.

Must not know what runs on the machines.

::

      client 10.9.0.50         gateway 10.9.0.254 (the switch itself)
            |                        |
     -------+--------- switch -------+------------ fd09::/64, fe80::
            |                        |
     a 10.9.0.1                b 10.9.0.2
            +------- 10.1.0.0/24 ----+             wires of their own for the link

Each is a network namespace. A fault is made where it would happen: at the switch's ports.
"""

import http.client
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from email.message import Message
from pathlib import Path

from tests.lab.capture import Capture
from tests.lab.gaps import Record
from tests.lab.namespaces import DEADLINE, addresses, configure, destroy, inside, kill_members, new_group, set_kernel
from tests.lab.process import Process, await_true

VIP = "10.9.0.100"
VIP6 = "fd09::100"
VIP6_LOCAL = "fe80::9:100"
GATEWAY = "10.9.0.254"
PORT = 80
NODES = {"n1": 8001, "n2": 8002}  # on the gateway
HERE = Path(__file__).parent

# States of a port. "Blocking" would not do: without a spanning tree the kernel takes it back at once.
_LISTENING, _FORWARDING = 1, 3
# What measures must not wait for what is measured, nor for other tests.
_INSTRUMENT = ("nice", "-n", "-15", "python3", "-I")
_QUIET = {
    "ipv6_conf_default_accept_dad": 0,  # addresses can be used at once
    "ipv6_conf_default_router_solicitations": 0,
    "ipv6_conf_default_addr_gen_mode": 1,  # link-local addresses are ours to choose
}


class Machine:
    """One of the two, ``a`` or ``b``: a namespace with eth0 on the switch and eth1 on the second wire."""

    def __init__(self, lab: "Lab", name: str, number: int) -> None:
        self.lab = lab
        self.name = name
        self.number = number
        self.namespace = f"{lab.group}-{name}"
        self.address, self.address6 = f"10.9.0.{number}", f"fe80::{number}"
        self.link_address = f"10.1.0.{number}"
        self.mac = f"02:00:00:00:00:0{number}"
        self.directory = lab.directory / name
        self.directory.mkdir()

    def __repr__(self) -> str:
        return f"<Machine {self.namespace}>"

    @property
    def other(self) -> "Machine":
        """The other machine."""
        return self.lab.b if self is self.lab.a else self.lab.a

    def start(self, title: str, command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Process:
        """Start a program here; it is killed when the lab closes."""
        return self.lab.start(self.namespace, self.directory, title, command, pass_fds=pass_fds)

    def serve(self) -> Process:
        """Answer HTTP on every address with the machine's name."""
        node = self.start("web", [*_INSTRUMENT, str(HERE / "web_node.py"), self.name, str(PORT)])
        node.await_log("listening")
        return node

    def addresses(self) -> list[str]:
        """Return the addresses of eth0, without their prefix lengths."""
        return addresses(self.namespace, "eth0")

    def has_vip(self, address: str = VIP) -> bool:
        """Whether a virtual address is here."""
        return address in self.addresses()


class Lab:
    """All of it. A context manager: whatever happens inside, nothing is left."""

    def __init__(self, directory: Path) -> None:
        self.group = new_group()
        self.directory = directory
        self.switch, self.client = f"{self.group}-switch", f"{self.group}-client"
        self.a, self.b = Machine(self, "a", 1), Machine(self, "b", 2)
        self._nodes: dict[str, Process] = {}
        self._undo = ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Lab {self.group}>"

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs here and remove the namespaces; may be called again."""
        self._undo.close()

    def _build(self) -> None:
        names = (self.switch, self.client, self.a.namespace, self.b.namespace)
        for name in names:
            self._undo.callback(destroy, name)
        configure(*(f"netns add {name}" for name in names))
        for name in names:
            set_kernel(name, **_QUIET)
        switch = f"-n {self.switch}"
        configure(
            f"{switch} link add br0 type bridge stp_state 0 mcast_snooping 0 forward_delay 0",
            f"{switch} addr add {GATEWAY}/24 dev br0",
            f"{switch} link set br0 up",
        )
        for port, name, number in (("a", self.a.namespace, 1), ("b", self.b.namespace, 2), ("client", self.client, 50)):
            configure(f"-n {name} link set lo up")
            self._connect(port, name, number)
        configure(f"-n {self.a.namespace} link add eth1 type veth peer name eth1 netns {self.b.namespace}")
        for machine in (self.a, self.b):
            configure(
                f"-n {machine.namespace} addr add {machine.link_address}/24 dev eth1",
                f"-n {machine.namespace} link set eth1 up",
            )

    def _connect(self, port: str, name: str, number: int) -> None:
        """Give a namespace its eth0, on a port of the switch."""
        configure(
            f"-n {name} link add eth0 type veth peer name {port} netns {self.switch}",
            f"-n {name} link set eth0 address 02:00:00:00:00:{number:02d}",
            f"-n {name} addr add 10.9.0.{number}/24 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} addr add fe80::{number}/64 dev eth0 nodad",
            f"-n {name} addr add fd09::{number}/64 dev eth0 nodad",
            f"-n {name} route add default via {GATEWAY}",
            f"-n {self.switch} link set dev {port} master br0 up",
        )

    def start(
        self, namespace: str, directory: Path, title: str, command: Sequence[str], *, pass_fds: Sequence[int] = ()
    ) -> Process:
        """Start a program in a namespace; it is killed when the lab closes. Each start has a log of its own."""
        log = directory / f"{title}-{len(list(directory.glob(f'{title}-*.log'))) + 1}.log"
        process = Process(namespace, directory / "run", log, command, pass_fds=pass_fds)
        self._undo.callback(process.kill)
        return process

    def defer(self, undo: Callable[[], object]) -> None:
        """Have something called when the lab closes, before what was made earlier is undone."""
        self._undo.callback(undo)

    def serve_nodes(self) -> None:
        """Start the web nodes that both machines can send to."""
        directory = self.directory / "nodes"
        directory.mkdir()
        for name, port in NODES.items():
            node = self.start(self.switch, directory, name, [*_INSTRUMENT, str(HERE / "web_node.py"), name, str(port)])
            node.await_log("listening")
            self._nodes[name] = node

    def end_node(self, name: str) -> None:
        """End one of the web nodes."""
        self._nodes[name].kill()

    def show(self, *arguments: str) -> str:
        """Return what ``ip`` shows."""
        return configure(" ".join(arguments))

    def holders(self, address: str = VIP) -> list[str]:
        """Name the machines that have a virtual address."""
        return [machine.name for machine in (self.a, self.b) if machine.has_vip(address)]

    def capture(self) -> Capture:
        """See what the machines send from now on; a port is called as its machine."""
        capture = Capture(self.switch, ("a", "b"))
        self._undo.callback(capture.close)
        return capture

    def get(self, address: str = VIP, **headers: str) -> tuple[Message, str]:
        """Ask an address once as the client: the answer's headers and its text."""

        def ask() -> tuple[Message, str]:
            connection = http.client.HTTPConnection(address, PORT, timeout=DEADLINE)
            try:
                connection.request("GET", "/", headers=headers)
                response = connection.getresponse()
                text = response.read().decode()
                assert response.status == 200, f"{response.status} {text}"
                return response.headers, text
            finally:
                connection.close()

        return inside(self.client, ask)

    def watch(self, address: str = VIP, interval: float = 0.01, timeout: float = 0.5) -> "Watch":
        """Let the client ask an address every ``interval`` seconds from now on."""
        command = [*_INSTRUMENT, str(HERE / "gap_client.py"), address, str(PORT), str(interval), str(timeout)]
        directory = self.directory / "client"
        directory.mkdir(exist_ok=True)
        return Watch(self.start(self.client, directory, "requests", command))

    # Faults

    def unplug(self, machine: Machine) -> None:
        """Pull a machine's cable: it loses its carrier."""
        configure(f"-n {self.switch} link set dev {machine.name} down")

    def plug(self, machine: Machine) -> None:
        """Put the cable back."""
        configure(f"-n {self.switch} link set dev {machine.name} up")

    def remake(self, machine: Machine) -> None:
        """Take a machine's eth0 away and make another one of that name, as a driver does that is loaded again."""
        configure(f"-n {machine.namespace} link del eth0")
        self._connect(machine.name, machine.namespace, machine.number)

    def block(self, machine: Machine, *, blocked: bool = True) -> None:
        """Let the switch forward nothing from and to a machine, as spanning tree does; its carrier stays."""
        self._set_port(machine, f"state {_LISTENING if blocked else _FORWARDING}")

    def part(self, *, parted: bool = True) -> None:
        """Keep the machines from hearing each other, while the client and the gateway reach both."""
        for machine in (self.a, self.b):
            self._set_port(machine, f"isolated {'on' if parted else 'off'}")

    def _set_port(self, machine: Machine, what: str) -> None:
        configure(f"-n {self.switch} link set dev {machine.name} type bridge_slave {what}")

    def mislead(self, address: str, machine: Machine) -> None:
        """Have the client believe that an address is at a machine, as after an announcement that only it heard."""
        self.show(
            "-n", self.client, "neigh", "replace", address, "lladdr", machine.mac, "dev", "eth0", "nud", "reachable"
        )

    def small_run(self, machine: Machine) -> None:
        """Give a machine a /run that can be filled; before anything is started there."""
        run = machine.directory / "run"
        run.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(run)], check=True)
        self.defer(lambda: subprocess.run(["umount", "-l", str(run)], check=True))

    def fill_run(self, machine: Machine) -> None:
        """Leave no byte on its /run."""
        with suppress(OSError), (machine.directory / "run" / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def power_off(self, machine: Machine) -> None:
        """Cut a machine off on every wire and kill what runs on it, all within a moment."""
        configure(f"-n {machine.namespace} link set eth1 down")
        self.block(machine)
        kill_members(machine.namespace)

    def set_ipv6(self, machine: Machine, *, is_on: bool) -> None:
        """Switch IPv6 off on a machine, which loses all its addresses of that family, or on again."""
        set_kernel(machine.namespace, ipv6_conf_eth0_disable_ipv6=0 if is_on else 1)

    def cut_link(self, *, cut: bool = True) -> None:
        """Take the second wire away, or give it back."""
        configure(f"-n {self.a.namespace} link set eth1 {'down' if cut else 'up'}")


class Watch:
    """The gap client at work."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._record = Record(())
        self._read_bytes = 0

    def __repr__(self) -> str:
        return f"<Watch {self.record!r}>"

    @property
    def record(self) -> Record:
        """What it has seen so far; tests look every few milliseconds, so each line is read once."""
        with self._process.log_file.open("rb") as log:
            log.seek(self._read_bytes)
            lines, end, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(lines + end)
        self._record = Record((lines + end).decode().splitlines(keepends=True), self._record.requests)
        return self._record

    def await_answer(self, machine: str, after: float = 0.0, seconds: float = DEADLINE) -> float:
        """Wait until a machine answers; when it did so first after an instant."""
        await_true(
            lambda: self.record.first_answer(machine, after), lambda: f"no answer of {machine}: {self!r}", seconds
        )
        answered = self.record.first_answer(machine, after)
        assert answered is not None
        return answered
