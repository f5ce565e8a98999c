"""Orders that come many at a time: taken in side by side, but for those whose order matters."""

from tests.orders_bench import BenchTestCase
from tests.orders_support import new_device, new_id

MANY = 20


class SideBySideTests(BenchTestCase):
    def queue(self, device: str) -> list[bytes]:
        """What waits for a lock, in order."""
        return self.desk.redis.call("LRANGE", self.desk.key("commands", "waiting", device), 0, -1)

    def test_many_locks(self) -> None:
        """Orders for different locks don't wait for each other's round trips to Redis."""
        devices = [new_device() for _ in range(MANY)]
        orders = [self.desk.unlock(device) for device in devices]
        most = 0
        while self.node.step():
            most = max(most, len(self.node.wire.pending))
        self.assertGreaterEqual(most, MANY)
        for order, device in zip(orders, devices, strict=True):
            self.assertEqual(self.desk.state(order), "waiting")
            self.assertEqual(len(self.queue(device)), 1)
        self.assertEqual(self.desk.redis.call("EXISTS", self.desk.key("commands", "intake", "gw1")), 0)

    def test_one_lock(self) -> None:
        """Orders for one lock wait in the order in which they came, whatever comes between."""
        orders = []
        for _ in range(MANY):
            orders.append(self.desk.unlock(self.device))
            self.desk.unlock(new_device())
        self.node.run()
        queue = self.queue(self.device)
        self.assertEqual(len(queue), MANY)
        for order, entry in zip(orders, queue, strict=True):
            self.assertIn(f'"{order}"'.encode(), entry)

    def test_cancel(self) -> None:
        """An order can be taken back by one that is right behind it, also one that names another device."""
        for device in (self.device, new_device()):
            order = self.desk.unlock(self.device)
            cancel = self.desk.order(device, "cancel", {"id": order})
            again = self.desk.unlock(self.device)
            self.node.run()
            self.assertEqual(self.desk.state(order), "cancelled")
            self.assertEqual(self.desk.state(cancel), "done")
            self.assertEqual(self.desk.state(again), "waiting")

    def test_failure(self) -> None:
        """While an order can't be taken in those behind it wait if they are for its lock, and no others."""
        key = self.desk.key("commands", "waiting", self.device)
        self.desk.redis.call("SET", key, "in the way")
        first, second = self.desk.unlock(self.device), self.desk.unlock(self.device)
        other = self.desk.unlock(new_device())
        self.node.run()
        self.assertEqual(self.desk.state(other), "waiting")
        self.assertEqual((self.desk.state(first), self.desk.state(second)), ("", ""))
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.desk.redis.call("DEL", key)
        self.node.pass_time(1.0)
        for order, entry in zip((first, second), self.queue(self.device), strict=True):
            self.assertIn(f'"{order}"'.encode(), entry)

    def test_known_id_in_one_go(self) -> None:
        """Of two orders with one id that are taken in side by side, one is carried out."""
        order = new_id()
        devices = (self.device, new_device())
        for device in devices:
            self.desk.unlock(device, id=order)
        self.node.run()
        self.assertEqual(self.desk.states(order)[0], "queued")
        self.assertEqual(self.desk.states(order).count("queued"), 1)
        self.assertEqual(sorted(len(self.queue(device)) for device in devices), [0, 1])
