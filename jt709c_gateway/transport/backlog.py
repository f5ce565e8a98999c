"""How many connections may wait to be accepted: room for a fleet that comes back all at once.

Beyond it the kernel lets a lock's SYN fall, and the lock repeats that after 1, 3, 7 and 15 seconds.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

BACKLOG: Final = 4096

#: Kinds of endpoints that have a backlog, and the place of theirs among the values that have no name.
_PLACES: Final = {"tcp": 2, "tcp6": 1, "ssl": 5, "unix": 2}
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")
_log = Logger()


def with_backlog(description: str) -> str:
    """A server endpoint's description with our backlog, unless it names one or knows of none."""
    kind, *values = re.split(r"(?<!\\):", description)
    place = _PLACES.get(kind)
    unnamed = [value for value in values if re.search(r"(?<!\\)=", value) is None]
    if place is None or len(unnamed) > place or any(value.startswith("backlog=") for value in values):
        return description
    return f"{description}:backlog={BACKLOG}"


def listening_endpoint(reactor: Any, description: str) -> Any:
    """The server endpoint for a description, with our backlog unless it names its own."""
    return serverFromString(reactor, with_backlog(description))  # type: ignore[no-untyped-call]


def warn_of_limit(descriptions: Iterable[str], path: Path = _SOMAXCONN) -> None:
    """Say in the log, once, when the kernel lets fewer connections wait than one of these asks for."""
    asked = [_asked(one) for one in descriptions]
    try:
        limit = int(path.read_text())
    except (OSError, ValueError):
        # Not Linux, or not for us to see.
        return
    if asked and limit < max(asked):
        _log.warn(
            "the kernel lets only {limit} connections wait to be accepted, and not {asked}: when many locks "
            "come at once, some wait for seconds; sysctl -w net.core.somaxconn={asked}",
            limit=limit,
            asked=max(asked),
        )


def _asked(description: str) -> int:
    """The backlog of a description; 0 when it has none, or it can't be told."""
    found = re.search(r"(?<!\\):backlog=(\d+)", with_backlog(description))
    return 0 if found is None else int(found[1])
