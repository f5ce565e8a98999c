"""Seal reports: what happened to a lock, as its audit trail tells it, and what that does not tell."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.reports.report_types import LockReport
from jt709c_gateway.reports.seal_report import lock_report
from jt709c_gateway.reports.trail import LockData, Period
from jt709c_gateway.util.timestamps import iso

DEVICE = "794308010001"
DAY = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
PERIOD = Period(DAY, DAY + 86400)
NOW = DAY + 90000
HOUR = 3600.0


def event(kind: str, hour: float, came: float | None = None, skew: int | None = 0, **data: Any) -> Any:
    """Return an event of an hour of the day, that came then or later."""
    envelope = {name: data.pop(name) for name in ("stored", "repeats") if name in data}
    at = None if kind == "command" else iso(DAY + hour * HOUR + (skew or 0))
    received = iso(DAY + (hour if came is None else came) * HOUR)
    fields = {"kind": kind, "device": DEVICE, "received_at": received, "clock_skew_s": skew, "stored": False}
    return {**fields, **envelope, "data": {"time": at, **data}}


def lock(hour: float, action: str, method: str = "card", **more: Any) -> Any:
    """Return an opening or a closing."""
    return event("lock", hour, action=action, method=method, **more)


def command(hour: float, state: str, name: str = "c1", **more: Any) -> Any:
    """Return a state of a command."""
    created = {"created_at": iso(DAY + hour * HOUR - 1), "sent_at": iso(DAY + hour * HOUR)}
    known = {"id": name, "command": "unlock", "state": state, "physical": True, "issued_by": "anna"}
    return event("command", hour, **{**known, **created, **more})


def track(begin: float, end: float, every: float = 0.1) -> list[tuple[float, float, float]]:
    """Return positions from one hour of the day to another."""
    count = round((end - begin) / every)
    return [(DAY + (begin + number * every) * HOUR, 51.9, 4.4 + number / 1000) for number in range(count + 1)]


def report(*events: Any, **more: Any) -> LockReport:
    """Report on the day; the trail reaches back, and the lock is heard, unless `more` says otherwise."""
    known = {"track": track(-1, 25), "seen": NOW, "reaches_back": True}
    return lock_report(LockData(DEVICE, events, **{**known, **more}), PERIOD, NOW, HOUR)


class StoryTests(SynchronousTestCase):
    """What a person would tell of the day."""

    def kinds(self, found: LockReport) -> list[str]:
        return [one.kind for one in found.entries]

    def codes(self, found: LockReport) -> list[str]:
        return [one.code for one in found.not_known]

    def test_a_quiet_day(self) -> None:
        """Nothing happened, and that is known."""
        found = report(lock(-3, "locked", "automatic"))
        self.assertEqual((found.entries, found.not_known), ([], []))
        self.assertEqual((found.state_at_begin, found.state_at_end), ("closed", "closed"))

    def test_a_trail_that_begins_later(self) -> None:
        """An empty beginning of a trimmed trail is not a quiet one."""
        found = report(lock(10, "unlocked", card="0308"), reaches_back=False)
        self.assertEqual(self.codes(found), ["trail_begins"])
        self.assertEqual((found.not_known[0].begin, found.not_known[0].end), (iso(DAY), iso(DAY + 10 * HOUR)))
        self.assertIsNone(found.state_at_begin)

    def test_no_trail(self) -> None:
        """Without a trail nothing is known."""
        found = report(reaches_back=False)
        self.assertEqual((found.entries, self.codes(found)), ([], ["no_trail"]))

    def test_opened_by_card_and_closed(self) -> None:
        """Who, how, where, and for how long it was open."""
        opened = lock(10, "unlocked", card="0308010002", latitude=51.5, longitude=4.25)
        found = report(lock(-3, "locked"), opened, lock(10.5, "locked", "automatic"))
        first, second = found.entries
        self.assertEqual((first.kind, first.by, first.seconds), ("opened", "card 0308010002", 1800))
        assert first.place is not None and second.place is not None
        self.assertEqual((first.place.latitude, first.place.age_s, first.place.source), (51.5, 0.0, "event"))
        self.assertEqual((second.kind, second.by), ("closed", "the lock itself"))
        self.assertEqual(second.place.source, "track")
        self.assertLess(second.place.age_s, 0.1 * HOUR)
        self.assertEqual((found.counts.opened, found.counts.open_seconds), (1, 1800.0))
        self.assertEqual(first.until, second.at)

    def test_unlock_by_command_confirmed(self) -> None:
        """The opening has its command: issuer, key, reason, evidence; the command is no entry of its own."""
        evidence = {"kind": "lock", "action": "unlocked", "method": "password"}
        found = report(
            command(9, "queued"),
            lock(9.01, "unlocked", "password", command_id="c1"),
            command(9.01, "confirmed", evidence=evidence, key="k1"),
        )
        [entry] = found.entries
        assert entry.command is not None
        self.assertEqual((entry.kind, entry.by, entry.command.key), ("opened", "anna", "k1"))
        self.assertEqual((entry.command.state, entry.command.evidence), ("confirmed", evidence))

    def test_confirmed_by_a_change_of_state(self) -> None:
        """An opening without a lock event is in the report by the evidence for its command."""
        evidence = {"kind": "status", "lock_state": "unlocked", "previous": "locked"}
        found = report(
            command(9, "sent"), command(9.1, "confirmed", evidence=evidence, confirmed_at=iso(DAY + 9 * HOUR))
        )
        self.assertEqual((self.kinds(found), found.entries[0].by), (["opened"], "anna"))
        self.assertIn("no lock event is kept", found.entries[0].remarks[0])
        self.assertEqual(found.state_at_end, "open")

    def test_unlocks_without_evidence(self) -> None:
        """Commands that may have opened the lock are entries; what moves nothing is none."""
        found = report(
            command(8, "unconfirmed", "c1", reason="no report shows it"),
            command(9, "uncertain", "c2", reason="the connection was lost"),
            command(10, "done", "c3", physical=False, command="locate"),
            command(11, "expired", "c4", sent_at=None, ended_at=iso(DAY + 11 * HOUR)),
            command(12, "invalid", "c5", physical=None, command="nonsense"),
        )
        states = [(one.kind, one.command and one.command.state, one.at) for one in found.entries]
        self.assertEqual(
            states,
            [
                ("command", "unconfirmed", iso(DAY + 8 * HOUR)),
                ("command", "uncertain", iso(DAY + 9 * HOUR)),
                ("command", "expired", iso(DAY + 11 * HOUR)),
            ],
        )
        self.assertEqual((found.counts.commands, found.counts.opened, found.state_at_end), (3, 0, None))

    def test_late_evidence(self) -> None:
        """An uncertain unlock that a report from the memory confirms is an opening at the lock's time."""
        found = report(
            command(9, "uncertain"),
            lock(9.02, "unlocked", "password", came=13, stored=True, command_id="c1"),
            command(13, "confirmed"),
        )
        [entry] = found.entries
        self.assertEqual((entry.kind, entry.at), ("opened", iso(DAY + 9.02 * HOUR)))
        self.assertEqual((entry.received_at, entry.stored), (iso(DAY + 13 * HOUR), True))
        self.assertEqual(entry.delay_s, round(3.98 * HOUR, 3))

    def test_opened_while_away(self) -> None:
        """An opening that was reported the next day is in the report of its own day."""
        opened = lock(23, "unlocked", came=24.5, stored=True)
        found = report(opened)
        self.assertEqual((self.kinds(found), found.earlier), (["opened"], 0))
        next_day = Period(PERIOD.end, PERIOD.end + 86400)
        known = LockData(DEVICE, [opened], track(-1, 25), reaches_back=True, seen=NOW)
        later = lock_report(known, next_day, NOW, HOUR)
        self.assertEqual((self.kinds(later), later.earlier), ([], 1))
        self.assertEqual(later.state_at_begin, "open")

    def test_two_openings_without_a_closing(self) -> None:
        """The second one says so; only the last has the closing."""
        first, second, _ = report(lock(8, "unlocked"), lock(9, "unlocked"), lock(10, "locked")).entries
        self.assertEqual((first.until, second.seconds), (None, 3600.0))
        self.assertEqual(first.remarks, ["no closing that belongs to it was reported"])
        self.assertEqual(second.remarks, ["it was opened before, and no closing was reported since"])

    def test_two_closings(self) -> None:
        found = report(lock(8, "unlocked"), lock(9, "locked"), lock(10, "locked"))
        self.assertEqual(
            found.entries[2].remarks, ["it was closed before, and no opening was reported since"]
        )

    def test_still_open(self) -> None:
        found = report(lock(8, "unlocked"))
        self.assertEqual((found.state_at_end, found.entries[0].until), ("open", None))

    def test_sublocks(self) -> None:
        """A sub-lock's closing does not end its master's opening."""
        found = report(
            lock(8, "unlocked"),
            lock(8.5, "unlocked", "lora", peripheral="E03B60000A"),
            lock(9, "locked", peripheral="E03B60000A"),
            lock(10, "locked"),
        )
        self.assertEqual([one.seconds for one in found.entries], [2 * HOUR, 0.5 * HOUR, None, None])
        self.assertEqual([one.sublock for one in found.entries], [None, "E03B60000A", "E03B60000A", None])

    def test_rope_cut(self) -> None:
        """The alarm with its place, and when it cleared; only what begins is counted."""
        found = report(
            event("alarm", 9, name="rope_cut", active=True, latitude=51.0, longitude=4.0),
            event("alarm", 9.5, name="rope_cut", active=False, latitude=None, longitude=None),
        )
        self.assertEqual(self.kinds(found), ["alarm", "alarm_cleared"])
        self.assertEqual((found.entries[0].alarm, found.counts.alarms), ("rope_cut", 1))

    def test_refused(self) -> None:
        found = report(lock(9, "refused", card="0001"))
        self.assertEqual((self.kinds(found), found.counts.refused), (["refused"], 1))
        self.assertIsNone(found.state_at_end)

    def test_a_report_that_came_twice(self) -> None:
        """It is one opening; when the first report is no longer kept, the second one counts."""
        twice = lock(9, "unlocked", came=9.4, repeats=17)
        self.assertEqual(len(report(lock(9, "unlocked"), twice).entries), 1)
        self.assertEqual(len(report(twice).entries), 1)

    def test_clocks(self) -> None:
        """A skew is corrected; an impossible or future time is replaced by that of receipt, which is said."""
        ahead = report(lock(9, "unlocked", skew=7200)).entries[0]
        self.assertEqual((ahead.at, ahead.time_of), (iso(DAY + 9 * HOUR), "lock"))
        for time in (None, "1980-01-06T00:00:00Z", iso(DAY + 20 * HOUR), "nonsense", 5):
            entry = report(lock(9, "unlocked", skew=None, time=time)).entries[0]
            self.assertEqual((entry.at, entry.time_of), (iso(DAY + 9 * HOUR), "receipt"))
            self.assertIn("no usable time", entry.remarks[0])

    def test_a_command_that_is_forgotten(self) -> None:
        [entry] = report(lock(9, "unlocked", "password", command_id="c9")).entries
        assert entry.command is not None
        self.assertEqual(entry.command.id, "c9")
        self.assertIn("no longer kept", entry.remarks[0])

    def test_gaps(self) -> None:
        """A span without any record is a gap, whole also where it crosses the ends of the period."""
        positions = [*track(-2, -1), *track(3, 10), *track(12, 25)]
        found = report(lock(-3, "locked"), track=positions)
        spans = [(one.at, one.until, one.seconds) for one in found.entries]
        self.assertEqual(
            spans,
            [
                (iso(DAY - HOUR), iso(DAY + 3 * HOUR), 4 * HOUR),
                (iso(DAY + 10 * HOUR), iso(DAY + 12 * HOUR), 2 * HOUR),
            ],
        )

    def test_not_heard_since(self) -> None:
        """A lock that went silent may yet report what happened."""
        found = report(lock(-3, "locked"), track=track(-1, 8), seen=DAY + 8 * HOUR)
        self.assertEqual(self.codes(found), ["not_heard"])
        [entry] = found.entries
        self.assertEqual((entry.kind, entry.until, entry.seconds), ("gap", None, NOW - DAY - 8 * HOUR))

    def test_a_short_track(self) -> None:
        """Where positions have been trimmed, or there are none, gaps can't be told."""
        trimmed = report(lock(-3, "locked"), track=track(20, 25))
        self.assertEqual((trimmed.entries, self.codes(trimmed)), ([], ["track_begins"]))
        self.assertEqual(self.codes(report(lock(-3, "locked"), track=[])), ["no_track"])

    def test_the_period_is_not_over(self) -> None:
        events, seen = [lock(-3, "locked")], DAY + 12 * HOUR
        known = LockData(DEVICE, events, track(-1, 12), seen=seen, reaches_back=True)
        found = lock_report(known, PERIOD, DAY + 12 * HOUR, HOUR)
        self.assertEqual(([], ["not_over"]), (found.entries, self.codes(found)))

    def test_a_state_without_an_event(self) -> None:
        """A lock that is open although its last event is a closing: an opening is missing."""
        events = [lock(8, "unlocked"), lock(9, "locked")]
        today = Period(DAY, NOW)
        for state, codes in (("unlocked", ["state_differs"]), ("locked", []), (None, [])):
            known = LockData(DEVICE, events, track(-1, 25), seen=NOW, lock_state=state, reaches_back=True)
            found = lock_report(known, today, NOW, HOUR)
            self.assertEqual(self.codes(found), codes)
        self.assertEqual(self.codes(report(*events, lock_state="unlocked")), [])

    def test_too_many(self) -> None:
        found = report(lock(9, "unlocked"), reaches_back=False, read_from=DAY + 8 * HOUR, unreadable=3)
        self.assertEqual(self.codes(found), ["too_many", "unreadable"])


_SOME = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
_TIMES = st.floats(-30, 30).map(lambda hour: iso(DAY + hour * HOUR)) | _SOME
_DATA = st.fixed_dictionaries(
    {},
    optional={
        "time": _TIMES,
        "action": st.sampled_from(["unlocked", "locked", "refused", "unknown"]) | _SOME,
        "method": st.sampled_from(["card", "password"]) | _SOME,
        "card": _SOME,
        "peripheral": st.sampled_from([None, "E03B60000A"]),
        "latitude": st.floats(-90, 90) | _SOME,
        "longitude": st.floats() | _SOME,
        "command_id": st.sampled_from(["c1", "c2"]) | _SOME,
        "id": st.sampled_from(["c1", "c2"]) | _SOME,
        "state": st.sampled_from(["queued", "sent", "confirmed", "uncertain"]) | _SOME,
        "physical": _SOME,
        "sent_at": _TIMES,
        "evidence": st.dictionaries(st.text(max_size=3), _SOME, max_size=2) | _SOME,
        "name": _SOME,
        "active": _SOME,
    },
)
_EVENTS = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["lock", "alarm", "command", "other"]), "received_at": _TIMES},
        optional={"data": _DATA | _SOME, "stored": _SOME, "repeats": _SOME, "clock_skew_s": _SOME},
    ),
    max_size=12,
)


class AnyTrailTests(SynchronousTestCase):
    """Whatever a trail has."""

    @settings(max_examples=60, deadline=None)
    @given(_EVENTS, st.lists(st.floats(-30, 30), max_size=6), st.none() | st.floats(-30, 25), st.booleans())
    def test_always_a_report(
        self, events: list[Any], hours: list[float], seen: float | None, back: bool
    ) -> None:
        """It has every opening of the period once, in order of time, and says so when nothing is known."""
        positions = [(DAY + hour * HOUR, 1.0, 2.0) for hour in hours]
        heard = None if seen is None else DAY + seen * HOUR
        data = LockData(DEVICE, events, positions, seen=heard, reaches_back=back)
        found = lock_report(data, PERIOD, NOW, HOUR)
        json.dumps([one.remarks for one in found.entries])
        self.assertEqual([one.at for one in found.entries], sorted(one.at for one in found.entries))
        for one in found.entries:
            if one.kind != "gap":
                self.assertTrue(iso(PERIOD.begin) <= one.at < iso(PERIOD.end))
            self.assertGreaterEqual(one.seconds or 0, 0)
        counts = found.counts
        counted = (
            counts.opened + counts.closed + counts.refused + counts.alarms + counts.commands + counts.gaps
        )
        others = sum(one.kind in ("moved", "alarm_cleared") for one in found.entries)
        self.assertEqual(counted + others, len(found.entries))
        if not events:
            self.assertIn("no_trail", [one.code for one in found.not_known])

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from(["unlocked", "locked"]), max_size=10))
    def test_time_open(self, actions: list[str]) -> None:
        """The time open is the sum of what lies between each closing and the opening just before it."""
        events = [lock(1 + number, action) for number, action in enumerate(actions)]
        pairs = sum(before == "unlocked" and after == "locked" for before, after in pairwise(actions))
        counts = report(*events).counts
        self.assertEqual(counts.open_seconds, pairs * HOUR)
        self.assertEqual((counts.opened, counts.closed), (actions.count("unlocked"), actions.count("locked")))
