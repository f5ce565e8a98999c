"""A query that the gateway itself sends to a device. It is not a command and leaves no record."""

from typing import Final, Protocol

from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.commands.profiles import CheckedCommand
from jt709c_gateway.commands.replies import match
from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.message import Message

#: Longest wait of a device's commands for a query, in seconds.
PATIENCE: Final = 5.0


@define(eq=False)
class PendingQuery:
    """Holds a device's commands back until the query has ended, at most `until` (epoch seconds)."""

    until: float
    _sent: tuple[CheckedCommand, int | None] | None = field(default=None, repr=False)
    _answer: "defer.Deferred[bool] | None" = field(default=None, repr=False)

    def sent(self, checked: CheckedCommand, serial: int | None) -> "defer.Deferred[bool]":
        """Note that a query was sent; the Deferred fires with whether it was answered."""
        self._sent, self._answer = (checked, serial), defer.Deferred()
        return self._answer

    def is_answered_by(self, message: Message) -> bool:
        """Whether a message answers the last query sent."""
        if self._sent is None or (reply := matching.as_reply(message)) is None:
            return False
        checked, serial = self._sent
        return match(checked.spec.reply, serial, reply[0]) is not None

    def finish(self, answered: bool) -> None:
        """End the query, `answered` or not."""
        answer, self._sent, self._answer = self._answer, None, None
        if answer is not None:
            answer.callback(answered)


class QueriedDevice(Protocol):
    """A device whose commands can be held back during a query."""

    session: Session | None

    @property
    def reachable(self) -> bool:
        """Whether bytes can be sent to it now."""

    def hold_for_query(self, pending_query: PendingQuery, behind_commands: bool = True) -> bool:
        """Hold its commands back; False when commands go first."""

    def release_query(self) -> None:
        """End the hold and go on with its commands."""
