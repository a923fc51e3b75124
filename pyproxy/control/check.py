"""
What ``pyproxy -t`` and the start look at beyond the file: what this machine must have for it.

Must not change anything: no file is made, no socket is bound. Works on the values as they were written, passes over
what has the wrong type, and tells what is missing where it stands in the file, all of it at once.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyproxy.config.compile_failover import parse_key
from pyproxy.config.model_pool import MIN_STICKY_SECRET
from pyproxy.config.source import Path as Place
from pyproxy.config.source import Source
from pyproxy.control.files import everybody_may_read, others_may_write, read_small
from pyproxy.control.reach import closed_to
from pyproxy.control.routes import has_default_route
from pyproxy.control.startup import StartError, find_credentials, read_secrets, read_token
from pyproxy.control.unix_sockets import find_owner

_UNIX = "unix:"


def check_machine(source: Source) -> None:
    """Look for the users, directories and files that the configuration names."""
    data = _mapping(source.data)
    _check_user(source, _text(data.get("user")))
    for index, listener in enumerate(_list(data.get("listeners"))):
        _check_listener(source, ("listeners", index), _mapping(listener))
    _check_state_dir(source, _text(data.get("state_dir")))
    _check_log(source, _text(_mapping(data.get("access_log")).get("to")))
    for name, pool in _mapping(data.get("pools")).items():
        file = _mapping(_mapping(pool).get("sticky")).get("secret_file")
        _check_secret(source, ("pools", name, "sticky", "secret_file"), file, _read_sticky)
    check_speaker(source)


def check_speaker(source: Source) -> None:
    """Look for what a speaker that runs alone needs."""
    data = _mapping(source.data)
    admin, failover = _mapping(data.get("admin")), _mapping(data.get("failover"))
    _check_socket(source, ("admin", "bind"), admin.get("bind"))
    _check_secret(source, ("admin", "token_file"), admin.get("token_file"), _read_token)
    link_key = _mapping(failover.get("link")).get("key_file")
    _check_secret(source, ("failover", "link", "key_file"), link_key, _read_key)
    for number, file in _mapping(_mapping(failover.get("auth_hmac")).get("keys")).items():
        _check_secret(source, ("failover", "auth_hmac", "keys", number), file, _read_key)
    _check_interface(source, failover)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Give a text that the system can be asked about, nothing for what is told elsewhere."""
    return value if isinstance(value, str) and "\0" not in value else ""


@contextlib.contextmanager
def _told(source: Source, place: Place) -> Iterator[None]:
    """Tell of a path that can't even be looked at: a folder closed to whoever asks, a name that is too long."""
    try:
        yield
    except OSError as error:
        source.report(place, f"can't look at {error.filename}: {error.strerror}")


def _check_user(source: Source, user: str) -> None:
    if not user:
        return
    try:
        credentials = find_credentials(user, only_root=False)
    except StartError as error:
        source.report(("user",), error.text)
        return
    if credentials is not None and (reason := closed_to(credentials)):
        source.report(("user",), f"{user!r} can't run pyproxy: {reason}")


def _check_listener(source: Source, place: Place, listener: dict[str, Any]) -> None:
    _check_socket(source, (*place, "bind"), listener.get("bind"))
    if owner := _text(listener.get("owner")):
        try:
            find_owner(owner)
        except StartError as error:
            source.report((*place, "owner"), str(error))


def _check_socket(source: Source, place: Place, address: Any) -> None:
    if not _text(address).startswith(f"{_UNIX}/"):
        return
    directory = Path(address.removeprefix(_UNIX)).parent
    with _told(source, place):
        if not directory.is_dir():
            source.report(place, f"there is no directory {directory}")
        elif text := others_may_write(directory):
            source.warn(place, f"{text}, who may put a socket of their own there")


def _check_state_dir(source: Source, state_dir: str) -> None:
    if not state_dir:
        return
    place, directory = ("state_dir",), Path(state_dir)
    with _told(source, place):
        if not directory.parent.is_dir():
            source.report(place, f"there is no directory {directory.parent}")
        elif directory.exists() and not directory.is_dir():
            source.report(place, f"{directory} is no directory")
        elif directory.exists() and (text := others_may_write(directory)):
            source.warn(place, f"{text}, who may undo and forge what was changed at run time")


def _check_log(source: Source, log: str) -> None:
    if "/" not in log:
        return
    place, directory = ("access_log", "to"), Path(log).parent
    with _told(source, place):
        if not directory.is_dir():
            source.report(place, f"there is no directory {directory}")
        elif Path(log).is_dir():
            source.report(place, f"{log} is a directory")
        elif text := others_may_write(directory):
            source.warn(place, f"{text}, who may put another file in its place")


def _read_token(file: str) -> None:
    read_token(None, file)


def _read_sticky(file: str) -> None:
    read_secrets("", file, MIN_STICKY_SECRET)


def _read_key(file: str) -> None:
    try:
        parse_key(read_small(file))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"can't use {file}: {reason}") from error


def _check_secret(source: Source, place: Place, value: Any, read: Callable[[str], None]) -> None:
    file = _text(value)
    if not file:
        return
    try:
        read(file)
    except StartError as error:
        source.report(place, error.text)
        return
    with contextlib.suppress(OSError):  # it has been read, so it has just gone
        if text := everybody_may_read(file):
            source.warn(place, text)


def _check_interface(source: Source, failover: dict[str, Any]) -> None:
    name, has_witnesses = failover.get("interface"), bool(failover.get("witnesses"))
    if not isinstance(name, str):
        return
    if name not in [known for _, known in socket.if_nameindex()]:
        source.warn(("failover", "interface"), f"there is no interface {name} on this machine")
    elif failover.get("gateway", "auto") == "auto" and not has_witnesses and not has_default_route(name):
        place = ("failover", "gateway" if "gateway" in failover else "interface")
        source.warn(
            place,
            f"no default route leads through {name}, so gateway: auto asks nobody, and without witnesses nothing tells "
            "this machine whether it is cut off",
        )
