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

from pyproxy import __version__
from pyproxy.control.startup import StartError
from pyproxy.errors import ConfigError

DONE, FAILED, BAD_USAGE = 0, 1, 2

DEFAULT_FILES = ("lb.yml", "/etc/pyproxy/lb.yml")
DEFAULT_PORT = 8080

# Verbs of the contract that this version can't do; each is refused by name.
UNAVAILABLE = (
    *("status", "drain", "ready", "maint", "weight", "add", "remove", "reload", "peer"),
    *("top", "timeline", "check"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments (by default the process's own) ask for and return the exit code."""
    parser = _parser()
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyproxy",
        description="A load-balancing reverse proxy. Without a verb: run until SIGTERM or SIGINT.",
        epilog="Without -c: $PYPROXY_CONFIG, then ./lb.yml, then /etc/pyproxy/lb.yml. "
        "Exit codes: 0 done, 1 failed, 2 bad usage or bad configuration.",
        allow_abbrev=False,
    )
    parser.add_argument("-c", dest="file", metavar="FILE", help="the configuration file")
    parser.add_argument("-t", dest="test", action="store_true", help="check the file and start nothing")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration file")
    parser.add_argument("--version", action="version", version=f"pyproxy {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    demo = verbs.add_parser("demo", help="three built-in web nodes and the proxy in front of them", allow_abbrev=False)
    demo.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help="the proxy's port on 127.0.0.1 (default: %(default)s)",
    )
    _add_explain(verbs.add_parser("explain", help="what would serve a request, and why", allow_abbrev=False))
    for verb in UNAVAILABLE:
        verbs.add_parser(verb, add_help=False, allow_abbrev=False)
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = "Ask the running program which listener, route, pool and backend would serve a request."
    parser.add_argument("method", metavar="METHOD", help="such as GET")
    parser.add_argument("url", metavar="URL", help="http://HOST/PATH, or a path with -H 'Host: HOST'")
    parser.add_argument(
        *("-H", "--header"),
        dest="headers",
        metavar="'K: V'",
        type=_header,
        action="append",
        default=[],
        help="a header of the request; may be repeated",
    )
    parser.add_argument("--from", dest="sender", metavar="IP", help="where it comes from (default: 127.0.0.1)")
    parser.add_argument("--json", action="store_true", help="print the admin API's answer")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("must be 'Name: value'")
    return name, value.strip()


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError("must be a port from 0 (any free one) to 65535")


def _act(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        return _print_schema()
    if arguments.verb == "demo":
        from pyproxy.cli.demo import run_demo  # noqa: PLC0415 - heavy

        return run_demo(arguments.port)
    file = find_file(arguments.file, os.environ)
    if arguments.verb == "explain":
        return _explain(file, arguments)
    return _check(file) if arguments.test else _run(file)


def _print_schema() -> int:
    from pyproxy.config.schema import json_schema  # noqa: PLC0415 - heavy

    print(json.dumps(json_schema(), indent=2))
    return DONE


def _check(file: str) -> int:
    from pyproxy.config.load import load_config  # noqa: PLC0415 - heavy
    from pyproxy.config.runtime import from_plain  # noqa: PLC0415 - as the others
    from pyproxy.control.check import check_machine  # noqa: PLC0415 - as the others
    from pyproxy.control.settings import make_settings  # noqa: PLC0415 - heavy

    check_machine(from_plain(make_settings(load_config(file), file).plain))
    print(f"{file}: ok")
    return DONE


def _explain(file: str, arguments: argparse.Namespace) -> int:
    from pyproxy.cli.api import AdminApi, ApiError  # noqa: PLC0415 - not needed by the other verbs
    from pyproxy.cli.explain import explain  # noqa: PLC0415 - as above
    from pyproxy.config.load import load_config  # noqa: PLC0415 - heavy
    from pyproxy.control.settings import make_settings  # noqa: PLC0415 - heavy

    settings = make_settings(load_config(file), file).admin
    if settings is None:
        return _fail(f"{file} turns the admin API off (admin: null), so the program can't be asked", FAILED)
    question = {"method": arguments.method, "url": arguments.url, "headers": arguments.headers}
    if arguments.sender is not None:
        question["from"] = arguments.sender
    try:
        print(explain(AdminApi(settings), question, as_json=arguments.json))
    except ApiError as error:
        return _fail(str(error), BAD_USAGE if error.is_usage else FAILED)
    return DONE


def _run(file: str) -> int:
    from pyproxy.config.load import load_config  # noqa: PLC0415 - heavy

    config = load_config(file)
    from pyproxy.control.run import run  # noqa: PLC0415 - heavy, and not needed for a bad file

    return run(config, str(Path(file).absolute()))


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"pyproxy: {text}\n")
    return code
