"""The virtual lock itself: no network, fabricated times, and a gateway of a few lines."""

from datetime import UTC, datetime
from math import isclose

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.answers import general_answer
from jt709c_gateway.protocol.events import Heartbeat, Location, LockEvent, Reply
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import LockOptions
from tests.support import simulator as simulator_support
from tests.support.simulator import START, answers, facts, read

DEVICE = "794308010679"
WIRE = bytes.fromhex(DEVICE)


def make_lock(**options) -> VirtualLock:
    return simulator_support.make_lock(DEVICE, **options)


def online(**options) -> VirtualLock:
    return simulator_support.online(DEVICE, **options)


class Reports(SynchronousTestCase):
    def test_a_report_on_connecting_decodes_to_a_plausible_location(self):
        (location,) = facts(make_lock().connected(START), Location)
        self.assertEqual(location.time, datetime.fromtimestamp(START, UTC))
        self.assertEqual((location.fix, location.lock_state, location.wake_source), ("gnss", "locked", 0))
        self.assertTrue(51 < location.latitude < 52 and 4 < location.longitude < 6)
        self.assertEqual((location.items, location.alarms), ({}, ()))

    def test_the_same_seed_gives_the_same_bytes_and_another_one_others(self):
        one, same, other = make_lock(), make_lock(), make_lock(seed=1)
        self.assertEqual(one.connected(START), same.connected(START))
        self.assertEqual(one.tick(START + 20), same.tick(START + 20))
        self.assertNotEqual(one.vehicle.way_m, other.vehicle.way_m)

    def test_it_travels_along_the_route_and_its_battery_drains(self):
        lock = online(speed_factor=50)
        way, battery, odometer = lock.vehicle.way_m, lock.vehicle.battery, lock.vehicle.odometer_m
        (location,) = facts(lock.tick(START + 20), Location)
        self.assertGreater(location.speed_kmh, 20)
        self.assertNotEqual(lock.vehicle.way_m, way)
        self.assertLess(lock.vehicle.battery, battery)
        self.assertGreater(lock.vehicle.odometer_m, odometer)

    def test_an_unanswered_report_is_sent_again_with_the_same_bytes_until_it_is_answered(self):
        lock = make_lock(interval=1000, resend_after=20)
        first = lock.connected(START)
        self.assertEqual(lock.tick(START + 19.9), [])
        self.assertEqual(lock.tick(START + 20), first)
        self.assertEqual(lock.tick(START + 40), first)
        self.assertEqual((lock.counters.sent, lock.counters.resent, lock.unanswered), (1, 2, 1))
        lock.receive(answers(first), START + 41)
        self.assertEqual((lock.unanswered, lock.counters.answered), (0, 1))
        self.assertEqual(lock.tick(START + 100), [])
        self.assertTrue(isclose(lock.counters.latencies.percentile(50), 41, rel_tol=0.021))

    def test_next_due_is_when_a_tick_has_something_to_send(self):
        lock = make_lock(interval=1000, resend_after=20, heartbeat=60)
        lock.connected(START)
        self.assertEqual(lock.next_due, START + 20)
        lock.tick(lock.next_due)
        lock.receive(answers(lock.tick(START + 40)), START + 40)
        self.assertEqual(len(facts(lock.tick(lock.next_due), Heartbeat)), 1)

    def test_a_refused_report_or_an_answer_to_something_else_is_not_forgotten(self):
        lock = make_lock()
        (frame,) = lock.connected(START)
        (message,) = read([frame])
        for body in (
            message.serial.to_bytes(2, "big") + b"\x02\x00\x01",
            message.serial.to_bytes(2, "big") + b"\x00\x02\x00",
            b"\x77\x77\x02\x00\x00",
            b"",
        ):
            lock.receive(jt808.encode(jt808.GENERAL_ANSWER, WIRE, 1, body), START)
        other = jt808.identify(bytes.fromhex("794308010680"))
        lock.receive(general_answer(other, message.serial, jt808.LOCATION), START)
        self.assertEqual((lock.unanswered, lock.counters.unreadable), (1, 1))

    def test_what_was_recorded_without_a_link_comes_as_stored_locations_after_the_live_ones(self):
        lock = online(interval=10)
        lock.disconnected(START + 1)
        for second in range(10, 260, 5):
            self.assertEqual(lock.tick(START + second), [])
        stored = lock.unanswered
        self.assertGreater(stored, 20)
        messages = read(lock.connected(START + 260))
        self.assertEqual({message.message_id for message in messages}, {jt808.STORED_LOCATIONS})
        self.assertTrue(all(message.stored for message in messages))
        lock.receive(answers([message.wire for message in messages]), START + 261)
        self.assertEqual((lock.unanswered, lock.counters.stored), (0, stored))

    def test_what_was_sent_before_the_link_broke_is_repeated_byte_by_byte(self):
        lock = make_lock(interval=10)
        first = lock.connected(START)
        lock.disconnected(START + 1)
        self.assertEqual(lock.connected(START + 2), first)

    def test_the_window_bounds_what_is_under_way_and_the_rest_waits(self):
        lock = make_lock(interval=1, window=2, resend_after=1000)
        sent = lock.connected(START)
        for second in range(2, 12):
            sent += lock.tick(START + second)
        self.assertEqual((len(sent), lock.unanswered), (2, 11))
        more = lock.receive(answers(sent), START + 12)
        self.assertEqual(len(more), 2)

    def test_a_full_memory_loses_the_oldest(self):
        lock = make_lock(interval=1, memory=5)
        for second in range(1, 30):
            lock.tick(START + second)
        self.assertEqual(lock.unanswered, 5)
        self.assertGreater(lock.counters.lost, 10)
        (location, *_) = facts(lock.connected(START + 30), Location)
        self.assertGreater(location.time.timestamp(), START + 20)

    def test_a_serial_still_under_way_is_not_used_again(self):
        lock = make_lock(interval=1000, heartbeat=1, resend_after=10**9)
        serial = read(lock.connected(START))[0].serial
        seen = set()
        for _ in range(66_000):
            frame = lock.dialect.encode(jt808.LOCATION, b"")
            seen.add(int.from_bytes(Framer().feed(frame)[0].payload[10:12], "big"))
        self.assertEqual(len(seen), 65535)
        self.assertNotIn(serial, seen)

    def test_alarms_of_the_options_are_raised_for_a_while(self):
        """With the second report, until the seventh; overspeed too, though it stands or travels slowly."""
        lock = online(interval=10, resend_after=1000, alarms=frozenset(["fence_left", "overspeed"]))
        shown = [
            location.alarms
            for second in range(1, 100)
            for location in facts(lock.tick(START + second), Location)
        ]
        self.assertEqual(shown[:6], [("overspeed", "fence_left")] * 5 + [()])
        with self.assertRaisesRegex(ValueError, "a jt709 reports no alarm rope_cut"):
            LockOptions(alarms=frozenset(["rope_cut"]))

    def test_a_low_battery_raises_its_alarm_and_somebody_charges_it(self):
        lock = online(interval=10, speed_factor=3600 * 6)
        bits = set()
        for second in range(10, 600, 10):
            for location in facts(lock.tick(START + second), Location):
                bits.update(location.alarms)
                self.assertTrue(0 <= location.battery_percent <= 100)
            lock.receive(answers([report.frame for report in lock.buffer.in_flight.values()]), START + second)
        self.assertIn("low_battery", bits)

    def test_a_card_opens_it_now_and_then_and_it_is_closed_again(self):
        lock = online(interval=10, card_every=6)
        events, states = [], []
        for second in range(10, 400, 10):
            frames = lock.tick(START + second)
            events += facts(frames, LockEvent)
            states += [location.lock_state for location in facts(frames, Location)]
            lock.receive(answers(frames), START + second)
        self.assertEqual({(event.method, event.action) for event in events}, {("card", "unlocked")})
        self.assertEqual(set(states), {"locked", "unlocked"})
        self.assertGreater(len(events), 3)

    def test_draining_makes_no_more_reports(self):
        lock = online(interval=10, sleep=(5.0, 50.0))
        lock.tick(START + 20)
        lock.drain(START + 21)
        self.assertTrue(lock.awake)
        frames = lock.connected(START + 22)
        lock.receive(answers(frames), START + 22)
        self.assertEqual((lock.tick(START + 500), lock.unanswered), ([], 0))


class Sleep(SynchronousTestCase):
    def test_it_sleeps_and_wakes_in_turn(self):
        lock = online(interval=1000, sleep=(30.0, 100.0))
        lock.tick(lock.next_due)
        self.assertFalse(lock.awake)
        lock.disconnected(START + 50)
        asleep_until = lock.next_due
        lock.tick(asleep_until - 1)
        self.assertFalse(lock.awake)
        lock.tick(asleep_until)
        self.assertTrue(lock.awake)

    def test_a_restart_is_a_short_sleep(self):
        lock = online(interval=1000)
        body = b"\x04"
        (frame,) = lock.receive(jt808.encode(0x8105, WIRE, 9, body), START)
        (reply,) = facts([frame], Reply)
        self.assertEqual((reply.answered_serial, reply.answered_id, reply.result), (9, "8105", 0))
        self.assertFalse(lock.awake)
        lock.disconnected(START)
        lock.tick(lock.next_due)
        self.assertTrue(lock.awake)


class Greeting(SynchronousTestCase):
    def test_it_registers_and_shows_its_code_now_and_on_later_connections(self):
        lock = make_lock(register=True)
        frames = lock.connected(START)
        self.assertEqual(read(frames)[0].message_id, jt808.REGISTRATION)
        shown = read(lock.receive(answers(frames), START))
        self.assertEqual([message.message_id for message in shown], [jt808.AUTHENTICATION])
        lock.disconnected(START + 1)
        again = read(lock.connected(START + 2))[0]
        self.assertEqual(again.message_id, jt808.AUTHENTICATION)
        self.assertEqual(again.events[0][1].body, DEVICE.encode().hex())

    def test_it_sets_its_clock_by_the_answer_to_its_question(self):
        lock = make_lock(ask_time=100)
        frames = lock.connected(START)
        self.assertTrue(frames[0].endswith(b",BASE,2,TIME)"))
        ahead = datetime.fromtimestamp(START + 7200, UTC)
        lock.receive(sentences.time_answer(frames[0], ahead), START)
        self.assertEqual((lock.vehicle.clock_ahead, lock.counters.commands), (7200, 0))
        (request,) = [m for m in read(lock.tick(START + 100)) if m.message_id == jt808.TIME_REQUEST]
        lock.receive(request.answer_at(datetime.fromtimestamp(START + 100, UTC)), START + 100)
        self.assertEqual(lock.vehicle.clock_ahead, 0)

    def test_times_that_never_were_leave_the_clock_alone(self):
        lock = online()
        for text in ("20261322101500", "garbage", "", "00010101000000", "99991231235959"):
            self.assertFalse(lock.set_clock(START, text))
        lock.receive(jt808.encode(jt808.TIME_ANSWER, WIRE, 1, b"\xff" * 8), START)
        self.assertEqual(lock.vehicle.clock_ahead, 0)

    def test_it_reports_a_dynamic_password_once(self):
        lock = make_lock(dynamic_password=True)
        (message, _) = read(lock.connected(START))
        self.assertRegex(message.secret, r"^\d{6}$")
        lock.disconnected(START)
        self.assertFalse([m for m in read(lock.connected(START + 1)) if m.secret])


class Strictness(SynchronousTestCase):
    def test_ids_and_options_that_cannot_be_are_refused(self):
        for device in ("", "12a", "1234567890123", "٣"):
            self.assertRaises(ValueError, VirtualLock, device)
        for wrong in ({"interval": 0}, {"sleep": (0.0, 5.0)}, {"password": "12345"}, {"password": "12,456"}):
            self.assertRaises(ValueError, LockOptions, **wrong)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=80), max_size=4))
    def test_arbitrary_bytes_never_raise(self, pieces):
        lock = online(interval=1)
        for number, piece in enumerate(pieces):
            lock.receive(piece, START + number)
            lock.receive(piece, START + number, datagram=True)
        read([frame for frame in lock.tick(START + 100) if frame])

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 0xFFFF), st.binary(max_size=64), st.integers(0, 0xFFFF))
    def test_arbitrary_bodies_never_raise_and_what_comes_back_is_sound(self, number, body, serial):
        lock = make_lock(dynamic_password=True, register=True, ask_time=10)
        lock.connected(START)
        read(lock.receive(jt808.encode(number, WIRE, serial, body), START))
        read(lock.tick(START + 1000))

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 999), st.lists(st.text("ELOCKBAS0123456789,é \x00", max_size=9), min_size=1))
    def test_arbitrary_sentences_never_raise(self, serial, words):
        lock = online()
        text = f"({DEVICE},1,{serial:03d},{','.join(words)})"
        read(lock.receive(text.encode("latin-1"), START))
