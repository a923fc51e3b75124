"""
The command ``pyproxy``: arguments, messages and exit codes, and nothing else.

Must not know how anything is done. What is heavy is imported by the verb that needs it: ``--version`` and a
typing error answer at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyproxy.cli.arguments import UNAVAILABLE, make_parser
from pyproxy.control.startup import StartError
from pyproxy.errors import ConfigError

if TYPE_CHECKING:
    from pyproxy.config.source import Source

DONE, FAILED, BAD_USAGE = 0, 1, 2

DEFAULT_FILES = ("lb.yml", "/etc/pyproxy/lb.yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments (by default the process's own) ask for and return the exit code."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.verb in UNAVAILABLE:
        return _fail(f"{arguments.verb!r} is not available yet in this version", BAD_USAGE)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _act(arguments)
    except ConfigError as error:
        sys.stderr.write("".join(f"{line}\n" for line in error.lines()))
        return BAD_USAGE
    except StartError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return FAILED


def find_file(given: str | None, environ: Mapping[str, str]) -> str:
    """Choose the configuration file: the given one, ``$PYPROXY_CONFIG``, or the first default that exists."""
    named = given or environ.get("PYPROXY_CONFIG")
    if named:
        return named
    for candidate in DEFAULT_FILES:
        if Path(candidate).exists():
            return candidate
    places = ", ".join(("$PYPROXY_CONFIG", *(f"./{name}" if "/" not in name else name for name in DEFAULT_FILES)))
    raise StartError(f"no configuration file: give one with -c (looked for {places})", exit_code=BAD_USAGE)


def _act(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        return _print_schema()
    if arguments.verb == "demo":
        from pyproxy.cli.demo import run_demo  # noqa: PLC0415 - heavy

        return run_demo(arguments.port)
    file = find_file(arguments.file, os.environ)
    if arguments.verb == "vipd" and not arguments.test:
        from pyproxy.control.alone import run_alone  # noqa: PLC0415 - heavy

        return run_alone(file)
    if arguments.verb not in (None, "vipd"):
        return _ask(file, arguments)
    return _check(file, is_alone=arguments.verb == "vipd") if arguments.test else _run(file)


def _print_schema() -> int:
    from pyproxy.config.schema import json_schema  # noqa: PLC0415 - heavy

    _say(json.dumps(json_schema(), indent=2))
    return DONE


def _check(file: str, *, is_alone: bool) -> int:
    from pyproxy.config.load import load_with_warnings  # noqa: PLC0415 - heavy
    from pyproxy.config.model import Config, SpeakerConfig  # noqa: PLC0415 - heavy
    from pyproxy.control.check import check_machine, check_speaker  # noqa: PLC0415 - as the others
    from pyproxy.control.loops import warn_of_loops  # noqa: PLC0415 - as the others
    from pyproxy.control.pair_settings import make_pair_settings  # noqa: PLC0415 - as the others
    from pyproxy.control.settings import make_settings  # noqa: PLC0415 - heavy

    def look(source: "Source") -> None:
        check_machine(source)
        warn_of_loops(source)

    model, look_at = (SpeakerConfig, check_speaker) if is_alone else (Config, look)
    loaded = load_with_warnings(file, model, look_at)
    for warning in loaded.warnings:
        sys.stderr.write(f"{warning.line_in(file, kind='warning')}\n")
    make_settings(loaded.config, file)
    make_pair_settings(loaded.config)
    _say(f"{file}: ok")
    return DONE


def _ask(file: str, arguments: argparse.Namespace) -> int:
    """Let a verb talk to the running program."""
    from pyproxy.cli.api import AdminApi, ApiError  # noqa: PLC0415 - not needed by the other verbs
    from pyproxy.cli.verbs import VERBS  # noqa: PLC0415 - as above
    from pyproxy.config.load import load_config  # noqa: PLC0415 - heavy
    from pyproxy.config.model import Config, SpeakerConfig  # noqa: PLC0415 - heavy
    from pyproxy.control.settings import make_admin  # noqa: PLC0415 - heavy

    # A speaker alone has no more in its file than that.
    config = load_config(file, SpeakerConfig if arguments.verb == "peer" else Config)
    arguments.grace = config.shutdown_grace
    if config.admin is None:
        return _fail(f"{file} turns the admin API off (admin: null), so the program can't be asked", FAILED)
    try:
        result = VERBS[arguments.verb](AdminApi(make_admin(config.admin)), arguments)
    except ApiError as error:
        return _fail(str(error), BAD_USAGE if error.is_usage else FAILED)
    if result.text:
        _say(result.text)
    if result.problem:
        return _fail(result.problem, FAILED)
    return DONE if result.code is None else result.code


def _run(file: str) -> int:
    from pyproxy.config.load import load_with_warnings  # noqa: PLC0415 - heavy
    from pyproxy.control.check import check_machine  # noqa: PLC0415 - heavy

    loaded = load_with_warnings(file, look=check_machine)
    from pyproxy.control.run import run  # noqa: PLC0415 - heavy, and not needed for a bad file

    warnings = [warning.line_in(file) for warning in loaded.warnings]
    return run(loaded.config, str(Path(file).absolute()), warnings)


def _say(text: str) -> None:
    """Print an answer; a reader that has seen enough of it, as ``head``, changes nothing."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what is left is dropped in silence when the process ends
        os.close(nowhere)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"pyproxy: {text}\n")
    return code
