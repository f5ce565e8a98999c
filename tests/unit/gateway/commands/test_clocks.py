"""Evidence of locks whose clocks are wrong: gateways on clocks that the test moves."""

from datetime import UTC, datetime

from jt709c_gateway.protocol import jt709
from tests.support.command_bench import START, BenchTestCase
from tests.support.commands import UNLOCKED, FakeLock, lock_event
from tests.support.committer import FakeLink
from tests.support.masters import LORA, OPEN, FakeMaster, new_master, new_sublock, sublock_report
from tests.vectors import location
from tests.vectors.lines import Line, case, one_test_each


def p45(device: str, at: float, serial: int) -> bytes:
    """A JT701 was opened with its static password."""
    moment = datetime.fromtimestamp(at, UTC)
    fields = "22.55535,N,113.42276,E,A,0,15,4,1,0000000000,0,0"
    return f"({device},P45,{moment:%d%m%y,%H%M%S},{fields},{serial},58)".encode()


class SkewedCase(BenchTestCase):
    """A lock whose clock is `ahead` seconds ahead."""

    ahead = 0.0

    def now(self) -> float:
        return START + self.node.clock.seconds()

    def frame(self, items: bytes = b"", status: int = jt709.STATUS_FIX, age: float = 0.0) -> bytes:
        """What the lock reports of `age` seconds ago."""
        return self.lock.location(items, status, self.now() + self.ahead - age)

    def come_skewed(self) -> None:
        self.link = self.node.link()
        self.node.feed(self.link, self.frame())
        self.node.run()

    def write(self, answered: bool = True) -> str:
        """An unlock command is written, and the lock says yes or nothing."""
        command = self.client.unlock(self.device, timeout=2.0)
        self.node.pass_time(0.5)
        (data,) = self.written(self.link)
        if answered:
            serial = int(data.split(b",")[2])
            self.node.feed(self.link, f"({self.device},1,{serial:03d},ELOCK,1,1)".encode())
            self.node.run()
            self.assertEqual(self.client.state(command), "acknowledged")
        else:
            self.node.pass_time(3.0)
            self.assertEqual(self.client.state(command), "uncertain")
        return command

    def opens(self, age: float = 0.0) -> None:
        self.node.feed(self.link, self.frame(lock_event(), UNLOCKED, age))
        self.node.run()


@one_test_each([case("F5a")])
class SkewedClockVectorTests(SkewedCase):
    def check(self, line: Line) -> None:
        """However far the clock is off: the event came on the link after the bytes were written."""
        for skew in (0, -90, 28800, -28800, -86400 * 30, 50400, -3, 7, -10, -25):
            self.lock = FakeLock(f"7943{skew + 90000000:08d}"[:12])
            self.device = self.lock.device
            self.ahead = skew
            self.come_skewed()
            command = self.write()
            self.opens()
            self.assertEqual(self.client.state(command), "confirmed", (line.name, skew))

    def test_all_in_one_second(self) -> None:
        """The lock is so fast that all of it bears the same time."""
        self.ahead = -90.0
        self.come_skewed()
        command = self.client.unlock(self.device)
        self.node.run()
        self.opens()
        self.assertEqual(self.client.state(command), "confirmed")

    def test_a_clock_that_cannot_be(self) -> None:
        """A reset clock says nothing of when it was: the event counts as of its arrival."""
        self.ahead = -START
        self.come_skewed()
        command = self.write()
        self.opens()
        self.assertEqual(self.client.state(command), "confirmed")

    def test_known_from_an_earlier_link(self) -> None:
        """The first report over a new link, which comes after the command's bytes."""
        self.ahead = -90.0
        self.come_skewed()
        for _ in range(2):
            self.node.pass_time(10.0)
            self.node.feed(self.link, self.frame())
        self.node.run()
        self.link.close("closed")
        self.node.run()
        self.link = self.node.link()
        self.node.feed(self.link, self.lock.frame(0x0002))
        command = self.write()
        self.opens()
        self.assertEqual(self.client.state(command), "confirmed")


class OneMovementTests(SkewedCase):
    """Two unlocks, both acknowledged, and one movement."""

    def states(self) -> list[str]:
        return [self.client.state(one) for one in self.commands]

    def test_event_and_later_state(self) -> None:
        """A P45 and, in a message of its own, the state that it led to are one movement."""
        self.lock = FakeLock(new_master())
        self.device = self.lock.device
        self.come_skewed()
        self.commands = [self.write()]
        self.link.sent.clear()
        self.commands.append(self.write())
        self.node.feed(self.link, p45(self.device, self.now(), 7))
        self.node.run()
        self.node.pass_time(3.0)
        self.node.feed(self.link, self.frame(status=UNLOCKED))
        self.node.run()
        self.assertEqual(self.states(), ["confirmed", "acknowledged"])

    def test_second_movement(self) -> None:
        """After it was locked again, the next opening is another one."""
        self.test_event_and_later_state()
        self.node.pass_time(3.0)
        self.node.feed(self.link, self.frame())
        self.node.pass_time(3.0)
        self.node.feed(self.link, self.frame(status=UNLOCKED))
        self.node.run()
        self.assertEqual(self.states(), ["confirmed", "confirmed"])


@one_test_each([case("F5b")])
class OlderMovementTests(SkewedCase):
    def check(self, line: Line) -> None:
        """An opening of a minute before the command, told after it."""
        self.lock = FakeLock(new_master())
        self.device = self.lock.device
        self.link = self.node.link()
        self.node.feed(self.link, f"({self.device},@JT)".encode())
        command = self.client.unlock(self.device, timeout=1.0)
        self.node.pass_time(0.5)
        written = self.now()
        self.node.pass_time(3.0)
        self.assertEqual(self.client.state(command), "uncertain")
        for serial, age in enumerate((60, 30, 10), 1):
            self.node.feed(self.link, p45(self.device, written - age, serial))
            self.node.run()
            self.assertEqual(self.client.state(command), "uncertain", (line.name, age))
        self.node.feed(self.link, p45(self.device, written + 2, 9))
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")

    def test_whatever_the_clock(self) -> None:
        """A movement of before the command proves nothing, as soon as the clock is known."""
        for skew in (0, -90, 28800, -7200):
            self.lock = FakeLock(f"7953{skew + 90000000:08d}"[:12])
            self.device = self.lock.device
            self.ahead = skew
            self.come_skewed()
            self.node.pass_time(30.0)
            self.node.feed(self.link, self.frame())
            command = self.write(answered=False)
            for age in (90.0, 60.0, 30.0, 12.0):
                self.opens(age)
                self.assertEqual(self.client.state(command), "uncertain", (skew, age))
            self.opens()
            self.assertEqual(self.client.state(command), "confirmed", skew)

    def test_a_status_of_before(self) -> None:
        """A backlog that shows the lock open is no change of now, and no state to change from."""
        self.come_skewed()
        command = self.write(answered=False)
        self.node.feed(self.link, self.frame(status=UNLOCKED, age=600.0))
        self.node.feed(self.link, self.frame())
        self.node.run()
        self.assertEqual(self.client.state(command), "uncertain")
        self.node.feed(self.link, self.frame(status=UNLOCKED))
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")

    def test_a_stored_report(self) -> None:
        """It counts by its corrected time; one that doesn't tell when it was made proves nothing."""
        self.ahead = 28800.0
        self.come_skewed()
        command = self.write(answered=False)

        for at in (self.now() - START, self.now() + self.ahead - 60.0):
            self.lock._serial += 1
            self.node.feed(self.link, self.lock.frame(0x0704, _memory(at)))
            self.node.run()
            self.assertEqual(self.client.state(command), "uncertain", at)
        self.node.feed(self.link, self.lock.frame(0x0704, _memory(self.now() + self.ahead - 1.0)))
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")


def _memory(at: float) -> bytes:
    """A 0x0704 body with one stored opening."""
    moment = datetime.fromtimestamp(at, UTC).replace(microsecond=0)
    item = location(lock_event(), status=UNLOCKED, time=moment)
    return b"\x00\x01\x01" + len(item).to_bytes(2, "big") + item


class SubLockTests(SkewedCase):
    """A sub-lock's events go by its own clock."""

    def test_skewed(self) -> None:
        for skew in (0, -90, 28800):
            self.lock = FakeMaster(new_master())
            self.device, sublock = self.lock.device, new_sublock()
            link = self.node.link()

            def hear(
                event: int,
                status: int,
                serial: int,
                skew: int = skew,
                link: FakeLink = link,
                sublock: str = sublock,
            ) -> None:
                at = self.now() + skew
                frame = sublock_report(self.device, sublock, event, status, serial=serial, at=at)
                self.node.feed(link, frame)
                self.node.run()

            hear(1, 0, 1)
            command = self.client.command(self.device, "sublock_unlock", {"id": sublock})
            self.node.pass_time(2.0)
            hear(LORA, OPEN, 2)
            self.assertEqual(self.client.state(command), "confirmed", skew)
