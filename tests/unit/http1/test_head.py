"""Pins the values that readers give out."""

from pyproxy.http1.head import CHUNKED, LENGTH, NO_BODY, UNTIL_EOF, Framing
from tests.unit.http1.feeding import only_head, read_response, request, response


def test_names_of_framings() -> None:
    """The short names are the members, in order."""
    assert list(Framing) == [NO_BODY, LENGTH, CHUNKED, UNTIL_EOF]
    assert CHUNKED is Framing.CHUNKED
    assert UNTIL_EOF is Framing.UNTIL_EOF


def test_repr_of_a_request() -> None:
    """Logs and failing tests show the request line."""
    assert repr(only_head(request(start="HEAD /x HTTP/1.1"))) == "<RequestHead HEAD b'/x' HTTP/1.1>"


def test_repr_of_a_response() -> None:
    """Logs and failing tests show status and framing."""
    events, _ = read_response([response("Transfer-Encoding: chunked")])
    assert repr(events[0]) == "<ResponseHead 200 b'OK' CHUNKED>"
