"""Matches a device's message to its commands: as an answer, or as evidence of execution."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import attrs
from msgspec import UNSET

from jt709c_gateway.commands.evidence import Observation, ObservationKind
from jt709c_gateway.commands.lifecycle import CommandExecution, Step
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.replies import Answer, DataReply, PnnReply, Reply, SentenceReply, TerminalReply
from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.gateway.sessions import is_current_movement
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.jt808 import ATTRIBUTES, LOCATION_ANSWER, PARAMETERS
from jt709c_gateway.protocol.message import Message

#: Seconds by which the time of a movement may be too early, since locks report whole seconds.
_RESOLUTION: Final = 1.0
#: Ranks of the states of commands that a movement may confirm, the likeliest first.
_WRITTEN_BEFORE: Final = {
    CommandState.ACKNOWLEDGED: 0,
    CommandState.SENT: 1,
    CommandState.UNCONFIRMED: 2,
    CommandState.UNCERTAIN: 4,
}
_WRITTEN_LATER: Final = {
    CommandState.ACKNOWLEDGED: 3,
    CommandState.SENT: 5,
    CommandState.UNCONFIRMED: 6,
    CommandState.UNCERTAIN: 7,
}

#: An observation, and the lock event that gets the id of the command it confirms.
Seen = tuple[Observation, events.LockEvent | None]


def match_message(
    message: Message,
    runs: list[CommandExecution],
    lock_state: str | None,
    now: float,
    answered: Callable[[CommandExecution, Answer], None],
    clock: LockClock,
    sublocks: SubLockStates | None = None,
    elsewhere: Sequence[CommandExecution] = (),
    news: Message | None = None,
) -> list[tuple[CommandExecution, Step]]:
    """Match a message to the first command that it fits; returns the steps and sets ids in the events.

    `lock_state` and `sublocks` are the states known before the message, `clock` is the device's. `answered`
    is called with a command and its first answer. A movement that fits a command `elsewhere`, which another
    gateway holds, better than those here confirms none of these. `news` is the message without reports that
    have come before, which are no evidence; None when there are none.
    """
    steps: list[tuple[CommandExecution, Step]] = []
    if not runs:
        return steps
    if (reply := as_reply(message)) is not None:
        for run in runs:
            answer = run.match(reply[0])
            if answer is not None:
                if reply[1] is not None:
                    reply[1].command_id = run.command.id
                if run.answer is None:
                    answered(run, answer)
                steps.append((run, run.reply(answer, now)))
                break
    seen = observations(news or message, lock_state, clock, sublocks, now)
    return steps + _evidence(runs, seen, now, elsewhere)


def _evidence(
    runs: list[CommandExecution], seen: list[Seen], now: float, elsewhere: Sequence[CommandExecution]
) -> list[tuple[CommandExecution, Step]]:
    """Match each movement to one command; a status beside a lock event is the same movement."""
    steps: list[tuple[CommandExecution, Step]] = []
    is_theirs = False
    for observation, lock_event in seen:
        if observation.kind is ObservationKind.STATUS and (steps or is_theirs):
            break
        happened = now if observation.time is None else observation.time
        for run in sorted([*runs, *elsewhere], key=partial(_likelihood, happened)):
            if any(run is one for one in elsewhere):
                is_theirs = is_theirs or run.is_confirmed_by(observation, now)
                if is_theirs:
                    break
                continue
            step = run.observe(observation, now)
            if step.transitions:
                if lock_event is not None:
                    lock_event.command_id = run.command.id
                steps.append((run, step))
                break
    return steps


def _likelihood(happened: float, run: CommandExecution) -> tuple[int, float]:
    """Sort key of commands that a movement at `happened` may confirm, in epoch seconds.

    First acknowledged commands, the oldest first; then commands that await their answer; then ended ones, the
    newest first. Commands to which the lock said yes come before those that it never answered. For commands
    written after the movement only the tolerance of the lock's clock speaks: they are less likely.
    """
    written = run.writing_at or 0.0
    ranks = _WRITTEN_LATER if happened + _RESOLUTION < written else _WRITTEN_BEFORE
    rank = ranks.get(run.state, ranks[CommandState.SENT])
    return rank, -written if run.ended else written


@attrs.frozen
class LockState:
    """Locked, unlocked or unknown (None), since a time in epoch seconds."""

    state: str | None
    since: float = 0.0

    def after(self, message: Message, clock: LockClock, now: float) -> "LockState":
        """The state after a message that arrived at `now`; older reports change nothing."""
        state = self
        for _, data in () if message.stored else message.events:
            shown: str | None
            if isinstance(data, events.Location):
                shown = data.lock_state
            elif is_current_movement(data):
                shown = data.action
            else:
                continue
            happened = clock.event_time(data.time, now)
            moment = now if happened is None else happened
            if moment >= state.since:
                state = LockState(shown or state.state, moment)
        return state


def note_sublocks(message: Message, known: SubLockStates, now: float) -> None:
    """Update the states of sub-locks from a message."""
    for _, data in message.events:
        if isinstance(data, events.Peripheral):
            known.update(data, now)


def as_reply(message: Message) -> tuple[Reply, events.Reply | None] | None:
    """The message as an answer, with the event that gets the command's id; None when it is no answer."""
    for _, data in message.events:
        if isinstance(data, events.Reply):
            return _reply(message, data), data
        if isinstance(data, events.Attributes):
            return DataReply(None, ATTRIBUTES, attrs.asdict(data)), None
    return None


def _reply(message: Message, data: events.Reply) -> Reply:
    serial = data.answered_serial
    if isinstance(serial, int) and isinstance(data.result, int):
        return TerminalReply(serial, int(str(data.answered_id), 16), data.result)
    if isinstance(serial, int) and isinstance(data.parameters, dict):
        return DataReply(serial, PARAMETERS, data.parameters)
    if isinstance(serial, int):
        return DataReply(serial, LOCATION_ANSWER, _position(message))
    if message.serial is None:
        return PnnReply(data.word, data.arguments)
    number, parameters = None, data.arguments
    if parameters and parameters[0].isdecimal():
        number, parameters = int(parameters[0]), parameters[1:]
    return SentenceReply(message.serial, data.word, number, parameters)


def _position(message: Message) -> dict[str, Any]:
    for _, data in message.events:
        if isinstance(data, events.Location):
            return {
                "time": None if data.time is None else f"{data.time:%Y-%m-%dT%H:%M:%SZ}",
                "fix": data.fix,
                "latitude": data.latitude,
                "longitude": data.longitude,
            }
    return {}


def _of_sublock(message: Message, data: events.Peripheral, known: SubLockStates, now: float) -> list[Seen]:
    """Observations in a sub-lock's report; `known` are the states before it."""
    found: list[Seen] = []
    time, peripheral = known.event_time(data, now), data.peripheral
    moves = [one for _, one in message.events if isinstance(one, events.LockEvent)]
    dated = time is not None or data.resent is not True
    if dated and not known.is_repeat(data):
        for move in moves:
            seen = Observation(
                ObservationKind.LOCK, move.action, move.method, time=time, peripheral=peripheral
            )
            found.append((seen, move))
    if isinstance(data.lock_state, str) and not (data.resent is True or data.contact_lost is True):
        # Of several movements, the last one that led to this state.
        event = next((move for move in reversed(moves) if move.action == data.lock_state), None)
        event = event or next(iter(moves), None)
        seen = Observation(
            ObservationKind.STATUS,
            method=None if event is None else event.method,
            lock_state=data.lock_state,
            previous_lock_state=known.state_before(data, now),
            time=time,
            peripheral=peripheral,
        )
        found.append((seen, event))
    return found


def observations(
    message: Message,
    lock_state: str | None,
    clock: LockClock,
    sublocks: SubLockStates | None = None,
    now: float = 0.0,
) -> list[Seen]:
    """Movements and states in a message that arrived at `now`; `lock_state` and `sublocks` precede it.

    Each comes with the lock event that gets the id of the command it confirms. A stored report, or one that
    a master repeats for its sub-lock, shows past movements but not the current state; without a time it
    shows nothing.
    """
    found: list[Seen] = []
    for _, data in message.events:
        if isinstance(data, events.LockEvent) and data.peripheral is UNSET:
            time = clock.event_time(data.time, now)
            if time is not None or not message.stored:
                found.append((Observation(ObservationKind.LOCK, data.action, data.method, time=time), data))
        elif isinstance(data, events.Peripheral):
            found += _of_sublock(message, data, sublocks or SubLockStates(), now)
        elif isinstance(data, events.Location) and not message.stored:
            seen = Observation(
                ObservationKind.STATUS,
                method=None if data.lock_event is None else data.lock_event.method,
                lock_state=data.lock_state,
                previous_lock_state=lock_state,
                time=clock.event_time(data.time, now),
            )
            found.append((seen, data.lock_event))
    # A lock event comes before a status: it names the method.
    found.sort(key=lambda one: one[0].kind is not ObservationKind.LOCK)
    return found
