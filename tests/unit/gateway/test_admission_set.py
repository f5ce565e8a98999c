"""Which locks are admitted by the set in Redis."""

from typing import Any

import txredisapi
from twisted.internet import defer

from jt709c_gateway.gateway.admission import SetAdmission
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.redis.allowlist import RedisAllowlist
from jt709c_gateway.redis.keys import Keys
from tests.support.committer import FakeLink, FakeRedis, Fleet, events_in
from tests.unit.gateway.test_admission import KNOWN, OTHER, STRANGER, AdmissionCase, heartbeat, report, states
from tests.vectors import location, part


class SetCase(AdmissionCase):
    """The set in Redis, whose every reply the test gives."""

    def setUp(self) -> None:
        super().setUp()
        self.redis = FakeRedis()
        self.admission = SetAdmission(RedisAllowlist(self.redis, Keys("t")))
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
        self.link.connection.closed("closed")
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
        self.admission.on_redis_ready()
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
        reviewing = defer.ensureDeferred(self.gateway.session_admission.review())
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
        self.assertEqual(len(self.log("1 locks are no longer admitted")), 1)

    def test_review_in_parts(self) -> None:
        """However many are here, Redis is asked about so many at a time."""
        for number in range(1200):
            self.fleet.feed(self.fleet.link(), heartbeat(f"79430802{number:04}"))
        while self.redis.pending:
            self.redis.reply([1] * len(self.asked()))
        before = len(self.redis.calls)
        reviewing = defer.ensureDeferred(self.gateway.session_admission.review())
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
