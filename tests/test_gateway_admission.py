"""Which locks are heard: what becomes of the others, from a file and from the Redis set."""

import os
from pathlib import Path
from typing import Any

import txredisapi
from twisted.internet import defer
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway import gate
from jt709c_gateway.gateway.admission import FileAdmission, SetAdmission
from jt709c_gateway.gateway.core import Policy
from jt709c_gateway.gateway.device_list import read_device_list
from jt709c_gateway.redis.allowed import AllowedSet
from jt709c_gateway.redis.keys import Keys
from tests.committing import FakeLink, FakeRedis, Fleet, events_in
from tests.support import temporary_path
from tests.test_gateway_frames import PASSWORD_EVENT
from tests.vectors import binary, load, location, message, part

KNOWN, OTHER, STRANGER = "794308010679", "794308010680", "794308010999"
#: A report of a sensor behind a master, and the two ids in it.
SUBLOCK = next(one["frame"] for one in load("real.jsonl") if b"(8054201973,1,168,WLNET,5,2," in one["frame"])
MASTER, BEHIND = "8054201973", "1021220618"


def heartbeat(device: str = KNOWN, serial: int = 1) -> bytes:
    return binary(0x0002, serial=serial, wire=bytes.fromhex(device))


def report(device: str = KNOWN, serial: int = 1, items: bytes = b"") -> bytes:
    return binary(0x0200, location(items), serial, bytes.fromhex(device))


def states(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["device"], one["data"]["reason"]) for one in events if one["kind"] == "session"]


class AdmissionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        observe = lambda event: self.lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def log(self, word: str) -> list[str]:
        return [line for line in self.lines if word in line]

    def dropped(self, fleet: Fleet) -> dict[str, int]:
        return dict(fleet.gateway.counters.dropped)

    def reported(self, fleet: Fleet) -> list[tuple[str, str, str]]:
        """What `jt709c:malformed` gets: peer, reason, frame."""
        return [tuple(content[1:4]) for content in fleet.committed if content[0] == ""]


class FileCase(AdmissionCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = Path(temporary_path(self))
        self.write(KNOWN, OTHER)
        self.admission = FileAdmission(read_device_list(self.path))
        self.fleet = Fleet(admission=self.admission)
        self.gate = self.fleet.gateway.gate
        self.link = self.fleet.link()

    def write(self, *lines: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.path)

    def look(self, times: int = 2) -> None:
        """The file is looked at, so many times."""
        for _ in range(times):
            self.successResultOf(defer.ensureDeferred(self.gate.review()))


class StrangerTests(FileCase):
    """A lock that isn't admitted, over TCP."""

    def test_known(self) -> None:
        """A lock that is in the file is heard like any."""
        events = self.fleet.hear(self.link, report())
        self.assertEqual([one["kind"] for one in events], ["session", "location"])
        self.assertEqual(self.link.sent, [message(report()).answer])

    def test_stranger(self) -> None:
        """One that isn't gets no session, no event and no answer; its connection is closed and counted."""
        self.fleet.feed(self.link, report(STRANGER), report(STRANGER, 2))
        self.assertEqual(self.link.closed, ["not_admitted"])
        self.assertEqual(events_in(self.fleet.commit()), [])
        self.assertEqual((self.link.sent, len(self.fleet.gateway.sessions)), ([], 0))
        self.assertEqual(self.fleet.gateway.counters.frames.total(), 0)

    def test_reported_once(self) -> None:
        """It is reported once, however often it comes: a line in the log, and its frame without passwords."""
        for serial in range(1, 6):
            self.fleet.feed(self.fleet.link(), report(STRANGER, serial, PASSWORD_EVENT))
        self.fleet.commit()
        ((peer, reason, raw),) = self.reported(self.fleet)
        self.assertEqual((peer, reason), ("192.0.2.7:50112", "not_admitted"))
        self.assertEqual(raw, message(report(STRANGER, 1, PASSWORD_EVENT)).raw)
        self.assertNotIn(b"427819".hex(), raw)
        self.assertEqual(self.log(STRANGER), [f"lock {STRANGER} at 192.0.2.7:50112 is not admitted"])
        self.assertEqual(dict(self.fleet.gateway.counters.malformed), {})

    def test_sentence_reported(self) -> None:
        """A sentence is kept as the bytes that it was."""
        self.fleet.feed(self.link, b"(8000000001,@JT)")
        self.fleet.commit()
        self.assertEqual(self.reported(self.fleet)[0][2], b"(8000000001,@JT)".hex())

    def test_reports_are_bounded(self) -> None:
        """So many strangers in a minute are not all reported, and not all remembered; the rest is later."""
        self.patch(gate, "_MAX_REPORTED", 30)
        for number in range(100):
            self.fleet.feed(self.fleet.link(), heartbeat(f"79430802{number:04}"))
        self.assertEqual(len(self.log("not admitted")), 20)
        self.fleet.clock.advance(61)
        for number in range(19, 40):
            self.fleet.feed(self.fleet.link(), heartbeat(f"79430802{number:04}"))
        self.assertEqual(len(self.log("not admitted")), 40)
        self.assertEqual(len(self.log("794308020019")), 1)
        self.assertEqual(len(self.gate._reported), 30)
        self.fleet.commit()
        self.assertEqual(len(self.reported(self.fleet)), 40)

    def test_shared_connection(self) -> None:
        """A stranger on a connection closes it, and whoever else is on it is offline until it comes again."""
        self.fleet.hear(self.link, heartbeat(KNOWN), heartbeat(OTHER))
        self.fleet.feed(self.link, heartbeat(KNOWN, 2), heartbeat(STRANGER), heartbeat(OTHER, 2))
        events = events_in(self.fleet.commit())
        self.assertEqual(states(events), [(KNOWN, "not_admitted"), (OTHER, "not_admitted")])
        self.assertEqual([one["serial"] for one in events if one["kind"] == "heartbeat"], [2])
        self.fleet.hear(self.fleet.link(), heartbeat(OTHER, 2))
        self.assertEqual(len(self.fleet.gateway.sessions), 1)

    def test_sublock(self) -> None:
        """What stands behind a master is admitted with it, and not without."""
        self.write(MASTER)
        self.look()
        self.assertEqual({one["device"] for one in self.fleet.hear(self.link, SUBLOCK)}, {MASTER})
        self.write(BEHIND)
        self.look()
        self.assertEqual(self.link.closed, ["not_admitted"])

    def test_split_message(self) -> None:
        """A stranger is found out when its message is whole, and its parts are not answered."""
        body, wire = location(), bytes.fromhex(STRANGER)
        for number, piece in ((1, body[:20]), (2, body[20:])):
            frame = part(0x0200, piece, number, 2, number)
            self.fleet.feed(self.link, frame.replace(bytes.fromhex(KNOWN), wire))
        self.fleet.commit()
        self.assertEqual(self.link.sent, [])
        self.assertEqual(len(self.fleet.gateway.sessions), 0)


class StrangerDatagramTests(FileCase):
    """The same over UDP, where a sender's address is anybody's claim."""

    def test_stranger(self) -> None:
        """It gets no answer; its address is forgotten."""
        link = self.fleet.link("udp", "192.0.2.7:1")
        self.fleet.feed(link, report(STRANGER))
        self.fleet.commit()
        self.assertEqual((link.closed, link.sent), (["not_admitted"], []))
        self.assertNotIn(link.conversation, self.fleet.gateway.conversations)

    def test_at_a_locks_address(self) -> None:
        """At the address of a lock that is heard it is only let go: the lock doesn't notice."""
        link = self.fleet.link("udp", "192.0.2.7:1")
        self.fleet.hear(link, heartbeat(KNOWN))
        for _ in range(200):
            self.fleet.feed(link, heartbeat(STRANGER))
        self.assertEqual(states(self.fleet.hear(link, heartbeat(KNOWN, 2))), [])
        self.assertEqual(self.dropped(self.fleet), {"not_admitted": 200})
        self.assertEqual([len(one) for one in link.sent], [20, 20])


class FileTests(FileCase):
    def test_changed(self) -> None:
        """A new version counts once it has stayed the same for one look: who is in it no more is closed."""
        other = self.fleet.link()
        self.fleet.hear(self.link, heartbeat(KNOWN))
        self.fleet.hear(other, heartbeat(OTHER))
        self.write(OTHER, STRANGER)
        self.look(1)
        self.assertEqual(self.link.closed, [])
        self.look(1)
        self.assertEqual((self.link.closed, other.closed), (["not_admitted"], []))
        self.assertEqual(states(events_in(self.fleet.commit())), [(KNOWN, "not_admitted")])
        self.assertEqual(len(self.fleet.hear(self.fleet.link(), heartbeat(STRANGER))), 2)
        self.assertEqual(len(self.log("2 locks are admitted")), 1)

    def test_unchanged(self) -> None:
        """A file that stays the same is not read again."""
        self.path.chmod(0)
        self.look(5)
        self.assertEqual(self.lines, [])

    def test_written_in_place(self) -> None:
        """A file that is being written is left alone until that is done."""
        self.fleet.hear(self.link, heartbeat(KNOWN))
        with self.path.open("w") as file:
            file.write(f"{OTHER}\n")
            file.flush()
            self.look(1)
            file.write(f"{KNOWN}\n")
            file.flush()
            self.look(1)
        self.assertEqual(self.link.closed, [])
        self.look(2)
        self.assertEqual(self.link.closed, [])
        self.assertEqual(len(self.log("read again")), 1)

    def test_broken(self) -> None:
        """A version that can't be used is said once, with what is wrong; the one before goes on."""
        self.fleet.hear(self.link, heartbeat(KNOWN))
        for content, wrong in ((f"{OTHER}\nx", "line 2: 'x'"), ("", "at least one"), (None, "can't be read")):
            if content is None:
                self.path.unlink()
            else:
                self.write(content)
            self.lines.clear()
            self.look(5)
            (line,) = self.lines
            self.assertIn(wrong, line)
            self.assertIn("The 2 locks read before", line)
        self.assertEqual(self.link.closed, [])
        self.write(KNOWN)
        self.look()
        self.assertTrue(self.admission.admits(KNOWN))
        self.assertFalse(self.admission.admits(OTHER))

    def test_replaced_within_a_moment(self) -> None:
        """A file of the same size and date is another one when it is another file."""
        before = os.stat(self.path)
        self.write(OTHER, STRANGER)
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.look()
        self.assertTrue(self.admission.admits(STRANGER))


class SetCase(AdmissionCase):
    """The set in Redis, whose every reply the test gives."""

    def setUp(self) -> None:
        super().setUp()
        self.redis = FakeRedis()
        self.admission = SetAdmission(AllowedSet(self.redis, Keys("t")))
        self.fleet = Fleet(Policy(first_frame_timeout=10), admission=self.admission)
        self.gateway = self.fleet.gateway
        self.link = self.fleet.link()

    def asked(self, index: int = -1) -> list[str]:
        command, key, *devices = self.redis.calls[index]
        self.assertEqual((command, key), ("SMISMEMBER", "t:allowed"))
        return devices

    def kinds(self) -> list[str]:
        return [one["kind"] for one in events_in(self.fleet.commit())]


class SetTests(SetCase):
    def test_admitted(self) -> None:
        """A lock that comes waits for Redis to be asked; then all is heard that it sent, in order, once."""
        self.fleet.feed(self.link, heartbeat(serial=1), heartbeat(serial=2))
        self.assertFalse(self.link.reading)
        self.fleet.feed(self.link, heartbeat(serial=3))
        self.assertEqual(self.fleet.commit(), [])
        self.assertEqual(self.asked(), [KNOWN])
        self.redis.reply([1])
        events = events_in(self.fleet.commit())
        self.assertEqual([one["serial"] for one in events], [None, 1, 2, 3])
        self.assertTrue(self.link.reading)
        self.fleet.hear(self.link, heartbeat(serial=4))
        self.assertEqual(len(self.redis.calls), 1)
        self.assertEqual(self.gateway.counters.answers, 4)

    def test_alone(self) -> None:
        """Nor is anything lost when more comes than the one frame that waits."""
        self.fleet.feed(self.link, heartbeat(serial=1))
        self.fleet.feed(self.link, heartbeat(serial=2))
        self.redis.reply([1])
        self.assertEqual([one["serial"] for one in events_in(self.fleet.commit())], [None, 1, 2])

    def test_not_admitted(self) -> None:
        """One that isn't in the set is turned away as any stranger is."""
        self.fleet.feed(self.link, report(STRANGER), report(STRANGER, 2))
        self.redis.reply([0])
        self.assertEqual(self.link.closed, ["not_admitted"])
        self.assertEqual(events_in(self.fleet.commit()), [])
        self.assertEqual([one[1] for one in self.reported(self.fleet)], ["not_admitted"])
        self.assertEqual(self.link.sent, [])

    def test_two_on_one(self) -> None:
        """Each device on a connection is asked about when it comes."""
        self.fleet.feed(self.link, heartbeat(KNOWN), heartbeat(OTHER), heartbeat(KNOWN, 2))
        self.redis.reply([1])
        self.redis.reply([1])
        self.assertEqual([self.asked(0), self.asked(1)], [[KNOWN], [OTHER]])
        self.assertEqual(self.kinds(), ["session", "heartbeat", "session", "heartbeat", "heartbeat"])

    def test_together(self) -> None:
        """While Redis is being asked, what comes gathers for one call."""
        links = [self.fleet.link() for _ in range(1200)]
        for number, link in enumerate(links):
            self.fleet.feed(link, heartbeat(f"79430802{number:04}"))
        for size in (1, 500, 500, 199):
            self.assertEqual(len(self.asked()), size)
            self.redis.reply([1] * size)
        self.assertEqual(len(self.redis.calls), 4)
        self.assertEqual(len(self.gateway.sessions), 1200)

    def test_split_message(self) -> None:
        """The last part of a split message is not taken apart twice."""
        body = location()
        self.fleet.feed(self.link, part(0x0200, body[:20], 1, 2, 1))
        self.fleet.feed(self.link, part(0x0200, body[20:], 2, 2, 2))
        self.redis.reply([1])
        self.assertEqual(self.kinds(), ["session", "location"])
        self.assertEqual(len(self.link.sent[0]), 40)

    def test_known_moves(self) -> None:
        """One that is here already is not asked about when it comes over another connection."""
        self.fleet.feed(self.link, heartbeat())
        self.redis.reply([1])
        events = self.fleet.hear(self.fleet.link(), heartbeat(serial=2))
        self.assertIn((KNOWN, "newer connection"), states(events))
        self.assertEqual(len(self.redis.calls), 1)

    def test_gone_meanwhile(self) -> None:
        """A connection that ends while it waits is not asked about any more, and nothing follows."""
        self.fleet.feed(self.link, heartbeat())
        self.fleet.feed(self.fleet.link(), heartbeat(OTHER))
        self.link.conversation.closed("closed")
        self.assertEqual(self.admission.asking, 1)
        self.redis.reply([1])
        self.redis.reply([1])
        self.assertEqual([one["device"] for one in events_in(self.fleet.commit())], [OTHER] * 2)

    def test_draining(self) -> None:
        """A gateway that leaves takes nothing more, whatever Redis says."""
        self.fleet.feed(self.link, heartbeat(), heartbeat())
        self.gateway.draining = True
        self.redis.reply([1])
        self.assertEqual(self.fleet.commit(), [])

    def test_full(self) -> None:
        """One that is admitted when there is no room waits for that as well."""
        self.fleet = Fleet(admission=self.admission, max_unacked=1)
        first, second = self.fleet.link(), self.fleet.link()
        self.fleet.feed(first, heartbeat(), heartbeat(serial=2))
        self.fleet.feed(second, heartbeat(OTHER), heartbeat(OTHER, 2))
        self.redis.reply([1])
        self.redis.reply([1])
        self.assertFalse(second.reading)
        self.fleet.commit()
        while self.redis.pending:
            self.redis.reply([1])
            self.fleet.commit()
        events = events_in(self.fleet.committed)
        heard = [(one["device"], one["serial"]) for one in events if one["kind"] == "heartbeat"]
        self.assertEqual(sorted(heard), [(KNOWN, 1), (KNOWN, 2), (OTHER, 1), (OTHER, 2)])
        self.assertTrue(first.reading and second.reading)


class OutageTests(SetCase):
    def test_away(self) -> None:
        """While Redis is away a lock waits, and is heard when it is back."""
        self.fleet.feed(self.link, heartbeat())
        self.redis.fail(txredisapi.ConnectionError("away"))
        self.assertEqual((self.link.closed, self.fleet.commit()), ([], []))
        self.admission.wake()
        self.redis.reply([1])
        self.assertEqual(self.kinds(), ["session", "heartbeat"])
        self.assertEqual(self.log("admitted"), [])

    def test_bounded(self) -> None:
        """It doesn't wait longer than for its first frame."""
        self.fleet.feed(self.link, heartbeat())
        self.redis.fail(txredisapi.ConnectionError("away"))
        self.fleet.clock.advance(11)
        self.gateway.sweep()
        self.assertEqual((self.link.closed, self.admission.asking), (["admission"], 0))

    def test_refused(self) -> None:
        """When Redis refuses to tell, that is said once; nobody is admitted, and nobody is sent away."""
        self.fleet.feed(self.link, heartbeat())
        self.redis.fail(txredisapi.ResponseError("WRONGTYPE not a set"))
        for _ in range(3):
            self.review(txredisapi.ResponseError("WRONGTYPE not a set"))
        (line,) = self.log("WRONGTYPE")
        self.assertIn("t:allowed", line)
        self.assertEqual(self.link.closed, [])
        self.review([1])
        self.assertEqual(self.kinds(), ["session", "heartbeat"])

    def review(self, *replies: Any) -> None:
        """One review, in which Redis says this to every question."""
        reviewing = defer.ensureDeferred(self.gateway.gate.review())
        for reply in replies:
            while self.redis.pending:
                self.redis.fail(reply) if isinstance(reply, Exception) else self.redis.reply(reply)
        self.successResultOf(reviewing)

    def test_taken_out(self) -> None:
        """Who is taken out of the set is closed at the next review, and nobody else."""
        other = self.fleet.link()
        for link, device in ((self.link, KNOWN), (other, OTHER)):
            self.fleet.feed(link, heartbeat(device))
            self.redis.reply([1])
        self.review([1, 1])
        self.review([0, 1])
        self.assertEqual((self.link.closed, other.closed), (["not_admitted"], []))
        self.assertEqual(len(self.log("1 locks are admitted no more")), 1)

    def test_review_in_parts(self) -> None:
        """However many are here, Redis is asked about so many at a time."""
        for number in range(1200):
            self.fleet.feed(self.fleet.link(), heartbeat(f"79430802{number:04}"))
        while self.redis.pending:
            self.redis.reply([1] * len(self.asked()))
        before = len(self.redis.calls)
        reviewing = defer.ensureDeferred(self.gateway.gate.review())
        while self.redis.pending:
            self.redis.reply([int(device != "794308020777") for device in self.asked()])
        self.successResultOf(reviewing)
        self.assertEqual(len(self.redis.calls) - before, 3)
        self.assertEqual(len(self.gateway.sessions), 1199)


class SetDatagramTests(SetCase):
    def setUp(self) -> None:
        super().setUp()
        self.link: FakeLink = self.fleet.link("udp", "192.0.2.7:1")

    def test_admitted(self) -> None:
        """A datagram of a lock that comes is heard when Redis has said so, and answered."""
        self.fleet.feed(self.link, heartbeat(serial=1), heartbeat(serial=2))
        self.redis.reply([1])
        self.assertEqual(self.kinds(), ["session", "heartbeat", "heartbeat"])
        self.assertEqual([len(one) for one in self.link.sent], [40])

    def test_not_admitted(self) -> None:
        """One of a stranger is not answered, and its address forgotten."""
        self.fleet.feed(self.link, heartbeat(STRANGER))
        self.redis.reply([0])
        self.assertEqual((self.link.closed, self.kinds(), self.link.sent), (["not_admitted"], [], []))

    def test_keeps_nobody_waiting(self) -> None:
        """A stranger's datagram at a lock's address keeps the lock's own from nothing."""
        self.fleet.feed(self.link, heartbeat())
        self.redis.reply([1])
        self.fleet.feed(self.link, heartbeat(STRANGER))
        self.assertIn("heartbeat", [one["kind"] for one in self.fleet.hear(self.link, heartbeat(serial=2))])
        self.redis.reply([0])
        self.assertEqual(self.link.closed, [])
        self.assertEqual(self.dropped(self.fleet), {"not_admitted": 1})

    def test_stranger_first(self) -> None:
        """Nor does a stranger's datagram that came before the lock's first one."""
        self.fleet.feed(self.link, heartbeat(STRANGER))
        self.fleet.feed(self.link, heartbeat(KNOWN))
        self.fleet.feed(self.link, b"noise")
        self.redis.reply([0])
        self.redis.reply([1])
        self.assertEqual(self.kinds(), ["session", "heartbeat"])
        self.assertEqual((len(self.link.sent), self.link.closed), (1, []))

    def test_bounded(self) -> None:
        """While Redis is away only so many datagrams wait; further ones are let go."""
        self.fleet.feed(self.link, heartbeat())
        self.redis.fail(txredisapi.ConnectionError("away"))
        links = [self.fleet.link("udp", f"192.0.2.8:{number}") for number in range(600)]
        for number, link in enumerate(links):
            self.fleet.feed(link, heartbeat(f"79430802{number:04}"))
            while self.redis.pending:
                self.redis.fail(txredisapi.ConnectionError("away"))
        self.assertEqual(self.admission.asking, 500)
        self.assertEqual([link.closed for link in links], [[]] * 499 + [["admission"]] * 101)

    def test_full(self) -> None:
        """One that is admitted when there is no room is let go, for its lock to send it again."""
        self.fleet.feed(self.link, heartbeat())
        self.fleet.committer.full = True
        self.redis.reply([1])
        self.assertEqual((self.link.closed, self.kinds()), (["unacked"], []))
