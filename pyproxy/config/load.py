"""
A file to a checked configuration, or to every problem that it has.

Must not know what is done with the configuration; nothing but the one file and the pages it names is opened.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from pyproxy.config.checks import check_relations
from pyproxy.config.explain import explain
from pyproxy.config.failover_warnings import failover_warnings
from pyproxy.config.model import Config, SpeakerConfig
from pyproxy.config.origins import find_origins
from pyproxy.config.pages import read_pages
from pyproxy.config.source import Source, read_source
from pyproxy.config.tree import UnreadableError, parse_tree
from pyproxy.config.unavailable import check_available
from pyproxy.errors import ConfigError, Problem

MAX_FILE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and what its author should think about again."""

    config: Config
    warnings: tuple[Problem, ...]


Look = Callable[[Source], None]


def load_config(path: str | os.PathLike[str], model: type[Config] = Config) -> Config:
    """
    Load a configuration file, with ``${NAME}`` taken from this process's environment.

    ``model`` may be ``SpeakerConfig``, which asks for less. Raises ``ConfigError`` with every problem found, also for a
    file that can't be read.
    """
    return load_with_warnings(path, model).config


def load_with_warnings(path: str | os.PathLike[str], model: type[Config] = Config, look: Look | None = None) -> Loaded:
    """
    Load a configuration file as ``load_config`` does, and look for what is allowed but can hardly be meant.

    ``look`` may report more, of what the file alone doesn't tell: it is told with all the rest.
    """
    file = os.fspath(path)
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise _refused(file, f"can't be read: {reason or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise _refused(file, "is larger than 8 MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        problem = Problem(before.count(b"\n") + 1, column, "", "is not valid UTF-8")
        raise ConfigError(file, [problem]) from error
    return _load(text, file, os.environ, model, look)


def load_text(text: str, file: str, environ: Mapping[str, str], model: type[Config] = Config) -> Config:
    """
    Load a configuration from text; ``file`` is only its name in the problems.

    Raises ``ConfigError`` with every problem found.
    """
    return _load(text, file, environ, model).config


def _load(text: str, file: str, environ: Mapping[str, str], model: type[Config], look: Look | None = None) -> Loaded:
    if len(text) > MAX_FILE_BYTES:
        raise _refused(file, "is larger than 8 MiB")
    try:
        root = parse_tree(text)
        source = read_source(root, environ) if root else None
    except UnreadableError as error:
        raise ConfigError(file, error.problems) from error
    if source is None:
        required = "failover is" if model is SpeakerConfig else "listeners and pools are"
        raise _refused(file, f"is empty; {required} required")
    return _checked(source, file, model, look)


def _checked(source: Source, file: str, model: type[Config], look: Look | None) -> Loaded:
    config = None
    try:
        config = model.model_validate(source.data)
    except ValidationError as error:
        explain(error, source)
    check_relations(source)
    check_available(source)
    pages = read_pages(source)
    if look is not None:
        look(source)
    if config is None or source.problems:
        raise ConfigError(file, sorted(source.problems))
    error_pages = {status: replace(page, body=pages[page.path]) for status, page in config.error_pages.items()}
    config = config.model_copy(update={"error_pages": error_pages})
    variables = frozenset(chain.from_iterable(source.variables.values()))
    config = config.with_origins(find_origins(source, file), variables)
    return Loaded(config, tuple(sorted([*source.warnings, *failover_warnings(config, source)])))


def _refused(file: str, text: str) -> ConfigError:
    return ConfigError(file, [Problem(1, 1, "", text)])
