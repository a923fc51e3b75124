"""Logins that hold for a connection (NTLM, Negotiate): no other client ever gets that connection."""

import pytest

from tests.integration.client import RawClient, get, unique_source
from tests.integration.conftest import Connect
from tests.integration.origin import Origin, OriginConnection
from tests.integration.shared import SharedProgram
from tests.integration.wire import Message


async def intranet(connection: OriginConnection) -> None:
    """Ask for a login of two steps; who has it is whoever logged in on this connection."""
    user, challenged = b"", False
    while True:
        said = (await connection.request()).get("authorization") or b""
        if said.startswith(b"NTLM three-") and challenged:
            user = said.removeprefix(b"NTLM three-")
        challenged = said == b"NTLM one"
        body = b"%b on %b" % (user, connection.origin.name.encode()) if user else b""
        challenge = b"NTLM challenge" if challenged else b'Basic realm="a, b", Negotiate, NTLM'
        status = b"200 OK\r\n" if user else b"401 Unauthorized\r\nWWW-Authenticate: %b\r\n" % challenge
        await connection.send(b"HTTP/1.1 %bContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


async def ask(client: RawClient, authorization: str = "") -> Message:
    """Ask for the same page, with or without credentials."""
    return await client.ask(get("pair.test", "/mail", *([f"Authorization: {authorization}"] if authorization else [])))


async def log_in(client: RawClient, name: str) -> bytes:
    """Go through all steps."""
    assert (await ask(client)).status == 401
    assert (await ask(client, "NTLM one")).get("www-authenticate") == b"NTLM challenge"
    answer = await ask(client, f"NTLM three-{name}")
    assert answer.status == 200
    return answer.body


@pytest.mark.usefixtures("proxy")
async def test_each_client_has_its_own_login(connect: Connect, origin: Origin, other: Origin) -> None:
    """With two nodes and clients that come between: everyone stays who he is, where he is."""
    for node in (origin, other):
        node.play(intranet)
    one, two, guest = [await connect() for _ in range(3)]
    pages = {}
    for client, name in ((one, "one"), (two, "two")):
        pages[client] = await log_in(client, name)
        assert (await ask(guest)).status == 401
    for _ in range(4):
        for client, page in pages.items():
            assert (await ask(client)).body == page
        newcomer = await connect()
        assert (await ask(newcomer)).status == 401


async def test_a_login_does_not_pass_a_proxy_in_front(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Its connection carries many clients, so what one of them logs in on ends with the answer."""
    origin.play(intranet)
    client = await connect(source=unique_source(trusted=True))
    for authorization in ("", "NTLM one", "NTLM three-one"):
        raw = get("solo.test", "/", *([f"Authorization: {authorization}"] if authorization else []))
        assert (await client.ask(raw)).status == 401
    assert len(origin.connections) == 3
    await proxy.log.await_lines(3, client.source)
