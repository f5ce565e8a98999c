"""What crashes, outages and sleeping locks leave behind: every order still ends in a stated outcome."""

from collections.abc import Collection

from attrs import define
from twisted.logger import Logger

from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.waiting import from_waiting
from jt709c_gateway.gateway.commands import rejections
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store import SESSIONS_AT_ONCE
from jt709c_gateway.redis.command_store_types import Record


@define
class CommandRecovery:
    """Ends, goes on with, or gives back orders that nobody has in mind any more."""

    log = Logger()

    orders: CommandDispatcher

    async def adopt(self, gateway: str, said: bytes = b"") -> int:
        """Settle what a dead gateway had in hand; gives how many orders that were.

        `said` is what its liveness says when it is known to be gone all the same. Under our own name these
        are the orders of earlier runs.
        """
        count = 0
        while taken := await self.orders.store.adopt(gateway, said):
            for payload, record in taken:
                self._take_over(payload, record)
            count += len(taken)
        return count

    async def end_sessions(self, gateway: str, gone: bool = False) -> None:
        """Say offline for the locks that a dead gateway had, but for those that are somewhere by now."""
        orders, cursor = self.orders, None
        while cursor != "0":
            devices, cursor = await orders.store.online_at(gateway, cursor or "0")
            for device in devices:
                orders.gateway.presence.lost(device, gateway, gone)
            if devices:
                await orders.committed(devices[-1])

    async def check_sessions(self, devices: Collection[str]) -> None:
        """Let go of sessions and orders that are elsewhere by now; affirm sessions that Redis has lost."""
        gateway = self.orders.gateway
        ours = [gateway.sessions.get(device) for device in devices]
        sessions = [session for session in ours if session is not None and session.stored]
        tokens = await self.orders.store.tokens([session.device for session in sessions])
        for session, token in zip(sessions, tokens, strict=True):
            if gateway.sessions.get(session.device) is not session:
                continue
            if token is None:
                gateway.presence.affirm(session)
            elif token != session.token:
                had_orders = session.desk is not None
                gateway.presence.moved_away(session)
                if had_orders:
                    self._tell_when_settled(session.device)
        for device in devices:
            if (desk := self.orders.desks.get(device)) is not None:
                await desk.drop_moved()

    def _tell_when_settled(self, device: str) -> None:
        self.orders.after_commit(device, lambda written: self.orders.tell_holder(device))

    async def affirm_sessions(self) -> None:
        """Make sure of all our sessions, after we could be taken for dead."""
        gateway = self.orders.gateway
        sessions: list[Session] = [session for session in gateway.sessions if session.stored]
        for start in range(0, len(sessions), SESSIONS_AT_ONCE):
            for session in sessions[start : start + SESSIONS_AT_ONCE]:
                if gateway.sessions.get(session.device) is session:
                    gateway.presence.affirm(session)
            await self.orders.committed(sessions[start].device)

    async def reconcile(self) -> None:
        """Compare what is in our hands with what Redis says, after replies may have been lost.

        What it says and we don't know of was taken by a call whose reply was lost. What we have and it
        doesn't say was adopted by another gateway, which took us for dead.
        """
        orders = self.orders
        ours = dict(orders.held)
        found = await orders.store.in_hand()
        lost = {
            order_id
            for order_id, token in ours.items()
            if orders.held.get(order_id) == token
            and (order_id not in found or found[order_id].token != token)
        }
        for desk in list(orders.desks.values()):
            for run in [run for run in (desk.current, *desk.watched) if run is not None]:
                if run.order.id in lost and not run.ended:
                    desk.drop(run)
        for order_id in lost:
            orders.held.pop(order_id, None)
        for order_id in found.keys() - orders.held.keys():
            record = await orders.store.record(order_id)
            if record.get("holder") == orders.store.holder:
                self._take_over(found[order_id].order, record)

    def _take_over(self, payload: bytes, record: Record) -> None:
        try:
            order = from_waiting(payload)
        except InvalidCommand as error:
            rejections.cast_out(self.orders, None, payload, record, error)
            return
        if self.orders.held.get(order.id) == int(record.get("token") or 0):
            return
        if not record.get("state"):
            # Whether it was written is not known any more, so it can't be carried out.
            self.log.error("order {id} was left behind without a record; it is dropped", id=order.id)
            self.orders.submit(order.device, None, self.orders.store.forget_writes(order.id))
            return
        try:
            run = self.orders.restore(record, order)
        except ValueError as error:
            self.log.error("an order left behind can't be read: {reason}", reason=str(error))
            return
        self.orders.take(order.id, record)
        self.orders.desk(run.order.device).take_over(run)
        self.orders.serve(run.order.device)
