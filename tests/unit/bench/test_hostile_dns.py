"""What a hostile name server says, read by a resolver's library."""

import dns.exception
import dns.message
import pytest

from bench import hostile_dns
from bench.hostile_dns import MESSAGE_BYTES, HostileDns


class _Unbound(HostileDns):
    """Answers without listening."""

    def __init__(self, name: str) -> None:
        self._make = hostile_dns.ANSWERS[name][0]
        self._made = {}
        self.bytes = self.questions = 0


def _ask(name: str, kind: str, *, whole: bool = True) -> bytes:
    server = _Unbound(name)
    answer = server._answer(dns.message.make_query("a.test", kind).to_wire(), whole=whole)
    assert server.bytes == len(answer)
    return answer


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("thousands of addresses", "A"),
        ("thousands of addresses", "AAAA"),
        ("a chain of names", "A"),
        ("names in a circle", "A"),
        ("thousands of services", "SRV"),
    ],
)
def test_a_message_is_as_full_as_it_can_be(name: str, kind: str) -> None:
    """And well-formed: what it costs is then not the price of a refusal."""
    data = _ask(name, kind)
    assert MESSAGE_BYTES - 100 < len(data) < 65536
    answer = dns.message.from_wire(data)
    assert answer.question[0].name.to_text() == "a.test."
    assert answer.answer


def test_the_targets_of_a_service_have_addresses() -> None:
    """One each: what costs is to ask for them."""
    assert len(dns.message.from_wire(_ask("thousands of services", "A")).answer[0]) == 1


def test_over_udp_there_is_more() -> None:
    """So that who asks comes again over TCP, where an answer may be long."""
    answer = dns.message.from_wire(_ask("thousands of addresses", "A", whole=False))
    assert answer.flags & dns.flags.TC
    assert not answer.answer


def test_a_name_that_points_to_itself_is_refused() -> None:
    """As every reader of names must."""
    with pytest.raises(dns.exception.FormError):
        dns.message.from_wire(_ask("names that point to themselves", "A"))
