"""The real keepalived on a machine, with a configuration of the test's own; its log says what it is."""

import re

from tests.integration.nginx import require
from tests.lab.pair import Pair
from tests.lab.process import Process, await_true
from tests.lab.topology import Machine

_CONFIG = """
global_defs {{
    router_id {name}
    vrrp_version {version}
    vrrp_rt_priority 50
    vrrp_rlimit_rttime 1000000
}}
vrrp_instance pair {{
    interface eth0
    state BACKUP
    virtual_router_id {vrid}
    priority {priority}
    advert_int {interval}
    version {version}
    {extra}
    virtual_ipaddress {{
        {addresses}
    }}
}}
"""


class Keepalived:
    """keepalived in the foreground, without its check subsystem."""

    def __init__(self, machine: Machine, pair: Pair, priority: int = 100) -> None:
        self.machine = machine
        other = machine.other
        source, peer = (machine.address6, other.address6) if pair.is_ipv6 else (machine.address, other.address)
        extra = [f"unicast_src_ip {source}", f"unicast_peer {{\n {peer}\n }}"] if pair.unicast else []
        extra += [] if pair.preempt else ["nopreempt"]
        for file in (machine.directory / "run").glob("*.pid"):
            file.unlink()  # a machine that comes back has an empty /run
        config = machine.directory / "keepalived.conf"
        config.write_text(
            _CONFIG.format(
                name=machine.name,
                version=pair.version,
                vrid=pair.vrid,
                priority=priority,
                interval=f"{pair.interval:g}",
                extra="\n    ".join(extra),
                addresses="\n        ".join(pair.virtual_ips),
            )
        )
        command = [require("keepalived"), "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--no_bfd"]
        self.process: Process = machine.start("keepalived", [*command, "--use-file", str(config)])

    def __repr__(self) -> str:
        return f"<Keepalived {self.machine.name} {self.state}>"

    @property
    def state(self) -> str:
        """``master``, ``backup`` or ``fault``, as it said last; empty before."""
        return (self.transitions or [""])[-1]

    def await_state(self, state: str) -> None:
        """Wait until it says that it is in a state."""
        await_true(lambda: self.state == state, lambda: f"{self!r} is not {state}:\n{self.process.log}")

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that say that something was wrong with a packet or with the pair."""
        wrong = r"Invalid|invalid|mismatch|not present|wrong|ignoring"
        return [line for line in self.process.log.splitlines() if re.search(wrong, line)]

    @property
    def transitions(self) -> list[str]:
        """The states that it entered."""
        return [state.lower() for state in re.findall(r"Entering (\w+) STATE", self.process.log)]

    def stop(self) -> None:
        """Let it give the address away and end."""
        self.process.terminate()

    def kill(self) -> None:
        """Kill -9 of all its processes at once."""
        self.process.kill()
