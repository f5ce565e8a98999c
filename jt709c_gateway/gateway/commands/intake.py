"""Processes entries of the intake list: queues them for their device, executes or rejects them."""

from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import txredisapi
from attrs import define, evolve, frozen
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import sublocks
from jt709c_gateway.commands.catalogue import CANCEL, LOCAL_COMMANDS
from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import ENDED, ENTRY, Command, CommandState, InvalidCommand, parse_command
from jt709c_gateway.commands.profiles import CommandSpec
from jt709c_gateway.commands.serialization import (
    PUBLIC_FIELDS,
    from_hash,
    from_queue_entry,
    invalid_record,
    to_hash,
    to_queue_entry,
)
from jt709c_gateway.commands.signing_keys import CommandRefused, RefusalReason
from jt709c_gateway.gateway.commands import rejections
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.rejections import UNKNOWN
from jt709c_gateway.protocol.events import KIND_COMMAND, to_text
from jt709c_gateway.redis.command_store import FULL
from jt709c_gateway.redis.command_store_types import Acceptance, Events, Known
from jt709c_gateway.redis.commit_records import RedisCommand
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


def _invalid_hash(record: Mapping[str, Any]) -> Mapping[str, str]:
    """The hash of an invalid command."""
    return to_hash({name: value for name, value in record.items() if value is not None})


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

    @property
    def is_local(self) -> bool:
        """Whether the gateway executes the command itself, without the device."""
        return isinstance(self.command, Command) and self.command.name in LOCAL_COMMANDS


@define
class Intake:
    """Processes entries; each leaves this gateway's list only after its outcome is stored."""

    log = Logger()

    dispatcher: CommandDispatcher

    async def process(self, entries: Sequence[bytes]) -> list[Failed]:
        """Process entries, concurrently where their order doesn't matter; returns those that failed.

        Commands for one device are processed in sequence, up to the first that fails. A command that the
        gateway executes itself (`cancel`) is processed after all entries before it and before all behind it.
        """
        now = self.dispatcher.now()
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
            command = parse_command(entry, now)
            self.dispatcher.authorizer.check_new(command, now)
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
        if isinstance(read.command, Exception):
            return read
        try:
            return evolve(read, known=await self._find_device(read.command))
        except defer.CancelledError:
            raise
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
        try:
            if isinstance(command, Exception):
                raise command
            if read.known is None:
                self.dispatcher.profiles.validate_loosely(command)
                await self._execute_local(command, entry, now)
            else:
                await self._enqueue(command, read.known, entry, now)
        except InvalidCommand as error:
            await self._reject(error, entry, now)

    async def quarantine(self, entry: bytes, reason: str) -> None:
        """Set an entry aside that fails repeatedly, so that the others are not blocked.

        It is published as an invalid command, under its id and device where these can be read.
        """
        dispatcher, store, now = self.dispatcher, self.dispatcher.store, self.dispatcher.now()
        command = self._parse(entry, now).command
        about = command if isinstance(command, InvalidCommand) else InvalidCommand(ENTRY, reason, "another")
        if isinstance(command, Command):
            about = about.about(command)
        rejections.hide_unknown_names(dispatcher, about, is_known=False)
        device, command_id = about.device or UNKNOWN, about.command_id
        kept = {"at": iso(now), "reason": reason, "id": command_id, "device": about.device}
        if command_id is None or not await store.is_known(command_id):
            record = invalid_record(about, now) | {"reason": reason}
            commands = dispatcher.reply_writes(about.reply_to, record)
            if command_id is not None:
                commands += store.recent_writes(command_id, now)
                commands += store.record_writes(command_id, _invalid_hash(record))
            await self._store_outcome(device, record, commands)
            dispatcher.gateway.counters.commands[CommandState.INVALID] += 1
        dispatcher.submit(UNKNOWN, None, store.invalid_writes(to_text(kept)))
        await dispatcher.committed(device)
        await store.drop(entry)

    async def _store_outcome(self, device: str, record: dict[str, Any], commands: list[RedisCommand]) -> None:
        """Store an outcome, if need be without its event; raises ResponseError if Redis refuses both."""
        for event in (record, None):
            done: defer.Deferred[bool] = defer.Deferred()
            self.dispatcher.submit(device, event, commands, done.callback)
            if await done:
                return
        raise txredisapi.ResponseError("an outcome could not be stored")

    async def _find_device(self, command: Command) -> Known:
        """The device that a command is for; raises InvalidCommand for an impossible name."""
        known = await self.dispatcher.store.look_up(command.device)
        session = self.dispatcher.gateway.sessions.get(command.device)
        if session is not None:
            return evolve(known, device=session.device, peripheral=None)
        sublocks.check_known(command, is_sublock=known.peripheral is not None)
        return known

    async def _check(self, command: Command, known: Known) -> tuple[Command, CommandSpec | None]:
        """The command for its canonical device, and its spec if known; raises InvalidCommand."""
        profiles = self.dispatcher.profiles
        session = self.dispatcher.gateway.sessions.get(known.device)
        dialect = known.dialect if session is None else session.dialect_or_guess(known.dialect)
        profile = profiles.pick(known.device, dialect, known.firmware)
        if known.peripheral is None:
            command = evolve(command, device=known.device)
        else:
            command = sublocks.redirect_to_master(command, known.device, sublocks.parameter(profile))
            sublocks.check_type(command, known.peripheral, known.peripheral_type)
        if profile is None:
            profiles.validate_loosely(command)
            return command, None
        spec = profiles.validate(command, profile).spec
        peripheral = spec.peripheral_of(command.params)
        if peripheral is not None and known.peripheral is None:
            sublocks.check_type(command, peripheral, await self.dispatcher.store.peripheral_type(peripheral))
        return command, spec

    async def _enqueue(self, given: Command, known: Known, entry: bytes, now: float) -> None:
        dispatcher = self.dispatcher
        command, spec = await self._check(given, known)
        device = command.device
        run = CommandExecution(
            command, spec, dispatcher.limits, dispatcher.profiles.secret_names(command.name)
        )
        steps = [run.queued(now), run.waiting(now), run.settle(now, CommandState.FAILED, FULL)]
        queued, waiting, failed = (step.transitions[-1].fields for step in steps)
        try:
            result = await dispatcher.store.accept(
                command.id,
                device,
                entry,
                to_queue_entry(command),
                command.created_at + command.ttl,
                to_hash(queued),
                self._events(device, queued, waiting, failed),
                str(iso(now)),
                reachable=dispatcher.is_reachable(device),
                name=given.device,
                alias=known.alias,
            )
        except Exception:
            # The command may have been accepted all the same; it is sent when Redis is back.
            dispatcher.check_after_reconnect(device)
            raise
        if result is Acceptance.NOT_OURS:
            return
        if result is Acceptance.RENAMED:
            await self._enqueue(given, await self._find_device(given), entry, now)
            return
        if result is Acceptance.KNOWN:
            await self._report_known(command)
            return
        counted = dispatcher.gateway.counters.commands
        counted[CommandState.QUEUED] += 1
        if result is Acceptance.FULL:
            counted[CommandState.FAILED] += 1
            public = {name: failed[name] for name in PUBLIC_FIELDS}
            dispatcher.submit(device, None, dispatcher.reply_writes(command.reply_to, public))
            return
        if result is Acceptance.WAITING:
            counted[CommandState.WAITING] += 1
        dispatcher.dispatch(device)

    def _events(
        self,
        device: str,
        queued: Mapping[str, Any],
        waiting: Mapping[str, Any] | None = None,
        failed: Mapping[str, Any] | None = None,
    ) -> Events:
        """The events for each result of an acceptance: queued, waiting and failed."""
        gateway = self.dispatcher.gateway
        session = gateway.sessions.get(device)

        def text(record: Mapping[str, Any] | None) -> str:
            if record is None:
                return ""
            public = {name: record[name] for name in PUBLIC_FIELDS}
            return gateway.events.encode(device, KIND_COMMAND, public, session)

        limits = gateway.committer.limits
        return Events(text(queued), text(waiting), text(failed), limits.events, limits.history)

    async def _report_known(self, command: Command) -> None:
        """Publish the current state of a command whose id is known already; it is not executed again."""
        dispatcher = self.dispatcher
        while record := await dispatcher.store.record(command.id):
            fields = from_hash(record)
            public = {
                name: iso(fields[name]) if name.endswith("_at") else fields[name] for name in PUBLIC_FIELDS
            }
            state, device = CommandState(str(public["state"])), public["device"] or command.device
            event = dispatcher.gateway.events.encode(
                device, KIND_COMMAND, public, dispatcher.gateway.sessions.get(device)
            )
            limits = dispatcher.gateway.committer.limits
            caps = (limits.events, limits.history)
            if await dispatcher.store.report(command.id, device, state, event, caps):
                if state in ENDED:
                    dispatcher.submit(device, None, dispatcher.reply_writes(command.reply_to, public))
                return

    async def _execute_local(self, command: Command, entry: bytes, now: float) -> None:
        """Execute a command in the gateway itself; repeating that after a crash is harmless."""
        dispatcher = self.dispatcher
        if await dispatcher.store.record(command.id):
            await self._report_known(command)
            await dispatcher.store.drop(entry)
            return
        known = await self._find_device(command)
        device = known.device
        if known.peripheral is not None and command.name != CANCEL:
            sublocks.redirect_to_master(command, device, sublocks.DEFAULT_PARAMETER)
        if command.name == CANCEL and dispatcher.authorizer.keys.limits_devices(command):
            await self._check_target(command, device)
        # The target's id is published only when such a command exists; else it may be a secret.
        shown = command.name != CANCEL or await dispatcher.store.record(str(command.params["id"]))
        hidden = frozenset() if shown else frozenset({"id"})
        run = CommandExecution(evolve(command, device=device), None, dispatcher.limits, hidden)
        listed = dispatcher.store.recent_writes(command.id, now)
        dispatcher.publish(run, run.queued(now), commands=listed, local=True)
        reason, commands = None, []
        if command.name == "clear_lockout":
            commands = dispatcher.store.wrong_password_writes(device, 0)
        else:
            reason = await self._cancel(str(command.params["id"]), now)
        state = CommandState.DONE if reason is None else CommandState.REJECTED
        settled: defer.Deferred[bool] = defer.Deferred()
        dispatcher.publish(run, run.settle(now, state, reason), settled.callback, commands, local=True)
        if not await settled and not await dispatcher.store.is_known(command.id):
            raise txredisapi.ResponseError("an outcome could not be stored")
        await dispatcher.store.drop(entry)

    async def _check_target(self, command: Command, device: str) -> None:
        """Refuse to cancel another device's command with a key that is limited to some devices."""
        target = str(command.params["id"])
        record = await self.dispatcher.store.record(target)
        if record.get("device", device) != device:
            problem = f"{target} is a command for another device than {device}"
            right = "a command for the same device, since the key is not for all"
            raise CommandRefused(RefusalReason.NOT_PERMITTED, command, "params.id", problem, right)

    async def _cancel(self, target: str, now: float) -> str | None:
        """Cancel a waiting command; returns None, or the reason why that is impossible."""
        dispatcher = self.dispatcher
        payload, record = await dispatcher.store.remove(target)
        if payload is None:
            if record.get("state") == CommandState.CANCELLED:
                return None
            return f"command {target} is {record['state']}" if record else "no command of this id is known"
        try:
            cancelled = dispatcher.restore(record, from_queue_entry(payload))
        except InvalidCommand as error:
            rejections.reject_unreadable(dispatcher, None, payload, record, error)
            return f"the queue entry of command {target} is invalid"
        dispatcher.record_claim(target, record)
        stored: defer.Deferred[bool] = defer.Deferred()
        dispatcher.publish(cancelled, cancelled.cancel(now), stored.callback)
        return None if await stored else f"command {target} could not be taken back"

    async def _device_of_rejection(self, error: InvalidCommand) -> str:
        """The device whose history gets a rejection; unknown names are removed from the rejection."""
        device, is_known = UNKNOWN, False
        if error.device is not None:
            session = self.dispatcher.gateway.sessions.get(error.device)
            known = await self.dispatcher.store.look_up(error.device)
            device = known.device if session is None else session.device
            is_known = session is not None or known.is_known
        rejections.hide_unknown_names(self.dispatcher, error, is_known=is_known)
        return UNKNOWN if error.device is None else device

    async def _reject(self, error: InvalidCommand, entry: bytes, now: float) -> None:
        """Publish why a command is invalid, under its id and device where these can be read."""
        dispatcher = self.dispatcher
        device = await self._device_of_rejection(error)
        record = invalid_record(error, now)
        if error.command_id is not None:
            stored, events = _invalid_hash(record), self._events(device, record)
            result = await dispatcher.store.accept(
                error.command_id, device, entry, b"", 0.0, stored, events, str(iso(now))
            )
            if result is Acceptance.NOT_OURS:
                return
        dispatcher.gateway.counters.commands[CommandState.INVALID] += 1
        commands = rejections.rejection_writes(dispatcher, error)
        commands += dispatcher.reply_writes(error.reply_to, record)
        if error.command_id is not None:
            # `accept` has stored and announced it, unless a valid command has the same id.
            dispatcher.submit(device, None, commands)
        else:
            dispatcher.submit(device, record, commands)
            await dispatcher.committed(device)
            await dispatcher.store.drop(entry)
        if rejections.may_log(dispatcher):
            rejections.log_rejection(error, device)
