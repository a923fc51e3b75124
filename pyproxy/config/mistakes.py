"""
What an error in the syntax of a file most likely comes from, and where that is.

libyaml tells where it could no longer go on, often a line or more behind what has to be mended: a colon that lacks
its space, a line that is indented too far, a quote from a word processor. Must not know any key. Lines and columns
count from 0 here, as libyaml's do.
"""

import re
from dataclasses import dataclass

#: Blanks that look like a space, and quotes that look like " and ', but are text to YAML.
ODD_SPACE = re.compile("[\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]")
ODD_QUOTE = re.compile("[\u2018-\u201f\u2039\u203a\u00ab\u00bb\u2032\u2033]")
#: What a word processor makes of the - in front of an entry.
ODD_DASH = re.compile("[\u2010-\u2015\u2022\u2212](?=\\s|$)")

_INDENTED_ODDLY = re.compile(f"(?m)^[ \t]*({ODD_SPACE.pattern})(?=.*[^\\s#])")
_ENTRY = re.compile(r" *(?:- +)*")
_GLUED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(:)[^\s:/]")
_KEY = re.compile(r"[^\s#][^#]*?:(?:\s|$)")
_FOREIGN = re.compile(
    r"^\s*\w[^:]*\s\{|;\s*(?:#.*)?$|^\s*(?:(?:frontend|backend|listen|defaults|global|upstream|server)\b[^:]*|(?:bind|use_backend|"
    r"default_backend|balance|mode|acl)\s+[^:]\S.*)$"
)
_COLON = "a colon can't stand here; quote the value if it belongs to one"
_REACH = 400  # lines that are looked back at, and characters of a line


@dataclass(frozen=True, slots=True)
class Mistake:
    """A place and what is wrong there."""

    line: int
    column: int
    text: str


def odd_space(character: str) -> str:
    """Say what to do about a blank that is none."""
    return f"there is a U+{ord(character):04X} here, which looks like a space and is none; write an ordinary space"


def odd_quote(character: str) -> str:
    """Say what to do about a quote that is none."""
    return f"{character} is a typographic quote, which is text to YAML; write \" or '"


def odd_dash(character: str) -> str:
    """Say what to do about a dash that begins no entry."""
    return f"{character} looks like the - of a list, and is text to YAML; write -"


def find_odd_indents(text: str) -> list[Mistake]:
    """Find the lines that are indented with blanks that aren't spaces."""
    found = []
    for match in _INDENTED_ODDLY.finditer(text):
        line, begin = text.count("\n", 0, match.start(1)), text.rfind("\n", 0, match.start(1)) + 1
        found.append(Mistake(line, match.start(1) - begin, odd_space(match[1])))
        if len(found) == 20:
            break
    return found


def is_foreign(text: str) -> bool:
    """Whether a text looks like a file of nginx or HAProxy."""
    return any(_FOREIGN.search(line[:_REACH]) for line in text.split("\n", _REACH)[:_REACH])


def find_mistake(lines: list[str], line: int, column: int, problem: str, context: tuple[int, int] | None) -> Mistake:
    """
    Tell what is behind libyaml's ``problem`` at a place.

    ``context`` is where what it was reading began, as far as it says so.
    """
    if line >= len(lines):
        return Mistake(line, column, f"not valid YAML: {problem}")
    here = lines[line][:_REACH]
    before = _previous(lines, line)
    stands_there = here[column : column + 1]
    if stands_there == "\t":
        return Mistake(line, column, "a tab can't indent; use spaces")
    for number in (before, line):
        if number is not None and (odd := _odd_character(lines[number][:_REACH], number)):
            return odd
    if "alphabetic or numeric" in problem:
        sign = here[:column].rstrip("*&")
        begin = len(sign)
        return Mistake(line, begin, f"{here[begin : begin + 1]} can't begin a value; quote the value")
    if "cannot start any token" in problem:
        return Mistake(line, column, f"{stands_there} can't stand here; quote the value if it belongs to one")
    if "end of stream" in problem and context is not None:
        return Mistake(*context, "the quote that begins here is never closed")
    if re.search(r"expected ',' or '[\]}]'", problem) and context is not None:
        return _unclosed(lines, (line, column), context)
    if "mapping values are not allowed" in problem:
        return _misplaced_colon(lines, (line, column), before)
    if "found unexpected ':'" in problem:
        return Mistake(line, column, _COLON)
    if "did not find expected" in problem or "could not find expected ':'" in problem:
        return _misplaced_line(lines, (line, column), before, problem)
    return Mistake(line, column, f"not valid YAML: {problem}")


def _odd_character(text: str, number: int) -> Mistake | None:
    content = text.partition(" #")[0]
    if match := ODD_SPACE.search(content):
        return Mistake(number, match.start(), odd_space(match[0]))
    if match := ODD_QUOTE.search(content):
        return Mistake(number, match.start(), odd_quote(match[0]))
    return None


def _previous(lines: list[str], line: int) -> int | None:
    """Find the line with content before one."""
    for number in range(min(line, len(lines)) - 1, max(line - _REACH, -1), -1):
        if lines[number][:_REACH].strip() and not lines[number].lstrip().startswith("#"):
            return number
    return None


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _content(text: str) -> tuple[int, str]:
    """Give the column in which the content of a line begins, behind any ``- ``, and the content."""
    entry = _ENTRY.match(text[:_REACH])
    begin = entry.end() if entry else 0
    return begin, text[begin:_REACH]


def _unclosed(lines: list[str], place: tuple[int, int], context: tuple[int, int]) -> Mistake:
    bracket = lines[context[0]][context[1] : context[1] + 1] if context[0] < len(lines) else ""
    if bracket not in ("{", "["):
        return Mistake(*place, "not valid YAML: a comma or a closing bracket is missing before this")
    if place[0] == context[0]:
        return Mistake(*place, f"not valid YAML: the {bracket} of column {context[1] + 1} isn't closed before this")
    return Mistake(*context, f"the {bracket} that begins here is not closed before line {place[0] + 1}")


def _misplaced_colon(lines: list[str], place: tuple[int, int], before: int | None) -> Mistake:
    """Tell why there can't be a value: a second colon in a line, or a line that continues the text above."""
    line, column = place
    begin, content = _content(lines[line])
    if _KEY.match(content[: column - begin]):
        return Mistake(line, column, "a second colon in one line; quote the value if the colon belongs to it")
    if before is None:
        return Mistake(line, column, _COLON)
    start, above = _content(lines[before])
    if match := _GLUED.match(above):
        return Mistake(before, start + match.start(1), "there must be a space behind the colon of a key")
    if not _KEY.match(above):
        return Mistake(before, start, "a key needs a colon behind it")
    if begin > start:
        text = (
            f"the line begins in column {begin + 1}, further right than line {before + 1} (column {start + 1}), whose "
        )
        return Mistake(line, begin, text + "key has its value already; keys of one section begin in the same column")
    return Mistake(line, column, _COLON)


def _misplaced_line(lines: list[str], place: tuple[int, int], before: int | None, problem: str) -> Mistake:
    """Tell which line is indented in a way that fits to none above it."""
    line, column = place
    if before is None:
        return Mistake(line, column, f"not valid YAML: {problem}")
    begin, content = _content(lines[line])
    if match := _GLUED.match(content):
        return Mistake(line, begin + match.start(1), "there must be a space behind the colon of a key")
    if "':'" in problem:
        start, above = _content(lines[before])
        number, start, above = (line, begin, content) if not _KEY.match(content) else (before, start, above)
        if match := _GLUED.match(above):
            return Mistake(number, start + match.start(1), "there must be a space behind the colon of a key")
        return Mistake(number, start, "a key needs a colon behind it")
    mine, sibling = _indent(lines[line]), None
    for number in range(before, max(before - _REACH, -1), -1):
        text = lines[number]
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        if _content(text)[0] <= mine:
            break
        sibling = number
    if sibling is None or column != mine:
        return Mistake(line, column, f"not valid YAML: {problem}")
    other, _ = _content(lines[sibling])
    wrong, right = (sibling, line) if other % 2 and not mine % 2 else (line, sibling)
    columns = {line: mine + 1, sibling: other + 1}
    return Mistake(
        wrong,
        columns[wrong] - 1,
        f"the line begins in column {columns[wrong]}, which fits to no line above or below it: line {right + 1} begins "
        f"in column {columns[right]}, and keys of one section begin in the same column",
    )
