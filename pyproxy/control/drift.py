"""
In which sections of their files two machines differ that should be equal, without telling a secret.

Must not know how the other machine is asked. What is compared are the values in effect, with all defaults, so a
comment or another order of keys is no difference. A secret is shown, and compared, as a hash of it under the key of
the link: who doesn't have that key learns nothing, and a differing secret differs.

What is each machine's own isn't compared: ``workers``, ``user``, ``state_dir``, ``access_log``, ``log_level`` and
``admin``, and of ``failover`` all that says which of the two it is, or where its wires are (``OWN_FAILOVER``).
"""

import difflib
import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
import yaml
from pydantic import BaseModel, SecretStr

from pyproxy.config.model import Config
from pyproxy.config.pages import ErrorPage

OWN: Final = ("workers", "user", "state_dir", "access_log", "log_level", "admin")
OWN_FAILOVER: Final = ("interface", "priority", "preempt", "peers", "gateway", "witnesses", "fence", "vip_exec")
OWN_LINK: Final = ("bind", "peer", "key_file")

#: Keys that name a file with a secret, whose content is what counts.
_SECRET_FILES: Final = ("secret_file",)
_DIGEST_CHARACTERS: Final = 12
_MARK_CHARACTERS: Final = 8

Sections = dict[str, Any]
Read = Callable[[str], bytes | None]


def make_sections(config: Config, key: bytes, read: Read = lambda _path: None) -> Sections:
    """
    Give what should be equal on both machines, by section; each pool is one, ``pools.NAME``.

    ``read`` gives the content of a file that holds a secret, None if it can't be read.
    """
    plain = _Plain(key, read).show(config, config.model_dump())
    for name in OWN:
        del plain[name]
    if plain["failover"] is not None:
        _strip(plain["failover"])
    pools = plain.pop("pools")
    return dict(sorted(plain.items())) | {f"pools.{name}": pools[name] for name in pools}


def digests(sections: Mapping[str, Any]) -> dict[str, str]:
    """Name the content of each section."""
    return {name: _digest(value) for name, value in sections.items()}


def digest_of(found: Mapping[str, str]) -> str:
    """Name the content of all sections together."""
    return _digest(dict(found))


def compare(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Name the sections that differ, or that only one has, from the digests of both."""
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))


def difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Write the sections that differ as a unified diff of YAML; ``names`` are the machines, theirs first."""
    return "".join(_section(name, mine, theirs, names) for name in compare(digests(mine), digests(theirs)))


def read_digests(data: Any) -> dict[str, str]:
    """Take the digests that the other machine sent; whatever else it is counts as none."""
    if not isinstance(data, dict):
        return {}
    return {name: text for name, text in data.items() if isinstance(name, str) and isinstance(text, str)}


def _section(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], names: tuple[str, str]) -> str:
    before, after = (_lines(name, side) for side in (theirs, mine))
    lines = difflib.unified_diff(before, after, f"{names[0]}: {name}", f"{names[1]}: {name}", lineterm="\n")
    return "".join(lines)


def _lines(name: str, sections: Mapping[str, Any]) -> list[str]:
    if name not in sections:
        return []
    text = yaml.safe_dump({name: sections[name]}, sort_keys=True, allow_unicode=True, width=10_000)
    return text.splitlines(keepends=True)


def _strip(failover: dict[str, Any]) -> None:
    for name in OWN_FAILOVER:
        failover.pop(name, None)
    for name in OWN_LINK:
        (failover["link"] or {}).pop(name, None)
    keys = (failover["auth_hmac"] or {}).get("keys", {})
    # Where the keys lie is each machine's own; which ids there are isn't.
    keys.update(dict.fromkeys(keys, "file"))


def _digest(value: Any) -> str:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_DIGEST_CHARACTERS]


class _Plain:
    """The model as plain data, secrets as their marks; ``shown`` is the same part as pydantic writes it."""

    def __init__(self, key: bytes, read: Read) -> None:
        self._key = key
        self._read = read

    def show(self, value: Any, shown: Any) -> Any:
        if isinstance(value, SecretStr):
            return f"secret {self._mark(value.get_secret_value().encode())}"
        if isinstance(value, ErrorPage):
            return f"{value.path} {self._mark(value.body)}"
        if isinstance(value, BaseModel):
            return {name: self._field(name, getattr(value, name), shown[name]) for name in type(value).model_fields}
        if isinstance(value, dict):
            pairs = zip(value.items(), shown.values(), strict=True)
            return {str(name): self.show(item, other) for (name, item), other in pairs}
        if isinstance(value, (list, tuple)) and isinstance(shown, (list, tuple)) and len(value) == len(shown):
            return [self.show(item, other) for item, other in zip(value, shown, strict=True)]
        return list(shown) if isinstance(shown, tuple) else shown

    def _field(self, name: str, value: Any, shown: Any) -> Any:
        if name in _SECRET_FILES and isinstance(value, str):
            content = self._read(value)
            return f"file {self._mark(content)}" if content is not None else "file that can't be read"
        return self.show(value, shown)

    def _mark(self, content: bytes) -> str:
        digest = hmac.digest(self._key, b"pyproxy drift\0" + content, "sha256")
        return f"#{digest.hex()[:_MARK_CHARACTERS]}"
