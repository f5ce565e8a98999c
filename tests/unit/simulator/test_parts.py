"""The parts a virtual lock is made of: route, counters, memory."""

import tempfile
from math import isclose
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt808
from jt709c_gateway.simulator.counters import Latencies
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.report_buffer import Entry, Report, ReportBuffer
from jt709c_gateway.simulator.route import Route


class Routes(SynchronousTestCase):
    def load(self, text):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "route.csv"
            path.write_text(text)
            return Route.load(path)

    def test_one_goes_there_and_back_again(self):
        route = Route(((0.0, 0.0), (0.0, 1.0)))
        self.assertTrue(isclose(route.length_m, 111_195, rel_tol=1e-4))
        there, end, back = (route.at(route.length_m * share) for share in (0.5, 1.0, 1.5))
        self.assertEqual((there.latitude, there.course), (0.0, 90))
        self.assertAlmostEqual(there.longitude, 0.5)
        self.assertAlmostEqual(end.longitude, 1.0)
        self.assertAlmostEqual(back.longitude, 0.5)
        self.assertEqual(back.course, 270)

    @given(st.floats(0, 1e9))
    def test_every_place_lies_between_the_points(self, metres):
        route = Route.built_in()
        place = route.at(metres)
        latitudes, longitudes = zip(*route.points, strict=True)
        self.assertTrue(min(latitudes) - 1e-9 <= place.latitude <= max(latitudes) + 1e-9)
        self.assertTrue(min(longitudes) - 1e-9 <= place.longitude <= max(longitudes) + 1e-9)
        self.assertTrue(0 <= place.course < 360)

    def test_a_file_may_have_a_heading_and_empty_lines(self):
        route = self.load("latitude,longitude\n\n52.1,4.3\n52.2,4.4,a note\n")
        self.assertEqual(route.points, ((52.1, 4.3), (52.2, 4.4)))

    def test_what_is_no_route_is_refused_with_the_line(self):
        for text, word in (
            ("52.1,4.3\n52.2,x\n", "line 2"),
            ("52.1,4.3\n52.2\n", "line 2"),
            ("52.1,4.3\n97,4\n", "at most 90"),
            ("52.1,4.3\nnan,4\n", "at most 90"),
            ("52.1,4.3\n52.1,4.3\n", "two points"),
            ("", "two points"),
        ):
            error = self.assertRaises(ValueError, self.load, text)
            self.assertIn(word, str(error))


class Percentiles(SynchronousTestCase):
    def test_they_are_right_to_two_per_cent(self):
        times = Latencies()
        for number in range(1, 1001):
            times.add(number / 1000)
        for percent in (1, 50, 99, 100):
            self.assertTrue(isclose(times.percentile(percent), percent / 100, rel_tol=0.021))
        self.assertEqual((times.count, times.largest), (1000, 1.0))

    def test_none_without_measurements_and_no_trouble_with_odd_ones(self):
        times = Latencies()
        self.assertIsNone(times.percentile(50))
        for odd in (0.0, -1.0, 1e9):
            times.add(odd)
        self.assertLessEqual(times.percentile(50), 2e-6)


class Memories(SynchronousTestCase):
    def all_at_once(self, entries):
        return len(entries)

    def test_stored_reports_share_frames_that_are_not_too_long(self):
        for size, batches in ((60, [10, 10, 5]), (300, [3] * 8 + [1]), (1000, [1] * 25)):
            dialect, memory = VirtualLock("1").dialect, ReportBuffer()
            for _ in range(25):
                memory.add(Entry(jt808.LOCATION, bytes(size)), connected=False)
            counts = []
            while taken := memory.take(dialect.fit):
                entries, stored = taken
                _, frame = dialect.pack(entries, stored)
                payload = jt808.unpack(frame)
                self.assertLessEqual(len(payload) - 12, jt808.BODY_LENGTH)
                self.assertEqual((payload[:2], stored), (b"\x07\x04", True))
                counts.append(len(entries))
            self.assertEqual(counts, batches)

    def test_live_reports_go_first_and_alone(self):
        memory = ReportBuffer()
        for body, connected, first in ((b"old", False, False), (b"new", True, False), (b"asked", True, True)):
            memory.add(Entry("any", body), connected=connected, first=first)
        taken = [memory.take(self.all_at_once) for _ in range(3)]
        self.assertEqual([entries[0].body for entries, _ in taken], [b"asked", b"new", b"old"])
        self.assertEqual([stored for _, stored in taken], [False, False, True])
        self.assertIsNone(memory.take(self.all_at_once))

    def test_what_does_not_fit_yet_stays_where_it_is(self):
        memory = ReportBuffer()
        memory.add(Entry("any", b"new"), connected=True)
        memory.add(Entry("any", b"old"), connected=False)
        self.assertIsNone(memory.take(lambda entries: 0))
        self.assertEqual(memory.unanswered, 2)

    def test_without_a_connection_only_what_still_makes_sense_is_kept(self):
        memory = ReportBuffer()
        memory.add(Entry("any", b"report"), connected=True)
        memory.add(Entry("any", b"answer", kept=False), connected=True)
        memory.store_live()
        self.assertEqual(([entry.body for entry in memory.stored], memory.live), ([b"report"], []))

    def test_a_frame_is_answered_when_all_that_it_waits_for_has_come(self):
        memory = ReportBuffer()
        memory.sent(Report(b"", 2, {1, 2}, 0.0, 10.0))
        memory.sent(Report(b"", 1, {3}, 0.0, 10.0))
        self.assertTrue(memory.awaits(1) and memory.awaits(2))
        self.assertIsNone(memory.answered(1))
        self.assertIsNone(memory.answered(1))
        self.assertFalse(memory.awaits(1))
        self.assertEqual(memory.unanswered, 3)
        self.assertEqual((memory.answered(2).count, memory.answered(3).count), (2, 1))
        self.assertEqual((memory.unanswered, memory.awaits(2)), (0, False))

    def test_frames_fall_due_in_order_and_once_per_interval(self):
        memory = ReportBuffer()
        for number in range(3):
            memory.sent(Report(bytes([number]), 1, {number}, 0.0, 10.0 + number))
        self.assertEqual(memory.overdue(11.0, 20.0), [b"\x00", b"\x01"])
        self.assertEqual(memory.overdue(11.0, 20.0), [])
        self.assertEqual(memory.overdue(31.0, 20.0), [b"\x02", b"\x00", b"\x01"])
        memory.all_overdue()
        self.assertEqual(len(memory.overdue(31.0, 20.0)), 3)
