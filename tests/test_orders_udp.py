"""Orders over UDP: they go out right after a datagram, to where it came from."""

import socket

from tests.orders_support import UNLOCKED, OrderCase, lock_event


class DatagramTests(OrderCase):
    """A lock behind a mobile network's NAT, heard now and then."""

    options = ("--udp-window", "0.5")
    transport = "udp"

    def setUp(self) -> None:
        super().setUp()
        self.socket = self.address()

    def address(self) -> socket.socket:
        """A new address that datagrams may come from."""
        found = self.daemon.datagrams()
        self.addCleanup(found.close)
        return found

    def report(self, items: bytes = b"", status: int | None = None) -> list[bytes]:
        """Send a report; what comes back up to its answer, without that."""
        self.socket.send(self.lock.location(items) if status is None else self.lock.location(items, status))
        before = []
        while not (data := self.socket.recv(2000)).startswith(b"\x7e\x80\x01"):
            before.append(data)
        return before

    def play(self, order: str, raw: bytes) -> None:
        """Answer an unlock order and move."""
        serial = int(raw.split(b",")[2])
        self.socket.send(f"({self.device},1,{serial:03d},ELOCK,1,1)".encode())
        self.report(lock_event(), UNLOCKED)
        self.desk.wait(order, "confirmed")

    def test_at_once(self) -> None:
        """Within the window an order goes to the address that was heard last."""
        self.report()
        order = self.desk.unlock(self.device)
        self.play(order, self.socket.recv(2000))

    def test_waits_for_datagram(self) -> None:
        """Outside the window an order waits, and goes out right after the next datagram."""
        self.report()
        # The window is half a second.
        self.desk.redis.call("BLPOP", "nothing", "0.6")
        order = self.desk.unlock(self.device)
        self.desk.wait(order, "waiting")
        self.socket = self.address()
        early = self.report()
        self.play(order, early[0] if early else self.socket.recv(2000))
        self.assertEqual(self.desk.states(order)[:3], ["queued", "waiting", "sent"])

    def test_waits_for_lock(self) -> None:
        """An order for a lock that was never heard goes out after its first datagram."""
        order = self.desk.unlock(self.device)
        self.desk.wait(order, "waiting")
        early = self.report()
        self.play(order, early[0] if early else self.socket.recv(2000))

    def test_answer_from_new_address(self) -> None:
        """A lock that answers from another address has not moved: its order goes on."""
        self.report()
        order = self.desk.unlock(self.device)
        raw = self.socket.recv(2000)
        self.desk.wait(order, "sent")
        self.socket = self.address()
        self.play(order, raw)
        self.assertEqual(self.desk.states(order), ["queued", "sent", "acknowledged", "confirmed"])

    def test_not_repeated_outside_window(self) -> None:
        """What is to be repeated waits as well: for the next datagram."""
        self.report()
        order = self.desk.order(self.device, "text", {"text": "hello"}, timeout=1)
        first = self.socket.recv(2000)
        self.desk.wait(order, "waiting")
        early = self.report()
        second = early[0] if early else self.socket.recv(2000)
        self.assertNotEqual(first, second)
        serial = second[11:13]
        self.socket.send(self.lock.frame(0x0001, serial + b"\x83\x00\x00"))
        self.desk.wait(order, "done")
