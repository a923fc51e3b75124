"""Pins what a demo node answers; requests are made without sockets."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from pyproxy.demo.node import MAX_BYTES, make_app


async def ask(app: web.Application, path: str, method: str = "GET") -> web.Response:
    """Make a request and return the answer."""
    app.freeze()
    response = await app._handle(make_mocked_request(method, path, headers={"X-Seen": "yes"}, app=app))
    assert isinstance(response, web.Response)
    return response


async def test_a_node_tells_who_it_is_and_what_it_saw() -> None:
    """Name, a counter of hits, the request line and the headers."""
    app = make_app("web2")
    first = (await ask(app, "/any/path?x=1")).text or ""
    second = (await ask(app, "/any/path?x=1", "PUT")).text or ""
    assert first.splitlines() == ["Hello from web2, hit 1.", "", "GET /any/path?x=1 HTTP/1.1", "X-Seen: yes"]
    assert second.splitlines()[0] == "Hello from web2, hit 2."
    assert second.splitlines()[2] == "PUT /any/path?x=1 HTTP/1.1"


async def test_two_nodes_count_apart() -> None:
    """Each node has its own counter."""
    one, two = make_app("web1"), make_app("web2")
    await ask(one, "/")
    assert "web2, hit 1." in ((await ask(two, "/")).text or "")


async def test_slow_answers_as_well() -> None:
    """After the wait comes the usual answer."""
    response = await ask(make_app("web1"), "/slow?ms=0")
    assert "Hello from web1" in (response.text or "")
    assert response.headers["X-Node"] == "web1"


@pytest.mark.parametrize("path", ["/slow?ms=x", "/slow?ms=-1", "/slow?ms=60001", "/bytes/x", f"/bytes/{MAX_BYTES + 1}"])
async def test_numbers_are_bounded(path: str) -> None:
    """Nobody can make a demo node wait for ever or send without end."""
    with pytest.raises(web.HTTPBadRequest):
        await ask(make_app("web1"), path)
