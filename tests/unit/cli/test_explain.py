"""Pins what ``pyproxy explain`` asks and how it writes the answer down."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyproxy.cli.api import AdminApi, ApiError
from pyproxy.cli.explain import describe
from pyproxy.cli.main import main

FILE = """
listeners: [{bind: "127.0.0.1:8080"}]
pools: {web: {backends: [{address: "127.0.0.1:81"}]}}
"""
SERVED: dict[str, Any] = {
    "listener": "http",
    "client": "10.1.2.3",
    "request": {"method": "GET", "target": "/api/users", "host": "www.example.com"},
    "refused": None,
    "routes": [
        {
            "index": 2,
            "host": "www.example.com",
            "path": "/api/",
            "chosen": False,
            "reason": "header X-Canary is absent",
        },
        {"index": 10, "host": "www.example.com", "path": None, "chosen": True, "reason": None},
        {"index": 0, "host": None, "path": None, "chosen": False, "reason": "less specific than routes[10]"},
    ],
    "others": 3,
    "route": 10,
    "redirect": None,
    "pool": "api",
    "policy": "least_conn",
    "backends": [
        {
            "name": "api1",
            "address": "10.0.0.3:80",
            "weight": 2,
            "active": 12,
            "eligible": True,
            "score": 6.0,
            "reason": None,
            "picked": False,
        },
        {
            "name": "api2",
            "address": "[fd00::4]:80",
            "weight": 0.3333333,
            "active": 0,
            "eligible": True,
            "score": 0.0,
            "reason": None,
            "picked": True,
        },
        {
            "name": "spare",
            "address": "unix:/run/spare.sock",
            "weight": 1,
            "active": 0,
            "eligible": False,
            "score": None,
            "reason": "backup: a primary backend is available",
            "picked": False,
        },
    ],
    "backend": "api2",
    "sticky": None,
    "queued": 0,
    "worker": 1,
    "notes": ["as worker 1 of 2 sees it; each picks for itself"],
}
SERVED_TEXT = """\
request   GET /api/users, host www.example.com
client    10.1.2.3
listener  http
routes
   routes[2]   host www.example.com, path /api/  header X-Canary is absent
-> routes[10]  host www.example.com, path any    chosen
   routes[0]   host any, path any                less specific than routes[10]
   3 others: host or path doesn't fit
pool      api (least_conn)
backends
   api1   10.0.0.3:80           weight 2       12 active  score 6
-> api2   [fd00::4]:80          weight 0.3333  0 active   score 0
   spare  unix:/run/spare.sock  weight 1       0 active   backup: a primary backend is available
result    served by api/api2
note      as worker 1 of 2 sees it; each picks for itself"""
NOTHING: dict[str, Any] = {
    **SERVED,
    "routes": [],
    "others": 0,
    "route": None,
    "pool": None,
    "policy": None,
    "backends": [],
    "backend": None,
    "notes": [],
}


def test_a_request_that_is_served() -> None:
    """In the order in which the program decides, aligned, with the choices marked."""
    assert describe(SERVED) == SERVED_TEXT


UNCHECKED = [
    {**SERVED["backends"][0], "eligible": False, "score": None, "reason": reason}
    for reason in ("down: L4 refused", "checking")
]


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"refused": {"status": 404, "reason": "No route matches"}}, "refused with 404: No route matches"),
        ({"redirect": {"status": 308, "location": "https://x/"}}, "redirected with 308 to https://x/"),
        ({"pool": "web", "policy": "ewma", "queued": 4}, "waits for room in pool web, 4 before it"),
        ({"pool": "web", "policy": "ewma", "backends": UNCHECKED}, "waits for the first check in pool web"),
    ],
)
def test_other_ends(changes: dict[str, Any], result: str) -> None:
    """What there is nothing to say of is left out."""
    lines = describe({**NOTHING, **changes}).splitlines()
    assert lines[-1].split(maxsplit=1) == ["result", result]
    assert "routes" not in lines


def test_who_waits_is_counted() -> None:
    """Next to the pool's policy."""
    answer = {**NOTHING, "pool": "web", "policy": "hash", "queued": 2}
    assert "pool      web (hash, 2 waiting)" in describe(answer).splitlines()


def test_one_other_route() -> None:
    """Grammar."""
    assert "   1 other: host or path doesn't fit" in describe({**NOTHING, "others": 1}).splitlines()


def test_a_request_without_host() -> None:
    """HTTP/1.0 has none, and neither has what can't be read."""
    answer = {**NOTHING, "refused": {"status": 400, "reason": "x"}}
    answer["request"] = {"method": "GET", "target": "/", "host": None}
    assert describe(answer).startswith("request   GET /, no host\n")


class Asked:
    """What the verb has asked, and what it gets."""

    def __init__(self) -> None:
        self.questions: list[Any] = []
        self.error: ApiError | None = None

    def ask(self, method: str, path: str, content: Any) -> Any:
        self.questions.append((method, path, content))
        if self.error is not None:
            raise self.error
        return SERVED


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A directory with a configuration, and no program to be asked."""
    (tmp_path / "lb.yml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYPROXY_CONFIG", raising=False)
    asked = Asked()
    monkeypatch.setattr(AdminApi, "ask", asked.ask)
    return asked


def test_the_question(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments become the API's fields; headers keep their order and their colons."""
    arguments = ["explain", "GET", "http://x:1/y", "-H", "A: b: c", "--header", "A:d", "--from", "::1"]
    assert main(arguments) == 0
    question = {"method": "GET", "url": "http://x:1/y", "headers": [("A", "b: c"), ("A", "d")], "from": "::1"}
    assert asked.questions == [("POST", "/api/v1/explain", question)]
    assert capsys.readouterr() == (SERVED_TEXT + "\n", "")


def test_from_is_left_to_the_program(asked: Asked) -> None:
    """One place knows the default."""
    main(["explain", "GET", "/x", "-H", "Host: x"])
    assert "from" not in asked.questions[0][2]


def test_json(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get the API's answer."""
    assert main(["-c", "lb.yml", "explain", "GET", "http://x/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == SERVED


@pytest.mark.parametrize(("is_usage", "code"), [(False, 1), (True, 2)])
def test_a_failure(asked: Asked, capsys: pytest.CaptureFixture[str], *, is_usage: bool, code: int) -> None:
    """On stderr, with the exit code for it."""
    asked.error = ApiError("the reason", is_usage=is_usage)
    assert main(["explain", "GET", "http://x/"]) == code
    assert capsys.readouterr() == ("", "pyproxy: the reason\n")


def test_without_an_admin_api(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nobody to ask, and the line says which key it is."""
    (tmp_path / "lb.yml").write_text(FILE + "admin: null\n")
    assert main(["explain", "GET", "http://x/"]) == 1
    assert "lb.yml turns the admin API off (admin: null)" in capsys.readouterr().err
    assert asked.questions == []


def test_a_bad_file(asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its problems are told, as for every verb."""
    (tmp_path / "lb.yml").write_text(FILE + "x: 1\n")
    assert main(["explain", "GET", "http://x/"]) == 2
    assert capsys.readouterr().err.startswith("lb.yml:4:1: x: unknown key")


@pytest.mark.parametrize(
    "arguments",
    [(), ("GET",), ("GET", "http://x/", "more"), ("GET", "http://x/", "-H", "no colon"), ("GET", "x", "--frm", "y")],
)
def test_bad_usage(asked: Asked, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """Nothing is asked."""
    with pytest.raises(SystemExit) as raised:
        main(["explain", *arguments])
    assert raised.value.code == 2
    assert "usage: pyproxy" in capsys.readouterr().err
    assert asked.questions == []


def test_a_cookie() -> None:
    """What the cookie does stands before the result."""
    text = describe({**SERVED, "sticky": "cookie SRV is of api2"})
    assert "\nsticky    cookie SRV is of api2\nresult    served by api/api2\n" in text
