"""What the gateway itself asks a lock. It is no command, and leaves no record."""

from typing import Final

from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.commands.profiles import CheckedCommand
from jt709c_gateway.commands.replies import match
from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.protocol.message import Message

#: Seconds that a lock's commands may have to wait behind its questions, all in all.
PATIENCE: Final = 5.0


@define(eq=False)
class PendingQuery:
    """Holds the lane of a lock while it is asked; `until`, in epoch seconds, its commands wait at most."""

    until: float
    _asked: tuple[CheckedCommand, int | None] | None = field(default=None, repr=False)
    _answer: "defer.Deferred[bool] | None" = field(default=None, repr=False)

    def put(self, checked: CheckedCommand, serial: int | None) -> "defer.Deferred[bool]":
        """This was written; fires with whether it was answered."""
        self._asked, self._answer = (checked, serial), defer.Deferred()
        return self._answer

    def answered_by(self, message: Message) -> bool:
        """Whether a message is the answer to what was written last."""
        if self._asked is None or (reply := matching.as_reply(message)) is None:
            return False
        checked, serial = self._asked
        return match(checked.spec.reply, serial, reply[0]) is not None

    def end(self, answered: bool) -> None:
        """It was answered, or there will be no answer."""
        answer, self._asked, self._answer = self._answer, None, None
        if answer is not None:
            answer.callback(answered)
