"""Pins who may ask the admin API, and how its answers and errors look; requests are made without sockets."""

import pytest
from aiohttp import hdrs, web
from aiohttp.test_utils import make_mocked_request

from pyproxy.admin.app import MAX_BODY_BYTES, OPEN_PATHS
from tests.unit.admin.asking import Client, Headers, body

TOKEN = "correct horse battery staple"  # a blank inside is part of it
JSON = {"Content-Type": "application/json"}
QUESTION = b'{"method": "GET", "url": "http://x/"}'
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_health_and_readiness() -> None:
    """/healthz is 200 while the program lives, /readyz only while it should get traffic."""
    client = Client()
    assert await client.json("/healthz") == {"status": "ok"}
    assert await client.json("/readyz") == {"status": "ready"}
    client.control.ready = False
    assert await client.json("/healthz") == {"status": "ok"}
    response = await client.ask("/readyz")
    assert response.status == 503
    assert body(response) == {"error": "not ready"}


async def test_collections_are_arrays_and_members_are_found() -> None:
    """Pools, one pool, its backends, one backend."""
    client = Client()
    pools = await client.json("/api/v1/pools")
    assert [pool["name"] for pool in pools] == ["web", "api:v2"]
    assert await client.json("/api/v1/pools/web") == pools[0]
    assert await client.json("/api/v1/pools/web/backends") == pools[0]["backends"]
    assert await client.json("/api/v1/pools/web/backends/a") == pools[0]["backends"][0]
    assert (await client.json("/api/v1/status"))["pid"] == 1


@pytest.mark.parametrize(
    "path", ["/api/v1/pools/web/backends/[::1]:80", "/api/v1/pools/web/backends/%5B%3A%3A1%5D%3A80"]
)
async def test_an_address_is_a_name_in_a_path(path: str) -> None:
    """Backends are named after their address by default; it works plain and percent-encoded."""
    assert (await Client().json(path))["name"] == "[::1]:80"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/v1/pools/nope", "no pool 'nope'"),
        ("/api/v1/pools/nope/backends", "no pool 'nope'"),
        ("/api/v1/pools/nope/backends/a", "no pool 'nope'"),
        ("/api/v1/pools/web/backends/z", "no backend 'z' in pool 'web'"),
        ("/api/v1/nothing", "Not Found"),
        ("/", "Not Found"),
    ],
)
async def test_what_is_not_there_is_404_in_json(path: str, error: str) -> None:
    """The answer says what was not found."""
    response = await Client().ask(path)
    assert response.status == 404
    assert body(response) == {"error": error}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_only_reading_is_possible(method: str) -> None:
    """Any other method is 405, in JSON, with the methods that are allowed."""
    response = await Client().ask("/api/v1/pools", method)
    assert response.status == 405
    assert body(response) == {"error": "Method Not Allowed"}
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD"}


async def test_metrics_are_prometheus_text() -> None:
    """The content type names the format's version."""
    response = await Client().ask("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.body == b"pyproxy_up 1\n"


async def test_an_error_of_ours_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns nothing of the inside, the log has the traceback."""
    client = Client()
    client.control.broken = True
    response = await client.ask("/api/v1/status")
    assert response.status == 500
    assert body(response) == {"error": "Internal Server Error"}
    assert "RuntimeError: out of order" in caplog.text


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/status", "/api/v1/pools", "/api/v1/pools/web", "/", "/nothing"])
async def test_the_token_is_needed_everywhere(path: str) -> None:
    """Without it no path answers, and none can be told from another."""
    response = await Client(TOKEN).ask(path)
    assert response.status == 401
    assert body(response) == {"error": "a valid token is needed"}
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pyproxy"'


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_but_not_for_health(path: str) -> None:
    """Whoever checks health needs no secret."""
    assert (await Client(TOKEN).ask(path)).status == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_right_token_opens(scheme: str) -> None:
    """The scheme's case doesn't matter."""
    response = await Client(TOKEN).ask("/metrics", headers={"Authorization": f"{scheme} {TOKEN}"})
    assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": "Bearer"}, id="none"),
        pytest.param({"Authorization": "Bearer "}, id="empty"),
        pytest.param({"Authorization": f"Basic {TOKEN}"}, id="other scheme"),
        pytest.param({"Authorization": TOKEN}, id="no scheme"),
        pytest.param({"Authorization": f"Bearer {TOKEN}x"}, id="longer"),
        pytest.param({"Authorization": f"Bearer {TOKEN[:-1]}"}, id="shorter"),
        pytest.param({"Authorization": f"Bearer {TOKEN.upper()}"}, id="other case"),
        pytest.param({"Authorization": "Bearer ключ"}, id="not ASCII"),
        pytest.param([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")], id="twice"),
        pytest.param({"Cookie": f"token={TOKEN}"}, id="cookie"),
    ],
)
async def test_anything_else_does_not(headers: Headers) -> None:
    """A wrong, mangled or ambiguous token is 401, never an exception."""
    response = await Client(TOKEN).ask("/metrics", headers=headers)
    assert response.status == 401


async def test_the_token_in_the_query_does_not_count() -> None:
    """Queries end up in logs and histories."""
    assert (await Client(TOKEN).ask(f"/metrics?token={TOKEN}")).status == 401


async def test_no_software_version_and_no_caching() -> None:
    """What aiohttp adds before sending is taken out again."""
    app = Client().app
    response = web.Response()
    response.headers[hdrs.SERVER] = "Python/3.11 aiohttp/3.14"
    await app.on_response_prepare.send(make_mocked_request("GET", "/"), response)
    assert "Server" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://evil.example", "null", "http://localhost:1", "localhost:9900"]
)
async def test_a_page_of_another_site_writes_nothing(origin: str) -> None:
    """Whatever the browser's user may do here, a foreign page can't do it with his browser."""
    client = Client()
    headers = {"Host": "localhost:9900", "Origin": origin, **JSON}
    response = await client.ask("/api/v1/explain", "POST", headers, QUESTION)
    assert response.status == 403
    assert body(response) == {"error": "a page of another site must not write here"}
    assert client.control.questions == []


@pytest.mark.parametrize("origin", ["http://localhost:9900", "https://LOCALHOST:9900"])
async def test_a_page_of_ours_writes(origin: str) -> None:
    """Also behind something that speaks TLS for us."""
    headers = {"Host": "LocalHost:9900", "Origin": origin, **JSON}
    assert (await Client().ask("/api/v1/explain", "POST", headers, QUESTION)).status == 200


async def test_reading_is_left_to_the_browser() -> None:
    """It hands the answer to no other site, and refusing would break links."""
    assert (await Client().ask("/api/v1/pools", headers={"Host": "[::1]", "Origin": "http://b"})).status == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_only_json_is_read(kind: str | None) -> None:
    """A form of another site can send anything but this."""
    response = await Client().ask("/api/v1/explain", "POST", {"Content-Type": kind} if kind else {}, QUESTION)
    assert response.status == 415
    assert body(response) == {"error": "Content-Type must be application/json"}


@pytest.mark.parametrize("content", [b"", b"{", b"{'method': 1}", b'{"method": "GET"} x', b"\xff"])
async def test_what_is_no_json_is_400(content: bytes) -> None:
    """The answer says where it ends to be JSON."""
    response = await Client().ask("/api/v1/explain", "POST", JSON, content)
    assert response.status == 400
    assert body(response)["error"].startswith("the body is not JSON: ")


async def test_a_body_has_a_limit() -> None:
    """413, before it is parsed."""
    response = await Client().ask("/api/v1/explain", "POST", JSON, b"[" * (MAX_BODY_BYTES + 1))
    assert response.status == 413
    assert "65536" in body(response)["error"]


async def test_what_cannot_be_had_now_is_503() -> None:
    """Without a ready worker there is nobody to ask."""
    client = Client()
    client.control.ready = False
    response = await client.ask("/api/v1/explain", "POST", JSON, QUESTION)
    assert response.status == 503
    assert body(response) == {"error": "no worker is ready"}
