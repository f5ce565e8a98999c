"""File descriptors: how many connections they allow, and a few that are kept back for what must not fail."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from twisted.logger import Logger

#: Descriptors beside those of locks' connections: log, listeners, Redis, status page, embedded server.
_OTHERS: Final = 64

_log = Logger()


class DescriptorReserve:
    """Descriptors that are held open for nothing, to be given up for a moment when others have taken all."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[int] = []

    def fill(self) -> None:
        """Hold as many as there are to be, or as can be had."""
        try:
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            # Next time, then.
            pass

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let what is done in here have them. It must not wait, or anybody's connection takes them."""
        self.release()
        try:
            yield
        finally:
            self.fill()

    def release(self) -> None:
        """Hold none."""
        while self._held:
            os.close(self._held.pop())


def room_for_connections(wanted: int) -> int:
    """How many of `wanted` connections from locks the limit of open files leaves room for.

    The soft limit is raised as far as that takes and the hard one allows. When that isn't enough the log says
    what to do.
    """
    needed = wanted + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):
            # The system has bounds of its own.
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
