"""Requests to the admin application without a socket. Knows no path."""

import asyncio
import json
from typing import Any
from unittest.mock import Mock

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from pyproxy.admin.app import MAX_BODY_BYTES, make_app
from pyproxy.admin.pair import Pair
from pyproxy.control.events import Events
from tests.unit.admin.fake_control import FakeChanges, FakeControl

Headers = dict[str, str] | list[tuple[str, str]]


class Client:
    """Hands requests to an application without a socket."""

    def __init__(self, token: str | None = None, pair: Pair | None = None) -> None:
        self.control = FakeControl()
        self.changes = FakeChanges(self.control)
        self.events = Events()
        self.app = make_app(self.control, self.changes, self.events, token, pair)
        self.app.freeze()

    async def ask(
        self, path: str, method: str = "GET", headers: Headers | None = None, content: bytes = b""
    ) -> web.Response:
        """Make a request and return the answer."""
        request = make_mocked_request(
            method,
            path,
            headers=CIMultiDict(headers or {}),
            app=self.app,
            payload=_stream(content),
            client_max_size=MAX_BODY_BYTES,
        )
        response = await self.app._handle(request)
        assert isinstance(response, web.Response)
        return response

    async def json(self, path: str) -> Any:
        """GET a path that answers 200 with JSON."""
        response = await self.ask(path)
        assert response.status == 200
        assert response.content_type == "application/json"
        return body(response)


def _stream(content: bytes) -> StreamReader:
    stream = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(content)
    stream.feed_eof()
    return stream


def body(response: web.Response) -> Any:
    """The JSON of an answer."""
    assert isinstance(response.body, bytes)
    return json.loads(response.body)
