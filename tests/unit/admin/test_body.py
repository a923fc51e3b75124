"""Pins what may be asked for an explanation, and how what may not is told."""

import json
from typing import Any

import pytest

from pyproxy.admin.control import Question
from tests.unit.admin.asking import Client, body
from tests.unit.admin.fake_control import explanation

GOOD = {"method": "GET", "url": "http://www.example.com/"}


async def ask(client: Client, content: Any) -> tuple[int, Any]:
    """POST a question: status and JSON of the answer."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = await client.ask("/api/v1/explain", "POST", headers, json.dumps(content).encode())
    return response.status, body(response)


async def test_a_question_reaches_the_program() -> None:
    """What is left out has a default; the answer is the program's."""
    client = Client()
    assert await ask(client, GOOD) == (200, explanation())
    expected: list[Question] = [
        {"method": "GET", "url": "http://www.example.com/", "headers": [], "sender": "127.0.0.1"}
    ]
    assert client.control.questions == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Canary": "1", "Accept": ""}, [("X-Canary", "1"), ("Accept", "")]),
        ([["Cookie", "a=1"], ["Cookie", "b=\t2 ä"]], [("Cookie", "a=1"), ("Cookie", "b=\t2 ä")]),
        ({}, []),
    ],
)
async def test_headers_are_a_mapping_or_pairs(headers: Any, expected: list[tuple[str, str]]) -> None:
    """Pairs, because a field may come twice."""
    client = Client()
    assert (await ask(client, {**GOOD, "headers": headers}))[0] == 200
    assert client.control.questions[0]["headers"] == expected


@pytest.mark.parametrize(
    ("sender", "expected"),
    [("10.1.2.3", "10.1.2.3"), ("FD00:0::1", "fd00::1"), ("unix:", "unix:")],
)
async def test_the_sender_is_an_address(sender: str, expected: str) -> None:
    """In its short form, as the byte path has it."""
    client = Client()
    assert (await ask(client, {**GOOD, "from": sender}))[0] == 200
    assert client.control.questions[0]["sender"] == expected


@pytest.mark.parametrize(
    "url",
    [
        *("http://h", "https://h:8443/a?b", "HTTP://h/", "http://h?x", "http://[::1]:80/", "http://h/#x"),
        *("http://h/a@b", "http://h/ä%zz"),
    ],
)
async def test_urls(url: str) -> None:
    """Whatever a client might be given; whether it gets far is the program's to say."""
    assert (await ask(Client(), {"method": "M-SEARCH", "url": url}))[0] == 200


async def test_a_path_is_enough_with_a_host() -> None:
    """As the access log has them."""
    assert (await ask(Client(), {"method": "GET", "url": "/a?b", "headers": {"HOST": "x"}}))[0] == 200


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        pytest.param({"method": ""}, "method: must be a method, such as GET", id="no method"),
        pytest.param({"method": "GE T"}, "method: must be a method, such as GET", id="bad method"),
        pytest.param({"method": None}, "method: must be a text", id="method null"),
        pytest.param({"url": 1}, "url: must be a text", id="url no text"),
        pytest.param(
            {"url": "http://h/a b"},
            "url: must not have blanks or control characters; in a URL a blank is %20",
            id="blank in the url",
        ),
        pytest.param(
            {"url": "http://h/\r\nX: y"},
            "url: must not have blanks or control characters; in a URL a blank is %20",
            id="injection in the url",
        ),
        *(
            pytest.param(
                {"url": url}, "url: must be http://HOST/PATH, https://HOST/PATH, or a path that begins with /", id=url
            )
            for url in ("", "x", "*", "ftp://h/", "http://", "http:///x", "http://user@h/", "www.example.com/")
        ),
        pytest.param(
            {"url": "/x"},
            "url: must name a host, such as http://www.example.com/, unless headers have Host",
            id="no host",
        ),
        pytest.param({"headers": "X: y"}, "headers: must be a mapping, or a list of [name, value]", id="headers text"),
        pytest.param({"headers": None}, "headers: must be a mapping, or a list of [name, value]", id="headers null"),
        pytest.param({"headers": ["X"]}, "headers[0]: must be [name, value]", id="header text"),
        pytest.param({"headers": [["X", "1", "2"]]}, "headers[0]: must be [name, value]", id="header of three"),
        pytest.param({"headers": [["X"]]}, "headers[0][1]: is missing", id="header of one"),
        pytest.param({"headers": {"X": 1}}, "headers[0][1]: must be a text", id="number"),
        pytest.param({"headers": {"X:": "1"}}, "headers[0][0]: must be a header's name", id="name"),
        pytest.param({"headers": {"": "1"}}, "headers[0][0]: must be a header's name", id="no name"),
        pytest.param(
            {"headers": {"X": "1\r\nY: 2"}}, "headers[0][1]: must not have control characters", id="injection"
        ),
        *(
            pytest.param(
                {"from": sender}, "from: must be an IP address, or unix: for a unix socket", id=f"from {sender}"
            )
            for sender in ("", "localhost", "10.0.0.1:80", "10.0.0.0/8", "fe80::1%eth0")
        ),
        pytest.param({"form": "10.0.0.1"}, "form: unknown key; did you mean from?", id="typing error"),
        pytest.param({"sender": "10.0.0.1"}, "sender: unknown key; did you mean headers?", id="inner name"),
    ],
)
async def test_what_is_not_valid_is_422(changes: dict[str, Any], detail: str) -> None:
    """One line that says where and what; nothing reaches the program."""
    client = Client()
    expected = {"error": "the request is not valid", "detail": [detail]}
    assert await ask(client, {**GOOD, **changes}) == (422, expected)
    assert client.control.questions == []


async def test_every_problem_is_told_at_once() -> None:
    """Nobody has to ask three times."""
    status, answer = await ask(Client(), {"url": "x", "from": "y", "z": 1})
    assert status == 422
    assert [line.partition(":")[0] for line in answer["detail"]] == ["method", "url", "from", "z"]


@pytest.mark.parametrize("content", [[], "GET", None, 1])
async def test_a_question_is_an_object(content: Any) -> None:
    """Other JSON has nothing to check."""
    expected = {"error": "the request is not valid", "detail": ["must be an object"]}
    assert await ask(Client(), content) == (422, expected)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"method": "GET", "url": "http://a/", "method": "POST"}', "the key 'method' is there twice"),
        (b'{"method": "GET", "url": "http://a/", "headers": {"A": "1", "\\u0041": "2"}}', "the key 'A' is there twice"),
        (b"[" * 60_000, "not JSON"),
        (b"[" * 33 + b"]" * 33, "nested more than 32 levels deep"),
        (b'{"' + b"]" * 50_000 + b'":' + b"[" * 1020 + b"]" * 1020 + b"}", "nested more than 32 levels deep"),
        (b'{"\\"":' + b"[" * 33 + b"]" * 33 + b',"a":1}', "nested more than 32 levels deep"),
        (b'{"a":' + b"[" * 33 + b"]" * 33 + b',"a":1}', "nested more than 32 levels deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested more than 32 levels deep"),
        (b'{"method": NaN}', "not JSON"),
        (b'\xef\xbb\xbf{"method": "GET"}', "not JSON"),
        (b'{"method": "\\ud800"}', "not JSON"),
        (b'{"method": "GET"', "not JSON"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
    ],
)
async def test_what_could_be_read_in_two_ways_is_not_read(content: bytes, words: str) -> None:
    """Two programs take another one of two equal keys each; depth and numbers are bounded."""
    client = Client()
    response = await client.ask("/api/v1/explain", "POST", {"Content-Type": "application/json"}, content)
    assert response.status == 400
    assert words in body(response)["error"]
    assert client.control.questions == []


async def test_brackets_in_a_text_are_no_levels() -> None:
    """A path may hold any number of them."""
    assert (await ask(Client(), {**GOOD, "url": "http://a/" + "[" * 100 + '\\"[{'}))[0] == 200


async def test_a_number_of_many_digits_costs_nothing() -> None:
    """It is no value of any key, whatever it is."""
    client = Client()
    content = b'{"method": ' + b"9" * 60_000 + b', "url": "http://a/"}'
    response = await client.ask("/api/v1/explain", "POST", {"Content-Type": "application/json"}, content)
    assert response.status in (400, 422)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({f"x{number}": 1 for number in range(5000)}, ["must have at most 64 keys"]),
        ({"headers": [1] * 5000}, ["headers: must be at most 500"]),
        ({"headers": {f"x{number}": "a" for number in range(501)}}, ["headers: must be at most 500"]),
    ],
)
async def test_what_nobody_means_is_not_looked_at(changes: dict[str, Any], detail: list[str]) -> None:
    """Thousands of mistakes cost one line, not one each."""
    status, answer = await ask(Client(), {**GOOD, **changes})
    assert (status, answer["detail"]) == (422, detail)


async def test_so_many_problems_are_told() -> None:
    """The first ones, and how many there are beyond them."""
    status, answer = await ask(Client(), {**GOOD, **{f"x{number}": 1 for number in range(50)}})
    assert status == 422
    assert answer["detail"] == [*(f"x{number}: unknown key" for number in range(20)), "and 30 more"]
