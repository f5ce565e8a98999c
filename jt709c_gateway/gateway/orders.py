"""Orders from Redis down to the locks, and the truth about what became of each (DESIGN.md §4)."""

from collections.abc import Callable
from typing import Any, Final

from attrs import define, evolve, field
from msgspec.json import encode
from twisted.logger import Logger

from jt709c_gateway.clock import Clock
from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.catalogue import LOCAL_ORDERS
from jt709c_gateway.commands.lifecycle import OrderRun, Step, Transition
from jt709c_gateway.commands.model import InvalidOrder, Order, OrderState, parse_order
from jt709c_gateway.commands.profiles import CheckedOrder, ProfileSet
from jt709c_gateway.commands.record import Limits
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.stored import PUBLIC_FIELDS, invalid_record, iso, to_hash
from jt709c_gateway.protocol.events import KIND_COMMAND
from jt709c_gateway.redis.committer import Record
from jt709c_gateway.redis.orders import UNSETTLED_TTL, Claim, Command, OrderStore
from jt709c_gateway.redis.orders import Record as StoredRecord

from .core import Gateway
from .desk import Desk
from .sessions import Session

_UNSETTLED: Final = frozenset({OrderState.UNCONFIRMED, OrderState.UNCERTAIN})


@define(eq=False)
class Orders:
    """Takes orders in, has them carried out at the locks' desks, and publishes every step."""

    log = Logger()

    gateway: Gateway
    store: OrderStore
    profiles: ProfileSet
    limits: Limits = field(factory=Limits)
    udp_window: float = 30.0
    #: For unlock orders that bring no password.
    static_password: str | None = field(default=None, repr=False)
    desks: dict[str, Desk] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        self.gateway.on_online = self._online
        self.gateway.on_offline = self._offline

    @property
    def clock(self) -> Clock:
        """The gateway's monotonic clock."""
        return self.gateway.clock

    @property
    def under_way(self) -> int:
        """How many orders are being written or await their answer."""
        return sum(desk.current is not None for desk in self.desks.values())

    def now(self) -> float:
        """Epoch seconds."""
        return self.gateway.wall().timestamp()

    # Locks come and go

    def _online(self, session: Session) -> None:
        self._desk(session.device).attach(session)

    def _offline(self, session: Session, reason: str) -> None:
        desk = session.desk
        if desk is not None and desk.session is session:
            desk.detach()
            self.tidy(desk)

    def _desk(self, device: str) -> Desk:
        desk = self.desks.get(device)
        if desk is None:
            desk = self.desks[device] = Desk(device, self)
        return desk

    def tidy(self, desk: Desk) -> None:
        """Let go of a desk that has nothing to do; its lock then costs nothing more per message."""
        if desk.idle:
            if desk.session is not None:
                desk.session.desk = None
            self.desks.pop(desk.device, None)

    def resume(self) -> None:
        """Redis is back: look for what waits."""
        for desk in list(self.desks.values()):
            desk.kick()

    def tick(self) -> None:
        """Time has passed; to be called several times a second."""
        now = self.now()
        for desk in list(self.desks.values()):
            desk.tick(now)

    # Intake

    async def take(self, entry: bytes) -> None:
        """Deal with one entry of the intake list."""
        now = self.now()
        try:
            order = parse_order(entry, now)
            if order.command in LOCAL_ORDERS:
                self.profiles.validate_loosely(order)
                await self._local(order, entry, now)
            else:
                await self._take(order, entry, now)
        except InvalidOrder as error:
            await self._invalid(error, entry, now)

    async def _take(self, order: Order, entry: bytes, now: float) -> None:
        known = await self.store.look_up(order.device)
        session = self.gateway.sessions.get(order.device)
        device = known.device if session is None else session.device
        order = evolve(order, device=device)
        dialect = known.dialect if session is None else session.dialect or known.dialect
        profile = self.profiles.pick(device, dialect, known.firmware)
        spec = None
        if profile is None:
            self.profiles.validate_loosely(order)
        else:
            spec = self.profiles.validate(order, profile).spec
        secret_names = self.profiles.secret_names(order.command)
        run = OrderRun(order, spec, self.limits, secret_names)
        if not await self._accept(run, entry, order.to_json(), now):
            return
        desk = self._desk(device)
        session = self.gateway.sessions.get(device)
        if session is not None and desk.session is None:
            desk.session, session.desk = session, desk
        if not desk.reachable:
            self.publish(run, run.waiting(now))
            desk.waiting = session is not None
        desk.kick()

    async def _accept(self, run: OrderRun, entry: bytes, payload: bytes, now: float) -> bool:
        """Record the order; False when its id is known, or too many wait, which is then published."""
        order = run.order
        step = run.queued(now)
        record = to_hash(step.transitions[-1].fields)
        expires_at = order.created_at + order.ttl
        result = await self.store.accept(order.id, order.device, entry, payload, expires_at, record)
        if result == 0:
            await self._report(order)
            return False
        self.publish(run, step)
        if result < 0:
            self.publish(run, run.settle(now, OrderState.FAILED, "too many orders wait for this lock"))
            return False
        return True

    async def _report(self, order: Order) -> None:
        """The id is known: the order isn't carried out again, its present state is told again."""
        record = await self.store.record(order.id)
        run = self.restore(record)
        public = run.public()
        replies = self._reply_commands(order.reply_to, public) if run.ended else []
        self._submit(run.order.device, public, replies)

    async def _local(self, order: Order, entry: bytes, now: float) -> None:
        """Carry out an order that no lock hears of."""
        session = self.gateway.sessions.get(order.device)
        device = (await self.store.look_up(order.device)).device if session is None else session.device
        run = OrderRun(evolve(order, device=device), None, self.limits, frozenset())
        if not await self._accept(run, entry, b"", now):
            return
        if order.command == "clear_lockout":
            commands = self.store.wrong_password_commands(device, 0)
            self.publish(run, run.settle(now, OrderState.DONE), commands=commands)
            return
        target = str(order.params["id"])
        payload, record = await self.store.remove(target)
        if payload is None:
            reason = f"order {target} is {record['state']}" if record else f"no order {target} is known"
            self.publish(run, run.settle(now, OrderState.REJECTED, reason))
            return
        taken_back = self.restore(record, Order.from_json(payload))
        self.publish(taken_back, taken_back.cancel(now))
        self.publish(run, run.settle(now, OrderState.DONE))

    async def _invalid(self, error: InvalidOrder, entry: bytes, now: float) -> None:
        """Tell what is wrong with an order, as far as it can be said whose it is."""
        record = invalid_record(error, now)
        if error.order_id is not None:
            stored = to_hash({name: value for name, value in record.items() if value is not None})
            await self.store.accept(error.order_id, error.device or "", entry, b"", 0.0, stored)
        else:
            await self.store.drop(entry)
        self.gateway.counters.orders[OrderState.INVALID] += 1
        kept = {"at": iso(now), "reason": str(error), "id": error.order_id, "device": error.device}
        commands = self.store.invalid_commands(encode(kept).decode())
        commands += self._reply_commands(error.reply_to, record)
        self._submit(error.device or "unknown", record, commands)
        self.log.warn("an order is invalid: {reason}", reason=str(error))

    # Checking and restoring

    def check(self, order: Order, session: Session, claim: Claim) -> CheckedOrder:
        """The order in the form that this lock understands; InvalidOrder where it understands none."""
        profile = self.profiles.pick(session.device, session.dialect or claim.dialect, claim.firmware)
        if profile is None:
            raise InvalidOrder(
                "device",
                "has not shown yet which dialect it speaks",
                "a lock that has sent a report, or a profile that names it",
                order_id=order.id,
            )
        return self.profiles.validate(order, profile)

    def supplied(self, claim: Claim) -> dict[str, str]:
        """What the gateway knows that an order may leave out, by the names profiles have for it."""
        known = {"static_password": self.static_password, "dynamic_password": claim.dynamic_password}
        return {name: value for name, value in known.items() if value is not None}

    def restore(self, record: StoredRecord, order: Order | None = None) -> OrderRun:
        """An order from its record. Without `order` its secrets are masked: it can't be written then."""
        if order is not None and not record:
            return OrderRun(order, None, self.limits, self.profiles.secret_names(order.command))
        run = OrderRun.restore(record, None, self.limits, order=order)
        if run.profile is not None:
            spec = self.profiles.spec_of(run.profile, run.order.command, run.order.params)
            run = OrderRun.restore(record, spec, self.limits, order=order)
        elif run.order.command not in LOCAL_ORDERS:
            run.secret_names = self.profiles.secret_names(run.order.command)
        else:
            run.secret_names = frozenset()
        return run

    def watch(self, desk: Desk, record: StoredRecord) -> None:
        """Keep an order in sight whose fate a report of its lock may still settle."""
        try:
            run = self.restore(record)
        except ValueError as error:
            self.log.error("a stored order can't be read: {reason}", reason=str(error))
            return
        if run.confirmable:
            desk.watched.append(run)

    def is_stale(self, run: OrderRun, now: float) -> bool:
        """Whether an order has ended so long ago that nothing will settle it any more."""
        return run.ended and (run.writing_at is None or now - run.writing_at > UNSETTLED_TTL)

    # Recovery

    async def expire(self) -> None:
        """End orders whose ttl has run out while their lock was away."""
        now = self.now()
        for order_id in await self.store.due(now):
            payload, record = await self.store.remove(order_id)
            if payload is not None:
                run = self.restore(record, Order.from_json(payload))
                self.publish(run, run.deadline(now))

    async def adopt(self, gateway: str, gone: bool = False) -> int:
        """Settle what a dead gateway had in hand; gives how many orders that were."""
        count = 0
        while taken := await self.store.adopt(gateway, gone):
            for payload, record in taken:
                self._recover(Order.from_json(payload), record)
            count += len(taken)
            if gateway == self.gateway.name:
                # Ours stay where they are until they are settled, so they would be found again.
                break
        return count

    def _recover(self, order: Order, record: StoredRecord) -> None:
        run = self.restore(record, order)
        step = run.recovered(self.now())
        desk = self._desk(order.device)
        if not run.ended and run.state is OrderState.ACKNOWLEDGED:
            desk.watched.append(run)
        desk.apply(run, step)
        if run.confirmable and run not in desk.watched:
            desk.watched.append(run)
        session = self.gateway.sessions.get(order.device)
        if session is not None:
            desk.attach(session)

    # Publishing

    def publish(
        self,
        run: OrderRun,
        step: Step,
        then: Callable[[bool], None] | None = None,
        commands: list[Command] | None = None,
    ) -> None:
        """Have the transitions of a step stored and announced, in order; `then` follows the last of them."""
        for transition in step.transitions:
            last = transition is step.transitions[-1]
            self._transition(run, transition, then if last else None, commands or [])

    def _transition(
        self,
        run: OrderRun,
        transition: Transition,
        then: Callable[[bool], None] | None,
        further: list[Command],
    ) -> None:
        order = run.order
        public = {name: transition.fields[name] for name in PUBLIC_FIELDS}
        commands = [*self.store.record_commands(order.id, to_hash(transition.fields)), *further]
        ended = transition.fields["ended_at"] is not None
        if ended:
            commands += self.store.release_commands(order.id)
            commands += self._reply_commands(order.reply_to, public)
        if transition.state in _UNSETTLED and run.confirmable:
            commands += self.store.unsettled_commands(order.device, order.id, True)
        elif transition.state is OrderState.CONFIRMED:
            commands += self.store.unsettled_commands(order.device, order.id, False)
        if transition.announce:
            self.gateway.counters.orders[transition.state] += 1
        self._submit(order.device, public if transition.announce else None, commands, then)

    def _reply_commands(self, name: str | None, public: dict[str, Any]) -> list[Command]:
        return [] if name is None else self.store.reply_commands(name, encode(public).decode())

    def _submit(
        self,
        device: str,
        public: dict[str, Any] | None,
        commands: list[Command],
        then: Callable[[bool], None] | None = None,
    ) -> None:
        packed = []
        if public is not None:
            session = self.gateway.sessions.get(device)
            packed.append((KIND_COMMAND, self.gateway.encode(device, KIND_COMMAND, public, session)))
        content = (device, None, "", 0.0, packed, None, None, commands)
        self.gateway.committer.submit(Record(content, then=then))

    def requeue(self, run: OrderRun) -> None:
        """Put an order back to the head of its lock's queue."""
        order = run.order
        expires_at = order.created_at + order.ttl
        payload = order.to_json().decode()
        self._submit(
            order.device, None, self.store.requeue_commands(order.id, order.device, payload, expires_at)
        )

    def count_wrong_passwords(self, run: OrderRun, answer: Answer) -> None:
        """Keep the number of wrong passwords in a row that orders have shown to a lock."""
        if run.spec is None or not run.spec.shows_password:
            return
        device = run.order.device
        if answer.wrong_password:
            commands: list[Command] = [("HINCRBY", self.store.keys.device(device), "wrong_passwords", 1)]
        elif lockout.next_count(1, run.spec, answer) == 0:
            commands = self.store.wrong_password_commands(device, 0)
        else:
            return
        self._submit(device, None, commands)
