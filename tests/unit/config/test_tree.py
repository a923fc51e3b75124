"""YAML text to nodes with line and column."""

import pytest

from pyproxy.config.tree import MAX_DEPTH, Node, UnreadableError, parse_tree


def flat(node: Node) -> list[tuple[str, int, int]]:
    """Scalars with their places, in the order of the file."""
    if node.kind == "scalar":
        return [(node.text, node.line, node.column)]
    return [item for child in node.items for item in flat(child)]


def test_every_node_knows_its_place() -> None:
    """Lines and columns count from 1, in characters and not in bytes."""
    root = parse_tree('# ü\na: 1\nüb:\n  - x\n  - {y: "z"}\n')
    assert root is not None
    assert (root.kind, root.line, root.column) == ("mapping", 2, 1)
    assert flat(root) == [
        ("a", 2, 1),
        ("1", 2, 4),
        ("üb", 3, 1),
        ("x", 4, 5),
        ("y", 5, 6),
        ("z", 5, 9),
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_nothing_is_no_document(text: str) -> None:
    """A file of comments is empty."""
    assert parse_tree(text) is None


def test_an_alias_is_the_same_node() -> None:
    """An alias isn't copied, so it costs nothing before it is followed."""
    root = parse_tree("a: &x [1]\nb: *x\n")
    assert root is not None
    assert root.items[1] is root.items[3]


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("a: 1\nb: 'x", 2, 4, "the quote that begins here is never closed"),
        ("a: 1\n\tb: 1", 2, 1, "a tab can't indent; use spaces"),
        ("a: @x", 1, 4, "@ can't stand here; quote the value if it belongs to one"),
        ("a: b: c", 1, 5, "a second colon in one line; quote the value"),
        ("l:\n  - bind: [::]:80", 2, 12, "not valid YAML: did not find expected node content; quote an IPv6"),
        ("a: [10.0.0.0/8, ::1]", 1, 17, "not valid YAML: did not find expected node content; quote an IPv6"),
        ("a: {b: ${N}}", 1, 9, "not valid YAML: the { of column 4 isn't closed before this; quote ${...} inside"),
        ("a: 1\nb: *c", 2, 4, "unknown alias *c"),
        ("a: &a\n  - *a", 2, 5, "alias *a contains itself"),
        ("a: 1\n---\nb: 1", 2, 1, "only one document is allowed"),
        ("a: 1\nb: x\x07", 2, 5, "character U+0007 is not allowed"),
        ("a: \ud800", 1, 4, "character U+D800 is not allowed"),
        ("[" * 1000, 1, MAX_DEPTH + 1, "nested more than 32 levels deep"),
        ("- " * 100, 1, 2 * MAX_DEPTH + 1, "nested more than 32 levels deep"),
        ("[" * 500_000, 1, MAX_DEPTH + 1, "nested more than 32 levels deep"),
    ],
)
def test_what_is_no_document(text: str, line: int, column: int, problem: str) -> None:
    """The first thing that isn't YAML, or that we don't take, is told with its place."""
    with pytest.raises(UnreadableError) as caught:
        parse_tree(text)
    found = caught.value.problems[0]
    # libyaml since 0.2.6 has a limit of its own, which brackets meet first because it looks ahead for a key.
    assert (found.line, found.column) in ((line, column), (1, 1001) if "deep" in problem else (line, column))
    assert found.text.startswith(problem)
