"""How durable a commit must be before its records are answered, and the Redis commands for that."""

import re
from enum import StrEnum
from math import ceil
from typing import Any, Final

import txredisapi
from attrs import frozen

EXPECTED: Final = "expected server, fsync, or replicas:N with N from 1, such as replicas:1"
_REPLICAS: Final = re.compile(r"replicas:([1-9][0-9]{0,2})")


class Shortfall(StrEnum):
    """Why an applied batch is not durable; a label of metrics."""

    SYNC = "sync"
    """The server did not sync it to its disk in time."""
    REPLICAS = "replicas"
    """Too few replicas confirmed it in time."""
    REFUSED = "refused"
    """The server refused to wait: it has no append-only file, is too old, or is now a replica."""


class NotDurable(Exception):
    """A batch was applied, but the required durability is not confirmed."""

    def __init__(self, shortfall: Shortfall, message: str) -> None:
        super().__init__(message)
        self.shortfall = shortfall


@frozen
class Durability:
    """The durability that a commit waits for: this server's disk, or a number of `replicas`; by default
    neither.

    The server stops waiting after `timeout` seconds.
    """

    fsync: bool = False
    replicas: int = 0
    timeout: float = 5.0

    @classmethod
    def parse(cls, text: str) -> "Durability":
        """Parse ``server``, ``fsync`` or ``replicas:N``; the ValueError names the expected forms."""
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
        """Whether a commit needs more than the reply of the server."""
        return self.fsync or self.replicas > 0

    def command(self) -> tuple[str | int, ...]:
        """Return the command to send after the script.

        WAIT and WAITAOF wait for the last write of their own connection, and reply at once if there is none:
        therefore the script writes in every call, also in a repetition.
        """
        # 0 would mean no limit.
        milliseconds = max(1, ceil(self.timeout * 1000))
        return ("WAITAOF", 1, 0, milliseconds) if self.fsync else ("WAIT", self.replicas, milliseconds)

    def check(self, reply: Any) -> None:
        """Raise NotDurable, or the connection's error, unless the reply to `command` confirms durability."""
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
