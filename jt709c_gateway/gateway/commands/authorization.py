"""Authorizes commands when they are accepted and again before they are sent (docs/commands.rst).

Between acceptance and sending a command lies in Redis, where others may change it, move it to another
device's queue, or put it back after it was sent. All checks are therefore repeated on the bytes to be sent,
and none of them relies on data from Redis.
"""

from heapq import heappop, heappush
from typing import Final

from attrs import define, field

from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.signing import MAX_AHEAD, CommandRefused, RefusalReason, SigningKeys
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.device_id import canonical

#: Signed commands that a process remembers to have written, until they expire.
MAX_REMEMBERED: Final = 100_000


@define
class Written:
    """How often this process has begun to write each signed command, until the command's ttl has ended."""

    limit: int = MAX_REMEMBERED
    _times: dict[str, int] = field(factory=dict, repr=False)
    _ends: list[tuple[float, str]] = field(factory=list, repr=False)

    def times(self, command_id: str) -> int:
        """How often this process has begun to write the command."""
        return self._times.get(command_id, 0)

    def has_room(self, now: float) -> bool:
        """Forget expired commands; whether one more can be remembered at `now` (epoch seconds)."""
        while self._ends and self._ends[0][0] <= now:
            del self._times[heappop(self._ends)[1]]
        return len(self._times) < self.limit

    def note(self, command: Command) -> None:
        """Count a write of the command, before it is sent."""
        if command.id not in self._times:
            # A minute longer than it can be written, since clocks are adjusted.
            heappush(self._ends, (command.created_at + command.ttl + MAX_AHEAD, command.id))
        self._times[command.id] = self.times(command.id) + 1


@define
class CommandAuthorizer:
    """Checks which commands may be accepted and which may be written; raises CommandRefused."""

    keys: SigningKeys = field(factory=SigningKeys)
    written: Written = field(factory=Written)

    def check_new(self, command: Command, now: float, seal: str | None = None) -> None:
        """Check a command from the intake list; another gateway may have sealed it."""
        self.keys.check_new(command, now, seal)

    def seal(self, command: Command) -> str | None:
        """Return the seal of a command that was checked, and may wait before it is taken in again."""
        return self.keys.seal(command)

    def check_waited(self, run: CommandExecution, session: Session, now: float) -> None:
        """Check a command claimed from Redis for the device of this session."""
        command = run.command
        self.keys.check(command, now)
        if self.keys.keys is None or command.signature is None:
            return
        name = command.signature.device
        if command.signature.sublock_parameter is None and not _is_called(session, name):
            problem = f"it is signed for {name}, and this is {session.device}"
            raise CommandRefused(
                RefusalReason.OTHER_DEVICE, command, "device", problem, "the lock that was signed for"
            )

    def check_form(self, run: CommandExecution, now: float) -> None:
        """Check the rendered command's sub-lock, and that the command is not a replay."""
        command = run.command
        if self.keys.keys is None or command.signature is None:
            return
        name = command.signature.device
        if command.signature.sublock_parameter is not None and run.peripheral != name:
            problem = f"it is signed for the sub-lock {name}, and would be for {run.peripheral}"
            raise CommandRefused(
                RefusalReason.OTHER_DEVICE, command, "device", problem, "the sub-lock that was signed for"
            )
        times = self.written.times(command.id)
        if times >= run.allowed_writes:
            problem = f"{command.id} was written by this gateway before"
            raise CommandRefused(
                RefusalReason.REPLAYED, command, "id", problem, "an id of its own for each command"
            )
        if not times and not self.written.has_room(now):
            problem = (
                f"{self.written.limit} signed commands that could be written again are remembered already"
            )
            raise CommandRefused(RefusalReason.FULL, command, "id", problem, "fewer, or with a shorter ttl")

    def note_written(self, command: Command) -> None:
        """Remember a signed command, before it is sent."""
        if self.keys.keys is not None:
            self.written.note(command)


def _is_called(session: Session, name: str) -> bool:
    """Whether the session's device has this id, or has reported this IMEI over this connection."""
    return session.device == canonical(name) or session.imei == name
