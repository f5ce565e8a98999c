"""Orders out of the intake list: into a lock's queue, carried out at once, or told what is wrong."""

from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import txredisapi
from attrs import define, evolve, frozen
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import sublocks
from jt709c_gateway.commands.catalogue import CANCEL, LOCAL_ORDERS
from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import ENDED, Command, CommandState, InvalidCommand, parse_command
from jt709c_gateway.commands.order_keys import CommandRefused, RefusalReason
from jt709c_gateway.commands.profiles import CommandSpec
from jt709c_gateway.commands.stored import PUBLIC_FIELDS, from_hash, invalid_record, iso, to_hash
from jt709c_gateway.commands.waiting import from_waiting, to_waiting
from jt709c_gateway.gateway.commands import rejections
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.rejections import UNKNOWN
from jt709c_gateway.protocol.events import KIND_COMMAND, to_text
from jt709c_gateway.redis.command_store import FULL
from jt709c_gateway.redis.command_store_types import Acceptance, Events, Known
from jt709c_gateway.redis.command_writes import RedisCommand

_T = TypeVar("_T")


async def _side_by_side(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What they return, when all have ended. They raise only when they, or all of this, are cancelled."""
    going = [defer.Deferred.fromCoroutine(one) for one in coroutines]
    ended: list[tuple[bool, Any]] = await defer.DeferredList(going, consumeErrors=True)
    for complete, result in ended:
        if not complete:
            result.raiseException()
    return [result for _, result in ended]


def _stored(record: Mapping[str, Any]) -> Mapping[str, str]:
    """The hash of an order that is nothing but invalid."""
    return to_hash({name: value for name, value in record.items() if value is not None})


class Failed(NamedTuple):
    """An entry that has to be dealt with again, and what went wrong: txredisapi's errors, or one of ours."""

    entry: bytes
    error: Exception


@frozen(eq=False)
class _Read:
    """An entry: the order in it, or why that can't be had, and the device that the order is for."""

    entry: bytes
    order: Command | Exception
    known: Known | None = None

    @property
    def is_local(self) -> bool:
        """Whether no lock hears of it."""
        return isinstance(self.order, Command) and self.order.command in LOCAL_ORDERS


@define
class Intake:
    """Deals with entries; each leaves our list only when Redis knows what became of it."""

    log = Logger()

    orders: CommandDispatcher

    async def take(self, entries: Sequence[bytes]) -> list[Failed]:
        """Deal with entries side by side, as far as their order doesn't matter; those that failed.

        Orders for one lock are taken in one after the other, and not beyond one that failed. One that takes
        others back (`cancel`) comes after all that are before it, and before all behind it.
        """
        now = self.orders.now()
        read = [self._read(entry, now) for entry in entries]
        for is_local, group in groupby(read, lambda one: one.is_local):
            alike = list(group)
            lanes = [alike] if is_local else await self._lanes(alike)
            failed = await _side_by_side(self._one_by_one(lane, now) for lane in lanes)
            if found := [one for one in failed if one is not None]:
                return found
        return []

    def _read(self, entry: bytes, now: float) -> _Read:
        try:
            order = parse_command(entry, now)
            self.orders.authority.check_new(order, now)
        except Exception as error:
            # Also one that nobody thought of: it must be this entry's alone.
            return _Read(entry, error)
        return _Read(entry, order)

    async def _lanes(self, group: Iterable[_Read]) -> list[list[_Read]]:
        """Divided by device: orders for one must not overtake each other, whatever they call it."""
        lanes: defaultdict[object, list[_Read]] = defaultdict(list)
        for one in await _side_by_side(self._placed(one) for one in group):
            lanes[one if one.known is None else one.known.device].append(one)
        return list(lanes.values())

    async def _placed(self, read: _Read) -> _Read:
        if isinstance(read.order, Exception):
            return read
        try:
            return evolve(read, known=await self._find(read.order))
        except defer.CancelledError:
            raise
        except Exception as error:
            return evolve(read, order=error)

    async def _one_by_one(self, lane: list[_Read], now: float) -> Failed | None:
        for one in lane:
            try:
                await self._deal(one, now)
            except defer.CancelledError:
                raise
            except Exception as error:
                return Failed(one.entry, error)
        return None

    async def _deal(self, read: _Read, now: float) -> None:
        entry, order = read.entry, read.order
        try:
            if isinstance(order, Exception):
                raise order
            if read.known is None:
                self.orders.profiles.validate_loosely(order)
                await self._local(order, entry, now)
            else:
                await self._take(order, read.known, entry, now)
        except InvalidCommand as error:
            await self._invalid(error, entry, now)

    async def set_aside(self, entry: bytes, reason: str) -> None:
        """Give an entry up that can't be dealt with, lest it keep all others waiting.

        That is told as of an invalid order, as far as it can be read whose it is.
        """
        orders, store, now = self.orders, self.orders.store, self.orders.now()
        order = self._read(entry, now).order
        about = order if isinstance(order, InvalidCommand) else InvalidCommand("order", reason, "another")
        if isinstance(order, Command):
            about = about.about(order)
        rejections.withhold(orders, about, is_known=False)
        device, order_id = about.device or UNKNOWN, about.order_id
        kept = {"at": iso(now), "reason": reason, "id": order_id, "device": about.device}
        if order_id is None or not await store.is_known(order_id):
            record = invalid_record(about, now) | {"reason": reason}
            commands = orders.reply_writes(about.reply_to, record)
            if order_id is not None:
                commands += store.recent_writes(order_id, now)
                commands += store.record_writes(order_id, _stored(record))
            await self._tell(device, record, commands)
            orders.gateway.counters.orders[CommandState.INVALID] += 1
        orders.submit(UNKNOWN, None, store.invalid_writes(to_text(kept)))
        await orders.committed(device)
        await store.drop(entry)

    async def _tell(self, device: str, record: dict[str, Any], commands: list[RedisCommand]) -> None:
        """Store an outcome, where need be without its event; ResponseError when it can't be stored."""
        for event in (record, None):
            done: defer.Deferred[bool] = defer.Deferred()
            self.orders.submit(device, event, commands, done.callback)
            if await done:
                return
        raise txredisapi.ResponseError("an outcome could not be stored")

    async def _find(self, order: Command) -> Known:
        """The device that an order is for; InvalidOrder where its name can be no device's."""
        known = await self.orders.store.look_up(order.device)
        session = self.orders.gateway.sessions.get(order.device)
        if session is not None:
            return evolve(known, device=session.device, peripheral=None)
        sublocks.check_known(order, is_sublock=known.peripheral is not None)
        return known

    async def _check(self, order: Command, known: Known) -> tuple[Command, CommandSpec | None]:
        """The order for the device itself, and its form where that is known; InvalidOrder if it has none."""
        profiles = self.orders.profiles
        session = self.orders.gateway.sessions.get(known.device)
        dialect = known.dialect if session is None else session.speaks(known.dialect)
        profile = profiles.pick(known.device, dialect, known.firmware)
        if known.peripheral is None:
            order = evolve(order, device=known.device)
        else:
            order = sublocks.redirect_to_master(order, known.device, sublocks.parameter(profile))
            sublocks.check_type(order, known.peripheral, known.peripheral_type)
        if profile is None:
            profiles.validate_loosely(order)
            return order, None
        spec = profiles.validate(order, profile).spec
        peripheral = spec.peripheral_of(order.params)
        if peripheral is not None and known.peripheral is None:
            sublocks.check_type(order, peripheral, await self.orders.store.peripheral_type(peripheral))
        return order, spec

    async def _take(self, given: Command, known: Known, entry: bytes, now: float) -> None:
        orders = self.orders
        order, spec = await self._check(given, known)
        device = order.device
        run = CommandExecution(order, spec, orders.limits, orders.profiles.secret_names(order.command))
        steps = [run.queued(now), run.waiting(now), run.settle(now, CommandState.FAILED, FULL)]
        queued, waiting, failed = (step.transitions[-1].fields for step in steps)
        try:
            result = await orders.store.accept(
                order.id,
                device,
                entry,
                to_waiting(order),
                order.created_at + order.ttl,
                to_hash(queued),
                self._events(device, queued, waiting, failed),
                str(iso(now)),
                reachable=orders.is_reachable(device),
                name=given.device,
                alias=known.alias,
            )
        except Exception:
            # It may have come in all the same; then it is sent when Redis is back.
            orders.look_later(device)
            raise
        if result is Acceptance.NOT_OURS:
            return
        if result is Acceptance.RENAMED:
            await self._take(given, await self._find(given), entry, now)
            return
        if result is Acceptance.KNOWN:
            await self._report(order)
            return
        counted = orders.gateway.counters.orders
        counted[CommandState.QUEUED] += 1
        if result is Acceptance.FULL:
            counted[CommandState.FAILED] += 1
            public = {name: failed[name] for name in PUBLIC_FIELDS}
            orders.submit(device, None, orders.reply_writes(order.reply_to, public))
            return
        if result is Acceptance.WAITING:
            counted[CommandState.WAITING] += 1
        orders.serve(device)

    def _events(
        self,
        device: str,
        queued: Mapping[str, Any],
        waiting: Mapping[str, Any] | None = None,
        failed: Mapping[str, Any] | None = None,
    ) -> Events:
        """What to announce of an order in each case; that it came in, where there is but one."""
        gateway = self.orders.gateway
        session = gateway.sessions.get(device)

        def text(record: Mapping[str, Any] | None) -> str:
            if record is None:
                return ""
            public = {name: record[name] for name in PUBLIC_FIELDS}
            return gateway.encode(device, KIND_COMMAND, public, session)

        limits = gateway.committer.limits
        return Events(text(queued), text(waiting), text(failed), limits.events, limits.history)

    async def _report(self, order: Command) -> None:
        """The id is known: the order isn't carried out again, its present state is told again."""
        orders = self.orders
        while record := await orders.store.record(order.id):
            fields = from_hash(record)
            public = {
                name: iso(fields[name]) if name.endswith("_at") else fields[name] for name in PUBLIC_FIELDS
            }
            state, device = CommandState(str(public["state"])), public["device"] or order.device
            event = orders.gateway.encode(device, KIND_COMMAND, public, orders.gateway.sessions.get(device))
            limits = orders.gateway.committer.limits
            caps = (limits.events, limits.history)
            if await orders.store.report(order.id, device, state, event, caps):
                if state in ENDED:
                    orders.submit(device, None, orders.reply_writes(order.reply_to, public))
                return

    async def _local(self, order: Command, entry: bytes, now: float) -> None:
        """Carry out an order that no lock hears of. Doing that twice, after a crash, does no harm."""
        orders = self.orders
        if await orders.store.record(order.id):
            await self._report(order)
            await orders.store.drop(entry)
            return
        known = await self._find(order)
        device = known.device
        if known.peripheral is not None and order.command != CANCEL:
            sublocks.redirect_to_master(order, device, sublocks.DEFAULT_PARAMETER)
        if order.command == CANCEL and orders.authority.keys.limits_devices(order):
            await self._check_target(order, device)
        # A cancelled order's id is shown when there is such an order; else it may be anything.
        shown = order.command != CANCEL or await orders.store.record(str(order.params["id"]))
        hidden = frozenset() if shown else frozenset({"id"})
        run = CommandExecution(evolve(order, device=device), None, orders.limits, hidden)
        listed = orders.store.recent_writes(order.id, now)
        orders.publish(run, run.queued(now), commands=listed, local=True)
        reason, commands = None, []
        if order.command == "clear_lockout":
            commands = orders.store.wrong_password_writes(device, 0)
        else:
            reason = await self._cancel(str(order.params["id"]), now)
        state = CommandState.DONE if reason is None else CommandState.REJECTED
        settled: defer.Deferred[bool] = defer.Deferred()
        orders.publish(run, run.settle(now, state, reason), settled.callback, commands, local=True)
        if not await settled and not await orders.store.is_known(order.id):
            raise txredisapi.ResponseError("an outcome could not be stored")
        await orders.store.drop(entry)

    async def _check_target(self, order: Command, device: str) -> None:
        """Refuse to take back another device's order, where the key is for some devices only."""
        target = str(order.params["id"])
        record = await self.orders.store.record(target)
        if record.get("device", device) != device:
            problem = f"{target} is an order for another device than {device}"
            right = "an order for the same device, since the key is not for all"
            raise CommandRefused(RefusalReason.NOT_PERMITTED, order, "params.id", problem, right)

    async def _cancel(self, target: str, now: float) -> str | None:
        """Take an order back; why not, where that can't be done."""
        orders = self.orders
        payload, record = await orders.store.remove(target)
        if payload is None:
            if record.get("state") == CommandState.CANCELLED:
                return None
            return f"order {target} is {record['state']}" if record else "no order of this id is known"
        try:
            taken_back = orders.restore(record, from_waiting(payload))
        except InvalidCommand as error:
            rejections.cast_out(orders, None, payload, record, error)
            return f"what waited as order {target} is no order"
        orders.take(target, record)
        stored: defer.Deferred[bool] = defer.Deferred()
        orders.publish(taken_back, taken_back.cancel(now), stored.callback)
        return None if await stored else f"order {target} could not be taken back"

    async def _whose(self, error: InvalidCommand) -> str:
        """The device in whose history a complaint stands, which then names nothing that isn't known."""
        device, is_known = UNKNOWN, False
        if error.device is not None:
            session = self.orders.gateway.sessions.get(error.device)
            known = await self.orders.store.look_up(error.device)
            device = known.device if session is None else session.device
            is_known = session is not None or known.is_known
        rejections.withhold(self.orders, error, is_known=is_known)
        return UNKNOWN if error.device is None else device

    async def _invalid(self, error: InvalidCommand, entry: bytes, now: float) -> None:
        """Tell what is wrong with an order, as far as it can be said whose it is."""
        orders = self.orders
        device = await self._whose(error)
        record = invalid_record(error, now)
        if error.order_id is not None:
            stored, events = _stored(record), self._events(device, record)
            result = await orders.store.accept(
                error.order_id, device, entry, b"", 0.0, stored, events, str(iso(now))
            )
            if result is Acceptance.NOT_OURS:
                return
        orders.gateway.counters.orders[CommandState.INVALID] += 1
        commands = rejections.commands(orders, error)
        commands += orders.reply_writes(error.reply_to, record)
        if error.order_id is not None:
            # An order of the same id goes its own way, and its events tell of that.
            orders.submit(device, None, commands)
        else:
            orders.submit(device, record, commands)
            await orders.committed(device)
            await orders.store.drop(entry)
        if rejections.may_log(orders):
            self.log.warn("an order is invalid: {reason}", reason=str(error))
