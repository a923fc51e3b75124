"""Pins the command line: which file, which verb, which exit code, which words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyproxy import __version__
from pyproxy.cli.arguments import UNAVAILABLE
from pyproxy.cli.main import find_file, main
from pyproxy.control.startup import StartError

GOOD = """
listeners: [{bind: "127.0.0.1:8080"}]
pools: {web: {backends: [{address: "127.0.0.1:81"}]}}
"""
BAD = """
listeners: [{bind: "127.0.0.1:8080", nmae: x}]
pools: {web: {backends: [{address: "127.0.0.1:81", weight: -1}]}}
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory and no file named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYPROXY_CONFIG", raising=False)
    return tmp_path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read exactly this."""
    assert run(capsys, "--version") == (0, f"pyproxy {__version__}\n", "")


def test_version_loads_nothing_heavy() -> None:
    """Whoever only asks for the version doesn't wait for libraries."""
    code = "import sys, pyproxy.cli.main; pyproxy.cli.main.make_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"aiohttp", "pydantic", "uvloop", "yaml", "asyncio"} & set(loaded.split())


def test_a_good_file_is_ok(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``-t`` names the file as it was given, on stdout."""
    (empty / "x.yml").write_text(GOOD)
    assert run(capsys, "-c", "x.yml", "-t") == (0, "x.yml: ok\n", "")


def test_a_warning_is_printed_and_the_file_is_good(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can hardly be meant is told on stderr with its place; the exit code stays 0."""
    failover = "failover: {interface: lo, virtual_ips: [127.0.0.1/32], vrid: 1, gateway: off, down_adverts: 1}\n"
    (empty / "lb.yml").write_text(GOOD + failover)
    code, out, err = run(capsys, "-t")
    assert (code, out) == (0, "lb.yml: ok\n")
    text = "with 1, a single advert that is lost makes a second master"
    assert err == f"lb.yml:4:93: failover.down_adverts: warning: {text}\n"


def test_every_problem_is_printed(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All problems at once, one line each on stderr, exit code 2."""
    (empty / "lb.yml").write_text(BAD)
    code, out, err = run(capsys, "-t")
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("lb.yml:2:")
    assert second.startswith("lb.yml:3:")
    assert "pools.web.backends[0].weight" in second


def test_a_bad_file_is_not_run(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without ``-t`` the same problems and the same code."""
    (empty / "lb.yml").write_text(BAD)
    assert run(capsys)[0] == 2


def test_a_bad_token_file_is_bad_configuration(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``-t`` looks into the token's file too."""
    (empty / "lb.yml").write_text(GOOD + "admin: {token_file: ./token}\n")
    code, out, err = run(capsys, "-t")
    assert (code, out) == (2, "")
    assert "token" in err


def test_a_file_that_is_not_there(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A named file must exist; the line names it."""
    code, _, err = run(capsys, "-c", "nope.yml", "-t")
    assert code == 2
    assert "nope.yml" in err


def test_the_search_order(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-c``, then the environment, then ./lb.yml, then /etc/pyproxy/lb.yml."""
    environ = {"PYPROXY_CONFIG": "env.yml"}
    assert find_file("given.yml", environ) == "given.yml"
    assert find_file(None, environ) == "env.yml"
    (empty / "lb.yml").write_text(GOOD)
    assert find_file(None, {"PYPROXY_CONFIG": ""}) == "lb.yml"
    (empty / "lb.yml").unlink()
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/etc/pyproxy/lb.yml")
    assert find_file(None, {}) == "/etc/pyproxy/lb.yml"
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    with pytest.raises(StartError, match=r"PYPROXY_CONFIG.*\./lb\.yml.*/etc/pyproxy/lb\.yml"):
        find_file(None, {})


def test_no_file_anywhere(empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any file the command says where it looked, exit code 2."""
    monkeypatch.setattr("pyproxy.cli.main.DEFAULT_FILES", ("lb.yml",))
    code, _, err = run(capsys)
    assert code == 2
    assert err.startswith("pyproxy: no configuration file: give one with -c")


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """``--schema`` needs no file and prints a JSON Schema."""
    code, out, _ = run(capsys, "--schema")
    assert code == 0
    assert json.loads(out)["type"] == "object"


@pytest.mark.parametrize("verb", UNAVAILABLE)
@pytest.mark.parametrize("rest", [(), ("web/web1", "--wait", "60s"), ("--json",), ("-H", "K: V")])
def test_verbs_to_come_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], verb: str, rest: tuple[str, ...]
) -> None:
    """Whatever its arguments, such a verb says what it is, exit code 2."""
    expected = f"pyproxy: '{verb}' is not available yet in this version\n"
    assert run(capsys, "-c", "lb.yml", verb, *rest) == (2, "", expected)


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("--frobnicate",),
        ("-t", "--vers"),
        ("demo", "--port", "x"),
        ("demo", "extra"),
        ("-c",),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """What isn't understood is exit code 2 with the usage, and nothing is started."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "usage: pyproxy" in err


@pytest.mark.parametrize("port", ["-1", "65536", "1e3", "٣"])
def test_a_port_is_a_port(capsys: pytest.CaptureFixture[str], port: str) -> None:
    """A number that is no port is refused before anything starts."""
    code, _, err = run(capsys, "demo", f"--port={port}")
    assert code == 2
    assert "must be a port" in err


def test_help_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists options and the verbs that work, none that doesn't."""
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "demo" in out
    assert "drain" in out
    assert "timeline" not in out


@pytest.mark.parametrize("arguments", [("vipd", "-c", "lb.yml", "-t"), ("-c", "lb.yml", "-t", "vipd")])
def test_a_speaker_alone_takes_its_file_on_either_side_of_the_verb(
    empty: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """As the documentation has it, and as every other verb has it."""
    (empty / "lb.yml").write_text("failover: {interface: lo, virtual_ips: [192.0.2.10/32], vrid: 51, gateway: off}")
    assert run(capsys, *arguments) == (0, "lb.yml: ok\n", "")


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    """As of ``pyproxy peer | head -1``: no traceback, and the exit code is the verb's."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "pyproxy", "--schema"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")
