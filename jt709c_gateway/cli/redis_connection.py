"""The first connection of a subcommand to Redis, which must succeed soon or fail with the reason."""

from typing import Any, Final

from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.runner import notice

#: Seconds to wait for Redis.
_CONNECT: Final = 10.0


@define(eq=False)
class FirstConnection:
    """Treats an error before the first connection as the reason to give up.

    `where` says whereto, without a password.
    """

    where: str
    _trouble: defer.Deferred[str] = field(factory=defer.Deferred, repr=False)
    _connected: bool = False

    def notice(self, text: str) -> None:
        """Show a notice; before the first connection, give up with it as the reason."""
        if self._connected:
            notice(text)
        elif not self._trouble.called:
            self._trouble.callback(text.removesuffix("; trying again"))

    async def wait(self, reactor: Any, ready: "defer.Deferred[None]") -> None:
        """Wait for `ready`; raise UserError after an error or a timeout."""
        overdue = task.deferLater(reactor, _CONNECT, lambda: f"no connection to {self.where}")
        ways: list[defer.Deferred[Any]] = [ready, self._trouble, overdue]
        outcome = await defer.DeferredList(ways, fireOnOneCallback=True)
        overdue.addErrback(lambda _: None)
        overdue.cancel()
        if isinstance(outcome, list):
            # All attempts were cancelled with this one.
            raise defer.CancelledError
        result, which = outcome
        if which:
            raise UserError(str(result))
        self._connected = True


def once(ready: "defer.Deferred[None]") -> None:
    """Fire it, unless it has been; for a connection that may be made anew."""
    if not ready.called:
        ready.callback(None)
