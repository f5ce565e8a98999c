"""Sub-locks behind a virtual master: what they report through it, and commands to them."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import sentences
from jt709c_gateway.protocol.events import LockEvent, Peripheral
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import LockOptions
from jt709c_gateway.simulator.sublocks import identity
from tests.support import simulator as simulator_support
from tests.support.simulator import START, answers, facts, read, replies

DEVICE = "8000010001"
FIRST = "0001000101"
SENSOR = "0001000104"


def online(**options: Any) -> VirtualLock:
    fields = {"sublocks": 4, "interval": 1000.0, **options}
    return simulator_support.online(DEVICE, dialect="jt701", **fields)


def command(serial: int, *words: str) -> bytes:
    return sentences.grouped(DEVICE, serial, "WLNET", *words)


def run(lock: VirtualLock, seconds: int, start: int = 1) -> list[bytes]:
    """Let time pass, every report answered; the frames."""
    sent = []
    for second in range(start, start + seconds):
        frames = lock.tick(START + second)
        lock.receive(answers(frames), START + second)
        sent += frames
    return sent


class Reports(SynchronousTestCase):
    def test_each_reports_once_in_an_interval_and_every_fourth_is_a_sensor(self) -> None:
        lock = online(interval=60.0)
        frames = run(lock, 60)
        self.assertTrue(all(b",WLNET,5,2," in frame for frame in frames if frame[:1] == b"("))
        found = {one.peripheral: one for one in facts(frames, Peripheral)}
        self.assertEqual(sorted(found), [identity(DEVICE, number) for number in (1, 2, 3, 4)])
        self.assertEqual(
            [found[name].peripheral_type for name in sorted(found)], ["jt709", "jt709", "jt709", "jt126"]
        )
        self.assertEqual(lock.counters.sublock_reports, 4)
        self.assertEqual(len(facts(run(lock, 120, 61), Peripheral)), 8)

    def test_what_they_say(self) -> None:
        found = {one.peripheral: one for one in facts(run(online(interval=60.0), 60), Peripheral)}
        lock, sensor = found[FIRST], found[SENSOR]
        self.assertEqual((lock.lock_state, lock.event, lock.card, lock.resent), ("locked", 0, None, False))
        self.assertTrue(60 <= lock.battery_percent <= 100 and 3 < lock.battery_volts < 3.3)
        self.assertTrue(-100 <= lock.rssi_dbm <= -30)
        self.assertEqual((lock.fix, lock.time, lock.master_time), ("gnss", lock.master_time, lock.time))
        self.assertTrue(-5 <= float(str(sensor.temperature_c)) <= 35)
        self.assertTrue(51 < (lock.latitude or 0) < 52)

    def test_p69_releases_their_reports_and_without_a_link_they_are_kept(self) -> None:
        lock = online(interval=30.0)
        lock.disconnected(START)
        for second in range(1, 91):
            self.assertEqual(lock.tick(START + second), [])
        self.assertEqual(lock.unanswered, 4 * 3 + 3)
        frames = lock.connected(START + 91)
        while frames:
            frames = lock.receive(answers(frames), START + 92)
        self.assertEqual(lock.unanswered, 0)

    def test_ids_of_two_masters_differ(self) -> None:
        self.assertEqual(identity("8000010001", 7), "0001000107")
        self.assertEqual(identity("77", 12), "0000007712")

    def test_draining_silences_them(self) -> None:
        lock = online(interval=10.0)
        lock.drain(START)
        self.assertEqual(run(lock, 100), [])


class Unlocking(SynchronousTestCase):
    COMMAND = command(7, "8", "1", "1", "5", FIRST)

    def test_the_master_answers_then_the_sublock_opens_and_later_it_locks(self) -> None:
        lock = online(relock=20.0)
        frames = lock.receive(self.COMMAND, START)
        self.assertEqual(replies(frames), [f"({DEVICE},1,007,WLNET,8,0,{FIRST})"])
        opening = facts(run(lock, 4), LockEvent)
        self.assertEqual(
            [(one.code, one.method, one.action, one.peripheral) for one in opening],
            [(8, "lora", "unlocked", FIRST)],
        )
        self.assertEqual(run(lock, 15, 5), [])
        frames = run(lock, 6, 20)
        (closing,) = facts(frames, LockEvent)
        self.assertEqual((closing.code, closing.action, closing.peripheral), (1, "locked", FIRST))
        self.assertEqual(facts(frames, Peripheral)[0].lock_state, "locked")
        self.assertEqual((lock.counters.unlocked, lock.counters.sealed), (1, 1))

    def test_its_state_is_unlocked_meanwhile(self) -> None:
        lock = online(relock=500.0)
        lock.receive(self.COMMAND, START)
        states = {one.peripheral: one.lock_state for one in facts(run(lock, 4), Peripheral)}
        self.assertEqual(states, {FIRST: "unlocked"})
        self.assertFalse(lock.vehicle.unlocked)

    def test_a_repeated_serial_is_dropped(self) -> None:
        lock = online()
        self.assertEqual(len(lock.receive(self.COMMAND + self.COMMAND, START)), 1)
        self.assertEqual((lock.counters.commands, lock.counters.commands_dropped), (2, 1))

    def test_what_is_no_lock_of_this_master_does_not_open(self) -> None:
        lock = online()
        for serial, name in enumerate((SENSOR, "E03B60000A")):
            said = replies(lock.receive(command(serial, "8", "1", "1", "5", name), START))
            self.assertEqual(said, [f"({DEVICE},1,{serial:03d},WLNET,8,0,{name})"])
        self.assertEqual(facts(run(lock, 10), LockEvent), [])

    def test_refuse_mute_and_no_evidence(self) -> None:
        for options, said in (
            ({"refuse": True}, [f"({DEVICE},1,007,WLNET,8,0,{FIRST})"]),
            ({"mute": True}, []),
            ({"no_evidence": True}, [f"({DEVICE},1,007,WLNET,8,0,{FIRST})"]),
        ):
            lock = online(**options)
            self.assertEqual(replies(lock.receive(self.COMMAND, START)), said)
            self.assertEqual(facts(run(lock, 10), LockEvent), [])

    def test_commands_for_others_and_cut_off_ones_are_not_answered(self) -> None:
        lock = online()
        other = sentences.grouped("8000010002", 1, "WLNET", "8", "1", "1", "5", FIRST)
        self.assertEqual(lock.receive(other, START), [])
        self.assertEqual(lock.counters.unreadable, 1)
        for serial, words in enumerate(
            (("8",), ("8", "1", "1", "6", FIRST), ("8", "1", "1", "5"), ("1",), ("18", "1", "4", "5"), ("9",))
        ):
            self.assertEqual(lock.receive(command(serial, *words), START), [])


class Binding(SynchronousTestCase):
    def said(self, lock: VirtualLock, serial: int, *words: str) -> str:
        (text,) = replies(lock.receive(command(serial, *words), START))
        return text.removeprefix(f"({DEVICE},1,{serial:03d},WLNET,").removesuffix(")")

    def test_the_list_and_that_binding_replaces_the_whole_of_it(self) -> None:
        lock = online(interval=10.0)
        listed = ",".join(identity(DEVICE, number) for number in (1, 2, 3, 4))
        self.assertEqual(self.said(lock, 1, "1", "0"), f"1,0,4,{listed}")
        self.assertEqual(self.said(lock, 2, "1", "1", "2", FIRST, "E03B60000A"), "1,1,2")
        self.assertEqual(self.said(lock, 3, "1", "0"), f"1,0,2,{FIRST},E03B60000A")
        names = {one.peripheral for one in facts(run(lock, 30), Peripheral)}
        self.assertEqual(names, {FIRST, "E03B60000A"})
        self.assertEqual(self.said(lock, 4, "8", "1", "1", "5", "E03B60000A"), "8,0,E03B60000A")

    def test_binding_what_can_not_be_changes_nothing(self) -> None:
        lock = online()
        for serial, words in enumerate((("1", "1", "2", FIRST), ("1", "1", "1", "xyz"))):
            self.assertEqual(lock.receive(command(serial, *words), START), [])
        self.assertTrue(self.said(lock, 5, "1", "0").startswith("1,0,4,"))
        many = [f"{number:010X}" for number in range(81)]
        self.assertEqual(self.said(lock, 6, "1", "1", "81", *many), "1,1,4")

    def test_firmware_and_intervals(self) -> None:
        lock = online()
        self.assertEqual(self.said(lock, 1, "4"), "4,JT701D_SIM_1.0")
        self.assertEqual(self.said(lock, 2, "18", "1", "20", "5"), "18,1,20,5")
        self.assertEqual(len(facts(run(lock, 20), Peripheral)), 4)
        self.assertEqual(self.said(lock, 3, "18", "0"), "18,0,20,5")
        self.assertEqual(self.said(lock, 4, "2", "1", "30"), "2,1,30")
        self.assertEqual(self.said(lock, 5, "2", "0"), "2,0,30")

    def test_no_more_heartbeats(self) -> None:
        lock = online()
        self.assertEqual(self.said(lock, 1, "18", "1", "0", "0"), "18,1,0,0")
        self.assertEqual(facts(run(lock, 600), Peripheral), [])

    def test_nothing_is_bound_any_more(self) -> None:
        lock = online()
        self.assertEqual(self.said(lock, 1, "1", "1", "0"), "1,1,0")
        self.assertEqual(self.said(lock, 2, "1", "0"), "1,0,0")

    def test_firmware_over_ftp(self) -> None:
        for options, result in (({}, "0"), ({"refuse": True}, "3")):
            lock = online(**options)
            begin = ("9", "1", "ftp.example.com", "21", "me", "pw", "a.bin", "9", "77")
            for serial, words in enumerate((begin, ("9", "0"), ("9", "2"))):
                raw = sentences.grouped(DEVICE, serial, "OTA", *words)
                said = f"({DEVICE},1,{serial:03d},OTA,9,{words[1]},{result})"
                self.assertEqual(replies(lock.receive(raw, START)), [said])


class Strictness(SynchronousTestCase):
    def test_only_masters_have_them_and_not_too_many(self) -> None:
        self.assertRaises(ValueError, LockOptions, sublocks=1)
        self.assertRaises(ValueError, LockOptions, dialect="jt705", sublocks=1)
        self.assertRaises(ValueError, LockOptions, dialect="jt701", sublocks=81)
        self.assertRaises(ValueError, LockOptions, dialect="jt999")

    @settings(max_examples=300, deadline=None)
    @given(
        st.integers(0, 999),
        st.sampled_from(["1", "4", "8", "18", ""]),
        st.lists(st.text("0123456789ABCDEFé", max_size=10), max_size=6),
    )
    def test_arbitrary_commands_never_raise(self, serial: int, number: str, words: list[str]) -> None:
        lock = online()
        text = f"({DEVICE},1,{serial:03d},WLNET,{','.join([number, *words])})"
        read(lock.receive(text.encode("latin-1"), START))
        read(lock.tick(START + 5))
