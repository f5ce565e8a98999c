"""Finds the locks that a batch is for, and what is odd about each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, evolve, frozen

from jt709c_gateway.commands.check import CheckedForDevice
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.redis.batches import OddLock, Problem, command_id
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.redis.partitioned_queries import gather
from jt709c_gateway.web.api.command_requests import CommandRequests
from jt709c_gateway.web.device_table import rows
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.partitioned_redis import WebPartition, side_by_side
from jt709c_gateway.web.roles import User

#: Locks that are looked up at the same time.
_AT_ONCE: Final = 50
#: Kilometres an hour from which a lock counts as moving; a parked one's position drifts.
MOVING: Final = 5.0


@frozen
class Candidate:
    """A lock of a batch. `name` is its id, or a sub-lock's, and `device` the one that receives the command.

    `problem` keeps it out of the batch, for the reason in `message`; `oddities` do not.
    """

    name: str
    device: str
    command: Command
    physical: bool = False
    problem: Problem | None = None
    message: str | None = None
    oddities: tuple[Problem, ...] = ()

    def left_out(self) -> OddLock | None:
        """Describe it if it gets no command."""
        return None if self.problem is None else OddLock(self.name, [self.problem], self.message)

    def odd(self) -> OddLock | None:
        """Describe it if it gets a command, but is unlike others."""
        is_odd = self.problem is None and self.oddities
        return OddLock(self.name, list(self.oddities)) if is_odd else None


@define(eq=False)
class BatchCheck:
    """Checks the command of a batch for each lock, as single commands are."""

    requests: CommandRequests

    async def examine(
        self, names: Sequence[str], batch_id: str, fields: Mapping[str, Any], user: User
    ) -> list[Candidate]:
        """Return the locks in the order of their names; raise :class:`ApiError` for a wrong field."""
        found: list[Candidate] = []
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            found += await gather([self._look_up(name, batch_id, fields, user) for name in some])
        return await self._with_states(_once_each(found))

    async def _look_up(self, name: str, batch_id: str, fields: Mapping[str, Any], user: User) -> Candidate:
        known = await self.requests.web.queries.look_up(name)
        own_name = known.peripheral or known.device
        command = self.command(own_name, batch_id, fields, user)
        candidate = Candidate(own_name, known.device, command)
        try:
            checked = await self.requests.validate_for(user, command, known)
            self.requests.signed(command)
            return await self._checked(candidate, known, checked)
        except InvalidCommand as error:
            return evolve(candidate, problem="refused", message=str(error))
        except ApiError as error:
            if error.field == "command":
                # It is for no lock of this user.
                raise
            return evolve(candidate, problem="refused", message=error.message)

    def command(self, name: str, batch_id: str, fields: Mapping[str, Any], user: User) -> Command:
        """Make the command for one lock; raise :class:`ApiError` for a wrong field."""
        own = {"device": name, "id": command_id(batch_id, name), "batch": batch_id}
        return self.requests.parse({**fields, **own}, user)

    async def _checked(self, candidate: Candidate, known: Known, checked: CheckedForDevice) -> Candidate:
        spec = checked.spec
        if spec is None:
            if known.is_known:
                return evolve(
                    candidate, problem="no_profile", message="the gateway has no profile for this lock"
                )
            return candidate
        missing = await self.requests.missing(checked.command, spec)
        if missing:
            names = ", ".join(one.name for one in missing)
            return evolve(
                candidate, problem="incomplete", message=f"it needs {names}, which nobody has given"
            )
        return evolve(candidate, physical=spec.physical)

    async def _with_states(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Add what the last reports of the locks show."""
        web = self.requests.web
        parts: defaultdict[WebPartition, list[str]] = defaultdict(list)
        for one in candidates:
            parts[web.of(one.device)].append(one.device)

        async def ask(partition: WebPartition) -> list[tuple[DeviceSummary, int]]:
            devices = parts[partition]
            summaries = await rows(partition).summaries(devices)
            lengths = [("LLEN", partition.keys.waiting(device)) for device in devices]
            waiting = await partition.redis.readable(lengths)
            return [(summary, int(count or 0)) for summary, count in zip(summaries, waiting, strict=True)]

        answers = await side_by_side(list(parts), ask)
        answers.values()
        states = {partition: iter(some) for partition, some in answers.found}
        return [
            _with_state(one, *next(states[partition]))
            for one in candidates
            if (partition := web.of(one.device)) in states
        ]


def _once_each(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Mark locks that are named again, by whichever name."""
    seen: set[str] = set()
    found = []
    for one in candidates:
        again = one.name in seen
        seen.add(one.name)
        found.append(evolve(one, problem="repeated", message="it is named more than once") if again else one)
    return found


def _with_state(one: Candidate, summary: DeviceSummary, waiting: int) -> Candidate:
    if summary.seen is None and one.problem is None:
        return evolve(one, problem="unknown", message="no such lock has reported")
    oddities: list[Problem] = []
    if not summary.online:
        oddities.append("offline")
    if (summary.speed_kmh or 0) >= MOVING:
        oddities.append("moving")
    if waiting:
        oddities.append("command_waits")
    return evolve(one, oddities=tuple(oddities))
