"""Which locks are heard: what becomes of the others, from a file and from the Redis set."""

import os
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway import session_admission
from jt709c_gateway.gateway.admission import FileAdmission
from jt709c_gateway.gateway.allowlist_file import read_allowlist
from tests.support import temporary_path
from tests.support.committer import Fleet, events_in
from tests.support.gateway_frames import PASSWORD_EVENT
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
        self.admission = FileAdmission(read_allowlist(self.path))
        self.fleet = Fleet(admission=self.admission)
        self.session_admission = self.fleet.gateway.session_admission
        self.link = self.fleet.link()

    def write(self, *lines: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.path)

    def look(self, times: int = 2) -> None:
        """The file is looked at, so many times."""
        for _ in range(times):
            self.successResultOf(defer.ensureDeferred(self.session_admission.review()))


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
        self.patch(session_admission, "_MAX_REPORTED", 30)
        for number in range(100):
            self.fleet.feed(self.fleet.link(), heartbeat(f"79430802{number:04}"))
        self.assertEqual(len(self.log("not admitted")), 20)
        self.fleet.clock.advance(61)
        for number in range(19, 40):
            self.fleet.feed(self.fleet.link(), heartbeat(f"79430802{number:04}"))
        self.assertEqual(len(self.log("not admitted")), 40)
        self.assertEqual(len(self.log("794308020019")), 1)
        self.assertEqual(len(self.session_admission._reported), 30)
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
        self.assertNotIn(link.connection, self.fleet.gateway.connections)

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
