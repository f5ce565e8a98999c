"""A repeated position: under another serial, or from the lock's memory (docs/redis.rst)."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.committer import NOW, Teller
from tests.support.masters import FakeMaster
from tests.unit.gateway.test_lock_clock import batch
from tests.unit.redis.test_commit_script import CARD, ScriptCase, report
from tests.vectors import MOMENT, binary, location, part
from tests.vectors.lines import Line, case, one_test_each, sent


def later(seconds: float) -> datetime:
    return MOMENT + timedelta(seconds=seconds)


class RepeatCase(ScriptCase):
    def marks(self, kind: str = "location") -> list[tuple[Any, Any]]:
        """Return the serial of each event and that of the report which it repeats."""
        return [(one["serial"], one.get("repeats")) for one in self.script.events(kind)]


@one_test_each([case("P6")])
class RepeatVectorTests(RepeatCase):
    def check(self, line: Line) -> None:
        """Live, under another serial, and from the memory: the second and third name the first."""
        self.teller.wall = datetime(2026, 3, 1, 8, 0, 5, tzinfo=UTC)
        for frame in sent(line):
            self.commit(frame)
            self.teller.wall += timedelta(seconds=30)
        self.assertEqual(self.marks(), [(1, None), (7, 1), (8, 1)])
        first, *others = self.script.events("location")
        for other in others:
            self.assertEqual(other["data"], first["data"])
        self.assertEqual(list(others[0])[-2:], ["repeats", "data"])


class RepeatTests(RepeatCase):
    def test_in_one_batch(self) -> None:
        """Also when both arrive in one batch."""
        self.commit(report(1), report(2), report(2))
        self.assertEqual(self.marks(), [(1, None), (2, 1)])

    def test_the_same_bytes(self) -> None:
        """The same bytes are published once."""
        self.assertEqual(self.commit(report(1), report(1), report(2), report(2), report(1)), 3)
        self.assertEqual(self.marks(), [(1, None), (2, 1)])

    def test_anything_else_is_another_report(self) -> None:
        """A different second, place, alarm, status or item makes another report."""
        self.commit(
            report(1),
            report(2, time=later(1)),
            report(3, latitude=1.0),
            report(4, alarm_bits=1 << 7),
            report(5, status=0),
            report(6, items=bytes.fromhex("d40155")),
        )
        self.assertEqual({mark for _, mark in self.marks()}, {None})

    def test_another_lock(self) -> None:
        self.commit(report(1))
        self.commit(report(2, wire=bytes.fromhex("794308010680")))
        self.assertEqual({mark for _, mark in self.marks()}, {None})

    def test_at_another_gateway(self) -> None:
        self.commit(report(1))
        self.script.commit(Teller("gw2").contents(report(2)), "gw2", "boot2")
        self.assertEqual(self.marks(), [(1, None), (2, 1)])

    def test_all_its_events(self) -> None:
        """The lock event of a repeated report is marked as well, in the stream and in the audit trail."""
        self.commit(report(1, items=CARD), report(2, items=CARD))
        self.assertEqual(self.marks("lock"), [(1, None), (2, 1)])
        history = [one["event"] for one in self.script.stream(self.keys.history("794308010679"))]
        self.assertEqual(["repeats" in one for one in history], [False, True])

    def test_some_of_a_memory(self) -> None:
        """In a message with several reports the repeated ones are marked."""
        self.commit(report(1, time=later(0)), report(2, time=later(60), items=CARD))
        bodies = [location(time=later(-60)), location(time=later(0)), location(CARD, time=later(60))]
        self.commit(batch(1, 9, *bodies, location(time=later(120))))
        self.assertEqual(self.marks()[2:], [(9, None), (9, 1), (9, 2), (9, None)])
        self.assertEqual(self.marks("lock"), [(2, None), (9, 2)])

    def test_first_in_a_memory(self) -> None:
        """Positions of a memory are recognised, too: in another one, live, and in one that comes again."""
        bodies = [location(time=later(second)) for second in (-60, 0)] + [location(CARD, time=later(60))]
        self.commit(batch(1, 9, *bodies))
        self.assertEqual(self.marks() + self.marks("lock"), [(9, None)] * 4)
        self.assertEqual(self.commit(batch(1, 9, *bodies)), 1)
        self.commit(
            batch(1, 10, *bodies[1:], location(time=later(120))), report(11, items=CARD, time=later(60))
        )
        self.assertEqual(self.marks()[3:], [(10, 9), (10, 9), (10, None), (11, 9)])
        self.assertEqual(self.marks("lock")[1:], [(10, 9), (11, 9)])

    def test_long_memory(self) -> None:
        """However many positions it has, half of the room is for reports before it."""
        self.commit(*[report(serial, time=later(serial)) for serial in range(32)])
        bodies = [location(time=later(1000 + second)) for second in range(120)]
        whole = b"\x00\x78\x01" + b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
        pieces = [whole[at : at + 1000] for at in range(0, len(whole), 1000)]
        for number, piece in enumerate(pieces, 1):
            self.commit(part(0x0704, piece, 500, len(pieces), number))
        self.assertEqual(len(self.marks()), 32 + 120)
        self.assertEqual(self.commit(*[report(serial, time=later(serial)) for serial in range(1, 32)]), 31)
        self.commit(report(600, time=later(1119)), report(601, time=later(1000)))
        self.assertEqual(self.marks()[152:], [(600, 500), (601, None)])

    def test_without_a_time(self) -> None:
        """A clock that was never set, or stands still, produces equal reports of different moments."""
        for time in (None, datetime(2000, 1, 1, tzinfo=UTC), datetime(2014, 12, 31, tzinfo=UTC)):
            body = location(CARD, time=time or MOMENT)
            if time is None:
                body = body[:22] + b"\x99" * 6 + body[28:]
            self.commit(*[binary(0x0200, body, serial) for serial in (21, 22)])
            self.commit(batch(1, 23, body, body))
        self.assertEqual({mark for _, mark in self.marks() + self.marks("lock")}, {None})

    def test_a_master(self) -> None:
        """A `$` record live and stored."""
        master = FakeMaster.__new__(FakeMaster)
        master.device, master._serial = "8054201973", 0
        first = master.location(at=NOW.timestamp())
        second = bytearray(master.location(at=NOW.timestamp()))
        self.assertEqual(second[7] & 15, 1)
        second[7] = second[7] & 0xF0 | 3
        self.commit(first, bytes(second))
        self.assertEqual(self.marks(), [(1, None), (2, 1)])
        self.assertEqual([one["stored"] for one in self.script.events("location")], [False, True])

    def test_several_records_of_a_master(self) -> None:
        """Each record of a frame with several is recognised."""
        record = bytes.fromhex(
            "18042116225922348310113550543F12980000002D060000000020E028109228661F000100000F0F0F0F0F0F0F0F000001CC01"
        )
        other = bytes([0x17]) + record[1:]
        for records in ([other, record], [record], [record, other]):
            data = b"".join(one + bytes([0x50 + len(records)]) for one in records)
            head = bytes.fromhex("2480006200111913") + len(data).to_bytes(2, "big")
            self.commit(head + data)
        self.assertEqual(self.marks(), [(0x52, None), (0x52, None), (0x51, 0x52), (0x52, 0x52), (0x52, 0x52)])

    def test_serials_of_all_sizes(self) -> None:
        for serial in (0, 65535, 256):
            self.commit(report(serial, time=later(serial)), report(7, time=later(serial)))
            self.assertEqual(self.marks()[-1], (7, serial))


class WrongTypeTests(RepeatCase):
    """A key of another type, and its repair."""

    def test_published_once(self) -> None:
        """A report that could not be written completely was not published; its repetition is, once."""
        for name in ("device", "recent", "track", "history"):
            device = f"79430802{['device', 'recent', 'track', 'history'].index(name):04d}"
            key = f"{self.keys.prefix}:{name}:{device}"
            frame = report(1, items=CARD, wire=bytes.fromhex(device), alarm_bits=1 << 7)
            wrong = ("LPUSH", key, "x") if name != "track" else ("SET", key, "x")
            self.client.call(*wrong)
            teller = Teller()
            refused = self.script.commit(teller.contents(frame))
            self.assertIsInstance(refused, list, name)
            self.client.call("DEL", key)
            self.script.commit(teller.contents(frame))
            self.script.commit(teller.contents(frame))
            found = [one for one in self.script.events("location") if one["device"] == device]
            self.assertEqual([one.get("repeats") for one in found], [None], name)
            locks = [one for one in self.script.events("lock") if one["device"] == device]
            self.assertEqual(len(locks), 1, name)
