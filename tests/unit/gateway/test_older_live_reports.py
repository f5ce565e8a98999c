"""Live reports that are older than what is known: one is late, two in a row are a clock set back."""

from datetime import timedelta
from typing import Any

from jt709c_gateway.protocol import jt709
from jt709c_gateway.protocol.framing import Framer
from tests.support.committer import NOW, FakeLink, Teller
from tests.unit.gateway.test_lock_clock import ClockCase, batch
from tests.unit.redis.test_commit_script import DEVICE, LOW_BATTERY, report
from tests.vectors import location

OPEN = jt709.STATUS_MOTOR | jt709.STATUS_FIX
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


class OlderLiveReportTests(ClockCase):
    """A live report that is older than what is known, by a time that can be true."""

    def setUp(self) -> None:
        super().setUp()
        self.ports: dict[int, FakeLink] = {}

    def test_one_changes_nothing(self) -> None:
        self.say()
        self.say(ahead=-HOUR, status=OPEN, alarm_bits=LOW_BATTERY)
        self.assertEqual((self.state(), self.device()["alarms"]), ("locked", "[]"))
        self.assertEqual(self.script.events("alarm"), [])
        self.assertEqual(len(self.script.events("location")), 2)

    def test_two_in_a_row_count(self) -> None:
        """Then the clock was set back."""
        self.say()
        self.say(ahead=-HOUR, status=OPEN)
        self.say(ahead=-HOUR, status=OPEN, alarm_bits=LOW_BATTERY)
        self.assertEqual((self.state(), self.device()["alarms"]), ("unlocked", '["low_battery"]'))
        self.assertEqual(self.device()["clock_skew_s"], "-3600")
        for status, state in ((jt709.STATUS_FIX, "locked"), (OPEN, "unlocked")):
            self.say(ahead=-HOUR, status=status)
            self.assertEqual(self.state(), state)

    def test_two_in_a_row_that_come_at_once(self) -> None:
        """An event and a position of the same seconds, which a lock sends together."""
        self.say()
        self.say(ahead=-HOUR, status=OPEN)
        self.say(ahead=-HOUR + 2 * SECOND, status=OPEN, after=0.0)
        self.assertEqual(self.state(), "unlocked")

    def test_the_same_bytes_are_no_second_report(self) -> None:
        """A report that comes again, since it wasn't answered, shows no clock."""
        self.say()
        frame = report(77, time=NOW - HOUR, status=OPEN)
        for _ in range(3):
            self.commit(frame)
            self.teller.wall += 5 * SECOND
        self.assertEqual(self.state(), "locked")

    def test_a_backlog_changes_nothing(self) -> None:
        """Reports that were made half a minute apart and come all at once: what was kept is sent as live."""
        self.say()
        for age in range(1800, 30, -30):
            self.say(ahead=timedelta(seconds=-age), after=0.1, status=OPEN, alarm_bits=LOW_BATTERY)
            self.assertEqual(self.state(), "locked", age)
        self.assertEqual(self.script.events("alarm"), [])
        self.say(status=OPEN)
        self.assertEqual(self.state(), "unlocked")

    def test_a_backlog_newest_first(self) -> None:
        self.say()
        for age in range(1, 20):
            self.say(ahead=timedelta(seconds=-10 - age), after=0.1, status=OPEN)
            self.assertEqual(self.state(), "locked", age)

    def test_a_backlog_with_a_live_report_between_two(self) -> None:
        """These are no two in a row."""
        self.say()
        for _ in range(4):
            self.say(ahead=-HOUR, status=OPEN)
            self.assertEqual(self.state(), "locked")
            self.say()
            self.assertEqual(self.state(), "locked")

    def test_a_backlog_of_live_positions_in_one_message(self) -> None:
        """0x0704 of type 0: it is live, and counts when its newest does."""
        self.say()
        old = [location(time=NOW - HOUR + age * SECOND, status=OPEN) for age in range(0, 90, 30)]
        self.commit(batch(0, 70, *old))
        self.assertEqual(self.state(), "locked")
        self.teller.wall += 60 * SECOND
        self.commit(batch(0, 71, *old[:2], location(time=self.teller.wall - SECOND, status=OPEN)))
        self.assertEqual(self.state(), "unlocked")

    def reconnect(self, peer: str) -> None:
        self.teller.link = FakeLink(peer=peer)
        self.teller.link.connection = self.teller.gateway.open(self.teller.link)

    def test_one_on_each_of_many_links(self) -> None:
        """No two of them are in a row on one link: nobody's clock was set back."""
        self.say()
        for number in range(4):
            self.reconnect(f"192.0.2.{8 + number % 2}:50112")
            self.say(ahead=-HOUR, status=OPEN)
            self.assertEqual(self.state(), "locked")

    def test_one_on_each_of_two_gateways(self) -> None:
        self.say()
        self.say(ahead=-HOUR, status=OPEN)
        other = Teller("gw2", "192.0.2.8:50112")
        other.wall = self.teller.wall
        self.say(ahead=-HOUR, status=OPEN, teller=other)
        self.assertEqual(self.state(), "locked")

    def say_from(self, port: int, **said: Any) -> None:
        """The same in a datagram from some port; the gateway is told what Redis has said to each record."""
        teller = self.teller
        if port not in self.ports:
            self.ports[port] = FakeLink("udp", f"192.0.2.7:{port}")
            self.ports[port].connection = teller.gateway.open(self.ports[port])
        teller.wall += 30 * SECOND
        self.serial += 1
        ahead = said.pop("ahead", timedelta(0))
        frame = report(self.serial, time=(teller.wall + ahead).replace(microsecond=0), **said)
        self.ports[port].connection.received(Framer().feed(frame))
        while teller.sink.records:
            record = teller.sink.records.pop(0)
            written = self.script.commit([record.content]) == 0
            if record.then is not None:
                record.then(written)

    def test_datagrams_of_a_clock_that_was_set_back(self) -> None:
        """Two in a row from one port show it, as over TCP, whatever other ports have sent."""
        self.say_from(50112)
        for port in (50113, 50114):
            self.say_from(port, ahead=-HOUR, status=OPEN)
            self.assertEqual(self.state(), "locked")
        self.say_from(50113, ahead=-HOUR, status=OPEN)
        self.assertEqual(self.state(), "unlocked")

    def test_datagrams_from_changing_ports(self) -> None:
        """Behind a mobile network's NAT what was shown over one port holds for the next."""
        self.say_from(50112, ahead=-HOUR)
        for port, status, state in ((50113, OPEN, "unlocked"), (50114, jt709.STATUS_FIX, "locked")):
            self.say_from(port, ahead=-HOUR, status=status)
            self.assertEqual(self.state(), state)
        session = self.teller.gateway.sessions.get(DEVICE)
        self.assertEqual(session.origin.peer, "192.0.2.7:50114")

    def test_a_clock_that_is_known_to_be_back(self) -> None:
        """What one link has shown holds for the next one, from its first report on."""
        self.say()
        for _ in range(2):
            self.say(ahead=-HOUR)
        later = Teller("gw2")
        later.wall = self.teller.wall
        self.say(ahead=-HOUR, status=OPEN, teller=later)
        self.assertEqual(self.state(), "unlocked")

    def test_forward_and_back(self) -> None:
        """A clock that goes three hours ahead for a while counts all along."""
        for ahead in (timedelta(0), 3 * HOUR, 3 * HOUR, timedelta(0), timedelta(0), 3 * HOUR, timedelta(0)):
            for status, state in ((OPEN, "unlocked"), (jt709.STATUS_FIX, "locked")):
                self.say(ahead=ahead, status=status)
                self.assertEqual(self.state(), state, ahead)

    def test_back_and_forward(self) -> None:
        """One that is set back and right again misses one report, and makes up none."""
        self.say()
        self.say(ahead=-3 * HOUR, status=OPEN)
        self.assertEqual(self.state(), "locked")
        self.say(ahead=-3 * HOUR, status=OPEN)
        self.assertEqual(self.state(), "unlocked")
        for status, state in ((jt709.STATUS_FIX, "locked"), (OPEN, "unlocked"), (jt709.STATUS_FIX, "locked")):
            self.say(status=status)
            self.assertEqual(self.state(), state)

    def test_after_a_silent_month(self) -> None:
        """Its first report counts; what it had kept meanwhile doesn't."""
        self.say()
        self.say(after=30 * 86400, status=OPEN)
        self.assertEqual(self.state(), "unlocked")
        for days in range(29, 0, -1):
            self.say(ahead=timedelta(days=-days), after=0.1)
            self.assertEqual(self.state(), "unlocked", days)

    def test_after_a_silent_month_with_the_clock_standing(self) -> None:
        """The clock goes on from where it stopped: with the second report it is known."""
        self.say()
        for _ in range(2):
            self.say(ahead=timedelta(days=-30), after=30 * 86400 if self.serial < 2 else 60, status=OPEN)
        self.assertEqual(self.state(), "unlocked")
