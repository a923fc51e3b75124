"""
The model of one route in lb.yml: which requests it takes and what it does with them.

Must not know how routes are compared or matched; what holds between two keys is in ``checks``.
"""

import re
from typing import Annotated, Literal

from pydantic import Field

from pyproxy.config.addresses import NetworkText, RouteHost, RoutePath
from pyproxy.config.runtime import VARIABLES
from pyproxy.config.section import Section
from pyproxy.config.values import FieldName, Items, Name, did_you_mean, size, text

_VARIABLE = re.compile(r"\$([A-Za-z][A-Za-z_]*)")
_TARGET = r"(/|https?://[!-~]|\$[A-Za-z])[!-~]*"
# Framing, hop-by-hop (RFC 9110 7.6.1), and what only makes sense between two neighbours.
_OUR_OWN = frozenset(
    {
        *("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-connection", "proxy-authenticate", "proxy-authorization", "expect", "http2-settings"),
    }
)


def _known_variables(value: str) -> str:
    for name in _VARIABLE.findall(value):
        if name not in VARIABLES:
            known = " ".join(f"${known}" for known in VARIABLES)
            hint = did_you_mean(name, VARIABLES).replace("mean ", "mean $")
            raise ValueError(f"unknown variable ${name}; known are {known}{hint}")
    return value


def _leads_somewhere(value: str) -> str:
    _known_variables(value)
    if value.startswith("$") and not value.startswith(("$uri", "$request_uri", "$scheme://")):
        raise ValueError(f"would be a path beside the one that was asked for; did you mean https://{value}?")
    return value


def _not_our_own(name: str) -> str:
    if name.lower() in _OUR_OWN:
        raise ValueError("is a header that only the proxy itself may change")
    return name


def _no_outer_spaces(value: str) -> str:
    if value != value.strip():
        raise ValueError("must not begin or end with a space; none is left in a request either")
    return value


_FIELD_PATTERN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}"

Value = Annotated[str, text("text with variables", check=_known_variables, most=8192)]
Header = Annotated[
    str, text("name", _FIELD_PATTERN, "must be letters, digits and hyphens", most=256, check=_not_our_own)
]
RedirectTarget = Annotated[
    str,
    text(
        "text with variables",
        _TARGET,
        "must begin with /, http://, https:// or a variable and have neither spaces nor letters beyond ASCII",
        most=8192,
        check=_leads_somewhere,
    ),
]
Wanted = Annotated[str, text("text", check=_no_outer_spaces)]
Method = Annotated[str, text("method", r"[A-Z][A-Z0-9_-]{0,31}", "must be a method in capitals such as GET")]


class HeaderChanges(Section):
    """Headers to set and to take away."""

    set: dict[Header, Value] = Field(
        default_factory=dict,
        max_length=100,
        description="Headers to set, replacing any of that name. Values may use "
        + " ".join(f"`${name}`" for name in VARIABLES)
        + ". What frames a message or holds for one connection only can't be changed.",
    )
    remove: Items[Header] = Field((), max_length=100, description="Headers to take away.")


class Redirect(Section):
    """Answer with a redirect instead of asking a backend."""

    to: RedirectTarget = Field(
        description="Where to: a URL or path, which may use the variables, such as `https://$host$request_uri`."
    )
    status: Literal[301, 302, 303, 307, 308] = Field(308, description="Status of the answer.")


class Route(Section):
    """
    Which requests go where.

    Exact hosts go before wildcards (longest first) before none; within it the longest path; then
    the one with more conditions (listeners, methods, headers); then the order of the file.
    """

    host: RouteHost | None = Field(
        None,
        description="Host that the request names, exact or `*.example.com` for any number of labels; port "
        "and case "
        "are ignored. null is any.",
    )
    path: RoutePath | None = Field(
        None,
        description="Path prefix on a segment boundary: `/api` and `/api/` take /api and /api/x, not /apix. "
        "Written percent-decoded. null is any.",
    )
    listeners: Annotated[Items[Name], Field(min_length=1, max_length=64)] | None = Field(
        None, description="Names of the listeners that it holds for; null is all."
    )
    methods: Annotated[Items[Method], Field(min_length=1, max_length=32)] | None = Field(
        None, description="Methods that it takes, such as `[GET, HEAD]`; null is any."
    )
    headers: Annotated[dict[FieldName, Wanted], Field(min_length=1, max_length=32)] | None = Field(
        None,
        description='Headers that a request must have with exactly that value, such as `{X-Canary: "1"}`. '
        "Several of one name are joined with a comma and a space.",
    )
    allow: Annotated[Items[NetworkText], Field(min_length=1, max_length=4096)] | None = Field(
        None,
        description="Networks whose clients may come in, `unix:` for those of a unix socket; others get a 403. "
        "null is all.",
    )
    pool: Name | None = Field(None, description="Pool that serves it. This or `redirect` is required.")
    strip_prefix: bool = Field(
        False, description="Whether `path` is taken off the target that the backend is asked for."
    )
    body_limit: Annotated[int, size()] | None = Field(
        None, description="Largest request body, in place of `limits.body`."
    )
    request_headers: HeaderChanges = Field(
        default_factory=HeaderChanges, description="Changes to the headers that the backend gets."
    )
    response_headers: HeaderChanges = Field(
        default_factory=HeaderChanges, description="Changes to the headers that the client gets."
    )
    redirect: Redirect | None = Field(None, description="Redirect instead of `pool`; null doesn't.")
