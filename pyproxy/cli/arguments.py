"""
What the command line takes: options, verbs and their arguments.

Must not know what a verb does; nothing heavy is imported, so that a typing error answers at once.
"""

import argparse
import re
from typing import TypeAlias

from pyproxy import __version__

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_PORT = 8080

#: Verbs of the contract that this version can't do; each is refused by name.
UNAVAILABLE = ("reload", "top", "timeline", "check")

_DURATION = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h)?")
_STATES = {
    "drain": "send a node no new clients",
    "ready": "let a node take traffic as configured",
    "maint": "send a node nothing new at all, and stop checking it",
}


def make_parser() -> argparse.ArgumentParser:
    """Describe the whole command line."""
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
    _add_explain(_add_verb(verbs, "explain", "what would serve a request, and why"))
    _add_status(verbs)
    _add_changes(verbs)
    _add_members(verbs)
    _add_peer(verbs)
    vipd = verbs.add_parser("vipd", help="run the failover speaker alone, without a proxy", allow_abbrev=False)
    vipd.description = "Run the failover speaker alone, for a machine that serves with another program."
    # Before or behind the verb, they are the same: it is what is run, as without a verb.
    vipd.add_argument("-c", dest="file", metavar="FILE", default=argparse.SUPPRESS, help="the configuration file")
    vipd.add_argument(
        "-t", dest="test", action="store_true", default=argparse.SUPPRESS, help="check the file and start nothing"
    )
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


def _add_verb(verbs: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    """Add a verb that asks the running program."""
    parser = verbs.add_parser(name, help=text, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the admin API's answer")
    return parser


def _add_status(verbs: Verbs) -> None:
    _add_verb(
        verbs, "status", "pools and nodes with their state"
    ).description = "Print the pools and backends of the running program."


def _add_changes(verbs: Verbs) -> None:
    for state, text in _STATES.items():
        parser = _add_verb(verbs, state, text)
        _add_backend(parser)
        parser.add_argument(
            "--wait",
            type=_duration,
            metavar="TIME",
            help="return when nothing is in flight; exit code 1 if that takes longer than TIME, such as 60s",
        )
        _add_why(parser)
    weight = _add_verb(verbs, "weight", "change a node's share")
    _add_backend(weight)
    weight.add_argument("weight", metavar="N", type=_whole, help="0 to 256")
    _add_why(weight)


def _add_members(verbs: Verbs) -> None:
    add = _add_verb(verbs, "add", "add a node to a pool")
    add.add_argument("pool", metavar="POOL")
    add.add_argument("name", metavar="NAME")
    add.add_argument("address", metavar="ADDRESS", help="as in the file: host:port, [v6]:port or unix:/path")
    add.add_argument("--weight", metavar="N", type=_whole, help="0 to 256 (default: 1)")
    add.add_argument("--backup", action="store_true", help="use it only while no other node is available")
    _add_why(add)
    remove = _add_verb(verbs, "remove", "take a node out of its pool")
    _add_backend(remove)
    remove.add_argument("--force", action="store_true", help="even if something is in flight on it, which goes on")


def _add_peer(verbs: Verbs) -> None:
    peer = _add_verb(verbs, "peer", "the two machines of a failover pair")
    peer.description = "Print the state of the pair, or do something about it."
    peer.add_argument("--check", action="store_true", help="one line and an exit code, as monitoring plugins do")
    peer.set_defaults(action=None)
    actions = peer.add_subparsers(dest="action", metavar="ACTION", title="actions")
    handover = _add_action(actions, "handover", "give the addresses to the other machine, failing nobody")
    handover.add_argument("--reason", metavar="TEXT", help="for the log of both machines")
    _add_action(actions, "diff", "how the other machine's file differs; exit code 1 if it does")
    simulate = _add_action(actions, "simulate", "who would have the addresses after a failure, and why")
    simulate.add_argument(
        "--fail",
        metavar="WHAT",
        action="append",
        required=True,
        help="local, peer, link, gateway, workers or backend:POOL/NAME; may be repeated",
    )


def _add_action(actions: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    # Before or behind the action, it is the same.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the admin API's answer")
    return parser


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backend", metavar="POOL/BACKEND", type=_backend)


def _add_why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", help="kept with the change, for whoever looks later")
    parser.add_argument("--expires", type=_duration, metavar="TIME", help="take it back after TIME, such as 30m")


def _backend(text: str) -> tuple[str, str]:
    pool, slash, backend = text.partition("/")
    if not (pool and slash and backend) or "/" in backend:
        raise argparse.ArgumentTypeError("must be POOL/BACKEND")
    return pool, backend


def _duration(text: str) -> str:
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError("must be a duration such as 250ms, 2s, 5m or 1h")
    return text


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("must be 'Name: value'")
    return name, value.strip()


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError("must be a port from 0 (any free one) to 65535")
