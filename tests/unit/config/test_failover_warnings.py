"""What is allowed in the failover section and can hardly be meant."""

import pytest

from pyproxy.config.failover_warnings import failover_warnings
from pyproxy.config.model import Config
from pyproxy.config.source import read_source
from pyproxy.config.tree import parse_tree

LISTENER = "bind: 0.0.0.0:80"
VIPS = "[10.0.0.9/32]"
LINK = "link: {bind: 10.1.0.1:9901, peer: 10.1.0.2:9901, key_file: /k}"
SLOW_LINK = LINK.replace("key_file", "interval: 250ms, key_file")
GUARD = "guards: [{run: [a], on_fail: last_resort}]"
NO_BACKEND = "release_when: {no_backend: true}"


def warnings(keys: str, *, vips: str = VIPS, listener: str = LISTENER, health: str = "null") -> list[str]:
    """The warnings of a file with these keys in its failover section, without their places."""
    text = (
        f"listeners: [{{{listener}}}]\n"
        f"pools: {{web: {{backends: [{{address: 'a:80'}}], health: {health}}}}}\n"
        f"failover: {{interface: e, vrid: 1, virtual_ips: {vips}, {keys}}}\n"
    )
    root = parse_tree(text)
    assert root is not None
    source = read_source(root, {})
    found = failover_warnings(Config.model_validate(source.data), source)
    assert all(item.line == 3 for item in found)
    return [f"{item.path}: {item.text}" for item in found]


@pytest.mark.parametrize(
    ("keys", "options", "path", "text"),
    [
        ("", {"listener": "bind: 10.0.0.8:80"}, "virtual_ips[0]", "no listener is bound"),
        ("", {"vips": "['fe80::9/64']"}, "virtual_ips[0]", "no listener is bound"),
        ("priority: 255", {}, "priority", "preempt: false doesn't apply"),
        ("release_when: {no_worker: 0}", {}, "release_when.no_worker", "sole worker"),
        (NO_BACKEND, {}, "release_when.no_backend", "without a link"),
        (f"{NO_BACKEND}, {LINK}", {}, "release_when.no_backend", "active checks"),
        ("down_adverts: 1", {}, "down_adverts", "a single advert"),
        ("peers: [10.0.0.9]", {}, "peers[0]", "is a virtual address"),
        ("vip_backend: exec, vip_exec: {run: [a]}", {}, "peers", "few clouds carry"),
        (
            "peers: [10.0.0.2]",
            {"vips": "[10.0.0.9/32, 'fe80::9/64', 'fd00::9/64']", "listener": "bind: '[::]:80'"},
            "virtual_ips[1]",
            "peers has no IPv6 address",
        ),
        ("", {"vips": "['fd00::9/64']", "listener": "bind: '[::]:80'"}, "virtual_ips[0]", "RFC 9568"),
        (GUARD, {}, "guards[0].on_fail", "isn't fit"),
        ("track: [{run: [a]}]", {}, "track[0].on_fail", "there and back"),
        ("fence: [a]", {}, "fence", "never run"),
        ("lease: 10s", {}, "lease", "keeps the addresses for 10 s"),
        (LINK, {"vips": "[10.1.0.9/24]"}, "link.bind", "is in the network of 10.1.0.9/24"),
        (LINK, {"vips": "[10.1.0.2/32]"}, "link.peer", "is a virtual address"),
        (f"{LINK}, peers: [10.1.0.2]", {}, "link.peer", "is an address of peers"),
        (f"{SLOW_LINK}, advert_interval: 100ms", {}, "link", "counts as dead after 1 s"),
        (f"{LINK}, gateway: off", {}, "gateway", "nothing decides after split_hold"),
    ],
)
def test_each_warning(keys: str, options: dict[str, str], path: str, text: str) -> None:
    """One for each thing, at the key that has to change."""
    found = [item for item in warnings(keys, **options) if item.startswith(f"failover.{path}: ") and text in item]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ("", {}),
        ("", {"listener": "bind: 10.0.0.9:80"}),
        ("priority: 255, preempt: true", {}),
        ("priority: 254", {}),
        (f"{NO_BACKEND}, {LINK}", {"health": "{}"}),
        (f"{LINK}, {GUARD}, fence: [a]", {}),
        ("peers: [10.0.0.2], vip_backend: exec, vip_exec: {run: [a]}", {}),
        ("lease: 3s", {}),
        ("lease: off", {}),
        ("gateway: off", {}),
        (f"{LINK}, advert_interval: 300ms", {}),
        ("down_adverts: 45", {}),
        ("", {"vips": "['fe80::9/64', 'fd00::9/64']", "listener": "bind: '[::]:80'"}),
        (f"{LINK}, peers: [10.0.0.2]", {"vips": "[10.0.0.9/24]"}),
    ],
)
def test_what_makes_sense_is_not_warned_of(keys: str, options: dict[str, str]) -> None:
    """The same keys with values that fit together."""
    assert warnings(keys, **options) == []


def test_a_file_without_failover_has_no_warnings() -> None:
    """There is nothing to think about."""
    root = parse_tree("listeners: [{bind: 0.0.0.0:80}]\npools: {web: {backends: [{address: 'a:80'}]}}")
    assert root is not None
    source = read_source(root, {})
    assert failover_warnings(Config.model_validate(source.data), source) == []
