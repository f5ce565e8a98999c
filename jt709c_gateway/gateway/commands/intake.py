"""Processes entries of the intake list: queues them for their device, executes or rejects them."""

from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet import defer

from jt709c_gateway.commands.catalogue import LOCAL_COMMANDS
from jt709c_gateway.commands.check import CheckedForDevice, check_command
from jt709c_gateway.commands.forwarding import forwarded_entry, read_forwarded
from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command, CommandState, InvalidCommand, parse_command
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, to_hash, to_queue_entry
from jt709c_gateway.gateway.commands.acceptance import acceptance_events, find_device, report_known
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.entry_rejections import EntryRejections
from jt709c_gateway.gateway.commands.local_commands import LocalCommands
from jt709c_gateway.redis.areas import check_conditions
from jt709c_gateway.redis.command_store import FULL
from jt709c_gateway.redis.command_store_types import Acceptance, Known
from jt709c_gateway.redis.partitioned_queries import PartitionAway
from jt709c_gateway.util.timestamps import iso

_T = TypeVar("_T")


async def _gather(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines concurrently and return their results; raises only when one of them is cancelled."""
    going = [defer.Deferred.fromCoroutine(one) for one in coroutines]
    ended: list[tuple[bool, Any]] = await defer.DeferredList(going, consumeErrors=True)
    for complete, result in ended:
        if not complete:
            result.raiseException()
    return [result for _, result in ended]


class Failed(NamedTuple):
    """An entry that has to be processed again, and its error: one of txredisapi's or an unexpected one."""

    entry: bytes
    error: Exception


@frozen(eq=False)
class _ParsedEntry:
    """An entry with its command, or the error in it, and the device that the command is for."""

    entry: bytes
    command: Command | Exception
    known: Known | None = None
    #: The partition that can't be asked about the device.
    away: int | None = None

    @property
    def is_local(self) -> bool:
        """Whether the gateway executes the command itself, without the device."""
        return isinstance(self.command, Command) and self.command.name in LOCAL_COMMANDS


@define
class Intake:
    """Processes entries; each leaves this gateway's list only after its outcome is stored."""

    dispatcher: CommandDispatcher
    context: CommandContext = field(init=False, repr=False)
    local_commands: LocalCommands = field(init=False, repr=False)
    rejections: EntryRejections = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.context = self.dispatcher.context
        self.local_commands = LocalCommands(self.context)
        self.rejections = EntryRejections(self.context)

    async def process(self, entries: Sequence[bytes]) -> list[Failed]:
        """Process entries, concurrently where their order doesn't matter; returns those that failed.

        Commands for one device are processed in sequence, up to the first that fails. A command that the
        gateway executes itself (`cancel`) is processed after all entries before it and before all behind it.
        """
        now = self.context.now()
        read = [self._parse(entry, now) for entry in entries]
        for is_local, group in groupby(read, lambda one: one.is_local):
            alike = list(group)
            lanes = [alike] if is_local else await self._lanes(alike)
            failed = await _gather(self._process_lane(lane, now) for lane in lanes)
            if found := [one for one in failed if one is not None]:
                return found
        return []

    def _parse(self, entry: bytes, now: float) -> _ParsedEntry:
        try:
            forwarded = forwarded_entry(entry)
            if forwarded is None:
                command = parse_command(entry, now)
            else:
                command = read_forwarded(forwarded, now)
            self.context.authorizer.check_new(command, now, None if forwarded is None else forwarded.seal)
        except Exception as error:
            # An unexpected error, too, must concern this entry only.
            return _ParsedEntry(entry, error)
        return _ParsedEntry(entry, command)

    async def _lanes(self, group: Iterable[_ParsedEntry]) -> list[list[_ParsedEntry]]:
        """Group entries by device, whatever name they use for it: the sequence per device is kept."""
        lanes: defaultdict[object, list[_ParsedEntry]] = defaultdict(list)
        for one in await _gather(self._with_device(one) for one in group):
            lanes[one if one.known is None else one.known.device].append(one)
        return list(lanes.values())

    async def _with_device(self, read: _ParsedEntry) -> _ParsedEntry:
        if not isinstance(read.command, Command):
            return read
        routing = self.context.routing
        if routing is not None and routing.is_name_away(read.command.device, self.context.now()):
            return evolve(read, away=routing.partitions.number_of(read.command.device))
        try:
            return evolve(read, known=await find_device(self.context, read.command.device))
        except defer.CancelledError:
            raise
        except PartitionAway as error:
            return evolve(read, away=error.number)
        except Exception as error:
            return evolve(read, command=error)

    async def _process_lane(self, lane: list[_ParsedEntry], now: float) -> Failed | None:
        for one in lane:
            try:
                await self._process_entry(one, now)
            except defer.CancelledError:
                raise
            except Exception as error:
                return Failed(one.entry, error)
        return None

    async def _process_entry(self, read: _ParsedEntry, now: float) -> None:
        entry, command = read.entry, read.command
        if await self._forwarded(read, now):
            return
        try:
            if isinstance(command, Exception):
                raise command
            if read.known is None:
                self.context.profiles.validate_loosely(command)
                await self.local_commands.execute(command, entry, now)
            elif await self._enqueue(command, read.known, entry, now) is Acceptance.RENAMED:
                # Now it may be in another partition.
                found = await self._with_device(_ParsedEntry(entry, command))
                await self._process_entry(found, now)
        except InvalidCommand as error:
            await self.rejections.reject(error, entry, now)

    async def _forwarded(self, read: _ParsedEntry, now: float) -> bool:
        """Forward an entry to the partition of its device; False when it is here, or names none."""
        routing, command, known, away = self.context.routing, read.command, read.known, read.away
        if routing is None or not isinstance(command, Command | InvalidCommand) or command.device is None:
            return False
        if known is None and away is None:
            try:
                known = await find_device(self.context, command.device)
            except PartitionAway as error:
                away = error.number
        if known is None:
            assert away is not None
            await routing.park(read.entry, command, away, now)
            return True
        target = routing.partitions.number(known.device)
        if target != routing.number:
            await routing.forward(read.entry, command, target, now)
        return target != routing.number

    async def _check(self, command: Command, known: Known) -> CheckedForDevice:
        session = self.context.gateway.sessions.get(known.device)
        if session is not None:
            known = evolve(known, dialect=session.dialect_or_guess(known.dialect))
        return await check_command(command, known, self.context.profiles, self.context.store.peripheral_type)

    async def _enqueue(self, given: Command, known: Known, entry: bytes, now: float) -> Acceptance:
        context, dispatcher = self.context, self.dispatcher
        checked = await self._check(given, known)
        await check_conditions(context.store.caller, context.store.keys, given, now)
        command, device = checked.command, checked.command.device
        secret_names = context.profiles.secret_names(command.name)
        run = CommandExecution(command, checked.spec, context.limits, secret_names)
        steps = [run.queued(now), run.waiting(now), run.settle(now, CommandState.FAILED, FULL)]
        queued, waiting, failed = (step.transitions[-1].fields for step in steps)
        try:
            result = await context.store.accept(
                command.id,
                device,
                entry,
                to_queue_entry(command),
                command.created_at + command.ttl,
                to_hash(queued),
                acceptance_events(context, device, queued, waiting, failed),
                str(iso(now)),
                reachable=dispatcher.is_reachable(device),
                # Only here it is certain that the name still stands for this device.
                name=given.device if self.context.has_name(given.device) else "",
                alias=known.alias,
            )
        except Exception:
            # The command may have been accepted all the same; it is sent when Redis is back.
            dispatcher.check_after_reconnect(device)
            raise
        if result in (Acceptance.NOT_OURS, Acceptance.RENAMED):
            return result
        if result is Acceptance.KNOWN:
            await report_known(self.context, command)
            return result
        counted = context.gateway.counters.commands
        counted[CommandState.QUEUED] += 1
        if result is Acceptance.FULL:
            counted[CommandState.FAILED] += 1
            public = {name: failed[name] for name in PUBLIC_FIELDS}
            context.publisher.submit(device, None, context.publisher.reply_writes(command.reply_to, public))
            return result
        if result is Acceptance.WAITING:
            counted[CommandState.WAITING] += 1
        dispatcher.dispatch(device)
        return result

    async def quarantine(self, entry: bytes, reason: str) -> None:
        """Set an entry aside that fails repeatedly, so that the others are not blocked."""
        command = self._parse(entry, self.context.now()).command
        await self.rejections.quarantine(entry, command, reason)
