"""Fixtures: a program for each kind of patience, and a scene on it for each test."""

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest

from tests.integration.ports import Ports
from tests.integration.program import run_until_stopped
from tests.integration.shared import HASTY, PATIENT
from tests.integration.splice.scene import (
    Scene,
    SpliceProgram,
    Worker,
    make_scene,
)


@pytest.fixture(scope="module")
def _patient(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[SpliceProgram]:
    yield from run_until_stopped(SpliceProgram(tmp_path_factory.mktemp("splice"), ports, PATIENT))


@pytest.fixture(scope="module")
def _hasty(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[SpliceProgram]:
    yield from run_until_stopped(SpliceProgram(tmp_path_factory.mktemp("splice"), ports, HASTY))


@pytest.fixture(scope="module")
def _patient_worker(_patient: SpliceProgram) -> Worker:
    return Worker(_patient)


@pytest.fixture(scope="module")
def _hasty_worker(_hasty: SpliceProgram) -> Worker:
    return Worker(_hasty)


@pytest.fixture
async def scene(_patient: SpliceProgram, _patient_worker: Worker) -> AsyncIterator[Scene]:
    """A program that is patient with clients; host hasty.test is not with backends."""
    async with make_scene(_patient, _patient_worker) as scene:
        yield scene


@pytest.fixture
async def hasty(_hasty: SpliceProgram, _hasty_worker: Worker) -> AsyncIterator[Scene]:
    """A program that gives up on clients after 300 ms."""
    async with make_scene(_hasty, _hasty_worker) as scene:
        yield scene


_numbers = count(1)


@pytest.fixture
def target() -> str:
    """A target that no other test has: it finds its log line again."""
    return f"/{os.getpid()}-{next(_numbers)}"
