"""
The container image, as far as it can be tested without a container engine.

What its install script does is tried by ``.ci/run``; here the Dockerfile's promises are read and its health
check is run.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSTALL = ROOT / "docker" / "install.sh"
ADMIN_PORT = "9900"


def _instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: each instruction's word and the rest of it, continuation lines joined."""
    lines = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def _last(word: str) -> str:
    return [rest for name, rest in _instructions() if name == word][-1]


def _exec_form(text: str) -> list[str]:
    command: list[str] = json.loads(text)
    return command


def test_the_program_is_the_first_process() -> None:
    """In exec form no shell stands between ``docker stop`` and the program's graceful end."""
    assert _exec_form(_last("ENTRYPOINT")) == ["pyproxy"]
    assert _exec_form(_last("CMD")) == ["-c", "/etc/pyproxy/lb.yml"]
    assert _last("STOPSIGNAL") == "SIGTERM"


def test_the_default_file_is_in_the_image() -> None:
    """The file that CMD names is one of the examples that are copied there."""
    assert ("COPY", "config /etc/pyproxy") in _instructions()
    assert (ROOT / "config" / "lb.yml").is_file()


def test_the_image_does_not_run_as_root() -> None:
    """The last USER holds for the program; a number can be judged by an orchestrator."""
    user = _last("USER").partition(":")[0]
    assert user.isdecimal()
    assert user != "0"


def test_each_stage_starts_from_the_given_base() -> None:
    """Both stages follow the one argument: a virtual environment moves only between equal Pythons."""
    bases = [rest.partition(" ")[0] for name, rest in _instructions() if name == "FROM"]
    assert bases == ["${PYTHON_IMAGE}"] * 2
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", _last("ARG"))


def test_jemalloc_is_preloaded_from_where_the_script_links_it() -> None:
    """A wrong path would cost the allocator silently: the loader only warns."""
    preload = re.search(r"LD_PRELOAD=(\S+)", _last("ENV"))
    assert preload is not None
    assert any(f"system {preload[1]} " in rest for name, rest in _instructions() if name == "RUN")


def test_what_the_image_copies_reaches_the_builder() -> None:
    """Every source of a COPY is let through by .dockerignore, and nothing else is."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.partition("/")[0]
        for name, rest in _instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == allowed
    assert "*" in rules


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.answers.get(self.path, 404))  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def admin() -> Iterator[tuple[str, dict[str, int]]]:
    """Serve an admin API of which only /healthz is there: its port and the status it answers."""
    answers = {"/healthz": 200}
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        server.answers = answers  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield str(server.server_port), answers
        server.shutdown()
        thread.join()


def _run_health_check(port: str) -> int:
    command = _exec_form(_last("HEALTHCHECK").partition(" CMD ")[2])
    assert command[:2] == ["python", "-c"]
    code = command[2].replace(ADMIN_PORT, port)
    env = {
        **os.environ,
        "http_proxy": "http://127.0.0.1:9",
    }  # a container's proxy is not for its own loopback
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False).returncode


def test_the_health_check_follows_healthz(admin: tuple[str, dict[str, int]]) -> None:
    """It passes on 200, fails with 1 on anything else and when nothing listens."""
    port, answers = admin
    assert _run_health_check(port) == 0
    answers["/healthz"] = 503
    assert _run_health_check(port) == 1
    assert _run_health_check("9") == 1


def test_the_install_script_explains_itself() -> None:
    """Anything but its two forms is refused before anything is touched."""
    for arguments in ([], ["system"], ["python", "a"], ["python", "a", "b", "c"], ["other", "x"]):
        result = subprocess.run([INSTALL, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert "install.sh python PREFIX SOURCE" in result.stderr


def test_tests_and_lint_are_not_what_users_install() -> None:
    """The groups for development and benchmarks are apart from the dependencies that the image gets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {re.split(r"[<>=\[ ]", line)[0].lower() for line in project["project"]["dependencies"]}
    groups = project["dependency-groups"].values()
    ours = {re.split(r"[<>=\[ ]", line)[0].lower() for group in groups for line in group if isinstance(line, str)}
    assert {"pytest", "matplotlib"} <= ours
    assert not names & ours
