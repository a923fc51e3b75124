"""Pins how changes come in: what is read, who is said to have made them, which conditions they may have."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from pyproxy.admin.changes import Conflict, Impossible, NotThere
from pyproxy.admin.control import Unavailable
from tests.unit.admin.asking import Client, Headers, body

A = "/api/v1/pools/web/backends/a"
ALL = "/api/v1/pools/web/backends"
JSON = {"Content-Type": "application/json"}


async def change(
    client: Client, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
) -> web.Response:
    """Write, as JSON if there is any content."""
    raw = b"" if content is None else json.dumps(content).encode()
    return await client.ask(path, method, {**JSON, **(headers or {})}, raw)


async def test_a_patch_reaches_the_program() -> None:
    """Only what was there, null too, with why and for how long; the answer is the backend."""
    client = Client()
    content = {"state": "drain", "weight": None, "reason": "disk", "expires": "30m", "pinned": True}
    response = await change(client, "PATCH", A, content)
    assert response.status == 200
    assert body(response)["state"] == "drain"
    ((what, values, origin),) = client.changes.made
    assert (what, values) == ("patch web/a", {"state": "drain", "weight": None})
    assert (origin.reason, origin.seconds, origin.pinned) == ("disk", 1800.0, True)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ({}, "must have one of state, weight, max_conns"),
        ({"reason": "x"}, "must have one of state, weight, max_conns"),
        ({"state": "drained"}, "state: must be one of ready, drain, maint; did you mean drain?"),
        ({"state": 1}, "state: must be one of ready, drain, maint"),
        ({"weight": -1}, "weight: must be at least 0"),
        ({"weight": 257}, "weight: must be at most 256"),
        ({"weight": 1.5}, "weight: must be a whole number"),
        ({"weight": True}, "weight: must be a whole number"),
        ({"max_conns": "7"}, "max_conns: must be a whole number"),
        ({"wieght": 1}, "wieght: unknown key; did you mean weight?"),
        ({"weight": 1, "expires": "soon"}, "expires: must be a duration such as 250ms, 2s, 5m or 1h, or a number"),
        ({"weight": 1, "expires": 0}, "expires: must be at least 100ms"),
        ({"weight": 1, "reason": "a\nb"}, "reason: must not contain control characters"),
        ({"weight": 1, "pinned": "yes"}, "pinned: must be true or false"),
        ([], "must be an object"),
    ],
)
async def test_what_cannot_be_is_422(content: Any, detail: str) -> None:
    """Each problem is told, and nothing is changed."""
    client = Client()
    response = await change(client, "PATCH", A, content)
    assert response.status == 422
    assert any(line.startswith(detail) for line in body(response)["detail"]), body(response)
    assert client.changes.made == []


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "wait=2h"])
async def test_a_wait_is_a_duration(query: str) -> None:
    """Of an hour at most; it is looked at before anything is changed."""
    client = Client()
    response = await change(client, "PATCH", f"{A}?{query}", {"weight": 2})
    assert response.status == 422
    assert client.changes.made == []


async def test_a_wait_ends_when_nothing_is_in_flight() -> None:
    """Or when the time is up, which is 202."""
    client = Client()
    client.control.present[0]["active"] = 1
    assert (await change(client, "PATCH", f"{A}?wait=10ms", {"state": "drain"})).status == 202
    waiting = asyncio.create_task(change(client, "PATCH", f"{A}?wait=30", {"state": "drain"}))
    await asyncio.sleep(0.01)
    client.control.present[0]["active"] = 0
    assert (await waiting).status == 200
    client.control.present[0]["active"] = 1
    assert (await change(client, "PATCH", A, {"state": "drain"})).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotThere("no"), 404),
        (Conflict("no"), 409),
        (Impossible("no"), 422),
        (Unavailable("no"), 503),
    ],
)
async def test_what_the_program_refuses(error: Exception, status: int) -> None:
    """Each kind of refusal has its status, and the text is the program's."""
    client = Client()
    client.changes.error = error
    response = await change(client, "PATCH", A, {"state": "drain"})
    assert response.status == status
    assert "no" in str(body(response))


@pytest.mark.parametrize("path", ["/api/v1/pools/web/backends/z", "/api/v1/pools/nope/backends/a"])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_what_is_not_there_is_404(method: str, path: str) -> None:
    """Whatever the body says."""
    response = await change(Client(), method, path, {"weight": -1})
    assert response.status == 404


async def test_the_tag_is_of_what_can_be_set() -> None:
    """It stays while requests come and go, and changes with a setting; the answer to a write has the new one."""
    client = Client()
    tag = (await client.ask(A)).headers["ETag"]
    client.control.present[0]["total"] += 5
    assert (await client.ask(A)).headers["ETag"] == tag
    response = await change(client, "PATCH", A, {"weight": 2}, {"If-Match": tag})
    assert response.status == 200
    assert response.headers["ETag"] == (await client.ask(A)).headers["ETag"] != tag
    assert (await change(client, "PATCH", A, {"weight": 3}, {"If-Match": tag})).status == 412
    assert client.control.present[0]["weight"] == 2


@pytest.mark.parametrize(("condition", "status"), [("*", 200), ('"x", {}', 200), ('"x"', 412), ("x", 412), ("", 412)])
async def test_a_condition_may_name_several_tags(condition: str, status: int) -> None:
    """Any of them will do; a star is any backend that is there."""
    client = Client()
    tag = (await client.ask(A)).headers["ETag"]
    response = await change(client, "PATCH", A, {"weight": 2}, {"If-Match": condition.format(tag)})
    assert response.status == status


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/pools", "/api/v1/pools/web", ALL, A, "/api/v1/config"])
async def test_every_get_has_a_tag(path: str) -> None:
    """The same for the same content."""
    client = Client()
    tags = {(await client.ask(path)).headers["ETag"] for _ in range(2)}
    assert len(tags) == 1


async def test_adding() -> None:
    """As in the file, without a name the address is it; the answer is the backend and where it is found."""
    client = Client()
    response = await change(client, "POST", ALL, {"address": "10.0.0.9:80", "weight": 3, "reason": "more"})
    assert response.status == 201
    assert response.headers["Location"] == f"{ALL}/10.0.0.9:80"
    assert body(response)["name"] == "10.0.0.9:80"
    ((what, address, origin),) = client.changes.made
    assert (what, address, origin.reason) == ("add web/10.0.0.9:80", "10.0.0.9:80", "more")
    assert (await change(client, "POST", ALL, {"name": "a", "address": "10.0.0.9:80"})).status == 409


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ({}, "address: is missing"),
        ({"address": "nowhere:0"}, "address: must have a port from 1 to 65535"),
        ({"address": "unix:/run/x"}, "name: is missing; a unix address needs a name"),
        ({"address": "app"}, "address: must have a port; only one with srv: true has none"),
        ({"address": "app:80", "srv": True}, "address: must be a name without a port"),
        ({"address": "10.0.0.1:80", "name": "a/b"}, "name: must be 1 to 64 letters"),
        ({"address": "10.0.0.1:80", "weight": -1}, "weight: must be at least 0"),
        ({"address": "10.0.0.1:80", "state": "drain"}, "state: unknown key"),
    ],
)
async def test_what_cannot_be_added_is_422(content: Any, detail: str) -> None:
    """In the words of the file."""
    client = Client()
    response = await change(client, "POST", ALL, content)
    assert response.status == 422
    (line,) = body(response)["detail"]
    assert line.startswith(detail)
    assert client.changes.made == []


async def test_removing() -> None:
    """204 without a body; ``force`` is passed on and nothing but true or false."""
    client = Client()
    assert (await change(client, "DELETE", f"{A}?force=yes")).status == 422
    assert (await change(client, "DELETE", A, None, {"If-Match": '"x"'})).status == 412
    response = await change(client, "DELETE", f"{A}?force=true")
    assert (response.status, response.body) == (204, None)
    assert [made[:2] for made in client.changes.made] == [("remove web/a", True)]
    assert (await client.ask(A)).status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9900", "127.0.0.1.evil.example", "localhost.evil", "::1"]
)
async def test_a_name_that_was_pointed_at_us_is_refused(host: str) -> None:
    """Without a token nothing but an address or localhost: a browser on this machine would ask for its page."""
    client = Client()
    for method, path in (("GET", A), ("PATCH", A)):
        response = await client.ask(path, method, {**JSON, "Host": host}, b'{"weight": 2}')
        assert response.status == 403
    assert (await client.ask("/healthz", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "127.0.0.1"}, {"Host": "[::1]:9900"}, {"Host": "[::1]"}, {"Host": "LOCALHOST:80"}]
)
async def test_an_address_is_fine(headers: Headers) -> None:
    """And so is no Host at all, which no browser sends."""
    assert (await Client().ask(A, headers=headers)).status == 200


async def test_with_a_token_any_name_will_do() -> None:
    """A page doesn't have it; and whoever has it is named so."""
    client = Client("secret")
    headers = {"Host": "lb.example.com", "Authorization": "Bearer secret"}
    assert (await change(client, "PATCH", A, {"weight": 2}, headers)).status == 200
    assert client.changes.made[0][2].by == "token"


async def test_the_configuration_and_what_differs() -> None:
    """In one answer."""
    answer = await Client().json("/api/v1/config")
    assert answer["config"] == {"workers": "auto"}
    assert answer["overrides"] == []
    assert {"file", "digest", "loaded_at"} <= answer.keys()
