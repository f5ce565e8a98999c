"""A virtual jt701 master: records, P45, the answers that release them, and `Pnn` commands."""

from datetime import UTC, datetime
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


#: Commands as docs/protocol.rst, 4, writes them, one after the other, and what a locked JT701D at 80 % says.
CONVERSATION = (
    ("P44,1", "P44,888888"),
    ("P44,abc123,000000", "P44,0"),
    ("P44,abc123,888888", "P44,1"),
    ("P44,1", "P44,abc123"),
    ("P44,888888,abc123", "P44,1"),
    ("P52,1,0", "P52,1,0,0"),
    ("P52,0", "P52,0,,"),
    ("P52,1,1,1,1", "P52,1,1,1"),
    ("P52,1,0", "P52,1,1,1"),
    ("P52,1,1,0,0", "P52,1,0,0"),
    ("P41,1,1,2,0008627839,0012260888", "P41,1,2,0008627839,0012260888"),
    ("P41,0,1", "P41,1,2,0008627839,0012260888"),
    ("P41,0,2", "P41,2,0"),
    ("P41,1,2,1,0008627839", "P41,2,1"),
    ("P41,0,1", "P41,1,1,0012260888"),
    ("P41,1,3", "P41,3,0"),
    ("P41,0,1", "P41,1,0"),
    ("P59,0", "P59,1,1,1,1,1"),
    ("P59,1,0,1,1,0,1", "P59,0,1,1,0,1"),
    ("P59,0", "P59,0,1,1,0,1"),
    ("P03,1,1,20", "P03,1,20"),
    ("P03,0", "P03,1,20"),
    ("P04,0", "P04,30,60"),
    ("P04,1,5,1440", "P04,5,1440"),
    ("P54,0", "P54,0,0"),
    ("P54,1,1", "P54,1,1"),
    ("P54,0", "P54,0,1"),
    ("P58,1,1", "P58,1"),
    ("P61,1,90", "P61,90"),
    ("P37,1,0", "P37,0,15"),
    ("P37,1,63", "P37,63,15"),
    ("P38,1,180", "P38,180"),
    ("P39,1,10", "P39,10"),
    ("P83,1,5", "P83,5"),
    ("P94,1,7", "P94,7"),
    ("P99,1,1,30,45", "P99,1,1,30,45"),
    ("P10,1,-720", "P10,-720"),
    ("P12,1,1,0,0,0,1", "P12,1,0,0,0,1"),
    ("P40,1,0,1,2,3,0,1,2,3,0,1", "P40,0,1,2,3,0,1,2,3,0,1,0,0,0,0"),
    ("P40,0", "P40,0,1,2,3,0,1,2,3,0,1,0,0,0,0"),
    ("P24,1,10,1,area10", "P24,10,1,area10"),
    ("P24,0,10", "P24,10,1,area10"),
    ("P29,1,10,1,2,11400.6230,2233.6325,-11400.7988,-2233.7466",
     "P29,10,2,1,2,11400.6230,2233.6325,-11400.7988,-2233.7466"),
    ("P29,1,10,2,1,11400.6230,2233.6325", "P29,10,3,2,1,11400.6230,2233.6325"),
    ("P31", "P31"),
    ("P30,10", "P30,1"),
    ("P30,10", "P30,0"),
    ("P29,0,10", "P29,10,0,1,0"),
    ("P98,10,0", "P98,10,0,0,0"),
    ("P98,10,1,0,0", "P98,10,1,0,0"),
    ("P06,1,gps.example.com,8888,cmnet,,", "P06,gps.example.com,8888,cmnet,,,0"),
    ("P06,0", "P06,gps.example.com,8888,cmnet,,,0"),
    ("P06,3,spare.example.net,9999,cmnet,,", "P06,spare.example.net,9999,cmnet,,,1"),
    ("P06,2", "P06,spare.example.net,9999,cmnet,,,1"),
    ("P01", "P01,JT701D_SIM_1.0,80%"),
    ("P14", "P14,860008000010001"),
    ("P68,1,0", "P68,1,89311000008000010001"),
    ("P68,2,0", "P68,2,89312000008000010001"),
)  # fmt: skip
#: What it says nothing to: out of range, cut off, or unknown.
SILENCE = (
    "P04,1,4,60", "P04,1,5,1441", "P04,1,5", "P04", "P04,2,5,5", "P54,1,2", "P61,1,91", "P38,1,2",
    "P41,1,1,2,0008627839", "P41,1,1,1,123", "P41,1,1,0", "P41,0,26", "P41,0,0", "P41", "P44", "P44,a,b,c",
    "P43", "P43,1,2", "P52,1,1,2,1", "P52,1,1,1,2", "P52", "P68,3,0", "P02", "P37,1,62", "P40,1,4",
    "P10,1,781", "P24,1,11,1,a", "P24,1,1,1,a-b", "P29,1,1,1,2,11400.6230,2233.6325",
    "P29,1,1,6,1,11400.6230,2233.6325",
    "P29,1,1,1,0", "P30,0", "P30", "P31,1", "P98,10", "P42,1", "P03,1,1,4", "P06,4", "P12,1,1",
)  # fmt: skip


class OtherCommands(SynchronousTestCase):
    def test_a_conversation(self) -> None:
        lock = online()
        lock.vehicle.battery = 80.2
        for command, answer in CONVERSATION:
            said = replies(lock.receive(f"({command})".encode(), START))
            self.assertEqual(said, [f"({DEVICE},{answer})"], command)
        self.assertEqual(lock.counters.commands_answered, len(CONVERSATION))

    def test_what_it_says_nothing_to(self) -> None:
        lock = online()
        for command in SILENCE:
            self.assertEqual(lock.receive(f"({command})".encode(), START), [], command)
        self.assertEqual((lock.counters.commands, lock.counters.commands_answered), (len(SILENCE), 0))

    def test_without_gprs_no_command_opens_it(self) -> None:
        lock = online()
        lock.receive(b"(P59,1,1,0,1,1,1)", START)
        self.assertEqual(replies(lock.receive(b"(P43,888888)", START)), [f"({DEVICE},P43,0,0)"])
        self.assertFalse(lock.vehicle.unlocked)

    def test_the_clock(self) -> None:
        lock = online()
        said = [f"({DEVICE},P22,1)".encode()]
        self.assertEqual(lock.receive(b"(P22,221126101550)", START), said)
        self.assertEqual((lock.vehicle.clock_ahead, lock.counters.commands), (50, 1))
        when = datetime.fromtimestamp(START + 70, UTC)
        self.assertEqual(facts(lock.tick(START + 20), Location)[0].time, when)
        for wrong in (b"(P22,999999999999)", b"(P22,)", b"(P22,x)"):
            self.assertEqual(lock.receive(wrong, START + 21), [f"({DEVICE},P22,0)".encode()])
        self.assertEqual(lock.vehicle.clock_ahead, 50)

    def test_restart_sleep_and_reset_are_answered_and_then_it_hangs_up(self) -> None:
        for command in ("P15", "P32", "P13"):
            lock = online(interval=1000, password="654321")
            self.assertEqual(lock.receive(f"({command})".encode(), START), [f"({DEVICE},{command})".encode()])
            self.assertFalse(lock.awake)
            lock.disconnected(START)
            lock.tick(lock.next_due)
            self.assertTrue(lock.awake)
            self.assertEqual(lock.mechanism.password, "654321")

    def test_a_reset_keeps_the_server(self) -> None:
        lock = online(interval=1000)
        for command in (b"(P06,1,gps.example.com,80,a,,)", b"(P38,1,10)", b"(P13)"):
            lock.receive(command, START)
        lock.tick(lock.next_due)
        lock.connected(START + 100)
        self.assertEqual(
            replies(lock.receive(b"(P06,0)", START)), [f"({DEVICE},P06,gps.example.com,80,a,,,0)"]
        )
        self.assertEqual(replies(lock.receive(b"(P38,0)", START)), [f"({DEVICE},P38,120)"])

    def test_all_pages_of_a_fence_are_told(self) -> None:
        lock = online()
        node = "11400.6230,2233.6325"
        for page, count in (("1", 10), ("2", 3)):
            lock.receive(f"(P29,1,1,{page},{count},{','.join([node] * count)})".encode(), START)
        self.assertEqual(
            [said[:26] for said in replies(lock.receive(b"(P29,0,1)", START))],
            [f"({DEVICE},P29,1,13,1,10,", f"({DEVICE},P29,1,13,2,3,1"],
        )

    def test_what_waits_is_counted_and_deleted(self) -> None:
        lock = online(interval=10)
        lock.disconnected(START)
        for second in range(10, 60, 10):
            lock.tick(START + second)
        lock.connected(START + 60)
        self.assertGreater(lock.unanswered, 0)
        waiting = f"({DEVICE},P98,10,0,{lock.unanswered},0)"
        self.assertEqual(replies(lock.receive(b"(P98,10,0)", START + 60))[0], waiting)


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
