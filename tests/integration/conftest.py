"""Fixtures: ports, the program, its clients and its web nodes; all gone when a test ends."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

import pytest

from tests.integration.client import RawClient
from tests.integration.nginx import Nginx, require
from tests.integration.origin import Origin
from tests.integration.ports import Ports
from tests.integration.program import Program, lend, run_until_stopped
from tests.integration.shared import HASTY, PATIENT, SharedProgram


class Connect(Protocol):
    """Open a connection to the program; closed when the test ends."""

    def __call__(
        self,
        port: int | None = None,
        *,
        host: str = "127.0.0.1",
        source: str | None = None,
        receive_buffer: int | None = None,
    ) -> Awaitable[RawClient]: ...


StartProgram = Callable[[dict[str, Any]], Program]
StartNginx = Callable[..., Nginx]
StartOrigin = Callable[..., Origin]


@pytest.fixture(scope="session")
def ports() -> Ports:
    """Ports that no other test process uses."""
    return Ports()


@pytest.fixture(scope="session")
def patient_program(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[SharedProgram]:
    """Run the shared configuration for all tests of this process."""
    yield from run_until_stopped(SharedProgram(tmp_path_factory.mktemp("proxy"), ports, PATIENT))


@pytest.fixture(scope="session")
def hasty_program(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[SharedProgram]:
    """Run the shared configuration with little patience for clients."""
    yield from run_until_stopped(SharedProgram(tmp_path_factory.mktemp("hasty"), ports, HASTY))


@pytest.fixture
async def proxy(patient_program: SharedProgram) -> AsyncIterator[SharedProgram]:
    """The shared program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(patient_program):
        yield lent


@pytest.fixture
async def hasty(hasty_program: SharedProgram) -> AsyncIterator[SharedProgram]:
    """The shared program that gives up on clients after 300 ms; checked as ``proxy`` is."""
    async for lent in lend(hasty_program):
        yield lent


@pytest.fixture
def start_program(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[StartProgram]:
    """
    Start programs with a configuration of the test's own.

    They have to end cleanly when the test has passed.
    """
    programs: list[Program] = []

    def start(config: dict[str, Any]) -> Program:
        program = Program(tmp_path_factory.mktemp("program"), ports, config).start()
        programs.append(program)
        return program

    try:
        yield start
        for program in programs:
            program.stop()
    finally:
        for program in programs:
            program.kill()


@pytest.fixture
async def start_origin(ports: Ports) -> AsyncIterator[StartOrigin]:
    """Start origins; what their scripts raised is raised when the test ends."""
    origins: list[Origin] = []

    def start(port: int | None = None, host: str = "127.0.0.1", name: str = "a") -> Origin:
        origin = Origin(port or ports.take(), host, name)
        origins.append(origin)
        origin.start()
        return origin

    yield start
    for origin in origins:
        await origin.close()


@pytest.fixture
async def origin(proxy: SharedProgram, start_origin: StartOrigin) -> Origin:
    """Backend ``a`` of the shared program."""
    return start_origin(proxy.origin_port)


@pytest.fixture
async def other(proxy: SharedProgram, start_origin: StartOrigin) -> Origin:
    """Backend ``b`` of the shared program."""
    return start_origin(proxy.other_port, name="b")


@pytest.fixture
async def hasty_origin(hasty: SharedProgram, start_origin: StartOrigin) -> Origin:
    """Backend ``a`` of the hasty program."""
    return start_origin(hasty.origin_port)


@pytest.fixture
async def _clients() -> AsyncIterator[list[RawClient]]:
    clients: list[RawClient] = []
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def connect(proxy: SharedProgram, _clients: list[RawClient]) -> Connect:
    """Connect to the shared program, or to another port."""
    return _connector(_clients, proxy.port)


@pytest.fixture
def connect_hasty(hasty: SharedProgram, _clients: list[RawClient]) -> Connect:
    """Connect to the hasty program."""
    return _connector(_clients, hasty.port)


@pytest.fixture
def connect_to(_clients: list[RawClient]) -> Connect:
    """Connect to a port that the test names."""
    return _connector(_clients, None)


def _connector(clients: list[RawClient], default: int | None) -> Connect:
    async def connect(
        port: int | None = None,
        *,
        host: str = "127.0.0.1",
        source: str | None = None,
        receive_buffer: int | None = None,
    ) -> RawClient:
        port = port or default
        assert port is not None
        client = await RawClient.connect(port, host, source, receive_buffer)
        clients.append(client)
        return client

    return connect


@pytest.fixture
def start_nginx(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[StartNginx]:
    """Start nginx nodes."""
    nodes: list[Nginx] = []

    def start(name: str = "node", host: str = "127.0.0.1", server: str = "") -> Nginx:
        node = Nginx(tmp_path_factory.mktemp(f"nginx-{name}"), name, ports.take(), host, server)
        nodes.append(node)
        return node.start()

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def curl() -> str:
    """Path of curl."""
    return require("curl")


@pytest.fixture
def wrk() -> str:
    """Path of wrk."""
    return require("wrk")
