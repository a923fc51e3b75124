"""Which adverts are believed, and how ours are written."""

import random
from dataclasses import replace
from typing import Any

import pytest

from pyproxy.errors import PacketInvalid
from pyproxy.failover.dialect import Arrival, Dialect
from pyproxy.failover.packet import GROUPS, Advert, Form, Reason, encode
from tests.unit.failover.settings import KEYS, auth, settings, vips

WALL = 1_800_000_000.0
OWN = frozenset({"10.9.0.1", "fe80::1"})
PEER = Advert(4, 3, 51, 150, 1.0, ("10.9.0.100",), Form.PSEUDO)


def dialect(keys: Any = (), **changes: Any) -> Dialect:
    """How a machine with these settings speaks."""
    return Dialect(settings(**changes), keys)


def arrival(advert: Advert = PEER, **changes: Any) -> Arrival:
    """An advert of the peer as it comes in by multicast."""
    made = Arrival(b"", 4, "10.9.0.2", GROUPS[4], 255)
    made = replace(made, **{key: value for key, value in changes.items() if key != "data"})
    return replace(made, data=changes.get("data", encode(advert, made.source, made.destination)))


def reason_of(speaker: Dialect, packet: Arrival, wall: float = WALL) -> str:
    """Why a packet is dropped; it is counted, too."""
    before = speaker.rejected.total()
    with pytest.raises(PacketInvalid) as caught:
        speaker.read(packet, OWN, wall)
    assert speaker.rejected.total() == before + 1
    return caught.value.reason


def pair(mode: str, to: str = "enforce", **changes: Any) -> tuple[Dialect, Dialect]:
    """A sender and a receiver with the same key, in these modes."""
    sender = dialect(KEYS, auth_hmac=auth(mode), peers=["10.9.0.1"])
    receiver = dialect(KEYS, peers=["10.9.0.2"], **{"auth_hmac": auth(to), **changes})
    return sender, receiver


def sent(sender: Dialect, wall: float = WALL, priority: int = 150) -> Arrival:
    """What a sender of ``pair`` sends, as it comes in."""
    (data,) = sender.write(4, priority, "10.9.0.2", ["10.9.0.1"], wall)
    return Arrival(data, 4, "10.9.0.2", "10.9.0.1", 64)


def test_an_advert_of_the_peer_is_read() -> None:
    """The plain case, by multicast."""
    assert dialect().read(arrival(), OWN, WALL) == PEER


def test_ours_come_back_and_other_pairs_are_there() -> None:
    """Neither is anyone's fault, so they have reasons of their own."""
    assert reason_of(dialect(), arrival(source="10.9.0.1")) == Reason.OWN
    assert reason_of(dialect(), arrival(replace(PEER, vrid=52))) == Reason.OTHER_VRID


def test_another_pair_is_not_looked_at_further() -> None:
    """Its signature, form or peers are nothing to us: a wrong checksum there is no reason to complain."""
    assert reason_of(dialect(), arrival(data=b"\x31\x34garbage")) == Reason.OTHER_VRID


@pytest.mark.parametrize("hop_limit", [254, 1, None])
def test_a_multicast_advert_comes_from_the_wire(hop_limit: int | None) -> None:
    """One that was routed, or of which nobody knows, is forged."""
    assert reason_of(dialect(), arrival(hop_limit=hop_limit)) == Reason.TTL


def test_unicast_is_taken_from_peers_only_whatever_its_hops() -> None:
    """It may be routed, so the source is what is checked."""
    speaker = dialect(peers=["10.9.0.2"])
    assert speaker.read(arrival(destination="10.9.0.1", hop_limit=60), OWN, WALL).priority == 150
    assert reason_of(speaker, arrival(source="10.9.0.3", destination="10.9.0.1")) == Reason.SOURCE


def test_multicast_and_unicast_are_not_mixed() -> None:
    """As keepalived does it: who is configured for one doesn't take the other."""
    assert reason_of(dialect(peers=["10.9.0.2"]), arrival()) == Reason.DESTINATION
    assert reason_of(dialect(), arrival(destination="10.9.0.1")) == Reason.DESTINATION


def test_a_family_without_peers_is_multicast() -> None:
    """Peers of one family say nothing of the other."""
    speaker = dialect(virtual_ips=vips("10.9.0.100", "fe80::100"), peers=["10.9.0.2"])
    assert speaker.destinations(4) == ("10.9.0.2",)
    assert speaker.destinations(6) == (GROUPS[6],)
    advert = Advert(6, 3, 51, 150, 1.0, ("fe80::100",))
    packet = arrival(advert, family=6, source="fe80::2%eth0", destination=GROUPS[6])
    assert speaker.read(packet, OWN, WALL) == advert


def test_the_version_is_the_configured_one() -> None:
    """A version 2 peer and a version 3 one never were a pair."""
    v2 = replace(PEER, version=2, form=None)
    assert reason_of(dialect(), arrival(v2)) == Reason.VERSION
    assert reason_of(dialect(version=2), arrival()) == Reason.VERSION
    assert dialect(version=2).read(arrival(v2), OWN, WALL) == v2


def test_version_2_wants_the_same_interval() -> None:
    """RFC 3768, 7.1; version 3 adopts it instead."""
    assert reason_of(dialect(version=2), arrival(replace(PEER, version=2, interval=2.0))) == Reason.INTERVAL
    assert dialect().read(arrival(replace(PEER, interval=2.0)), OWN, WALL).interval == 2.0


def test_another_list_of_addresses_is_no_reason() -> None:
    """Dropping it would make two masters; the machine raises an alarm."""
    assert dialect().read(arrival(replace(PEER, addresses=("10.9.0.7",))), OWN, WALL).addresses == ("10.9.0.7",)


@pytest.mark.parametrize(
    ("checksum", "heard", "form"),
    [
        ("auto", None, Form.PSEUDO),
        ("auto", Form.RFC9568, Form.RFC9568),
        ("auto", Form.PSEUDO, Form.PSEUDO),
        ("pseudo", Form.RFC9568, Form.PSEUDO),
        ("rfc9568", Form.PSEUDO, Form.RFC9568),
    ],
)
def test_the_checksum_is_as_configured_or_as_the_peer_does_it(checksum: str, heard: Form | None, form: Form) -> None:
    """A keepalived that drops our adverts for their checksum becomes a second master."""
    speaker = dialect(checksum=checksum)
    if heard:
        speaker.read(arrival(replace(PEER, form=heard)), OWN, WALL)
    (data,) = speaker.write(4, 100, "10.9.0.1", [GROUPS[4]], WALL)
    assert data == encode(Advert(4, 3, 51, 100, 1.0, ("10.9.0.100",), form), "10.9.0.1", GROUPS[4])


def test_the_old_form_is_copied_too() -> None:
    """A unicast keepalived of 2017 is answered in its own way."""
    speaker = dialect(peers=["10.9.0.2"])
    speaker.read(arrival(replace(PEER, form=Form.OLD), destination="10.9.0.1"), OWN, WALL)
    assert speaker.heard_form == {4: Form.OLD}
    (data,) = speaker.write(4, 100, "10.9.0.1", ["10.9.0.2"], WALL)
    assert data == encode(Advert(4, 3, 51, 100, 1.0, ("10.9.0.100",), Form.OLD), "10.9.0.1", "10.9.0.2")


def test_a_dropped_packet_changes_no_form() -> None:
    """Anyone could otherwise turn our adverts into ones that the peer drops."""
    speaker = dialect()
    reason_of(speaker, arrival(replace(PEER, form=Form.RFC9568), hop_limit=3))
    assert speaker.heard_form == {}


def test_each_destination_gets_a_packet_of_its_own() -> None:
    """The pseudo header has the destination in it."""
    one, two = dialect(peers=["10.9.0.2", "10.9.0.3"]).write(4, 100, "10.9.0.1", ["10.9.0.2", "10.9.0.3"], WALL)
    assert one != two


def test_signed_adverts_are_believed_once() -> None:
    """The plain case of signatures, and a recording of it."""
    sender, receiver = pair("enforce")
    packet = sent(sender)
    assert receiver.read(packet, OWN, WALL).priority == 150
    assert reason_of(receiver, packet) == Reason.REPLAYED
    assert receiver.read(sent(sender), OWN, WALL).priority == 150


def test_ipv6_is_signed_under_the_checksum_that_the_kernel_makes() -> None:
    """The kernel sums the whole payload, signature and all; the signature leaves the checksum out."""
    changes = {"virtual_ips": vips("fe80::100"), "auth_hmac": auth("enforce")}
    sender, receiver = dialect(KEYS, **changes), dialect(KEYS, **changes)
    (data,) = sender.write(6, 100, "fe80::2%eth0", [GROUPS[6]], WALL)
    assert receiver.read(Arrival(data, 6, "fe80::2%eth0", GROUPS[6], 255), OWN, WALL).priority == 100


@pytest.mark.parametrize(
    ("sending", "receiving", "is_taken"),
    [
        ("receive-only", "receive-only", True),
        ("receive-only", "permissive", True),
        ("receive-only", "enforce", False),
        ("permissive", "receive-only", True),
        ("permissive", "permissive", True),
        ("permissive", "enforce", True),
        ("enforce", "receive-only", True),
        ("enforce", "permissive", True),
    ],
)
def test_the_modes_are_a_way_from_unsigned_to_signed(sending: str, receiving: str, is_taken: bool) -> None:
    """Both machines may be a step apart at any time; only enforce drops what isn't signed."""
    sender, receiver = pair(sending, receiving)
    packet = sent(sender)
    assert len(packet.data) == (12 if sending == "receive-only" else 40)
    if is_taken:
        assert receiver.read(packet, OWN, WALL).priority == 150
    else:
        assert reason_of(receiver, packet) == Reason.UNSIGNED


@pytest.mark.parametrize("mode", ["receive-only", "permissive", "enforce"])
def test_a_wrong_signature_is_dropped_in_every_mode(mode: str) -> None:
    """A forged priority under a real signature, an unknown key, and bits that aren't defined."""
    sender, receiver = pair("enforce", mode)
    packet = sent(sender)
    forged = encode(Advert(4, 3, 51, 255, 1.0, ("10.9.0.100",), Form.PSEUDO), "10.9.0.2", "10.9.0.1")
    assert reason_of(receiver, replace(packet, data=forged + packet.data[-28:])) == Reason.SIGNATURE
    other = Dialect(settings(auth_hmac=auth("enforce")), ((2, KEYS[0][1]),))
    (data,) = other.write(4, 150, "10.9.0.2", ["10.9.0.1"], WALL)
    assert reason_of(receiver, replace(packet, data=data)) == Reason.KEY
    reserved = packet.data[:-26] + b"\1" + packet.data[-25:]
    assert reason_of(receiver, replace(packet, data=reserved)) == Reason.TRAILER


def test_time_mode_wants_clocks_that_agree() -> None:
    """Within three adverts, at least five seconds; monotonic mode takes any clock."""
    sender, receiver = pair("enforce")
    assert reason_of(receiver, sent(sender), WALL + 6) == Reason.STALE
    assert reason_of(receiver, sent(sender), WALL - 6) == Reason.STALE
    assert receiver.read(sent(sender), OWN, WALL + 4).priority == 150
    _, relaxed = pair("enforce", auth_hmac=auth("enforce", "monotonic"))
    assert relaxed.read(sent(sender), OWN, WALL + 1_000_000).priority == 150


def test_without_keys_a_signature_is_passed_over() -> None:
    """Dropping it would make two masters while keys are rolled out, and an unsigned one is believed as well."""
    sender, _ = pair("enforce")
    assert dialect(peers=["10.9.0.2"]).read(sent(sender), OWN, WALL).priority == 150


def test_the_first_key_signs_and_all_are_accepted() -> None:
    """That is how keys are changed without an interruption: add the new one, then put it first."""
    section = {"mode": "enforce", "replay": "time", "keys": [[2, "/b"], [1, "/a"]]}
    both = ((2, b"new"), KEYS[0])
    sender = dialect(both, auth_hmac=section, peers=["10.9.0.1"])
    receiver = dialect((KEYS[0], (2, b"new")), auth_hmac=section, peers=["10.9.0.2"])
    packet = sent(sender)
    assert packet.data[-27] == 2
    assert receiver.read(packet, OWN, WALL).priority == 150


def test_signatures_without_a_key_are_a_bug() -> None:
    """The keys come with the settings."""
    with pytest.raises(ValueError, match="without keys"):
        dialect(auth_hmac=auth("enforce"))


def test_mutated_packets_touch_no_state() -> None:
    """Of 5,000 broken signed packets none is believed, and the next good one still is."""
    dice = random.Random(51)
    sender, receiver = pair("enforce")
    packet = sent(sender)
    reasons = set()
    for _ in range(5_000):
        data = bytearray(packet.data)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        changed = replace(packet, data=bytes(data))
        reasons.add(reason_of(receiver, changed))
    assert reasons <= set(Reason)
    assert {Reason.SIGNATURE, Reason.CHECKSUM, Reason.OTHER_VRID, Reason.STALE} <= reasons
    assert receiver.read(packet, OWN, WALL).priority == 150
