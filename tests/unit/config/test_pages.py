"""The error pages, which are read with the file that names them."""

import os
from pathlib import Path

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.pages import MAX_PAGE_BYTES, ErrorPage
from pyproxy.errors import ConfigError

MINIMAL = "listeners: [{bind: '0.0.0.0:80'}]\npools: {web: {backends: [{address: '10.0.0.1:80'}]}}\n"


def pages(content: str) -> dict[int, ErrorPage]:
    """Load a file whose third line has these error pages."""
    return load_text(f"{MINIMAL}error_pages: {content}\n", "f", {}).error_pages


def problems(content: str) -> list[str]:
    """All problems of a file whose third line has these error pages, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        pages(content)
    return [line.removeprefix("f:") for line in caught.value.lines()]


def test_a_page_comes_with_the_configuration(tmp_path: Path) -> None:
    """Its bytes as they are in the file, which two statuses may share; its place is what is shown of it."""
    page = tmp_path / "down.html"
    page.write_bytes(b"<p>\xff\n")
    found = pages(f"{{503: {page}, '502': {page}}}")
    assert found == {503: ErrorPage(str(page), b"<p>\xff\n"), 502: ErrorPage(str(page), b"<p>\xff\n")}
    assert str(found[503]) == str(page)
    assert "<p>" not in repr(found)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.HTM", "text/html; charset=utf-8"),
        ("a.b.json", "application/json"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.gif", "application/octet-stream"),
        ("html", "application/octet-stream"),
    ],
)
def test_the_suffix_says_the_content_type(name: str, content_type: str) -> None:
    """What isn't known is sent as bytes."""
    assert ErrorPage(f"/etc/{name}").content_type == content_type


def test_files_that_cannot_be_pages(tmp_path: Path) -> None:
    """Each is a problem at its own place, whatever else is wrong; a named pipe keeps nobody waiting."""
    none, big, pipe = tmp_path / "none", tmp_path / "big", tmp_path / "pipe"
    big.write_bytes(b"x" * (MAX_PAGE_BYTES + 1))
    os.mkfifo(pipe)
    text = f"{{\n 500: {none},\n 501: {big},\n 502: {pipe},\n 503: {tmp_path},\n 504: /dev/null,\n 505: a,\n 506: 5}}"
    assert problems(f"{text}\nworkers: x") == [
        "4:7: error_pages.500: can't be read: No such file or directory",
        "5:7: error_pages.501: is larger than 1 MiB",
        "6:7: error_pages.502: is not a regular file",
        "7:7: error_pages.503: can't be read: Is a directory",
        "8:7: error_pages.504: is not a regular file",
        "9:7: error_pages.505: must be a full path, such as /etc/pyproxy/503.html",
        "10:7: error_pages.506: must be a text; quote it",
        "11:10: workers: must be auto or a number from 1 to 256",
    ]


def test_the_largest_page_and_too_many_of_them(tmp_path: Path) -> None:
    """Every worker keeps all pages in its memory, so together they have a limit, too."""
    for number in range(9):
        (tmp_path / f"{number}").write_bytes(b"x" * MAX_PAGE_BYTES)
    several = [f"{500 + number}: {tmp_path}/{number}" for number in range(9)]
    assert len(pages("{" + ", ".join(several[:8]) + "}")[500].body) == MAX_PAGE_BYTES
    assert problems("{" + ", ".join(several) + "}") == ["3:14: error_pages: are larger than 8 MiB together"]
    same = [f"{500 + number}: {tmp_path}/0" for number in range(9)]  # of one file each status has its own
    assert problems("{" + ", ".join(same) + "}") == ["3:14: error_pages: are larger than 8 MiB together"]


@pytest.mark.parametrize("content", ["[a]", "{503: [a]}", "{503: null}", "/etc/x"])
def test_values_of_another_type(content: str) -> None:
    """They are told once, with the types."""
    assert len(problems(content)) == 1
