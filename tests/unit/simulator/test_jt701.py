"""A virtual jt701 master: records, P45, the answers that release them, and `Pnn` commands."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt701, pnn
from jt709c_gateway.protocol.events import Heartbeat, Location, LockEvent, TimeRequest
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import LockOptions
from tests.support import simulator as simulator_support
from tests.support.simulator import START, answers, facts, read, replies
from tests.unit.simulator.test_jt701_commands import CONVERSATION

DEVICE = "8000010001"


def make_lock(**options: Any) -> VirtualLock:
    return simulator_support.make_lock(DEVICE, dialect="jt701", **options)


def online(**options: Any) -> VirtualLock:
    return simulator_support.online(DEVICE, dialect="jt701", **options)


class Reports(SynchronousTestCase):
    def test_a_report_is_a_record_of_52_bytes_in_which_1_is_locked(self) -> None:
        (frame,) = make_lock().connected(START)
        (message,) = read([frame])
        location = message.events[0][1]
        assert isinstance(location, Location) and location.cell is not None
        self.assertEqual((message.dialect, message.device, message.stored), ("jt701", DEVICE, False))
        self.assertEqual(len(frame), 10 + 52)
        (record,) = jt701.decode(frame)
        closed = jt701.STATUS_MOTOR_LOCKED | jt701.STATUS_ROPE_INSERTED | jt701.STATUS_COVER_CLOSED
        self.assertEqual(record.location.status_bits, closed | jt701.STATUS_ANSWER_WANTED)
        self.assertEqual((location.lock_state, location.back_cover_open), ("locked", False))
        self.assertEqual((location.alarms, location.fence_id, location.wake_reason), ((), None, "restart"))
        self.assertEqual((location.cell.mcc, location.cell.mnc), (204, 4))

    def test_p69_with_its_serial_releases_it_and_nothing_else_does(self) -> None:
        lock = make_lock(interval=1000)
        (frame,) = lock.connected(START)
        serial = read([frame])[0].serial
        assert serial is not None
        for wrong in (b"(P35)", b"(P69)", b"(P69,1,%d)" % serial, b"(P69,0,%d)" % (serial + 1), b"(P69,0,x)"):
            lock.receive(wrong, START)
            self.assertEqual(lock.unanswered, 1)
        self.assertEqual(lock.tick(START + 20), [frame])
        lock.receive(pnn.acknowledge(serial), START + 21)
        self.assertEqual((lock.unanswered, lock.counters.answered), (0, 1))

    def test_an_answer_in_pieces_among_noise_is_understood(self) -> None:
        lock = make_lock(interval=1000)
        answer = answers(lock.connected(START))
        for byte in b"\x00~$" + answer:
            lock.receive(bytes([byte]), START)
        self.assertEqual(lock.unanswered, 0)
        self.assertEqual(lock.counters.unreadable, 3)

    def test_stored_records_share_frames_and_each_is_answered(self) -> None:
        lock = online()
        lock.disconnected(START + 1)
        for second in range(10, 260, 5):
            lock.tick(START + second)
        stored = lock.unanswered
        frames = lock.connected(START + 260)
        messages = read(frames)
        self.assertEqual([len(message.events) for message in messages], [10, 10, stored - 20])
        self.assertTrue(all(message.stored for message in messages))
        released = answers(frames).split(b")")[:-1]
        self.assertEqual(len(set(released)), stored)
        lock.receive(b")".join(released[:9]) + b")", START + 261)
        self.assertEqual(lock.unanswered, stored)
        lock.receive(b")".join(released[9:]) + b")", START + 261)
        self.assertEqual((lock.unanswered, lock.counters.stored), (0, stored))

    def test_serials_under_way_are_never_used_twice(self) -> None:
        lock = make_lock(interval=1, window=1000, resend_after=10**6)
        sent = lock.connected(START)
        lock.disconnected(START)
        for second in range(1, 1500):
            lock.tick(START + second)
        sent += lock.connected(START + 1500)
        for _ in range(2000):
            under_way = [key for report in lock.buffer.in_flight.values() for key in report.keys]
            self.assertEqual(len(under_way), len(set(under_way)))
            if not under_way:
                break
            lock.receive(b"(P69,0,%d)" % under_way[0], START + 1501)
        self.assertEqual(lock.unanswered, 0)

    def test_a_card_opens_it_and_it_locks_by_itself(self) -> None:
        lock = online(card_every=6, relock=25)
        events: list[LockEvent] = []
        states = []
        for second in range(5, 400, 5):
            frames = lock.tick(START + second)
            events += facts(frames, LockEvent)
            states += [location.lock_state for location in facts(frames, Location)]
            lock.receive(answers(frames), START + second)
        moves = [(event.method, event.action) for event in events]
        self.assertEqual(set(moves), {("card", "unlocked"), ("automatic", "locked")})
        self.assertEqual(moves[::2], [("card", "unlocked")] * len(moves[::2]))
        self.assertEqual(set(states), {"locked", "unlocked"})
        self.assertRegex(events[0].card or "", r"^\d{10}$")

    def test_heartbeats_and_questions_for_the_time(self) -> None:
        lock = make_lock(heartbeat=50, ask_time=100, interval=1000)
        frames = lock.connected(START)
        self.assertEqual(len(facts(frames, TimeRequest)), 1)
        lock.receive(b"(P22,221126121500)", START)
        self.assertEqual((lock.vehicle.clock_ahead, lock.counters.commands), (7200, 0))
        lock.receive(answers(frames[1:]), START)
        self.assertEqual([type(fact) for fact in facts(lock.tick(START + 80), object)], [Heartbeat])
        self.assertIn(f"({DEVICE},P22,2)", replies(lock.tick(START + 101)))

    def test_a_dynamic_password_is_repeated_each_minute_until_it_is_told_back(self) -> None:
        lock = make_lock(dynamic_password=True, interval=10_000, resend_after=10**6)
        (told, *_) = lock.connected(START)
        password = read([told])[0].secret
        self.assertEqual(lock.tick(START + 59), [])
        self.assertEqual(lock.next_due, START + 60)
        self.assertEqual(lock.tick(START + 60), [told])
        lock.receive(b"(P52,2,000000)", START + 61)
        self.assertEqual(lock.tick(START + 120), [told])
        lock.receive(f"(P52,2,{password})".encode(), START + 121)
        self.assertEqual(lock.tick(START + 300), [])
        self.assertEqual(lock.counters.commands, 0)

    def test_a_password_not_told_back_keeps_no_lock_busy_that_is_offline(self) -> None:
        lock = make_lock(dynamic_password=True)
        lock.connected(START)
        lock.disconnected(START + 1)
        lock.tick(START + 70)
        self.assertGreater(lock.next_due, START + 70)

    def test_its_ids_have_ten_digits(self) -> None:
        self.assertRaises(ValueError, VirtualLock, "12345678901", LockOptions(dialect="jt701"))
        lock = simulator_support.make_lock("0000000077", dialect="jt701", heartbeat=1)
        self.assertEqual(lock.device, "77")
        self.assertEqual(lock.connected(START)[0][1:6].hex(), "0000000077")
        self.assertIn(b"(0000000077,@JT)", lock.tick(START + 5))


class Unlocking(SynchronousTestCase):
    def test_the_static_password_opens_it_and_a_p45_and_a_record_prove_it(self) -> None:
        lock = online()
        frames = lock.receive(b"(P43,888888)", START)
        self.assertEqual(frames[0], f"({DEVICE},P43,1,0)".encode())
        self.assertIn(b",P45,221126,101500,", frames[1])
        (event,) = facts(frames, LockEvent)
        self.assertEqual(
            (event.code, event.method, event.action, event.result), (4, "password", "unlocked", 1)
        )
        (location,) = facts(frames, Location)
        self.assertEqual((location.motor_open, location.lock_state), (True, "unlocked"))
        self.assertAlmostEqual(event.latitude, location.latitude, places=5)
        lock.receive(answers(frames[1:]), START)
        self.assertEqual(lock.unanswered, 0)

    def test_it_locks_by_itself_after_a_while(self) -> None:
        lock = online(relock=30, interval=1000)
        frames = lock.receive(b"(P43,888888)", START)
        lock.receive(answers(frames[1:]), START)
        self.assertEqual(lock.next_due, START + 30)
        frames = lock.tick(START + 30)
        (event,) = facts(frames, LockEvent)
        self.assertEqual((event.code, event.method, event.action), (5, "automatic", "locked"))
        self.assertEqual(facts(frames, Location)[0].lock_state, "locked")
        never = online(relock=0, interval=1000)
        frames = never.receive(b"(P43,888888)", START)
        never.receive(answers(frames[1:]), START)
        self.assertGreater(never.next_due, START + 500)

    def test_wrong_passwords_are_refused_counted_and_the_fifth_raises_an_alarm(self) -> None:
        lock = online()
        for tries in range(1, 6):
            frames = lock.receive(b"(P43,000000)", START)
            self.assertEqual(frames[0], f"({DEVICE},P43,0,{tries})".encode())
            (event,) = facts(frames, LockEvent)
            self.assertEqual((event.code, event.action), (4, "refused"))
            self.assertEqual(facts(frames, Location)[0].alarms, ("wrong_password",) if tries == 5 else ())
            lock.receive(answers(frames[1:]), START)
        self.assertEqual(replies(lock.receive(b"(P43,888888)", START))[0], f"({DEVICE},P43,1,0)")

    def test_a_dynamic_password_opens_once_and_the_next_one_is_told(self) -> None:
        lock = make_lock(dynamic_password=True)
        password = read(lock.connected(START))[0].secret
        frames = lock.receive(f"(P52,3,{password})".encode(), START)
        self.assertEqual(frames[0], f"({DEVICE},P52,3,1,0)".encode())
        self.assertEqual(facts(frames, LockEvent)[0].method, "dynamic_password")
        self.assertNotEqual(read(frames)[1].secret, password)
        again = replies(lock.receive(f"(P52,3,{password})".encode(), START))
        self.assertEqual(again[0], f"({DEVICE},P52,3,0,1)")

    def test_refuse_mute_and_no_evidence(self) -> None:
        lock = online(refuse=True)
        self.assertEqual(replies(lock.receive(b"(P43,888888)", START))[0], f"({DEVICE},P43,0,1)")
        for command, answer in (
            (b"(P44,abc123,888888)", "P44,0"),
            (b"(P59,1,0,0,0,0,0)", "P59,1,1,1,1,1"),
            (b"(P52,1,1,1,1)", "P52,1,0,0"),
            (b"(P41,1,1,1,0008627839)", "P41,1,0"),
            (b"(P41,0,1)", "P41,1,0"),
            (b"(P30,1)", "P30,0"),
        ):
            self.assertEqual(replies(lock.receive(command, START)), [f"({DEVICE},{answer})"])
        lock = online(mute=True)
        self.assertEqual(lock.receive(b"(P43,888888)(P01)", START), [])
        self.assertEqual((lock.counters.commands, lock.vehicle.unlocked), (2, False))
        lock = online(no_evidence=True)
        self.assertEqual(lock.receive(b"(P43,888888)", START), [f"({DEVICE},P43,1,0)".encode()])
        self.assertFalse(lock.vehicle.unlocked)

    def test_no_password_shows_in_a_repr(self) -> None:
        lock = make_lock(password="s3cr3t", dynamic_password=True)
        lock.connected(START)
        lock.receive(b"(P43,s3cr3t)(P06,1,h,1,a,user77,s3cr3t)", START)
        dynamic = lock.mechanism.dynamic_password
        assert dynamic is not None
        speech: Any = lock.dialect
        parts = (lock, lock.mechanism, speech, speech.commands, speech.sublocks, lock.buffer, lock.options)
        for thing in (*parts, *lock.buffer.in_flight.values()):
            self.assertNotIn("s3cr3t", repr(thing))
            self.assertNotIn(dynamic, repr(thing))


class Strictness(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=80) | st.sampled_from([b"(", b"(P", b"(P43,", b")"]), max_size=6))
    def test_arbitrary_bytes_never_raise(self, pieces: list[bytes]) -> None:
        lock = online(interval=1, sublocks=2)
        for number, piece in enumerate(pieces):
            lock.receive(piece, START + number)
            lock.receive(piece, START + number, datagram=True)
        read(lock.tick(START + 100))

    @settings(max_examples=500, deadline=None)
    @given(
        st.sampled_from([command[:3] for command, _ in CONVERSATION] + ["P43", "P22", "P69", "P15"]),
        st.lists(st.text("0123456789aé.", max_size=12), max_size=8),
    )
    def test_arbitrary_commands_never_raise_and_what_comes_back_is_sound(
        self, word: str, arguments: list[str]
    ) -> None:
        lock = make_lock(dynamic_password=True, ask_time=10)
        lock.connected(START)
        read(lock.receive(("(" + ",".join([word, *arguments]) + ")").encode("latin-1"), START))
        read(lock.tick(START + 1000))

    def test_what_never_ends_is_let_go(self) -> None:
        lock = online()
        for _ in range(100):
            lock.receive(b"(P43," + b"8" * 1000, START)
        self.assertEqual(replies(lock.receive(b"(P01)", START))[0][:16], f"({DEVICE},P01,"[:16])
