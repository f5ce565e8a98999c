"""Logs when a Redis server is reached and lost, once for all connections of this process to it."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

#: Different reasons that are logged while the server is not reached.
_MAX_REASONS: Final = 8


@define(eq=False)
class ConnectionLog:
    """Logs what changes for the connections that share it; `address` is without a password.

    A reason is logged once until a connection succeeds, not once for each attempt or connection.
    """

    log = Logger()

    address: str
    #: Whether the last line says that the server was reached.
    _reached: bool = field(default=False, init=False)
    _reasons: set[str] = field(factory=set, init=False)

    def connected(self) -> None:
        """Log that a connection is usable, unless that is known."""
        self._reasons.clear()
        if not self._reached:
            self._reached = True
            self.log.info("connected to Redis at {address}", address=self.address)

    def lost(self, reason: str) -> None:
        """Log that a usable connection has ended."""
        self._warn(
            f"lost {reason}", "lost the connection to Redis at {address}: {reason}; reconnecting", reason
        )

    def failed(self, reason: str) -> None:
        """Log that an attempt to connect has failed."""
        self._warn(reason, "cannot connect to Redis at {address}: {reason}; trying again", reason)

    def _warn(self, key: str, text: str, reason: str) -> None:
        if key not in self._reasons and len(self._reasons) < _MAX_REASONS:
            self._reasons.add(key)
            self._reached = False
            self.log.warn(text, address=self.address, reason=reason)
