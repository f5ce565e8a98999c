"""How durable a commit has to be before it counts, and how Redis is asked for that (DESIGN.md §1)."""

import re
from enum import StrEnum
from math import ceil
from typing import Any, Final

import txredisapi
from attrs import frozen

EXPECTED: Final = "expected server, fsync, or replicas:N with N from 1, such as replicas:1"
_REPLICAS: Final = re.compile(r"replicas:([1-9][0-9]{0,2})")


class Shortfall(StrEnum):
    """Why a batch is not durable though it was applied; a label of metrics."""

    SYNC = "sync"
    """The server had not synced it to its disk in time."""
    REPLICAS = "replicas"
    """Too few replicas had it in time."""
    REFUSED = "refused"
    """The server would not wait: it has no append-only file, is too old, or is a replica by now."""


class NotDurable(Exception):
    """A batch was applied, but it is not known to be as durable as it has to be."""

    def __init__(self, shortfall: Shortfall, message: str) -> None:
        super().__init__(message)
        self.shortfall = shortfall


@frozen
class Durability:
    """What a commit waits for: this server's disk, or so many `replicas`; by default for neither.

    The server gives up waiting after `timeout` seconds, so that a call has an end.
    """

    fsync: bool = False
    replicas: int = 0
    timeout: float = 5.0

    @classmethod
    def parse(cls, text: str) -> "Durability":
        """Read ``server``, ``fsync`` or ``replicas:N``; ValueError says what is right."""
        if text == "server":
            return cls()
        if text == "fsync":
            return cls(fsync=True)
        found = _REPLICAS.fullmatch(text)
        if found is None:
            raise ValueError(EXPECTED)
        return cls(replicas=int(found[1]))

    @property
    def waits(self) -> bool:
        """Whether a commit needs more than the server's word that it was applied."""
        return self.fsync or self.replicas > 0

    def command(self) -> tuple[str | int, ...]:
        """What to send behind the script.

        Both count from the last write of their own connection, and answer at once on one that has written
        nothing: the script writes in every call, also in one that is a repetition.
        """
        # 0 would be for ever.
        milliseconds = max(1, ceil(self.timeout * 1000))
        return ("WAITAOF", 1, 0, milliseconds) if self.fsync else ("WAIT", self.replicas, milliseconds)

    def check(self, reply: Any) -> None:
        """Raise NotDurable, or the connection's own error, unless `command` was answered as it should."""
        if isinstance(reply, txredisapi.ResponseError):
            raise NotDurable(Shortfall.REFUSED, str(reply))
        if isinstance(reply, Exception):
            raise reply
        if self.fsync:
            if reply[0] < 1:
                raise NotDurable(Shortfall.SYNC, f"the server has not synced it within {self.timeout:g} s")
        elif reply < self.replicas:
            raise NotDurable(
                Shortfall.REPLICAS, f"{reply} of {self.replicas} replicas had it within {self.timeout:g} s"
            )
