"""Times as the admin API writes them. Must not know the present one."""

from datetime import UTC, datetime


def rfc3339(time: float) -> str:
    """
    Write a wall-clock time in UTC with milliseconds.

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
