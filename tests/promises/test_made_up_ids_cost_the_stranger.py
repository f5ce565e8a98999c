"""Devices that nobody has heard of come from one address a few a minute, and nobody else pays for that."""

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
    """What Redis knows; it answers when told."""

    def __init__(self, *devices: str) -> None:
        self.devices = set(devices)
        self.asked: list[list[str]] = []
        self._waiting: list[tuple[list[str], defer.Deferred[Any]]] = []

    def known(self, devices: list[str]) -> Any:
        """A question."""
        self.asked.append(devices)
        answer: defer.Deferred[Any] = defer.Deferred()
        self._waiting.append((devices, answer))
        return answer

    def answer(self) -> None:
        """Answer all of them."""
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
        """Devices of these numbers report, over a link of their own if none is given."""
        link = link or self.fleet.link(peer=peer)
        for number in numbers:
            self.fleet.feed(
                link, binary(0x0002, serial=number, wire=bytes.fromhex(f"{600000000000 + number}"))
            )
        return link

    def heard(self) -> list[int]:
        """The numbers of those that are heard now."""
        found = [one for one in events_in(self.fleet.commit()) if one["kind"] == "heartbeat"]
        return [one["serial"] for one in found]

    def later(self, seconds: float) -> list[int]:
        """Those that are heard so many seconds later."""
        self.fleet.clock.advance(seconds)
        self.fleet.gateway.sweep()
        return self.heard()

    def test_a_minutes_worth_at_once_and_the_others_as_time_goes_by(self) -> None:
        """A connection waits, unanswered and not read from; nothing of what it sends is lost."""
        links = [self.come(number) for number in range(9)]
        self.assertEqual(self.heard(), list(range(6)))
        self.assertEqual([link.reading for link in links], [True] * 6 + [False] * 3)
        self.assertEqual([link.closed for link in links], [[]] * 9)
        self.assertEqual(self.later(10), [6])
        self.assertEqual(self.later(20), [7, 8])
        self.assertEqual([link.reading for link in links], [True] * 9)
        self.assertGreater(self.new_device_limiter.delayed, 2)

    def test_many_over_one_connection(self) -> None:
        """What is too many is left unanswered, and those that are in are heard on."""
        link = self.come(*range(9))
        self.come(0, 1, link=link)
        self.assertEqual(self.heard(), [*range(6), 0, 1])
        self.assertEqual(self.fleet.gateway.counters.dropped["new_devices"], 3)
        self.assertEqual((link.reading, link.closed), (True, []))

    def test_datagrams(self) -> None:
        """Those of too many are let go, whatever port they come from."""
        links = [self.fleet.link("udp", f"203.0.113.7:{2000 + number}") for number in range(9)]
        for number, link in enumerate(links):
            self.come(number, link=link)
        self.assertEqual(self.heard(), list(range(6)))
        self.assertEqual([link.closed for link in links], [[]] * 6 + [["new_devices"]] * 3)

    def test_other_addresses(self) -> None:
        """They have their own; the addresses of one IPv6 network are one."""
        self.come(*range(9))
        self.come(20, peer="203.0.113.8:1000")
        for number in range(30, 39):
            self.come(number, peer=f"[2001:db8::{number}]:1000")
        self.assertEqual(self.heard(), [*range(6), 20, *range(30, 36)])

    def test_who_is_known_comes_at_once(self) -> None:
        """After a restart everybody comes back: Redis is asked only then, and all in one question."""
        self.come(*range(6))
        self.assertEqual(self.memory.asked, [])
        links = [self.come(number) for number in (50, 51, 52)]
        self.heard()
        self.memory.answer()
        self.assertEqual(self.later(2), [50, 51])
        self.assertEqual([link.reading for link in links], [True, True, False])
        self.assertLessEqual(len(self.memory.asked), 3)

    def test_who_was_here_comes_again(self) -> None:
        """A lock that reconnects is no new device."""
        first = self.come(0)
        self.come(*range(1, 6))
        self.heard()
        first.close("idle")
        self.come(0)
        self.assertEqual(self.heard(), [0])

    def test_it_is_said_once(self) -> None:
        """The log names address and option, and not again for each device."""
        with capturedLogs() as captured:
            for number in range(30):
                self.come(number)
        texts = [one["log_format"].format(**one) for one in captured]
        self.assertEqual(len(texts), 1)
        self.assertIn("203.0.113.7 (--max-new-devices)", texts[0])

    def test_nothing_grows(self) -> None:
        """However many addresses and devices there are, so many are remembered."""
        for number in range(11_000):
            self.new_device_limiter.admits(f"10.{number >> 8 & 255}.{number & 255}.1:1", str(number), 0.0)
        self.assertLessEqual(len(self.new_device_limiter._left), 10_000)


class DefaultTests(SynchronousTestCase):
    def test_this_host(self) -> None:
        """Unless it is set, a relay on this host brings any number; from elsewhere it is 1,000."""
        new_device_limiter = NewDeviceLimiter(None)
        for peer, expected in (("127.0.0.1:1", 2000), ("[::1]:1", 2000), ("203.0.113.7:1", 1000)):
            found = sum(new_device_limiter.admits(peer, f"{peer}-{number}", 0.0) for number in range(2000))
            self.assertEqual(found, expected, peer)


class StoreTests(BenchTestCase):
    def test_known(self) -> None:
        """Redis knows those that it keeps a last state of."""
        self.come()
        self.node.run()
        known: defer.Deferred[list[bool]] = defer.Deferred.fromCoroutine(
            self.node.dispatcher.context.store.known([self.device, "600000000000"])
        )
        self.node.run()
        self.assertEqual(self.successResultOf(known), [True, False])
