"""What crashes, outages and sleeping locks leave behind: every order still ends in a stated outcome."""

from attrs import define
from twisted.logger import Logger

from jt709c_gateway.commands.model import InvalidOrder
from jt709c_gateway.commands.waiting import from_waiting
from jt709c_gateway.redis.orders import Record

from . import complaints
from .orders import Orders


@define
class Recovery:
    """Ends, goes on with, or gives back orders that nobody has in mind any more."""

    log = Logger()

    orders: Orders

    async def expire(self) -> None:
        """End orders whose ttl has run out while their lock was away."""
        orders = self.orders
        now = orders.now()
        for order_id in await orders.store.due(now):
            payload, record = await orders.store.remove(order_id)
            if payload is not None:
                try:
                    order = from_waiting(payload)
                except InvalidOrder as error:
                    complaints.cast_out(orders, None, payload, record, error)
                    continue
                orders.held.add(order_id)
                run = orders.restore(record, order)
                if run.ended:
                    orders.release(run)
                else:
                    # Redis rounds; an order that it calls due is due.
                    orders.publish(run, run.deadline(max(now, run.next_deadline or now)))

    async def adopt(self, gateway: str, gone: bool = False) -> int:
        """Settle what a dead gateway had in hand; gives how many orders that were."""
        count = 0
        while taken := await self.orders.store.adopt(gateway, gone):
            for payload, record in taken:
                self._take_over(payload, record)
            count += len(taken)
            if gateway == self.orders.gateway.name:
                # Ours stay where they are until they are settled, so they would be found again.
                break
        return count

    async def reconcile(self) -> None:
        """Compare what is in our hands with what Redis says, after replies may have been lost.

        What it says and we don't know of was taken by a call whose reply was lost. What we have and it
        doesn't say was adopted by another gateway, which took us for dead.
        """
        orders = self.orders
        ours = set(orders.held)
        found = await orders.store.in_hand()
        lost = (ours & orders.held) - found.keys()
        for desk in list(orders.desks.values()):
            for run in [run for run in (desk.current, *desk.watched) if run is not None]:
                if run.order.id in lost and not run.ended:
                    desk.drop(run)
        orders.held -= lost
        for order_id in found.keys() - orders.held:
            self._take_over(found[order_id], await orders.store.record(order_id))

    def _take_over(self, payload: bytes, record: Record) -> None:
        try:
            order = from_waiting(payload)
        except InvalidOrder as error:
            complaints.cast_out(self.orders, None, payload, record, error)
            return
        if order.id in self.orders.held:
            return
        try:
            run = self.orders.restore(record, order)
        except ValueError as error:
            self.log.error("an order left behind can't be read: {reason}", reason=str(error))
            return
        self.orders.held.add(order.id)
        self.orders.desk(run.order.device).take_over(run)
        self.orders.serve(run.order.device)
