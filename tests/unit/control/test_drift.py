"""Pins what of two files counts as a difference, and that no secret is told in saying so."""

import orjson
import pytest

from pyproxy.config.load import load_text
from pyproxy.config.model import Config
from pyproxy.config.model_failover import Failover
from pyproxy.config.model_pool import Sticky
from pyproxy.config.pages import ErrorPage
from pyproxy.control.drift import OWN, OWN_FAILOVER, OWN_LINK, Sections, compare, difference, digests, make_sections

KEY = b"0123456789abcdef"
FILE = """
listeners: [{bind: "0.0.0.0:80"}]
routes: [{pool: web}]
pools:
  web: {backends: [{name: a, address: "10.0.0.1:80"}]}
  api: {backends: [{name: b, address: "10.0.0.2:80"}]}
"""


def config(text: str = FILE) -> Config:
    """A checked file."""
    return load_text(text, "lb.yml", {})


def sections(text: str = FILE) -> Sections:
    """What of a file is compared."""
    return make_sections(config(text), KEY)


def drift(one: str, other: str) -> list[str]:
    """The sections in which two files differ."""
    return compare(digests(sections(one)), digests(sections(other)))


def with_secret(secret: str | tuple[str, ...]) -> Config:
    """A file whose pool has a secret."""
    base = config()
    sticky = Sticky.model_validate({"cookie": "SRV", "secret": list(secret) if isinstance(secret, tuple) else secret})
    web = base.pools["web"].model_copy(update={"sticky": sticky})
    return base.model_copy(update={"pools": {**base.pools, "web": web}})


def test_sections_are_named_as_in_the_file() -> None:
    """Each pool is one; what is each machine's own is none."""
    found = sections()
    assert {"listeners", "routes", "client", "limits", "trusted_proxies", "pools.web", "pools.api"} <= found.keys()
    assert not found.keys() & {*OWN, "pools"}
    orjson.dumps(found)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("", "# a comment\n"), []),
        (("", "client: {header_timeout: 10s}\n"), []),
        (("", "client: {header_timeout: 11s}\n"), ["client"]),
        (("", "workers: 3\naccess_log: {to: 'off'}\nadmin: {bind: '127.0.0.1:9'}\nlog_level: debug\n"), []),
        (("10.0.0.2:80", "10.0.0.3:80"), ["pools.api"]),
        (("  api: {backends", "  apo: {backends"), ["pools.api", "pools.apo"]),
    ],
)
def test_only_what_is_in_effect_and_shared_counts(change: tuple[str, str], names: list[str]) -> None:
    """A default that is written out is no difference, and neither is a machine's own affair."""
    old, new = change
    assert drift(FILE, FILE.replace(old, new) if old else FILE + new) == names


def test_a_secret_that_differs_is_drift_and_is_not_told() -> None:
    """Neither as a whole nor by a hash that somebody without the link's key could try words against."""
    one, other = (make_sections(with_secret(word), KEY) for word in ("correct-horse-battery", "correct-horse-batterx"))
    assert compare(digests(one), digests(other)) == ["pools.web"]
    text = difference(one, other, ("lb2", "lb1"))
    assert "secret #" in text
    assert "correct" not in text + orjson.dumps(one).decode()
    assert make_sections(with_secret("correct-horse-battery"), KEY) == one
    assert make_sections(with_secret("correct-horse-battery"), b"another key 0123") != one


def test_each_of_several_secrets_counts() -> None:
    """Rotation must be done on both machines."""
    old, new = "correct-horse-battery", "another-horse-battery"
    one, other = (make_sections(with_secret(words), KEY) for words in ((new, old), (old, new)))
    assert compare(digests(one), digests(other)) == ["pools.web"]


def test_the_difference_is_a_diff_of_yaml() -> None:
    """Theirs first, as the peer's file is what ours is compared with."""
    text = difference(sections(FILE.replace("10.0.0.2:80", "10.0.0.3:80")), sections(FILE), ("lb2", "lb1"))
    assert text.splitlines()[:2] == ["--- lb2: pools.api", "+++ lb1: pools.api"]
    assert "-  - address: 10.0.0.2:80" in text
    assert "+  - address: 10.0.0.3:80" in text
    assert difference(sections(), sections(), ("lb2", "lb1")) == ""


def test_what_tells_the_machines_apart_is_no_drift() -> None:
    """Priority, interface, addresses of the link; the virtual address is shared."""

    def failover(**more: object) -> Sections:
        link = {"bind": "10.1.0.1:9901", "peer": "10.1.0.2:9901", "key_file": "/etc/k"}
        data = {"interface": "eth0", "virtual_ips": ["192.168.0.10/32"], "vrid": 51, "link": link} | more
        return make_sections(config().model_copy(update={"failover": Failover.model_validate(data)}), KEY)

    mirrored = {"bind": "10.1.0.2:9901", "peer": "10.1.0.1:9901", "key_file": "/etc/other"}
    own = failover(interface="eth1", priority=90, gateway="off", peers=["10.9.0.1"], preempt=True, link=mirrored)
    assert compare(digests(failover()), digests(own)) == []
    assert compare(digests(failover()), digests(failover(vrid=52))) == ["failover"]
    assert not own["failover"].keys() & set(OWN_FAILOVER)
    assert not own["failover"]["link"].keys() & set(OWN_LINK)


def test_an_error_page_counts_by_its_content() -> None:
    """The same path may hold another page there."""
    one, other = (
        make_sections(config().model_copy(update={"error_pages": {503: ErrorPage("/e/503.html", body)}}), KEY)
        for body in (b"one", b"other")
    )
    assert compare(digests(one), digests(other)) == ["error_pages"]
