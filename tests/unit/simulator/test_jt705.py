"""A virtual jt705: its own reports, and otherwise what a jt709 says."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.answers import general_answer, jt705_answer
from jt709c_gateway.protocol.events import Heartbeat, Location, LockEvent, Reply
from jt709c_gateway.simulator.lock import VirtualLock
from tests.support import simulator as simulator_support
from tests.support.simulator import START, answers, facts, read, replies

DEVICE = "856009010001"
WIRE = bytes.fromhex(DEVICE)


def make_lock(**options: Any) -> VirtualLock:
    return simulator_support.make_lock(DEVICE, dialect="jt705", **options)


def online(**options: Any) -> VirtualLock:
    return simulator_support.online(DEVICE, dialect="jt705", **options)


def command(serial: int, *words: str) -> bytes:
    return sentences.grouped(DEVICE, serial, *words)


def ids(frames: list[bytes]) -> list[int | None]:
    return [message.message_id for message in read(frames)]


class Reports(SynchronousTestCase):
    def test_a_report_is_a_5501_that_asks_for_an_answer(self) -> None:
        (message,) = read(make_lock().connected(START))
        location = message.events[0][1]
        assert isinstance(location, Location) and location.cell is not None
        self.assertEqual((message.dialect, message.device, message.message_id), ("jt705", DEVICE, 0x5501))
        self.assertEqual(
            (location.fix, location.lock_state, location.wake_reason), ("gnss", "locked", "restart")
        )
        self.assertEqual((location.cell.mcc, location.cell.mnc, location.network_generation), (204, 4, 4))
        self.assertEqual((location.items, location.alarms, message.stored), ({}, (), False))
        self.assertEqual(message.wire[3] & 0x80, 0x80)

    def test_4401_releases_it_and_nothing_else_does(self) -> None:
        lock = make_lock(interval=1000)
        (frame,) = lock.connected(START)
        (message,) = read([frame])
        identity, other = jt808.identify(WIRE), jt808.identify(bytes.fromhex("856009010002"))
        for wrong in (
            general_answer(identity, message.serial or 0, 0x5501),
            jt705_answer(other, 0x5501),
            jt705_answer(identity, 0x5502),
            jt808.pack(jt808.unpack(jt705_answer(identity, 0x5501))[:-1] + b"\x01"),
        ):
            lock.receive(wrong, START)
            self.assertEqual(lock.unanswered, 1)
        self.assertEqual(lock.tick(START + 20), [frame])
        lock.receive(jt705_answer(identity, 0x5501), START + 21)
        self.assertEqual((lock.unanswered, lock.counters.answered), (0, 1))

    def test_reports_go_one_by_one_since_an_answer_does_not_name_them(self) -> None:
        lock = make_lock(interval=1, window=8, resend_after=1000)
        first = lock.connected(START)
        for second in range(2, 6):
            self.assertEqual(lock.tick(START + second), [])
        second = lock.receive(answers(first), START + 6)
        self.assertEqual((len(second), lock.unanswered), (1, 4))
        self.assertNotEqual(first, second)

    def test_what_was_recorded_without_a_link_comes_as_5502(self) -> None:
        lock = online()
        lock.disconnected(START + 1)
        for second in range(10, 60, 5):
            lock.tick(START + second)
        stored = lock.unanswered
        frames = lock.connected(START + 60)
        for _ in range(stored):
            self.assertEqual((ids(frames), read(frames)[0].stored), ([0x5502], True))
            frames = lock.receive(answers(frames), START + 61)
        self.assertEqual((frames, lock.unanswered, lock.counters.stored), ([], 0, stored))

    def test_a_low_battery_is_an_alarm(self) -> None:
        lock = online()
        lock.vehicle.battery = 10.0
        (location,) = facts(lock.tick(START + 20), Location)
        self.assertEqual(location.alarms, ("low_battery",))

    def test_heartbeats_and_questions_for_the_time(self) -> None:
        lock = online(heartbeat=50, ask_time=100, interval=1000)
        (frame,) = lock.tick(START + 80)
        self.assertEqual(len(facts([frame], Heartbeat)), 1)
        asked = [text for text in replies(lock.tick(START + 101)) if text.endswith(",BASE,2,TIME)")]
        self.assertEqual(len(asked), 1)

    def test_it_does_not_register(self) -> None:
        self.assertEqual(ids(make_lock(register=True).connected(START)), [0x5501])


class Commands(SynchronousTestCase):
    def test_an_unlock_is_answered_and_then_proved_by_a_report(self) -> None:
        lock = online()
        frames = lock.receive(command(7, "ELOCK", "1", "1", "888888"), START)
        self.assertEqual(replies(frames), [f"({DEVICE},1,007,ELOCK,1,1)"])
        (location,) = facts(frames, Location)
        self.assertEqual((location.motor_open, location.lock_state), (True, "unlocked"))
        (event,) = facts(frames, LockEvent)
        self.assertEqual((event.method, event.action), ("password", "unlocked"))
        lock.receive(answers(frames[1:]), START)
        frames = lock.receive(command(8, "ELOCK", "4", "1"), START + 5)
        self.assertEqual(facts(frames, Location)[0].lock_state, "locked")

    def test_wrong_passwords_raise_the_alarm_that_its_table_names(self) -> None:
        lock = online()
        for tries in range(1, 6):
            frames = lock.receive(command(tries, "ELOCK", "1", "1", "123456"), START)
            lock.receive(answers(frames), START)
            self.assertEqual(facts(frames, LockEvent)[0].action, "refused")
            self.assertEqual(facts(frames, Location)[0].alarms, ("wrong_password",) if tries == 5 else ())

    def test_it_tells_a_dynamic_password_which_opens_it_once(self) -> None:
        lock = make_lock(dynamic_password=True)
        password = read(lock.connected(START))[0].secret
        assert password is not None
        texts = replies(lock.receive(command(1, "ELOCK", "6", "1", password), START))
        self.assertEqual(texts[0], f"({DEVICE},1,001,ELOCK,6,1)")
        self.assertRegex(texts[1], r",ELOCK,3,\d{6}\)$")

    def test_binary_commands_are_answered_as_by_a_jt709(self) -> None:
        lock = online()
        (reply,) = facts(lock.receive(jt808.encode(0x8300, WIRE, 5, b"\x04hello"), START), Reply)
        self.assertEqual((reply.answered_serial, reply.answered_id, reply.result), (5, "8300", 0))
        frames = lock.receive(jt808.encode(0x8201, WIRE, 0x1234, b""), START)
        self.assertEqual((ids(frames), facts(frames, Reply)[0].answered_serial), ([0x0201], 0x1234))
        lock.receive(answers(frames), START)
        self.assertEqual(lock.unanswered, 0)
        text = replies(lock.receive(command(1, "BASE", "1"), START))
        self.assertEqual(text, [f"({DEVICE},1,001,BASE,1,JT705A_SIM_1.0)"])


class Strictness(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=80), max_size=4))
    def test_arbitrary_bytes_never_raise(self, pieces: list[bytes]) -> None:
        lock = online(interval=1)
        for number, piece in enumerate(pieces):
            lock.receive(piece, START + number)
            lock.receive(piece, START + number, datagram=True)
        read(lock.tick(START + 100))

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from([0x4401, 0x5501, 0x8001]), st.binary(max_size=24))
    def test_arbitrary_bodies_never_raise(self, number: int, body: bytes) -> None:
        lock = online(interval=1)
        lock.receive(jt808.encode_jt705(number, WIRE, 1, body, answer_wanted=False), START)
        read(lock.tick(START + 100))
