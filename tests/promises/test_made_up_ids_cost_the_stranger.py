"""Unknown devices are admitted at a few a minute per address, without cost to others."""

from typing import Any

from twisted.internet import defer
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.new_device_limit import NewDeviceLimiter
from jt709c_gateway.gateway.policy import Policy
from tests.support.command_bench import BenchTestCase
from tests.support.committer import FakeLink, Fleet, events_in
from tests.vectors import binary


class Memory:
    """A Redis lookup of known devices that answers on request."""

    def __init__(self, *devices: str) -> None:
        self.devices = set(devices)
        self.asked: list[list[str]] = []
        self._waiting: list[tuple[list[str], defer.Deferred[Any]]] = []

    def known(self, devices: list[str]) -> Any:
        """Return a pending lookup."""
        self.asked.append(devices)
        answer: defer.Deferred[Any] = defer.Deferred()
        self._waiting.append((devices, answer))
        return answer

    def answer(self) -> None:
        """Answer all lookups."""
        while self._waiting:
            devices, answer = self._waiting.pop(0)
            answer.callback([device in self.devices for device in devices])


class NewcomersTests(SynchronousTestCase):
    """Six new devices a minute from an address."""

    def setUp(self) -> None:
        self.fleet = Fleet(Policy(max_new_devices=6))
        self.memory = Memory("600000000050", "600000000051")
        self.new_device_limiter = self.fleet.gateway.session_admission.new_device_limiter
        self.new_device_limiter.store = self.memory

    def come(self, *numbers: int, link: FakeLink | None = None, peer: str = "203.0.113.7:1000") -> FakeLink:
        """Devices of these numbers report, each over its own connection by default."""
        link = link or self.fleet.link(peer=peer)
        for number in numbers:
            self.fleet.feed(
                link, binary(0x0002, serial=number, wire=bytes.fromhex(f"{600000000000 + number}"))
            )
        return link

    def heard(self) -> list[int]:
        """Return the numbers of the admitted devices."""
        found = [one for one in events_in(self.fleet.commit()) if one["kind"] == "heartbeat"]
        return [one["serial"] for one in found]

    def later(self, seconds: float) -> list[int]:
        """Return the devices admitted within so many seconds."""
        self.fleet.clock.advance(seconds)
        self.fleet.gateway.sweep()
        return self.heard()

    def test_a_minutes_worth_at_once_and_the_others_as_time_goes_by(self) -> None:
        """A connection waits, unanswered and not read from; none of its bytes is lost."""
        links = [self.come(number) for number in range(9)]
        self.assertEqual(self.heard(), list(range(6)))
        self.assertEqual([link.reading for link in links], [True] * 6 + [False] * 3)
        self.assertEqual([link.closed for link in links], [[]] * 9)
        self.assertEqual(self.later(10), [6])
        self.assertEqual(self.later(20), [7, 8])
        self.assertEqual([link.reading for link in links], [True] * 9)
        self.assertGreater(self.new_device_limiter.delayed, 2)

    def test_many_over_one_connection(self) -> None:
        """Devices above the limit stay unanswered, and admitted ones are served."""
        link = self.come(*range(9))
        self.come(0, 1, link=link)
        self.assertEqual(self.heard(), [*range(6), 0, 1])
        self.assertEqual(self.fleet.gateway.counters.dropped["new_devices"], 3)
        self.assertEqual((link.reading, link.closed), (True, []))

    def test_datagrams(self) -> None:
        """Datagrams of devices above the limit are dropped, whatever their port."""
        links = [self.fleet.link("udp", f"203.0.113.7:{2000 + number}") for number in range(9)]
        for number, link in enumerate(links):
            self.come(number, link=link)
        self.assertEqual(self.heard(), list(range(6)))
        self.assertEqual([link.closed for link in links], [[]] * 6 + [["new_devices"]] * 3)

    def test_other_addresses(self) -> None:
        """Other addresses have their own limits; the addresses of one IPv6 network share one."""
        self.come(*range(9))
        self.come(20, peer="203.0.113.8:1000")
        for number in range(30, 39):
            self.come(number, peer=f"[2001:db8::{number}]:1000")
        self.assertEqual(self.heard(), [*range(6), 20, *range(30, 36)])

    def test_who_is_known_comes_at_once(self) -> None:
        """Above the limit Redis is asked about devices, and known ones are admitted at once."""
        self.come(*range(6))
        self.assertEqual(self.memory.asked, [])
        links = [self.come(number) for number in (50, 51, 52)]
        self.heard()
        self.memory.answer()
        self.assertEqual(self.later(2), [50, 51])
        self.assertEqual([link.reading for link in links], [True, True, False])
        self.assertLessEqual(len(self.memory.asked), 3)

    def test_who_was_here_comes_again(self) -> None:
        """A lock that reconnects is not a new device."""
        first = self.come(0)
        self.come(*range(1, 6))
        self.heard()
        first.close("idle")
        self.come(0)
        self.assertEqual(self.heard(), [0])

    def test_it_is_said_once(self) -> None:
        """The log names address and option once, not for each device."""
        with capturedLogs() as captured:
            for number in range(30):
                self.come(number)
        texts = [one["log_format"].format(**one) for one in captured]
        self.assertEqual(len(texts), 1)
        self.assertIn("203.0.113.7 (--max-new-devices)", texts[0])

    def test_nothing_grows(self) -> None:
        """However many addresses and devices there are, the memory is bounded."""
        for number in range(11_000):
            self.new_device_limiter.admits(f"10.{number >> 8 & 255}.{number & 255}.1:1", str(number), 0.0)
        self.assertLessEqual(len(self.new_device_limiter._left), 10_000)


class DefaultTests(SynchronousTestCase):
    def test_this_host(self) -> None:
        """By default a relay on this host brings any number; from elsewhere the default is 1,000."""
        new_device_limiter = NewDeviceLimiter(None)
        for peer, expected in (("127.0.0.1:1", 2000), ("[::1]:1", 2000), ("203.0.113.7:1", 1000)):
            found = sum(new_device_limiter.admits(peer, f"{peer}-{number}", 0.0) for number in range(2000))
            self.assertEqual(found, expected, peer)


class StoreTests(BenchTestCase):
    def test_known(self) -> None:
        """Redis knows the devices whose last state it has."""
        self.come()
        self.node.run()
        known: defer.Deferred[list[bool]] = defer.Deferred.fromCoroutine(
            self.node.dispatcher.context.store.known([self.device, "600000000000"])
        )
        self.node.run()
        self.assertEqual(self.successResultOf(known), [True, False])
