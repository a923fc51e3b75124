"""Pins how the verbs ask the running program, and what they say when that fails; no socket is opened."""

import http.client
import json
from typing import Any

import pytest

from pyproxy.cli.api import AdminApi, ApiError
from pyproxy.control.settings import AdminSettings

TCP = AdminSettings("127.0.0.1", 9900)


class FakeResponse:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    def read(self) -> bytes:
        return self._body


class FakeConnection:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, status: int = 200, body: bytes = b"{}", error: Exception | None = None) -> None:
        self.response = FakeResponse(status, body)
        self.error = error
        self.asked: tuple[Any, ...] = ()
        self.is_closed = False

    def request(self, *asked: Any) -> None:
        self.asked = asked
        if self.error is not None:
            raise self.error

    def getresponse(self) -> FakeResponse:
        return self.response

    def close(self) -> None:
        self.is_closed = True


def ask(monkeypatch: pytest.MonkeyPatch, connection: FakeConnection, settings: AdminSettings = TCP) -> Any:
    """Ask through a connection that isn't one."""
    monkeypatch.setattr(AdminApi, "_connection", lambda _api, _timeout: connection)
    try:
        return AdminApi(settings).ask("POST", "/path", {"a": 1})
    finally:
        assert connection.is_closed


def test_a_good_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON there and back."""
    connection = FakeConnection(201, b'{"b": [2]}')
    assert ask(monkeypatch, connection) == {"b": [2]}
    method, path, body, headers = connection.asked
    assert (method, path, json.loads(body)) == ("POST", "/path", {"a": 1})
    assert headers == {"Content-Type": b"application/json"}


def test_without_content_there_is_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every GET."""
    connection = FakeConnection()
    monkeypatch.setattr(AdminApi, "_connection", lambda _api, _timeout: connection)
    AdminApi(TCP).ask("GET", "/path")
    assert connection.asked == ("GET", "/path", None, {})


def test_the_token_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever letters it has."""
    connection = FakeConnection()
    ask(monkeypatch, connection, AdminSettings("127.0.0.1", 9900, token="ключ x"))
    assert connection.asked[3]["Authorization"] == "Bearer ключ x".encode()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(), "pyproxy is not running: nothing answers on 127.0.0.1:9900 (admin.bind)"),
        (FileNotFoundError(), "pyproxy is not running: nothing answers on 127.0.0.1:9900 (admin.bind)"),
        (PermissionError(), "no permission to use 127.0.0.1:9900 (admin.bind)"),
        (TimeoutError(), "no answer from 127.0.0.1:9900 within 10 s"),
        (OSError(113, "No route to host"), "can't ask 127.0.0.1:9900: No route to host"),
        (http.client.BadStatusLine("x"), "what answers on 127.0.0.1:9900 (admin.bind) is not pyproxy's admin API"),
    ],
)
def test_no_answer(monkeypatch: pytest.MonkeyPatch, error: Exception, text: str) -> None:
    """One line that names the address and where it is written."""
    with pytest.raises(ApiError) as raised:
        ask(monkeypatch, FakeConnection(error=error))
    assert str(raised.value) == text
    assert not raised.value.is_usage


@pytest.mark.parametrize(
    ("status", "body", "text", "is_usage"),
    [
        (200, b"<html>", "what answers on 127.0.0.1:9900 (admin.bind) is not pyproxy's admin API", False),
        (404, b"<html>", "what answers on 127.0.0.1:9900 (admin.bind) is not pyproxy's admin API", False),
        (503, b'{"error": "no worker is ready"}', "no worker is ready", False),
        (422, b'{"error": "not valid", "detail": ["a: x", "b: y"]}', "not valid\n  a: x\n  b: y", True),
        (422, b'{"error": "not valid", "detail": 5}', "not valid", True),
        (500, b'{"detail": []}', "127.0.0.1:9900 answered 500", False),
        (500, b"[]", "127.0.0.1:9900 answered 500", False),
        (401, b'{"error": "x"}', "the running program wants a token, and the file has none (admin.token)", False),
    ],
)
def test_an_answer_that_is_none(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, text: str, *, is_usage: bool
) -> None:
    """The program's own words, with every detail; a question that was wrong is bad usage."""
    with pytest.raises(ApiError) as raised:
        ask(monkeypatch, FakeConnection(status, body))
    assert (str(raised.value), raised.value.is_usage) == (text, is_usage)


def test_a_wrong_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was changed since the program has read it."""
    settings = AdminSettings("127.0.0.1", 9900, token="x")
    with pytest.raises(ApiError, match=r"the running program has another token than the file \(admin\.token, "):
        ask(monkeypatch, FakeConnection(401, b"{}"), settings)


@pytest.mark.parametrize(("bind", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1")])
def test_every_address_is_asked_over_loopback(bind: str, host: str) -> None:
    """What is bound to all of them is reached there for sure."""
    connection = AdminApi(AdminSettings(bind, 9900))._connection(1.0)
    assert (connection.host, connection.port) == (host, 9900)


def test_a_port_that_nobody_knows() -> None:
    """With port 0 only the program's log tells it."""
    with pytest.raises(ApiError, match="port 0"):
        AdminApi(AdminSettings("127.0.0.1", 0)).ask("GET", "/")


def test_the_repr_keeps_the_token_to_itself() -> None:
    """It ends up in logs."""
    assert repr(AdminApi(AdminSettings(path="/run/x.sock", token="x"))) == "<AdminApi unix:/run/x.sock>"
