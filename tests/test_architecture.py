"""
The rules of the house, read from the imports of every module.

Arrows between rooms point one way, what decides does no I/O, a worker loads nothing heavy, files stay short.
A new room needs a row in ``MAY_IMPORT``; a change of a row is a decision and belongs into an ADR.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pyproxy"

# Room -> rooms that it may import besides itself. A room is a module or a package with all it contains. A
# module belongs to the longest name that fits, so config.runtime is a room of its own within config; who may
# import a room may also import the rooms within it.
BASE = {"", "errors", "clock"}
STATE = BASE | {"config.runtime"}
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "__main__": {"cli"},
    "errors": set(),
    "clock": set(),
    "channel": {"errors"},
    "pulse": set(),
    # the control plane
    "cli": BASE | {"control", "demo", "config", "observe.logging_setup", "failover"},  # failover.simulate
    "demo": BASE | {"observe.logging_setup"},
    "control": BASE
    | {"admin", "config", "channel", "pulse", "health", "observe.metrics", "observe.histogram"}
    | {"observe.logging_setup"},
    "admin": BASE | {"config", "observe.metrics", "observe.histogram"},
    "config": STATE,
    # the data plane
    "worker": STATE | {"proxy", "balance", "routing", "http1", "health", "observe", "channel"},
    "proxy": STATE | {"balance", "routing", "http1", "health", "observe"},
    "balance": STATE,
    "routing": STATE,
    "http1": STATE,
    "health": STATE,
    "config.runtime": BASE,
    # both
    "observe": STATE,
    "observe.metrics": BASE | {"observe.histogram"},
    "observe.histogram": BASE,
    "observe.access_log": BASE,
    "observe.logging_setup": BASE | {"observe.access_log"},
    # the failover speaker: a program of its own
    "failover": BASE - {""} | {"pulse"},
}

PURE = (
    "http1",
    "balance",
    "routing",
    "health.counter",
    "health.outlier",
    "proxy.answers",
    "proxy.attempt",
    "proxy.answering",
    "proxy.ending",
    "proxy.exchange",
    "proxy.forwarding",
    "proxy.outcome",
    "proxy.proxy_protocol",
    "proxy.refusals",
    "proxy.request_body",
    "proxy.retry",
    "proxy.sticky",
    "control.seen",
    "failover.packet",
    "failover.auth",
    "failover.commands",
    "failover.dialect",
    "failover.duals",
    "failover.events",
    "failover.machine",
    "failover.link_protocol",
    "failover.machine_backup",
    "failover.machine_core",
    "failover.machine_master",
    "failover.packet",
    "failover.reach",
    "failover.strangers",
    "failover.settings",
    "failover.simulate",
    "failover.takeover",
    "failover.timing",
    "failover.world",
    "config.diff",
    "control.overrides",
    "control.replication",
    "observe.histogram",  # bounds and arithmetic, which proxy.exchange uses
)
BUILT = ("http1", "balance", "routing", "proxy.exchange", "proxy.retry", "proxy.outcome")
IO = {
    *("aiohttp", "asyncio", "logging", "os", "select", "selectors", "signal", "socket", "ssl", "subprocess"),
    *("threading", "time", "uvloop"),
}
HEAVY = {"aiohttp", "pydantic", "yaml"}

MAX_LINES = 500


def _module_name(path: Path) -> str:
    """Name a file inside the package: ``""`` for the package itself, ``config.runtime`` for a module."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    return {_module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def imported_names(source: str, package: str, *, at_runtime: bool = False) -> set[str]:
    """
    Collect the absolute names that a source imports, also inside functions.

    ``package`` is the dotted package that relative imports start from; ``at_runtime`` leaves out what is
    imported for the type checker only.

        >>> sorted(imported_names("import os.path; from a import b; from . import x", "pyproxy.http1"))
        ['a.b', 'os.path', 'pyproxy.http1.x']
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            above = above[: len(above) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
        elif at_runtime and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))
    return names


@cache
def _imports(module: str, *, at_runtime: bool = False) -> frozenset[str]:
    path = _modules()[module]
    dotted = ".".join(filter(None, (PACKAGE, module)))
    package = dotted if path.name == "__init__.py" else dotted.rpartition(".")[0]
    return frozenset(imported_names(path.read_text(), package, at_runtime=at_runtime))


def _own_imports(module: str, *, at_runtime: bool = False) -> Iterator[str]:
    """Yield the modules of this package that a module imports: of each name, the part that is a module."""
    for name in _imports(module, at_runtime=at_runtime):
        parts = name.split(".")
        if parts[0] == PACKAGE:
            prefixes = (".".join(parts[1:length]) for length in range(len(parts), 0, -1))
            yield next(prefix for prefix in prefixes if prefix in _modules())


def _foreign_imports(module: str) -> set[str]:
    """Name the libraries that a module loads."""
    return {name.partition(".")[0] for name in _imports(module, at_runtime=True)} - {PACKAGE}


def _room(module: str) -> str | None:
    """Find the room of a module, None if there is no row for it."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in MAY_IMPORT), None)


def _is_in(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _reached_from(start: str) -> set[str]:
    """Follow the imports from a room: every module that loading it loads, parent packages included."""
    reached: set[str] = set()
    waiting = [module for module in _modules() if _is_in(module, (start,))]
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        waiting.extend(_own_imports(module, at_runtime=True))
        waiting.append(module.rpartition(".")[0])
    return reached


def test_the_reading_of_imports_sees_every_form() -> None:
    """A rule is worth what its eyes see: nested, conditional, relative, renamed and from-imports."""
    source = """
import a.b as c
from d import e
def f():
    import g
    if TYPE_CHECKING:
        from .h import i
from ... import j
"""
    every = {"a.b", "d.e", "g", "pyproxy.x.y.h.i", "pyproxy.j"}
    assert imported_names(source, "pyproxy.x.y") == every
    assert imported_names(source, "pyproxy.x.y", at_runtime=True) == every - {"pyproxy.x.y.h.i"}


def test_every_module_is_in_a_room_with_rules() -> None:
    """A package that nobody gave a place to can't slip in."""
    assert [module for module in _modules() if _room(module) is None] == []


def test_arrows_point_one_way() -> None:
    """A room imports what its row allows: the control plane never the byte path, nothing ever upwards."""
    seen = 0
    wrong = []
    for module in _modules():
        room = _room(module)
        assert room is not None
        for imported in _own_imports(module):
            seen += 1
            if not _is_in(imported, (room, *MAY_IMPORT[room])):
                wrong.append(f"{module} imports {imported}")
    assert wrong == []
    assert seen > len(MAY_IMPORT), "too few imports were found: is this looking at the right tree?"


def test_the_table_of_arrows_has_no_cycle() -> None:
    """If two rooms could import each other by any way round, the direction would be gone."""
    order = TopologicalSorter(MAY_IMPORT)
    order.prepare()  # raises CycleError, which names the cycle
    assert order.is_active()


@pytest.mark.parametrize("room", BUILT)
def test_pure_rooms_are_there(room: str) -> None:
    """The next test would pass on an empty tree."""
    assert any(_is_in(module, (room,)) for module in _modules())


def test_pure_rooms_do_no_io() -> None:
    """What decides is told the time and returns what to do: it reaches neither the system nor what does."""
    wrong = []
    for module in _modules():
        if _is_in(module, PURE):
            wrong += [f"{module} imports {name}" for name in _foreign_imports(module) & IO]
            wrong += [
                f"{module} imports {imported}, which is not pure"
                for imported in _own_imports(module, at_runtime=True)
                if not _is_in(imported, (*PURE, "errors", "config.runtime"))
            ]
    assert wrong == []


def test_http1_knows_the_parser_and_nothing_else() -> None:
    """The protocol's room depends on httptools and the standard library only."""
    foreign = {name for module in _modules() if _is_in(module, ("http1",)) for name in _foreign_imports(module)}
    assert foreign - sys.stdlib_module_names == {"httptools"}


def test_nothing_that_a_worker_reaches_is_heavy() -> None:
    """No module on any import path from the worker names aiohttp, pydantic or yaml."""
    reached = _reached_from("worker")
    assert "proxy" in reached
    wrong = [f"{module} imports {name}" for module in reached for name in _foreign_imports(module) & HEAVY]
    assert wrong == []


def test_a_loaded_worker_is_light() -> None:
    """The same with the real interpreter, which also sees what libraries load."""
    code = f"import pyproxy.worker.main, sys; print(*({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def _source_files() -> list[Path]:
    return [path for top in (PACKAGE, "tests", "bench") for path in sorted((ROOT / top).rglob("*.py"))]


def test_files_are_short() -> None:
    """Nobody reads a file of more than 500 lines; most have less than 300."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _source_files()}
    assert len(lengths) > len(_modules())
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    """A module without a docstring has no purpose that anyone could hold it to; an empty one needs none."""
    silent = [
        module
        for module, path in _modules().items()
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_no_file_names_a_home_directory() -> None:
    """What is written here must be true on every machine, so no path of the writer's own."""
    homes = ("/" + "root/", "/" + "home/", "/" + "Users/", "C:" + "\\Users")
    texts = [*_source_files(), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "config").iterdir())]
    texts += [path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name != ".coverage"]
    texts += [*sorted((ROOT / "docker").iterdir()), ROOT / ".ci" / "run"]
    named = {str(path.relative_to(ROOT)) for path in texts}
    assert {"README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", ".ci/run"} <= named
    found = [str(path.relative_to(ROOT)) for path in texts if any(home in path.read_text() for home in homes)]
    assert found == []
