"""Keys whose feature isn't there yet are refused by name."""

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.schema import iter_keys
from pyproxy.config.unavailable import NOT_YET, UNAVAILABLE
from pyproxy.errors import ConfigError


def problems(listener: str = "", pool: str = "", top: str = "") -> list[str]:
    """Load a file with something added in one place; path and text of each problem."""
    text = (
        f"listeners: [{{name: l, bind: '0.0.0.0:80', {listener}}}]\n"
        f"pools: {{web: {{backends: [{{name: b, address: '10.0.0.1:80'}}], {pool}}}}}\n"
        f"{top}\n"
    )
    try:
        load_text(text, "f", {})
    except ConfigError as error:
        return [f"{item.path}: {item.text}" for item in error.problems]
    return []


USED = [
    ("listener", "tls: {certificates: [{cert: a, key: b}]}", "listeners[0].tls"),
    ("pool", "tls: {}", "pools.web.tls"),
]


@pytest.mark.parametrize(("where", "key", "path"), USED)
def test_a_key_whose_feature_is_not_there_is_refused_by_name(where: str, key: str, path: str) -> None:
    """The value is fine, so the one problem is that the feature isn't there."""
    assert problems(**{where: key}) == [f"{path}: {NOT_YET}"]


OFF = [
    ("listener", "tls: null"),
    ("pool", "tls: null, sticky: null, health: {steer: false}"),
]


@pytest.mark.parametrize(("where", "keys"), OFF)
def test_an_off_value_is_no_use_of_the_feature(where: str, keys: str) -> None:
    """Whoever writes the default down isn't refused."""
    assert problems(**{where: keys}) == []


def test_every_entry_names_a_key_of_the_model() -> None:
    """A renamed key can't lose its refusal without anyone noticing."""
    known = {key.path for key in iter_keys()}
    assert {entry.path for entry in UNAVAILABLE} <= known
