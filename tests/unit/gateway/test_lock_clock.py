"""Locks whose clocks are wrong: what counts, when, and what is told of it (docs/redis.rst)."""

from datetime import UTC, datetime, timedelta
from typing import Any

from jt709c_gateway.protocol import jt709
from tests.support.committer import NOW, Teller
from tests.support.masters import FakeMaster, sublock_report
from tests.unit.redis.test_commit_script import LOW_BATTERY, ScriptCase, report
from tests.vectors import MOMENT, binary, location
from tests.vectors.lines import Line, case, one_test_each, sent

OPEN = jt709.STATUS_MOTOR | jt709.STATUS_FIX
ROLLOVER = timedelta(weeks=1024)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
MASTER, SUBLOCK = "8054201973", "E03B60000A"


def batch(kind: int, serial: int, *bodies: bytes) -> bytes:
    """A 0x0704 message: live positions (0) or stored ones (1)."""
    items = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
    return binary(0x0704, len(bodies).to_bytes(2, "big") + bytes([kind]) + items, serial)


class ClockCase(ScriptCase):
    def setUp(self) -> None:
        super().setUp()
        self.serial = 0

    def say(
        self,
        *,
        ahead: timedelta = timedelta(0),
        after: float = 30.0,
        teller: Teller | None = None,
        **changes: Any,
    ) -> None:
        """A live report, so long after the last one, by a clock that is so far ahead."""
        teller = teller or self.teller
        teller.wall += timedelta(seconds=after)
        self.serial += 1
        frame = report(self.serial, time=(teller.wall + ahead).replace(microsecond=0), **changes)
        self.assertEqual(self.script.commit(teller.contents(frame)), 0)

    def state(self) -> str:
        return self.device()["lock_state"]

    def skews(self) -> list[int | None]:
        """What each location told of the lock's clock."""
        return [one["clock_skew_s"] for one in self.script.events("location")]


@one_test_each([case("F2a"), case("F2b"), case("F2c")])
class ResetClockVectorTests(ScriptCase):
    """A clock that shows a time that can't be, after one that was right."""

    def check(self, line: Line) -> None:
        """The second report counts as of its arrival: its state, and the alarms that it raises."""
        self.teller.wall = datetime(2026, 3, 1, 8, 1, tzinfo=UTC)
        first, second = sent(line)
        self.commit(first)
        (name,) = {one["device"] for one in self.script.events("location")}
        self.assertEqual(self.script.events("alarm"), [])
        self.teller.wall += timedelta(minutes=5)
        self.commit(second)
        state = self.script.hash(self.keys.device(name))
        self.assertEqual(state["lock_state"], "unlocked")
        self.assertEqual(int(state["location_time"]), int(self.teller.wall.timestamp()))
        self.assertNotEqual(state["alarms"], "[]")
        self.assertTrue(self.script.events("alarm"))
        self.assertIsNone(self.script.events("location")[-1]["clock_skew_s"])


class TimesThatCannotBeTests(ClockCase):
    """A live report whose time can't be true counts as of its arrival."""

    def check_counts(self, time: datetime) -> None:
        self.say()
        self.commit(report(90, time=time, status=OPEN, alarm_bits=LOW_BATTERY))
        self.assertEqual(self.state(), "unlocked")
        self.assertEqual(int(self.device()["location_time"]), int(self.teller.wall.timestamp()))
        self.assertEqual([one["data"]["name"] for one in self.script.events("alarm")], ["low_battery"])

    def test_the_last_second_of_2014(self) -> None:
        self.check_counts(datetime(2014, 12, 31, 23, 59, 59, tzinfo=UTC))

    def test_the_first_second_that_a_lock_can_show(self) -> None:
        self.check_counts(datetime(2000, 1, 1, tzinfo=UTC))

    def test_a_day_and_a_second_ahead(self) -> None:
        self.check_counts(NOW + timedelta(days=1, seconds=31))

    def test_years_ahead(self) -> None:
        self.check_counts(NOW + timedelta(days=3650))

    def test_1024_weeks_back_exactly(self) -> None:
        self.check_counts(NOW + 30 * SECOND - ROLLOVER)

    def test_1024_weeks_back_when_that_is_after_2015(self) -> None:
        """In 2036 a rolled-over clock shows 2016, which a lock could have shown once."""
        self.teller.wall = datetime(2036, 8, 1, tzinfo=UTC)
        self.say()
        for off in (timedelta(0), timedelta(hours=8), timedelta(days=-1)):
            self.say(ahead=off - ROLLOVER, status=OPEN)
            self.assertEqual(self.state(), "unlocked", off)
            self.say()
            self.assertEqual(self.state(), "locked")

    def test_it_goes_on_for_ever(self) -> None:
        """Each report of such a clock counts, whether it runs or stands."""
        self.say()
        for number in range(6):
            self.say(ahead=-ROLLOVER, status=OPEN if number % 2 else jt709.STATUS_FIX)
            self.assertEqual(self.state(), "unlocked" if number % 2 else "locked")

    def test_it_is_right_again(self) -> None:
        """The first report of a clock that was reset and set right counts at once."""
        self.say()
        self.say(ahead=-ROLLOVER, status=OPEN)
        self.say()
        self.assertEqual(self.state(), "locked")

    def test_within_a_day_ahead(self) -> None:
        """Such a time can be that of a clock in another zone, and counts as of its arrival as well."""
        self.say(ahead=timedelta(hours=14), status=OPEN)
        self.assertEqual(int(self.device()["location_time"]), int(self.teller.wall.timestamp()))

    def test_a_stored_report_changes_nothing(self) -> None:
        """Whatever its time is."""
        self.say()
        before = {name: value for name, value in self.device().items() if name != "seen"}
        for serial, time in enumerate((NOW - ROLLOVER, NOW - HOUR, NOW + HOUR, NOW + timedelta(days=2)), 50):
            self.commit(batch(1, serial, location(time=time, status=OPEN)))
        self.assertEqual({name: value for name, value in self.device().items() if name != "seen"}, before)


class SkewTests(ClockCase):
    """`clock_skew_s`: in the events, and in the hash of the device."""

    def test_a_clock_that_is_right(self) -> None:
        self.say(ahead=-3 * SECOND)
        for late in (1, 2, 5, 1):
            self.say(ahead=timedelta(seconds=-late))
        self.assertEqual(set(self.skews()), {-3, -1} & set(self.skews()))
        self.assertLessEqual(abs(int(self.device()["clock_skew_s"])), 3)

    def test_ahead(self) -> None:
        """That a clock is ahead shows in the first report: nothing is reported before it happens."""
        self.say(ahead=8 * HOUR)
        self.say(ahead=8 * HOUR - SECOND)
        self.assertEqual(self.skews(), [28800, 28800])
        self.assertEqual(self.device()["clock_skew_s"], "28800")

    def test_behind(self) -> None:
        """That it is behind isn't known before the second: the first may have come late."""
        for _ in range(3):
            self.say(ahead=-90 * SECOND)
        self.assertEqual(self.skews(), [None, -90, -90])
        self.assertEqual(self.device()["clock_skew_s"], "-90")

    def test_unknown(self) -> None:
        """Null as long as no live report has shown it."""
        self.commit(binary(0x0002), batch(1, 2, location(time=NOW - HOUR)))
        self.assertEqual({one["clock_skew_s"] for one in self.script.events()}, {None})
        self.assertNotIn("clock_skew_s", self.device())

    def test_every_kind_of_event(self) -> None:
        """Alarms, lock events, stored reports and what has no time: by it all times are to be read."""
        self.say(ahead=8 * HOUR)
        card = bytes.fromhex("0b062200623a8900")
        self.say(ahead=8 * HOUR, items=card, alarm_bits=LOW_BATTERY)
        self.commit(binary(0x0002, serial=9), batch(1, 10, location(time=NOW + 7 * HOUR)))
        for kind in ("lock", "alarm", "heartbeat"):
            self.assertEqual([one["clock_skew_s"] for one in self.script.events(kind)], [28800], kind)
        self.assertEqual(self.skews(), [28800] * 3)

    def test_a_time_that_cannot_be_is_no_skew(self) -> None:
        self.say()
        self.say(ahead=-ROLLOVER)
        self.say()
        self.assertEqual(self.skews(), [0, None, 0])
        self.assertEqual(self.device()["clock_skew_s"], "0")

    def test_backlogs_teach_nothing(self) -> None:
        self.say()
        for age in (3600, 1800, 900):
            self.say(ahead=timedelta(seconds=-age), after=0.1)
        self.assertEqual(self.skews(), [0] * 4)

    def test_a_master(self) -> None:
        """`$` frames of a JT701 show its clock as well."""
        master = FakeMaster.__new__(FakeMaster)
        master.device, master._serial = MASTER, 0
        for _ in range(2):
            self.teller.wall += 30 * SECOND
            self.commit(master.location(at=self.teller.wall.timestamp() + 8 * 3600))
        self.assertEqual(self.skews(), [28800, 28800])
        self.assertEqual(self.script.hash(self.keys.device(MASTER))["clock_skew_s"], "28800")


class SubLockClockTests(ClockCase):
    """A sub-lock has a clock of its own."""

    def hear(self, at: datetime, status: int = 0, after: float = 30.0) -> None:
        self.teller.wall += timedelta(seconds=after)
        self.serial += 1
        frame = sublock_report(MASTER, SUBLOCK, 1, status, serial=self.serial, at=at.timestamp())
        self.commit(frame)

    def known(self) -> str:
        return self.script.hash(self.keys.peripheral(SUBLOCK))["lock_state"]

    def test_a_reset_clock(self) -> None:
        """Its reports count as of their arrival."""
        self.hear(NOW)
        self.hear(datetime(2000, 1, 1, 0, 5, tzinfo=UTC), 2)
        self.assertEqual(self.known(), "unlocked")
        self.hear(NOW - ROLLOVER)
        self.assertEqual(self.known(), "locked")

    def test_an_older_report(self) -> None:
        """One changes nothing; two in a row that go on from there count."""
        self.hear(NOW + 30 * SECOND)
        self.hear(NOW - HOUR, 2)
        self.assertEqual(self.known(), "locked")
        self.hear(NOW - HOUR + 30 * SECOND, 2)
        self.assertEqual(self.known(), "unlocked")


class VectorMomentTests(ClockCase):
    def test_the_recorded_moment_counts(self) -> None:
        """A report of minutes ago is the newest that is known, and so counts."""
        self.commit(report(1, time=MOMENT, status=OPEN))
        self.assertEqual(self.state(), "unlocked")
