"""
How this machine speaks VRRP: which adverts are meant for it and believed, and how its own are written.

Must not know sockets or states. Between ``packet``, which knows the bytes, and the machine, which knows what an
advert means: here is what the settings say of version, VRID, peers, checksum and signatures.

A peer whose checksum is of another form than ours takes our adverts for garbage and becomes a second master, so
with ``checksum: auto`` what is sent copies the form that was heard last in the same family.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyproxy.errors import PacketInvalid
from pyproxy.failover.auth import Replays, Sequencer, Signed, Trailer, is_genuine, make_trailer
from pyproxy.failover.packet import (
    GROUPS,
    HOP_LIMIT,
    Advert,
    Form,
    Reason,
    decode,
    encode,
    packed,
    pseudo_header,
    put_checksum,
    without_checksum,
)
from pyproxy.failover.settings import Settings

_LEAST_WINDOW = 5.0

#: Not for us, and nothing wrong with the sender: nobody needs to hear of these.
HARMLESS = frozenset({Reason.OWN, Reason.OTHER_VRID})


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet of protocol 112 as it came; addresses as text, ``hop_limit`` None if the kernel didn't say."""

    data: bytes  # without the IP header
    family: int
    source: str
    destination: str
    hop_limit: int | None = None


class Dialect:
    """
    Reads and writes adverts as the settings want them.

    ``keys`` are pairs of id and key in the order of ``settings.auth_hmac.keys``; the first one signs. ``rejected``
    counts by reason, ``heard_form`` has the last checksum form that was heard in each family.
    """

    def __init__(self, settings: Settings, keys: Sequence[tuple[int, bytes]] = ()) -> None:
        self.settings = settings
        self.rejected: Counter[str] = Counter()
        self.heard_form: dict[int, Form] = {}
        self._keys: Mapping[int, bytes] = dict(keys)
        self._mode = settings.auth_hmac.mode if settings.auth_hmac else "off"
        window = max(3 * settings.advert_interval, _LEAST_WINDOW)
        is_timed = settings.auth_hmac is not None and settings.auth_hmac.replay == "time"
        self._sequencer = Sequencer(window if is_timed else None)
        self._replays = Replays(window if is_timed else None)
        if self._mode != "off" and not self._keys:
            raise ValueError("auth_hmac without keys")

    def __repr__(self) -> str:
        return f"<Dialect v{self.settings.version} vrid {self.settings.vrid} {self.rejected.total()} rejected>"

    def read(self, arrival: Arrival, own: frozenset[str], wall: float) -> Advert:
        """
        Give the advert in a packet; ``own`` are this machine's addresses, ``wall`` seconds since 1970.

        Raises ``PacketInvalid`` for one that must be ignored, and counts it. The caller must then do nothing: a
        packet that is dropped touches no timer.
        """
        try:
            advert = self._read(arrival, own, wall)
        except PacketInvalid as error:
            self.rejected[error.reason] += 1
            raise
        if advert.form is not None:
            self.heard_form[advert.family] = advert.form
        return advert

    def write(self, family: int, priority: int, source: str, destinations: Sequence[str], wall: float) -> list[bytes]:
        """
        Write one advert of ours for each destination: the group, or each unicast peer.

        Over IPv6 the kernel may be asked to make the checksum anew (IPV6_CHECKSUM); it makes the same one.
        """
        settings = self.settings
        addresses = settings.addresses(family)
        advert = Advert(family, settings.version, settings.vrid, priority, settings.advert_interval, addresses)
        advert = replace(advert, form=self._form(family))
        if self._mode in ("off", "receive-only"):
            return [encode(advert, source, to) for to in destinations]
        number = self._sequencer.next(wall)
        return [self._sign(encode(advert, source, to), family, (source, to), number) for to in destinations]

    def destinations(self, family: int) -> tuple[str, ...]:
        """Where the adverts of a family go to."""
        return self.settings.peers_of(family) or (GROUPS[family],)

    def _form(self, family: int) -> Form:
        if self.settings.checksum != "auto":
            return Form(self.settings.checksum)
        return self.heard_form.get(family, Form.PSEUDO)

    def _sign(self, message: bytes, family: int, path: tuple[str, str], number: int) -> bytes:
        key_id, key = next(iter(self._keys.items()))
        signed = self._signed(family, path[0])
        whole = message + make_trailer(signed, without_checksum(message), key_id, key, number)
        return put_checksum(whole, pseudo_header(6, *path, len(whole))) if family == 6 else whole

    def _signed(self, family: int, source: str) -> Signed:
        return Signed(family, self.settings.version, self.settings.vrid, packed(source))

    def _read(self, arrival: Arrival, own: frozenset[str], wall: float) -> Advert:
        source = arrival.source.partition("%")[0]
        if source in own:
            raise PacketInvalid(Reason.OWN)
        if len(arrival.data) > 1 and arrival.data[1] not in (0, self.settings.vrid):
            raise PacketInvalid(Reason.OTHER_VRID, str(arrival.data[1]))
        self._check_path(arrival, source)
        advert = decode(arrival.data, arrival.family, source, arrival.destination)
        if advert.version != self.settings.version:
            raise PacketInvalid(Reason.VERSION, f"{advert.version} from {source}")
        if advert.version == 2 and advert.interval != self.settings.advert_interval:
            raise PacketInvalid(Reason.INTERVAL, f"{advert.interval:g} s from {source}")
        self._check_signature(arrival, advert, source, wall)
        return advert

    def _check_path(self, arrival: Arrival, source: str) -> None:
        peers = self.settings.peers_of(arrival.family)
        is_multicast = arrival.destination.partition("%")[0] == GROUPS[arrival.family]
        if is_multicast == bool(peers):
            wanted = "unicast" if peers else "multicast"
            raise PacketInvalid(Reason.DESTINATION, f"{arrival.destination} from {source}, {wanted} is configured")
        if peers and source not in peers:
            raise PacketInvalid(Reason.SOURCE, source)
        if not peers and arrival.hop_limit != HOP_LIMIT:
            raise PacketInvalid(Reason.TTL, f"{arrival.hop_limit} from {source}")

    def _check_signature(self, arrival: Arrival, advert: Advert, source: str, wall: float) -> None:
        """Check what a signature says; without keys one is passed over, as if it weren't there."""
        trailer = advert.trailer
        if self._mode == "off":
            return
        if trailer is None:
            if self._mode == "enforce":
                raise PacketInvalid(Reason.UNSIGNED, source)
            return
        if trailer.reserved:
            raise PacketInvalid(Reason.TRAILER, source)
        if self._replays.is_stale(trailer.sequence, wall):
            raise PacketInvalid(Reason.STALE, source)
        key = self._keys.get(trailer.key_id)
        if key is None:
            raise PacketInvalid(Reason.KEY, f"{trailer.key_id} from {source}")
        self._check_genuine(arrival, trailer, key, source)
        if not self._replays.admit(source, trailer.sequence, wall):
            raise PacketInvalid(Reason.REPLAYED, source)

    def _check_genuine(self, arrival: Arrival, trailer: Trailer, key: bytes, source: str) -> None:
        message = without_checksum(arrival.data[: -len(trailer.prefix) - len(trailer.mac)])
        if not is_genuine(self._signed(arrival.family, source), message, trailer, key):
            raise PacketInvalid(Reason.SIGNATURE, source)
