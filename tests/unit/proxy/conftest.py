"""What every test of the byte path stands on: time that moves only when told to."""

from collections.abc import Iterator

import pytest

from tests.unit.proxy.planes import fake_time


@pytest.fixture(scope="module", autouse=True)
def time_stands_still() -> Iterator[None]:
    """Replace the clock; for a module at a time, so that hypothesis may run many examples in one test."""
    with fake_time():
        yield
