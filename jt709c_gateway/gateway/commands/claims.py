"""The commands that this gateway has claimed, and whether it still owns them (docs/fencing.rst)."""

from collections.abc import Awaitable, Callable

from attrs import define, field

from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.command_store_types import Record


async def _nothing() -> None:
    """Renew nothing: the default for a lease that does not end."""


@define(eq=False)
class Claims:
    """Keeps the tokens of this gateway's claims, as far as Redis has replied."""

    store: CommandStore
    #: By the id of the command.
    tokens: dict[str, int] = field(factory=dict, repr=False)
    #: Whether the lease holds, so that no other gateway adopts our commands; and how to renew it.
    leased: Callable[[], bool] = lambda: True
    renew: Callable[[], Awaitable[object]] = _nothing

    def __contains__(self, command_id: str) -> bool:
        return command_id in self.tokens

    def add(self, command_id: str, record: Record) -> None:
        """Note that this gateway has claimed a command, with the claim's token from its record."""
        self.tokens[command_id] = int(record.get("token") or 0)

    def token(self, command_id: str) -> int:
        """The token of the claim of a command; -1, which is never valid, for one that is not claimed."""
        return self.tokens.get(command_id, -1)

    def discard(self, command_id: str, token: int | None = None) -> None:
        """Forget the claim of a command; with `token`, only the claim that has it."""
        if token is None or self.token(command_id) == token:
            self.tokens.pop(command_id, None)

    def may_settle(self, run: CommandExecution, record: Record) -> bool:
        """Whether a command that awaits evidence still does, and no other gateway owns it, by its record."""
        if run.ended:
            return record.get("state") == run.state
        return record.get("holder") == self.store.holder and self.token(run.command.id) == int(
            record.get("token") or 0
        )

    async def is_recorded(self, run: CommandExecution) -> bool | None:
        """Whether Redis has the `writing` record of a command; None when this gateway does not own it.

        The lease is renewed first, so that the reply is valid as long as the lease holds.
        """
        await self.renew()
        found = await self.store.ownership(run.command.id)
        ours = found.holder == self.store.holder and self.tokens.get(run.command.id) == found.token
        if not ours or found.state in ENDED:
            return None
        return found.attempts == run.attempts
