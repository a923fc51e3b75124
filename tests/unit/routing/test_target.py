"""Pins the normal forms in which routes see targets and hosts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.routing.target import encode_path, host_key, path_key, routing_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"), (b"/a/b", b"/a/b"), (b"/a?b=/../c", b"/a"), (b"/%41", b"/A"), (b"/%", b"/%"), (b"/%zz", b"/%zz"),
        (b"/%2541", b"/%41"), (b"/...", b"/..."), (b"/.a/..b", b"/.a/..b"), (b"/a//b", b"/a/b"), (b"/a%2F/b", b"/a/b"),
        (b"/a%2e%2e/b", b"/a../b"), (b"*", b"*"), (b"", b""), (b"/a?http://h/b", b"/a"), (b"/a://b", b"/a:/b"),
        (b"/a%3Fb?c", b"/a?b"),
    ],
)  # fmt: skip
def test_routing_path(target: bytes, path: bytes) -> None:
    """Decoded once, slashes merged after that."""
    assert routing_path(target) == path


@pytest.mark.parametrize(
    ("host", "key"),
    [
        (b"www.example.com", b"www.example.com"), (b"WWW.Example.COM", b"www.example.com"), (b"a:80", b"a"),
        (b"a.", b"a"), (b"a.:8080", b"a"), (b"a:", b"a"), (b"[::1]", b"[::1]"), (b"[::1]:80", b"[::1]"),
        (b"[FE80::1]", b"[fe80::1]"), (b"10.0.0.1:80", b"10.0.0.1"), (b"", b""),
    ],
)  # fmt: skip
def test_host_key(host: bytes, key: bytes) -> None:
    """Port, case and closing dot don't matter; the colons of an IPv6 address aren't a port."""
    assert host_key(host) == key


@pytest.mark.parametrize(
    ("path", "key"),
    [("/", b""), ("/a", b"/a"), ("/a/", b"/a"), ("/a//", b"/a/"), ("/caf\xe9", b"/caf\xc3\xa9"), ("/100%", b"/100%")],
)
def test_path_key(path: str, key: bytes) -> None:
    """One closing slash makes no difference; the path stands in the file as it is compared."""
    assert path_key(path) == key


VISIBLE = frozenset(range(0x21, 0x7F))


@given(st.binary(max_size=30))
def test_an_encoded_path_is_the_same_path(data: bytes) -> None:
    """A compared path, encoded, is compared as the same again, and consists of bytes that a target may have."""
    path = routing_path(encode_path(b"/" + data))
    encoded = encode_path(path)
    assert routing_path(encoded) == path
    assert set(encoded) <= VISIBLE - set(b'"#<>?[\\]^`{|}')
