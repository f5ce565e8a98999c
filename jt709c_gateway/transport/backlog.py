"""The listen backlog: large enough for a fleet that reconnects all at once.

Beyond it the kernel drops a lock's SYN, and the lock repeats it after 1, 3, 7 and 15 seconds.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

BACKLOG: Final = 4096

#: Kinds of endpoints with a backlog, and its index among the positional arguments.
_PLACES: Final = {"tcp": 2, "tcp6": 1, "ssl": 5, "unix": 2}
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")
_log = Logger()


def with_backlog(description: str) -> str:
    """Return a server endpoint's description with our backlog, unless it names one or supports none."""
    kind, *values = re.split(r"(?<!\\):", description)
    place = _PLACES.get(kind)
    unnamed = [value for value in values if re.search(r"(?<!\\)=", value) is None]
    if place is None or len(unnamed) > place or any(value.startswith("backlog=") for value in values):
        return description
    return f"{description}:backlog={BACKLOG}"


def listening_endpoint(reactor: Any, description: str) -> Any:
    """Return the server endpoint for a description, with our backlog unless it names its own."""
    return serverFromString(reactor, with_backlog(description))  # type: ignore[no-untyped-call]


def warn_of_limit(descriptions: Iterable[str], path: Path = _SOMAXCONN) -> None:
    """Log once when the kernel's limit is lower than a backlog of these endpoints."""
    asked = [_asked(one) for one in descriptions]
    try:
        limit = int(path.read_text())
    except (OSError, ValueError):
        # Not Linux, or not readable.
        return
    if asked and limit < max(asked):
        _log.warn(
            "the kernel lets only {limit} connections wait to be accepted, and not {asked}: when many locks "
            "come at once, some wait for seconds; sysctl -w net.core.somaxconn={asked}",
            limit=limit,
            asked=max(asked),
        )


def _asked(description: str) -> int:
    """Return the backlog of a description; 0 when it has none or an invalid one."""
    found = re.search(r"(?<!\\):backlog=(\d+)", with_backlog(description))
    return 0 if found is None else int(found[1])
