"""
Break the pure rooms at random, one small change at a time, and tell which of them no unit test notices.

``make mutants``, or ``python -m tests.mutants [SEED [COUNT]]``. Each mutant of a module is tried in a copy of the tree
against the module's own tests. One that lives is either equivalent or shows a behaviour that no test pins.
"""

import ast
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS: tuple[str, ...] = (
    "http1",
    "balance",
    "routing",
    "health/counter.py",
    "health/outlier.py",
    "failover/machine*.py",
)
ROOMS += tuple(f"proxy/{name}.py" for name in ("retry", "attempt", "outcome", "request_body", "sticky", "refusals"))
ROOMS += tuple(f"control/{name}.py" for name in ("overrides", "changes", "replication"))
SECONDS = 60.0
FLIPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


def find_modules() -> list[Path]:
    """Give the modules of the rooms that have tests of their own."""
    paths = [path for room in ROOMS for path in sorted((ROOT / "pyproxy").glob(room))]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return [file for file in files if tests_of(file)]


def tests_of(module: Path) -> list[str]:
    """Give the test files of ``pyproxy/a/b.py``: ``tests/unit/a/test_b.py``, and ``test_b_*.py`` where there are."""
    inner = module.relative_to(ROOT / "pyproxy")
    folder = ROOT / "tests" / "unit" / inner.parent
    found = [*folder.glob(f"test_{inner.name}"), *folder.glob(f"test_{inner.stem}_*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def mutate(tree: ast.Module) -> Iterator[None]:
    """Make one change after the other to a tree; each is taken back when the next one is asked for."""
    for node in list(ast.walk(tree)):
        for name, value in list(ast.iter_fields(node)):
            for other in alternatives(node, name, value):
                setattr(node, name, other)
                yield
                setattr(node, name, value)


def alternatives(node: ast.AST, name: str, value: object) -> Iterator[object]:
    """Give what could stand in the place of a part of a tree."""
    if isinstance(value, ast.AST) and type(value) in FLIPS:
        yield FLIPS[type(value)]()
    elif isinstance(node, ast.Compare) and name == "ops":
        yield from ([FLIPS[type(op)]() for op in value] for _ in "1" if all(type(op) in FLIPS for op in value))  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and name == "value" and isinstance(value, bool):
        yield not value
    elif isinstance(node, ast.Constant) and name == "value" and isinstance(value, int | float):
        yield from (value + 1, value - 1)
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and name == "test":
        yield ast.UnaryOp(ast.Not(), value)  # type: ignore[arg-type]
    elif isinstance(node, ast.Return) and name == "value" and value is not None:
        yield from (ast.Constant(other) for other in (None, True, False))
    elif name == "body" and isinstance(node, ast.FunctionDef | ast.If | ast.For) and isinstance(value, list):
        for at, line in enumerate(value):
            if isinstance(line, ast.Assign | ast.AugAssign | ast.Expr) and not is_text(line):
                yield [*value[:at], ast.Pass(), *value[at + 1 :]]


def is_text(line: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def sample(module: Path, chance: random.Random) -> tuple[str, str]:
    """Give a module as it is, and with one change, both without comments."""
    tree = ast.parse(module.read_text())
    before = ast.unparse(tree)
    count = sum(1 for _ in mutate(tree))
    for number, _ in zip(range(chance.randrange(count) + 1), mutate(tree), strict=False):
        del number
    return before, ast.unparse(ast.fix_missing_locations(tree))


def is_noticed(copy: Path, module: Path, text: str) -> bool:
    """Whether the module's tests fail, or don't end in time, with this in its place."""
    target = copy / module.relative_to(ROOT)
    original = target.read_text()
    target.write_text(text)
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *tests_of(module)]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(original)
    return done.returncode != 0


def main(seed: int, count: int) -> None:
    """Try so many, and print those that live."""
    print(f"seed {seed}: {count} mutants; again with: python -m tests.mutants {seed} {count}")
    chance, modules, living = random.Random(seed), find_modules(), 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("pyproxy", "tests", "config", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for _ in range(count):
            module = chance.choice(modules)
            before, after = sample(module, chance)
            if before != after and not is_noticed(copy, module, after):
                living += 1
                name = str(module.relative_to(ROOT))
                print(*unified_diff(before.splitlines(), after.splitlines(), name, name, "", "", 1, ""), sep="\n")
    print(f"{living} of {count} live")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(numbers[0] if numbers else random.SystemRandom().randrange(10**6), numbers[1] if len(numbers) > 1 else 100)
