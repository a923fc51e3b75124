"""The failover section of a file to the settings of the speaker."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from pyproxy.config.compile_failover import compile_failover, parse_key
from pyproxy.config.model_failover import Failover
from pyproxy.config.source import read_source
from pyproxy.config.tree import parse_tree
from pyproxy.failover.settings import Endpoint, Settings, from_plain

LEAST = "{interface: eth0, virtual_ips: [192.168.0.10/32], vrid: 51}"
FULL = """
interface: eth1
virtual_ips: [192.168.0.10/24, "FE80::1/64"]
vrid: 7
priority: 200
advert_interval: 100ms
down_adverts: 4
preempt: 60s
version: 3
peers: [10.0.0.2]
checksum: rfc9568
lease: 2s
startup_delay: 5s
link_up_delay: 30s
garp: {repeat: 3, delay: 1s, refresh: 20s}
gateway: 192.168.0.1
witnesses: ["router.example.com:443"]
link: {bind: "10.1.0.1:9901", peer: "10.1.0.2:9902", key_file: /etc/link, interval: 100ms, dead_after: 5}
split_hold: 20s
guards: [{run: [test, -e, /ok], timeout: 1s, interval: 2s, on_fail: last_resort}]
track:
  - {http: "http://[::1]:8080/health?x=1", interval: 1s, timeout: 500ms, rise: 1, fall: 2, on_fail: lower, by: 20}
  - {tcp: "db.example.com:5432"}
  - {run: [is, well]}
track_interfaces: [eth2]
notify: {master: [a], backup: [b, c], fault: [d]}
notify_timeout: 9s
vip_backend: exec
vip_exec: {run: [/bin/move, -v], timeout: 8s, interval: 7s}
release_when: {no_worker: 1s, no_backend: true}
auth_hmac: {mode: enforce, replay: monotonic, keys: {9: /nine, 2: /two}}
fence: [/bin/off]
"""


def compiled(text: str) -> dict[str, Any]:
    """Compile a section that is written as in a file."""
    root = parse_tree(text)
    assert root is not None
    return compile_failover(Failover.model_validate(read_source(root, {}).data))


def test_the_least_section_gets_every_default() -> None:
    """Three keys are enough, and the speaker takes what comes out."""
    made = from_plain(compiled(LEAST))
    assert (made.interface, made.vrid, made.priority, made.advert_interval) == ("eth0", 51, 100, 1.0)
    assert (made.preempt, made.preempt_delay, made.lease, made.link, made.auth_hmac) == (False, 0.0, "auto", None, None)


def test_every_key_of_a_full_section_arrives() -> None:
    """What the file says is what the speaker runs on; nothing is forgotten on the way."""
    made, least = from_plain(compiled(FULL)), from_plain(compiled(LEAST))
    same = {field.name for field in fields(Settings) if getattr(made, field.name) == getattr(least, field.name)}
    assert same == {"version"}
    assert (made.preempt, made.preempt_delay, made.lease) == (True, 60.0, 2.0)
    assert made.auth_hmac is not None
    assert made.auth_hmac.keys == ((9, "/nine"), (2, "/two")), "the first key of the file signs"
    assert [str(vip) for vip in made.virtual_ips] == ["192.168.0.10/24", "fe80::1/64"]
    web, database, own = made.track
    assert (web.endpoint, web.path, web.by) == (Endpoint("::1", 8080), "/health?x=1", 20)
    assert (database.endpoint, database.url, database.fall) == (Endpoint("db.example.com", 5432), "", 3)
    assert (own.run, own.endpoint) == (("is", "well"), None)
    assert made.link is not None
    assert (made.link.peer.port, made.link.dead_time) == (9902, 0.5)


def test_preempt_true_is_at_once() -> None:
    """A delay of nothing is still preemption."""
    made = from_plain(compiled(LEAST.replace("vrid: 51", "vrid: 51, preempt: true")))
    assert (made.preempt, made.preempt_delay) == (True, 0.0)


def test_the_data_is_plain() -> None:
    """It crosses to the speaker as JSON."""

    def check(value: Any) -> None:
        assert not is_dataclass(value)
        assert value is None or type(value) in (str, int, float, bool, list, dict), value
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(item)

    check(compiled(FULL))


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"hex:00FF\n", b"\x00\xff"),
        (b"  secret word \r\n", b"secret word"),
        (b"hexagon", b"hexagon"),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_a_key_is_text_or_hexadecimal(content: bytes, key: bytes) -> None:
    """Keys as keepalived writes them are read as it reads them."""
    assert parse_key(content) == key


@pytest.mark.parametrize("content", [b"", b" \n", b"hex:", b"hex:0", b"hex:xy", b"hex:\xff", b"k" * 1025])
def test_what_is_no_key_is_refused(content: bytes) -> None:
    """A key file that was never filled must not become an empty key."""
    with pytest.raises(ValueError, match=r"empty|hexadecimal|at most"):
        parse_key(content)


@pytest.mark.parametrize("interval", ["10ms", "50ms", "100ms", "300ms", "1s", "40s"])
@pytest.mark.parametrize("dead_after", [1, 4, 8])
def test_the_link_is_dead_before_the_master_is(interval: str, dead_after: int) -> None:
    """Within two adverts, as the last of the three may have been due when the master died; and never seldom."""
    link = f'link: {{bind: "10.1.0.1:1", peer: "10.1.0.2:1", key_file: /k, dead_after: {dead_after}}}'
    made = from_plain(compiled(f"{LEAST[:-1]}, advert_interval: {interval}, {link}}}"))
    assert made.link is not None
    assert made.link.dead_time <= 2 * made.advert_interval + 1e-9
    assert made.link.interval <= 0.25
