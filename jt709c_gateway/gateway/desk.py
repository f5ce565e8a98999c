"""The orders of one lock: one under way at a time, and those whose effect is still to be seen."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.lifecycle import Action, OrderRun, Step
from jt709c_gateway.commands.model import InvalidOrder, Order, OrderState
from jt709c_gateway.commands.profiles import Rendered
from jt709c_gateway.protocol.message import Message

from . import hearing, wire
from .sessions import Session

if TYPE_CHECKING:
    from jt709c_gateway.redis.orders import Claim

    from .core import Moment
    from .orders import Orders

#: Orders per lock whose effect may still be seen; the oldest are forgotten first.
MAX_WATCHED: Final = 16


@define(eq=False)
class Desk:
    """Takes orders for one lock from Redis, writes them, and hears what becomes of them.

    An order is recorded as being written before its bytes are handed over, and the bytes are handed over
    only in answer to that record. So whoever finds the record knows that they may be out.
    """

    log = Logger()

    device: str
    orders: "Orders"
    session: Session | None = None
    current: OrderRun | None = None
    watched: list[OrderRun] = field(factory=list)
    #: Orders wait in Redis that can't be sent yet.
    waiting: bool = False
    _rendered: Rendered | None = field(default=None, repr=False)
    _claiming: bool = False
    _handed_over: bool = False
    _look_again: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do or to be seen here."""
        return not (self.current or self.watched or self.waiting or self._claiming)

    @property
    def reachable(self) -> bool:
        """Whether bytes can be written now: a datagram finds its way only soon after one from the lock."""
        session = self.session
        if session is None or not session.conversation.is_open:
            return False
        silent = self.orders.clock.seconds() - session.last_heard
        return not session.conversation.is_datagram or silent <= self.orders.udp_window

    def attach(self, session: Session) -> None:
        """The lock is there: send what waits for it."""
        self.session = session
        session.desk = self
        self.kick()

    def detach(self) -> None:
        """The lock is gone: what was written and not answered ends or waits, as its kind asks."""
        if self.session is not None:
            self.session.desk = None
        self.session = None
        run = self.current
        if run is None:
            return
        now = self.orders.now()
        if run.in_flight and not self._handed_over:
            step = run.write_failed(now, "the connection was lost before writing", nothing_written=True)
        else:
            step = run.connection_lost(now)
        self.apply(run, step)

    def kick(self) -> None:
        """Take the next order from Redis, unless one is under way."""
        if self.current is not None:
            return
        if self._claiming:
            self._look_again = True
            return
        take = self.reachable
        self.waiting = not take
        self._claiming = True
        self._look_again = False
        claiming = defer.Deferred.fromCoroutine(self.orders.store.claim(self.device, take))
        claiming.addCallbacks(self._claimed, self._not_claimed)
        claiming.addErrback(self._broken)

    def _claimed(self, claim: "Claim") -> None:
        self._claiming = False
        known = {run.order.id for run in self.watched}
        for record in claim.unsettled:
            if record["id"] not in known:
                self.orders.watch(self, record)
        if claim.order is None:
            self.waiting = claim.waiting > 0
            if self._look_again:
                self.kick()
            else:
                self.orders.tidy(self)
            return
        run = self.orders.restore(claim.record, Order.from_json(claim.order))
        self.current = run
        self._handed_over = False
        if self.session is None:
            self.apply(run, run.connection_lost(self.orders.now()))
            return
        self._prepare(run, claim, self.session)

    def _not_claimed(self, failure: Any) -> None:
        """Redis is away; `Orders` kicks again when it is back."""
        self._claiming = False
        self.waiting = True
        failure.trap(txredisapi.RedisError)

    def _broken(self, failure: Any) -> None:
        self.log.failure("an order for {device} could not be handled", failure, device=self.device)

    def _prepare(self, run: OrderRun, claim: "Claim", session: Session) -> None:
        """Check the order against what this lock understands, and begin to write it."""
        now = self.orders.now()
        try:
            checked = self.orders.check(run.order, session, claim)
            if lockout.blocks(claim.wrong_passwords, checked.spec):
                run.assign(checked.spec)
                self.apply(run, run.settle(now, OrderState.REJECTED, lockout.REASON))
                return
            self._rendered = run.prepare(checked, now, self.orders.supplied(claim))
        except InvalidOrder as error:
            self.apply(run, run.settle(now, OrderState.INVALID, str(error)))
            return
        self._write(run, session, claim.serial)

    def _write(self, run: OrderRun, session: Session, number: int) -> None:
        assert self._rendered is not None
        self._handed_over = False
        data, serial = wire.frame(self._rendered, session, number)
        step = run.writing(self.orders.now(), serial)
        if step.action is Action.WRITE:
            self.orders.publish(run, step, lambda recorded: self._hand_over(run, data, recorded))
        else:
            self.apply(run, step)

    def _hand_over(self, run: OrderRun, data: bytes, recorded: bool) -> None:
        """Redis knows that the bytes may be out from now on: let them out."""
        if self.current is not run or not run.in_flight:
            return
        now = self.orders.now()
        if not recorded:
            step = run.write_failed(now, "could not be recorded in Redis", nothing_written=True)
        elif self.session is not None and self.session.send(data):
            self._handed_over = True
            step = run.written(now)
        else:
            step = run.write_failed(now, "the connection was gone", nothing_written=True)
        self.apply(run, step)

    def apply(self, run: OrderRun, step: Step) -> None:
        """Publish what happened, and do what is to be done next."""
        self.orders.publish(run, step)
        if step.action is Action.REQUEUE:
            self.orders.requeue(run)
            self.waiting = True
        elif step.action is Action.RESEND:
            self._resend(run)
            return
        elif not run.ended and run.state is not OrderState.ACKNOWLEDGED:
            return
        if run is self.current:
            self.current = self._rendered = None
            if run.confirmable:
                self.watched.append(run)
                del self.watched[:-MAX_WATCHED]
            elif not run.ended:
                # The lock has said yes to an order that moves nothing; its data have still to come.
                self.current = run
                return
            self.kick() if self.session is not None else self.orders.tidy(self)
        elif run in self.watched and not run.confirmable:
            self.watched.remove(run)
            self.orders.tidy(self)

    def _resend(self, run: OrderRun) -> None:
        numbering = defer.Deferred.fromCoroutine(self.orders.store.next_serial(self.device))
        numbering.addCallbacks(lambda number: self._resent(run, number), self._not_numbered)
        numbering.addErrback(self._broken)

    def _resent(self, run: OrderRun, number: int) -> None:
        if run is self.current and not run.ended and self.session is not None:
            self._write(run, self.session, number)

    def _not_numbered(self, failure: Any) -> None:
        """Redis is away: the order's next deadline tries again."""
        failure.trap(txredisapi.RedisError)

    def hear(self, message: Message, moment: "Moment") -> Callable[[], None] | None:
        """What a message means for the orders here.

        Names the order in the message's events; gives what is to be done once they are on their way, so that
        consumers see cause before effect.
        """
        steps: list[tuple[OrderRun, Step]] = []
        now = moment.epoch
        runs = [run for run in (self.current, *self.watched) if run is not None]
        if (heard := hearing.as_reply(message)) is not None:
            reply, event = heard
            for run in runs:
                answer = run.match(reply)
                if answer is not None:
                    if event is not None:
                        event.command_id = run.order.id
                    steps.append((run, run.reply(answer, now)))
                    self.orders.count_wrong_passwords(run, answer)
                    break
        if runs and self.session is not None:
            for observation, lock_event in hearing.observations(message, self.session.lock_state):
                for run in runs:
                    step = run.observe(observation, now)
                    if step.transitions:
                        if lock_event is not None:
                            lock_event.command_id = run.order.id
                        steps.append((run, step))
                        break
        if not steps and not self.waiting:
            return None
        return lambda: self._heard(steps)

    def _heard(self, steps: list[tuple[OrderRun, Step]]) -> None:
        for run, step in steps:
            self.apply(run, step)
        if self.waiting:
            self.kick()

    def tick(self, now: float) -> None:
        """Time has passed."""
        for run in [run for run in (self.current, *self.watched) if run is not None]:
            due = run.next_deadline
            if due is not None and now >= due:
                self.apply(run, run.deadline(now))
        stale = [run for run in self.watched if self.orders.is_stale(run, now)]
        for run in stale:
            self.watched.remove(run)
        if stale:
            self.orders.tidy(self)
