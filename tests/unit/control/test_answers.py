"""Pins how the traffic of a name is shared between its addresses."""

import doctest
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.control import answers as answers_module
from pyproxy.control.answers import MAX_ADDRESSES, Address, Service, share_equally, share_services

HOSTS = st.integers(0, 20).map(lambda number: f"10.0.0.{number}") | st.just("fd00::1")
SERVICES = st.builds(
    Service,
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(80, 82),
    st.lists(HOSTS, max_size=4, unique=True).map(tuple),
)


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(answers_module).failed == 0


def test_the_order_of_the_records_does_not_matter() -> None:
    """A server that rotates its records, as most do, changes nothing; addresses are in order of their numbers."""
    hosts = ["10.0.0.10", "10.0.0.9", "fd00::1", "10.0.0.9"]
    answer = share_equally(hosts, 80)
    assert [address.host for address in answer] == ["10.0.0.9", "10.0.0.10", "fd00::1"]
    assert answer == share_equally(reversed(hosts), 80)


def test_a_single_address_has_it_all() -> None:
    """The most common answer."""
    assert share_equally(["10.0.0.1"], 80) == (Address("10.0.0.1", 80, Fraction(1)),)


def test_more_addresses_than_allowed() -> None:
    """The first ones in order are used and share everything, the others are left out."""
    hosts = [f"10.0.{number // 250}.{number % 250}" for number in range(MAX_ADDRESSES + 10)]
    answer = share_equally(hosts, 80)
    assert [address.host for address in answer] == hosts[:MAX_ADDRESSES]
    assert sum(address.share for address in answer) == 1


def test_a_higher_priority_number_is_a_backup() -> None:
    """RFC 2782: clients must take the lowest number that they can reach."""
    answer = share_services(
        [Service(20, 5, 80, ("10.0.0.1",)), Service(10, 1, 81, ("10.0.0.2",)), Service(10, 3, 81, ("10.0.0.3",))]
    )
    assert [(address.host, address.share, address.backup) for address in answer] == [
        ("10.0.0.2", Fraction(1, 4), False),
        ("10.0.0.3", Fraction(3, 4), False),
        ("10.0.0.1", Fraction(1), True),
    ]


def test_weights_that_are_all_zero_are_equal() -> None:
    """RFC 2782: 0 throughout is how somebody writes that there is no selection to be done."""
    answer = share_services([Service(0, 0, 80, ("10.0.0.1",)), Service(0, 0, 80, ("10.0.0.2", "10.0.0.3"))])
    assert [address.share for address in answer] == [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]


def test_a_weight_of_zero_beside_others_is_no_share() -> None:
    """It stays a member: who makes weights of shares decides how little that is."""
    answer = share_services([Service(0, 0, 80, ("10.0.0.1",)), Service(0, 2, 80, ("10.0.0.2",))])
    assert [address.share for address in answer] == [0, 1]


def test_two_targets_on_one_address() -> None:
    """An address that two records lead to is one backend with both shares, or the primary if one is."""
    both = share_services([Service(0, 1, 80, ("10.0.0.1", "10.0.0.2")), Service(0, 1, 80, ("10.0.0.1",))])
    assert [address.share for address in both] == [Fraction(3, 4), Fraction(1, 4)]
    (one,) = share_services([Service(1, 1, 80, ("10.0.0.1",)), Service(0, 1, 80, ("10.0.0.1",))])
    assert not one.backup


def test_a_target_without_addresses_is_not_the_lowest_priority() -> None:
    """Backups are promoted when no primary has an address."""
    (one,) = share_services([Service(0, 1, 80, ()), Service(1, 1, 80, ("10.0.0.1",))])
    assert (one.share, one.backup) == (Fraction(1), False)
    assert share_services([Service(0, 1, 80, ())]) == ()


@given(st.lists(SERVICES, max_size=8))
def test_shares_of_any_records(services: list[Service]) -> None:
    """Primaries share exactly 1, each address is there once, and no order of the records changes the answer."""
    answer = share_services(services)
    addresses = {(host, service.port) for service in services for host in service.hosts}
    assert {(address.host, address.port) for address in answer} == addresses
    assert len(answer) == len(addresses)
    if answer:
        assert sum(address.share for address in answer if not address.backup) == 1
        assert all(0 <= address.share <= 1 for address in answer)
    assert share_services(services[::-1]) == answer
