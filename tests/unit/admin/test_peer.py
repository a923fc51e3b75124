"""Pins the resources of the pair: its state, its commands, and that there are none without another machine."""

import json

import pytest

from pyproxy.admin.openapi import document
from tests.unit.admin.asking import Client, body
from tests.unit.admin.fake_pair import FakePair

HANDOVER = "/api/v1/peer/handover"
PATHS = ("/api/v1/peer", "/api/v1/peer/diff", "/api/v1/peer/facts")


@pytest.mark.parametrize("path", PATHS)
async def test_without_another_machine_there_is_nothing(path: str) -> None:
    """And the answer says so."""
    response = await Client().ask(path)
    assert response.status == 404
    assert "failover is not configured" in body(response)["error"]


@pytest.mark.parametrize("path", PATHS[:2])
async def test_an_answer_has_what_the_document_says(path: str) -> None:
    """Every property, and none that isn't there."""
    schema = document()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    answer = await Client(pair=FakePair()).json(path)
    assert set(answer) == set(schema["properties"])


async def test_a_handover_is_asked_for_by_somebody() -> None:
    """With a reason or without a body at all."""
    pair = FakePair()
    client = Client(pair=pair)
    response = await client.ask(
        HANDOVER, "POST", {"Content-Type": "application/json"}, json.dumps({"reason": "kernel"}).encode()
    )
    assert (response.status, body(response)) == (200, {"state": "backup", "duration": 0.05, "reset": 0})
    assert pair.asked[0].reason == "kernel"
    assert (
        await client.ask("/api/v1/peer/handover", "POST", {"Content-Type": "application/json"}, b"{}")
    ).status == 200


async def test_a_handover_that_is_refused_says_why() -> None:
    """It is a conflict with what there is."""
    pair = FakePair()
    pair.refusal = "the other machine is fault: guard refuses"
    response = await Client(pair=pair).ask(HANDOVER, "POST", {"Content-Type": "application/json"}, b"{}")
    assert (response.status, body(response)) == (409, {"error": pair.refusal})


async def test_a_handover_with_an_unknown_key_is_refused() -> None:
    """A typing error must not hand over."""
    pair = FakePair()
    response = await Client(pair=pair).ask(HANDOVER, "POST", {"Content-Type": "application/json"}, b'{"reson": "x"}')
    assert response.status == 422
    assert pair.asked == []
