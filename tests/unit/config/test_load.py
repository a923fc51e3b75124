"""Files to configurations or to all of their problems, each with line and column."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config import explain
from pyproxy.config.load import load_config, load_text, load_with_warnings
from pyproxy.config.model import Config
from pyproxy.config.schema import Key, iter_keys
from pyproxy.errors import ConfigError

MINIMAL = """\
listeners:
  - bind: 0.0.0.0:80
pools:
  web:
    backends:
      - address: 10.0.0.1:80
"""
# The lines that a test adds begin at line 7, or where POOL and BACKEND say: at the end of the inner mappings.
POOL = MINIMAL + "    "
BACKEND = MINIMAL + "        "


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """All problems as a user sees them, without the file's name."""
    try:
        load_text(text, "lb.yml", environ or {})
    except ConfigError as error:
        return [line.removeprefix("lb.yml:") for line in error.lines()]
    return []


def test_a_good_file_has_no_problem() -> None:
    """What the other tests add to is fine by itself."""
    config = load_text(MINIMAL, "lb.yml", {})
    assert isinstance(config, Config)
    assert config.pools["web"].backends[0].name == "10.0.0.1:80"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # unknown keys, at the key
        (MINIMAL + "wokers: 1", "7:1: wokers: unknown key; did you mean workers?"),
        (MINIMAL + "zzz: 1", "7:1: zzz: unknown key"),
        (POOL + "weight: 2", "7:5: pools.web.weight: unknown key; it is a key of pools.NAME.backends[]"),
        (BACKEND + "workers: 2", "7:9: pools.web.backends[0].workers: unknown key; it is a key of the whole file"),
        (BACKEND + "hash: 1", "7:9: pools.web.backends[0].hash: unknown key; it is a key of pools.NAME"),
        (MINIMAL + "interval: 1s", "7:1: interval: unknown key"),
        (POOL + "backend: []", "7:5: pools.web.backend: unknown key; did you mean backends?"),
        (BACKEND + "wieght: 2", "7:9: pools.web.backends[0].wieght: unknown key; did you mean weight?"),
        (MINIMAL + "backend: {}", "7:1: backend: unknown key; here it is pools: see docs/migration.md#the-words"),
        (POOL + "retry: {atempts: 1}", "7:13: pools.web.retry.atempts: unknown key; did you mean attempts?"),
        (
            MINIMAL + "client: {<<: 1}",
            "7:10: client: unknown key <<; merge keys are not supported, write the keys out",
        ),
        (
            MINIMAL + "    p\u00a0q: 1",
            "7:5: pools.web: there is a U+00A0 here, which looks like a space and is none; write an ordinary space, or "
            "quote the value if it belongs to it",
        ),
        (
            MINIMAL + "user: \u2013 nobody",
            "7:7: user: \u2013 looks like the - of a list, and is text to YAML; write -",
        ),
        # duplicate keys, at the second
        (MINIMAL + "listeners: []", "7:1: listeners: duplicate key; the first is on line 1"),
        (MINIMAL + "  web: {}", "7:3: pools.web: duplicate key; the first is on line 4"),
        # missing keys, at the mapping that lacks them
        ("pools: {web: {backends: [{address: '10.0.0.1:80'}]}}", "1:1: listeners: is missing"),
        ("listeners:\n- bind: 0.0.0.0:80", "1:1: pools: is missing"),
        ("listeners:\n- bind: 0.0.0.0:80\nroutes: [{pool: web}]", "1:1: pools: is missing"),
        (MINIMAL + "      - name: x", "7:9: pools.web.backends[1].address: is missing"),
        (
            MINIMAL + "  api:\n    policy: round_robin\nroutes: [{pool: api}]",
            "8:5: pools.api.backends: is missing",
        ),
        # empty, and nothing
        ("", "1:1: is empty; listeners and pools are required"),
        ("- a", "1:1: must be a mapping"),
        (MINIMAL + "client:", "7:8: client: must be a mapping"),
        ("listeners: []\n" + MINIMAL[MINIMAL.index("pools") :], "1:12: listeners: must not be empty"),
        ("pools: {}\nlisteners: [{bind: '0.0.0.0:80'}]", "1:8: pools: must not be empty"),
        (
            "listeners: [{bind: '0.0.0.0:80'}]\npools:\n  web:\n    backends: []",
            "4:15: pools.web.backends: must not be empty",
        ),
        # wrong types, at the value
        (MINIMAL + "workers: many", "7:10: workers: must be auto or a number from 1 to 256"),
        (MINIMAL + "workers: true", "7:10: workers: must be auto or a number from 1 to 256"),
        (
            BACKEND + "weight: '1'",
            "7:17: pools.web.backends[0].weight: must be a whole number; what stands in quotes is a text",
        ),
        (BACKEND + "weight: two", "7:17: pools.web.backends[0].weight: must be a whole number"),
        (BACKEND + "weight: 1.5", "7:17: pools.web.backends[0].weight: must be a whole number"),
        (BACKEND + "weight: true", "7:17: pools.web.backends[0].weight: must be a whole number"),
        (
            BACKEND + "backup: yes",
            "7:17: pools.web.backends[0].backup: must be true or false; yes is a text in YAML 1.2",
        ),
        (BACKEND + "name: 5", "7:15: pools.web.backends[0].name: must be a text; quote it"),
        (MINIMAL + "routes: {pool: web}", "7:9: routes: must be a list; each entry begins with -"),
        (MINIMAL + "routes: web", "7:9: routes: must be a list; write it in [ ]"),
        (MINIMAL + "routes:", "7:8: routes: must be a list"),
        (MINIMAL + "routes: [web]", "7:10: routes[0]: must be a mapping"),
        (MINIMAL + "      - 10.0.0.2:80", "7:9: pools.web.backends[1]: must be a mapping; write {address: ...}"),
        (
            MINIMAL + "      - address:10.0.0.2:80",
            "7:9: pools.web.backends[1]: must be a mapping; there must be a space behind the colon of a key",
        ),
        (MINIMAL + "admin: off", "7:8: admin: must be a mapping; null turns it off"),
        (MINIMAL + "client: off", "7:9: client: must be a mapping"),
        (POOL + "sticky: true", "7:13: pools.web.sticky: must be a mapping; {} is one with all defaults"),
        (
            "http { server { listen 80; } }",
            "1:1: must be a mapping; what a file of nginx or HAProxy becomes: see docs/migration.md#the-words",
        ),
        (MINIMAL + "pools2: 1", "7:1: pools2: unknown key; did you mean pools?"),
        (
            MINIMAL + "log_level: inof",
            "7:12: log_level: must be one of debug, info, warning, error; did you mean info?",
        ),
        (
            MINIMAL + "access_log: {to: stdotu}",
            "7:18: access_log.to: must be stdout, off or a path with a /, such as /var/log/pyproxy/access.log",
        ),
        # ranges
        (BACKEND + "weight: -1", "7:17: pools.web.backends[0].weight: must be at least 0"),
        (BACKEND + "weight: 257", "7:17: pools.web.backends[0].weight: must be at most 256"),
        (POOL + "retry: {attempts: 0}", "7:23: pools.web.retry.attempts: must be at least 1"),
        (POOL + "retry: {attempts: 11}", "7:23: pools.web.retry.attempts: must be at most 10"),
        (POOL + "timeouts: {connect: 0}", "7:25: pools.web.timeouts.connect: must be at least 1ms"),
        (POOL + "timeouts: {idle: 25h}", "7:22: pools.web.timeouts.idle: must be at most 24h"),
        (MINIMAL + "limits: {request_line: 65KiB}", "7:24: limits.request_line: must be at most 64KiB"),
        (MINIMAL + "limits: {headers: 1000}", "7:19: limits.headers: must be at least 1KiB"),
        (MINIMAL + "limits: {header_count: 1001}", "7:24: limits.header_count: must be at most 1000"),
        (MINIMAL + "limits: {body: 0}", "7:16: limits.body: must be at least 1"),
        # names
        (
            MINIMAL + "  'a b': {backends: [{address: '10.0.0.1:80'}]}\nroutes: [{pool: web}]",
            "7:3: pools.'a b': must be 1 to 64 letters, digits or . _ : [ ] -",
        ),
        (
            BACKEND + "name: a/b",
            "7:15: pools.web.backends[0].name: must be 1 to 64 letters, digits or . _ : [ ] -",
        ),
        # not there yet
        (POOL + "tls: {}", "7:10: pools.web.tls: not available yet in this version"),
        # the environment and tags
        (MINIMAL + "user: ${NOT_SET}", "7:7: user: environment variable NOT_SET is not set"),
        (POOL + "sticky: ${NOT_SET}", "7:13: pools.web.sticky: environment variable NOT_SET is not set"),
        (MINIMAL + "user: !foo x", "7:7: user: tag !foo is not allowed here"),
        # what isn't YAML
        (MINIMAL + "client: {", "8:1: not valid YAML: did not find expected node content"),
    ],
)
def test_each_problem_has_its_place(text: str, expected: str) -> None:
    """One mistake is one problem, at the node that is wrong, in the contract's form."""
    assert problems(text) == [expected]


def test_all_problems_are_told_at_once() -> None:
    """A wrong type in one place hides neither a reference nor a missing key in another."""
    text = MINIMAL + "workers: x\nroutes: [{pool: wbe}]\nclient: {keepalive: -1s, x: 1}\nhealth: null\nuser: ${U}\n"
    assert [line.split(" ")[0] + line.split(" ")[1] for line in problems(text)] == [
        "7:10:workers:",
        "8:17:routes[0].pool:",
        "9:21:client.keepalive:",
        "9:26:client.x:",
        "10:1:health:",
        "11:7:user:",
    ]


def test_a_file_of_nothing_but_unknown_keys_takes_no_minute() -> None:
    """What each could be is looked up in what was worked out once."""
    calls = 0
    real = iter_keys

    def counted() -> Iterator[Key]:
        nonlocal calls
        calls += 1
        return real()

    explain._places.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyproxy.config.explain.iter_keys", counted)
        assert len(problems(MINIMAL + "".join(f"zz{number}: 1\n" for number in range(50)))) == 50
    assert calls == 1


def test_a_wrong_item_does_not_make_a_list_empty() -> None:
    """Pydantic counts good items only; a user sees the bad one and no more."""
    text = MINIMAL.replace("10.0.0.1:80", "10.0.0.1")
    assert problems(text) == ["6:18: pools.web.backends[0].address: must be host:port, [v6]:port or unix:/path"]


def test_a_problem_in_an_alias_is_told_once() -> None:
    """The place is that of the anchor's content, the path that of the first use."""
    text = MINIMAL + "    timeouts: &t {connect: 0}\n  api:\n"
    text += "    backends: [{address: '10.0.0.1:80'}]\n    timeouts: *t\n"
    text += "routes: [{pool: web, path: /a}, {pool: api}]\n"
    assert problems(text) == ["7:28: pools.web.timeouts.connect: must be at least 1ms"]


def test_a_warning_in_an_alias_is_told_once(tmp_path: Path) -> None:
    """As a problem is."""
    text = MINIMAL + '    retry: &r {"on": [timeout]}\n  api:\n'
    text += "    backends: [{address: '10.0.0.1:80'}]\n    retry: *r\n"
    text += "routes: [{pool: web, path: /a}, {pool: api}]\n"
    file = tmp_path / "lb.yml"
    file.write_text(text)
    assert [item.path for item in load_with_warnings(file).warnings] == ["pools.web.retry.on"]


def test_secrets_are_never_told() -> None:
    """Neither a problem about a secret nor the configuration itself shows it."""
    text = MINIMAL + "admin: {token: 'hunter2 hunter2'}\n"
    found = problems(text)
    assert len(found) == 1
    assert "hunter2" not in found[0]
    config = load_text(MINIMAL + "admin: {token: '${T}'}\n", "lb.yml", {"T": "hunter2"})
    assert config.admin is not None
    assert config.admin.token is not None
    assert config.admin.token.get_secret_value() == "hunter2"
    for shown in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert "hunter2" not in shown


def test_an_empty_token_from_the_environment_is_no_open_door() -> None:
    """It is refused, where null would have meant that anyone may come in."""
    text = MINIMAL + "admin: {token: '${T}'}\n"
    assert problems(text, {"T": ""}) == ["7:16: admin.token: must not be empty"]
    assert problems(text.replace("{token: '${T}'}", "\n  token: ${T}"), {"T": ""}) == [
        "8:10: admin.token: must not be empty"
    ]


def test_load_config_reads_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's own name is in the problems; a byte order mark and CRLF are fine."""
    monkeypatch.setenv("LB_PORT", "8080")
    file = tmp_path / "lb.yml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("0:80", "0:${LB_PORT}").replace("\n", "\r\n").encode())
    assert load_config(file).listeners[0].bind.port == 8080
    monkeypatch.delenv("LB_PORT")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.lines() == [f"{file}:2:11: listeners[0].bind: environment variable LB_PORT is not set"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Each is one problem, never a traceback."""
    big, latin = tmp_path / "big.yml", tmp_path / "latin.yml"
    big.write_text("# " + "x" * 2**23)
    latin.write_bytes("a: 1\nb: ä ".encode() + b"\xff")
    cases: list[tuple[str | Path, str]] = [
        (tmp_path / "none.yml", "1:1: can't be read: No such file or directory"),
        (tmp_path, "1:1: can't be read: Is a directory"),
        (big, "1:1: is larger than 8 MiB"),
        (latin, "2:6: is not valid UTF-8"),
        ("nul\0.yml", "1:1: can't be read: embedded null byte"),
    ]
    for file, expected in cases:
        with pytest.raises(ConfigError) as caught:
            load_config(file)
        assert caught.value.lines() == [f"{os.fspath(file)}:{expected}"]


def test_ten_thousand_routes_are_no_problem() -> None:
    """The limits of a file leave room for them, and the last one is checked like the first."""
    routes = [
        f"- {{host: h{number}.example.com, path: /api/{number}/, methods: [GET, HEAD], pool: web,\n"
        f'   headers: {{X-Canary: "1"}}, request_headers: {{set: {{X-Tier: $host}}, remove: [X-Evil]}}}}'
        for number in range(10_000)
    ]
    text = MINIMAL + "routes:\n" + "\n".join(routes) + "\n"
    assert len(load_text(text, "lb.yml", {}).routes) == 10_000
    assert problems(text + "- {host: h0.example.com, path: /api/0, pool: wbe}\n") == [
        "20008:46: routes[10000].pool: unknown pool; did you mean web?"
    ]


@given(st.text())
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    """Nothing that a file may hold raises anything else."""
    assert problems(text) == problems(text)


NESTED_KEYS = sorted({key.name for key in iter_keys()} | {"web", "*"})
YAMLISH = st.recursive(
    st.sampled_from(
        [
            "web",
            "10.0.0.1:80",
            "5s",
            "1KiB",
            "-1",
            "0",
            "null",
            "true",
            "~",
            "1.5",
            "''",
            "*a",
            "&a x",
            "${A}",
            "!x y",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.dictionaries(
            st.sampled_from(NESTED_KEYS),
            inner,
            max_size=4,
        ).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"),
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(sorted(Config.model_fields)), YAMLISH, max_size=6).map(
        lambda pairs: "".join(f"{key}: {value}\n" for key, value in pairs.items())
    )
)
def test_any_values_for_known_keys_are_refused_in_our_words(text: str) -> None:
    """Every mixture of types ends in a configuration or in problems, none of them in pydantic's wording."""
    for line in problems(text):
        assert "is not valid: " not in line
