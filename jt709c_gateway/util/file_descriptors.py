"""File descriptors: the number of connections they allow, and a reserve for calls that must not fail."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from twisted.logger import Logger

#: Descriptors besides those of locks' connections: log, listeners, Redis, status page, embedded server.
_OTHERS: Final = 64

_log = Logger()


class DescriptorReserve:
    """Holds descriptors open in reserve, to release them for a moment when no others are left."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[int] = []

    def fill(self) -> None:
        """Open the reserve, or as much of it as possible."""
        try:
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            # The next call tries again.
            pass

    @contextmanager
    def released(self) -> Iterator[None]:
        """Release the reserve within this context, which must not wait: a new connection could take it."""
        self.release()
        try:
            yield
        finally:
            self.fill()

    def release(self) -> None:
        """Close the reserve."""
        while self._held:
            os.close(self._held.pop())


def room_for_connections(wanted: int) -> int:
    """Return how many of the `wanted` connections the limit of open files allows.

    The soft limit is raised as needed, up to the hard one. If that isn't enough, a warning says what to do.
    """
    needed = wanted + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):
            # The system has further limits.
            pass
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    room = max(1, soft - _OTHERS)
    _log.warn(
        "{limit} open files are allowed, so that at most {room} locks can be connected, and not {wanted} as "
        "--max-connections says: raise LimitNOFILE in the unit (ulimit -n)",
        limit=soft,
        room=room,
        wanted=wanted,
    )
    return room
