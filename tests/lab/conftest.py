"""Laboratories for tests; what a killed run left behind is removed first."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.lab.namespaces import configure, destroy, new_group, reap
from tests.lab.topology import Lab

PROGRAMS = ("ip", "keepalived", "setpriv")

StartLab = Callable[[], Lab]


def why_not() -> str | None:
    """Say why no laboratory can be built here, None if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {' '.join(missing)}"
    name = f"{new_group()}-probe"
    try:
        configure(f"netns add {name}", f"-n {name} link add br0 type bridge")
    except OSError as error:
        return f"no network namespaces here: {error}"
    finally:
        destroy(name)
    return None


@pytest.fixture(scope="session")
def laboratory() -> None:
    """What is needed is here; otherwise the test is skipped, or fails where that must not be."""
    reason = why_not()
    if reason is None:
        reap()
    elif os.environ.get("PYPROXY_REQUIRE_PEERS"):
        pytest.fail(reason)
    else:
        pytest.skip(reason)


@pytest.fixture
def start_lab(laboratory: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartLab]:
    """Build labs that are gone when the test ends."""
    with ExitStack() as labs:
        yield lambda: labs.enter_context(Lab(tmp_path_factory.mktemp("lab")))


@pytest.fixture
def proxied_lab(start_lab: StartLab) -> Lab:
    """Two machines for proxies, two web nodes behind the switch, and a client."""
    lab = start_lab()
    lab.serve_nodes()
    return lab


@pytest.fixture
def lab(start_lab: StartLab) -> Lab:
    """Two machines that serve their names, and a client."""
    lab = start_lab()
    lab.a.serve()
    lab.b.serve()
    return lab
