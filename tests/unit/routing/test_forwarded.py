"""Pins what backends are told of the client, and whom we take for the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.routing.forwarded import (
    UNKNOWN_SENDER,
    Sender,
    host_line,
    resolve_client,
    sender_lines,
    trusted_lines,
    without_forwarding,
)
from pyproxy.routing.networks import Networks

TRUSTED = Networks(["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"])
WITH_UNIX = Networks(["10.0.0.0/8", "unix:"])


def chain(*values: str) -> list[tuple[bytes, bytes]]:
    """Make X-Forwarded-For fields."""
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


def test_sender_that_is_not_trusted() -> None:
    """For, Proto and Port are set from the connection."""
    assert sender_lines(b"192.0.2.1", 8080) == (
        b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\n"
    )


def test_a_unix_socket_has_no_port() -> None:
    """Port 0 is none, and then nothing is said of it; For is what nginx says."""
    sender = Sender("unix:", 0, TRUSTED)
    assert sender.forwarded_lines(FORGED, b"h") == (
        b"X-Forwarded-For: unix:\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
    )
    assert sender.resolve_client(FORGED) == b"unix:"


def test_a_trusted_unix_socket() -> None:
    """Whoever sits behind a unix socket that is trusted tells who the client is."""
    sender = Sender("unix:", 0, WITH_UNIX)
    assert sender.resolve_client(FORGED) == b"6.6.6.6"
    assert sender.resolve_client([]) == b"unix:"
    assert sender.forwarded_lines(chain("6.6.6.6"), b"h") == (
        b"X-Forwarded-For: 6.6.6.6, unix:\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\n"
    )


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["1.1.1.1, unix:"], b"1.1.1.1"),
        (["unix:"], b"unix:"),
        (["1.1.1.1, unix:, 10.0.0.2"], b"1.1.1.1"),
        (["1.1.1.1, unix"], b"10.9.9.9"),
        (["1.1.1.1, unix:/run/x"], b"10.9.9.9"),
    ],
)
def test_unix_sockets_on_the_way(values: list[str], client: bytes) -> None:
    """A proxy that was reached through its unix socket is passed over like any other that is trusted."""
    assert resolve_client(chain(*values), b"10.9.9.9", WITH_UNIX) == client


def test_a_unix_socket_that_is_not_trusted_ends_the_search() -> None:
    """Then it is the client, like an address that isn't trusted."""
    assert resolve_client(chain("1.1.1.1, unix:"), b"10.9.9.9", TRUSTED) == b"unix:"


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["https"], b"https"), (["HTTPS"], b"https"), ([" https "], b"https"), (["http"], b"http"), ([""], b"http"),
        (["https", "http"], b"https"), (["https, http"], b"https"), (["http, https"], b"http"), (["wss"], b"https"),
        ([" ,\t, https"], b"https"), (["", "https"], b"https"), (["https\xa0"], b"http"), (["on"], b"http"),
        (["https\r\nX: y"], b"http"), ([], b"http"),
    ],
)  # fmt: skip
def test_scheme(values: list[str], scheme: bytes) -> None:
    """A trusted sender's X-Forwarded-Proto is a list whose first member counts; empty ones are none."""
    fields = [(b"x-forwarded-for", b"https"), *((b"x-forwarded-proto", value.encode("latin-1")) for value in values)]
    assert Sender("10.0.0.1", 80, TRUSTED).scheme(fields) == scheme
    assert Sender("192.0.2.1", 80, TRUSTED).scheme(fields) == b"http", "not trusted"
    assert Sender("10.0.0.1", 80, TRUSTED).scheme(None) == b"http"


@pytest.mark.parametrize(
    ("host", "line"), [(b"a:1", b"X-Forwarded-Host: a:1\r\n"), (None, b""), (b"", b"X-Forwarded-Host: \r\n")]
)
def test_host_line(host: bytes | None, line: bytes) -> None:
    """The Host goes along if there is one."""
    assert host_line(host) == line


def lines(*fields: tuple[bytes, bytes], host: bytes | None = b"h") -> list[bytes]:
    """Write what a trusted sender's fields become, one line each."""
    return trusted_lines(fields, b"10.0.0.1", host).splitlines()


def test_trusted_sender_without_fields() -> None:
    """It gets the same as anyone else."""
    assert lines() == [
        b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: h", b"X-Forwarded-Port: 80",
    ]  # fmt: skip


def test_trusted_sender_keeps_what_it_said() -> None:
    """For grows by the sender, several fields become one; the others stay."""
    fields = [
        (b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"www"),
        (b"x-forwarded-for", b"2.2.2.2, 3.3.3.3"), (b"x-forwarded-port", b"443"), (b"forwarded", b"for=1"),
        (b"x-real-ip", b"1.1.1.1"),
    ]  # fmt: skip
    assert sorted(lines(*fields)) == [
        b"Forwarded: for=1",
        b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1",
        b"X-Forwarded-Host: www",
        b"X-Forwarded-Port: 443",
        b"X-Forwarded-Proto: https",
        b"X-Real-IP: 1.1.1.1",
    ]


@pytest.mark.parametrize("value", ["1.1.1.1,", " , 1.1.1.1 , ,", "1.1.1.1\t,"])
def test_empty_members_are_not_written_on(value: str) -> None:
    """Some backends take the last but one of what stands between commas, whatever it is."""
    assert lines(*chain(value))[0] == b"X-Forwarded-For: 1.1.1.1, 10.0.0.1"
    assert lines(*chain(", ,"))[0] == b"X-Forwarded-For: 10.0.0.1"


def test_trusted_sender_with_gaps() -> None:
    """Only what it left out is filled in."""
    got = lines((b"x-forwarded-proto", b"https"), host=None)
    assert got == [b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https", b"X-Forwarded-Port: 443"]


@pytest.mark.parametrize(
    ("fields", "host", "url"),
    [
        ({"proto": "https"}, "shop", ("https", "shop", "443")),
        ({"proto": "https"}, "shop:8443", ("https", "shop:8443", "8443")),
        ({"proto": "https", "host": "shop"}, "inner:8080", ("https", "shop", "443")),
        ({"host": "shop:8080"}, "inner", ("http", "shop:8080", "8080")),
        ({"host": "[2001:db8::1]"}, "inner", ("http", "[2001:db8::1]", "80")),
        ({"host": "[2001:db8::1]:81"}, "inner", ("http", "[2001:db8::1]:81", "81")),
        ({"proto": "https", "port": "8443"}, "shop", ("https", "shop", "8443")),
        ({"port": "443"}, "shop", ("http", "shop", "443")),
        ({"proto": "WSS"}, "shop", ("WSS", "shop", "443")),
        ({"proto": ", https, http", "host": "a, b:81", "port": " ,444, 80"}, "shop", ("https", "a", "444")),
        ({"proto": ",", "host": " ", "port": ","}, "shop", ("http", "shop", "80")),
        ({"proto": "https", "port": "0"}, "shop", ("https", "shop", "443")),
        ({"proto": "https", "port": "65536"}, "shop:x", ("https", "shop:x", "443")),
        ({"port": "00443"}, "shop", ("http", "shop", "443")),
    ],
)
def test_proto_host_and_port_fit_each_other(fields: dict[str, str], host: str, url: tuple[str, str, str]) -> None:
    """A trusted sender's lists are read as lists; the port nobody said is the host's, or the one of the scheme."""
    said = [(f"x-forwarded-{name}".encode(), value.encode()) for name, value in fields.items()]
    names = ("Proto", "Host", "Port")
    assert lines(*said, host=host.encode())[1:] == [
        f"X-Forwarded-{name}: {value}".encode() for name, value in zip(names, url, strict=True)
    ]


def test_other_fields_of_a_trusted_sender_travel_on() -> None:
    """Whatever it says beside the four."""
    fields = [(b"x-forwarded-prefix", b"/a, /b"), (b"x-forwarded-client-cert", b"By=x"), (b"x-forwarded-for", b" ")]
    got = lines(*fields)
    assert got[0] == b"X-Forwarded-For: 10.0.0.1"
    assert got[4:] == [b"X-Forwarded-Prefix: /a, /b", b"X-Forwarded-Client-Cert: By=x"]


def test_without_forwarding() -> None:
    """No route goes by what a stranger says of a proxy."""
    names = (b"X-Forwarded-Ssl", b"x-forwarded-for", b"Forwarded", b"X-REAL-IP", b"X-Forwarded", b"Host")
    assert [name for name, _ in without_forwarding([(name, b"") for name in names])] == [b"X-Forwarded", b"Host"]


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ([], "10.9.9.9"),
        (chain("1.1.1.1"), "1.1.1.1"),
        (chain("6.6.6.6, 1.1.1.1"), "1.1.1.1"),
        (chain("6.6.6.6, 1.1.1.1, 10.0.0.2"), "1.1.1.1"),
        (chain("1.1.1.1, 10.0.0.3, fd00::2, 192.0.2.7"), "1.1.1.1"),
        (chain("10.0.0.3, 10.0.0.2"), "10.0.0.3"),
        (chain("1.1.1.1", "10.0.0.2"), "1.1.1.1"),
        (chain("10.0.0.2", "1.1.1.1"), "1.1.1.1"),
        (chain("1.1.1.1, unknown"), "10.9.9.9"),
        (chain("1.1.1.1, unknown, 10.0.0.2"), "10.0.0.2"),
        (chain("1.1.1.1,"), "1.1.1.1"),
        (chain("1.1.1.1, ,\t,10.0.0.2,", ""), "1.1.1.1"),
        (chain(*(["6.6.6.6"] + 200 * ["10.0.0.2"])), "10.0.0.2"),
        (chain("1.1.1.1," + 200 * "1" + ", 10.0.0.2"), "10.0.0.2"),
        (chain(""), "10.9.9.9"),
        (chain(","), "10.9.9.9"),
        (chain("1.1.1.1:5678"), "1.1.1.1"),
        (chain("[2001:db8::1]:5678"), "2001:db8::1"),
        (chain("[2001:db8::1]"), "2001:db8::1"),
        (chain("2001:db8::1"), "2001:db8::1"),
        (chain("::ffff:10.0.0.2"), "::ffff:10.0.0.2"),
        (chain("1.1.1.1, ::ffff:10.0.0.2"), "1.1.1.1"),
        (chain("1.1.1.1\t, 10.0.0.2"), "1.1.1.1"),
        (chain("1.1.1.256"), "10.9.9.9"),
        (chain("1.1.1"), "10.9.9.9"),
        (chain("\xe9"), "10.9.9.9"),
        ([(b"x-real-ip", b"1.1.1.1"), (b"forwarded", b"for=1.1.1.1")], "10.9.9.9"),
    ],
)
def test_resolve_client(fields: list[tuple[bytes, bytes]], client: str) -> None:
    """From the right: past trusted proxies to the first other address; what is no address ends the search."""
    assert resolve_client(fields, b"10.9.9.9", TRUSTED) == client.encode()


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=12), max_size=4))
def test_resolve_client_gives_something_fit_for_the_log(values: list[str]) -> None:
    """Whatever a trusted sender says, the client is the text of an address, without blanks, quotes or commas."""
    client = resolve_client(chain(*values), b"10.9.9.9", TRUSTED)
    assert client
    assert client == b"unix:" or not client.translate(None, b"0123456789abcdefABCDEF:.")


def test_a_zone_does_not_reach_the_log() -> None:
    """An address with a zone is an address, but what stands behind its % could be anything."""
    client = resolve_client(chain('fe80::1%" evil'), b"10.9.9.9", TRUSTED)
    assert client in {b"fe80::1", b"10.9.9.9"}


FORGED = [(b"x-forwarded-for", b"6.6.6.6"), (b"forwarded", b"for=6.6.6.6"), (b"x-real-ip", b"6.6.6.6")]


def test_an_untrusted_sender_is_the_client() -> None:
    """Whatever it claims, it is itself, to the log and to the backend."""
    sender = Sender("192.0.2.1", 80, TRUSTED)
    assert sender.address == b"192.0.2.1"
    assert sender.resolve_client(FORGED) == b"192.0.2.1"
    assert sender.forwarded_lines(FORGED, b"h") == sender_lines(b"192.0.2.1", 80) + host_line(b"h")
    assert sender.forwarded_lines(None, None) == sender_lines(b"192.0.2.1", 80)


def test_a_trusted_sender_is_believed() -> None:
    """Behind it is the client that it names, and it becomes part of the chain."""
    sender = Sender("10.0.0.1", 80, TRUSTED)
    assert sender.resolve_client(FORGED) == b"6.6.6.6"
    assert sender.forwarded_lines(FORGED, b"h") == trusted_lines(FORGED, b"10.0.0.1", b"h")
    assert sender.forwarded_lines(None, b"h") == trusted_lines((), b"10.0.0.1", b"h")


def test_nobody_yet() -> None:
    """Before a connection is made there is a dash for the log."""
    assert UNKNOWN_SENDER.address == b"-"
