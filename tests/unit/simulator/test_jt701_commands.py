"""Commands to a virtual jt701 master that move nothing: what it says to each."""

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.events import Location
from jt709c_gateway.simulator.lock import VirtualLock
from tests.support import simulator as simulator_support
from tests.support.simulator import START, facts, replies

DEVICE = "8000010001"


def online(**options: Any) -> VirtualLock:
    return simulator_support.online(DEVICE, dialect="jt701", **options)


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
