"""
Whatever is asked, what the OpenAPI document allows and what it doesn't: the answer is one that it describes.

That all is accepted which a schema allows isn't asked for: what an address or a URL may be is more than it can say.
"""

import asyncio
import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from pyproxy.admin.app import make_app
from pyproxy.admin.events import STREAMS
from pyproxy.admin.openapi import document
from pyproxy.admin.server import AdminServer, bind_tcp
from pyproxy.control.events import Events
from tests.unit.admin.fake_control import FakeChanges, FakeControl
from tests.unit.admin.fake_pair import FakePair

DOCUMENT: dict[str, Any] = copy.deepcopy(document())
# What is there must be found now and then.
DOCUMENT["components"]["parameters"]["Pool"]["schema"] = {"enum": ["web"]}
DOCUMENT["components"]["parameters"]["Backend"]["schema"] = {"enum": ["a", "[::1]:80"]}
schema = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The admin API over a fake program, in a thread of its own, since the requests are made synchronously."""
    loop = asyncio.new_event_loop()
    control = FakeControl()
    app = make_app(control, FakeChanges(control), Events(), None, FakePair())
    app[STREAMS].longest = 0.02  # what is asked here is read to its end
    server = AdminServer(app, bind_tcp("127.0.0.1", 0))
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://{server.address}"
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.unsupported_method,
]


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_document_is_true(case: Any, address: str) -> None:
    """No answer has a status, a type or a shape that isn't in it."""
    case.call_and_validate(base_url=address, checks=CHECKS, timeout=10)
