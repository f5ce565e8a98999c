"""What a commit waits for before it counts: parsed, asked for, and not answered before it is reached."""

from typing import Any

import txredisapi
from twisted.internet import task
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.batch import MAX_BATCH
from jt709c_gateway.redis.committer import MAX_UNDURABLE
from jt709c_gateway.redis.durability import Durability, NotDurable, Shortfall
from jt709c_gateway.redis.scripts import COMMIT
from tests.support.committer import FakeRedis, make_committer
from tests.unit.redis.test_committer import Link, record


class ValueTests(SynchronousTestCase):
    def test_parse(self) -> None:
        """Three forms, each with the command that goes out behind the script."""
        self.assertFalse(Durability.parse("server").waits)
        for text, command in {
            "fsync": ("WAITAOF", 1, 0, 5000),
            "replicas:1": ("WAIT", 1, 5000),
            "replicas:12": ("WAIT", 12, 5000),
        }.items():
            parsed = Durability.parse(text)
            self.assertTrue(parsed.waits)
            self.assertEqual(parsed.command(), command)

    def test_refused(self) -> None:
        """Anything else is refused with what is right."""
        for text in ("", "SERVER", "replicas", "replicas:0", "replicas:01", "replicas:1000", "fsync ", "2"):
            error = self.assertRaises(ValueError, Durability.parse, text)
            self.assertIn("replicas:1", str(error))

    def test_bounded(self) -> None:
        """However short the time, Redis is never asked to wait for ever."""
        self.assertEqual(Durability(replicas=1, timeout=0.00001).command(), ("WAIT", 1, 1))
        self.assertEqual(Durability(fsync=True, timeout=0.25).command(), ("WAITAOF", 1, 0, 250))

    def test_check(self) -> None:
        """What a reply says."""
        disk, two = Durability(fsync=True), Durability(replicas=2)
        disk.check([1, 0])
        two.check(2)
        two.check(3)
        for durability, reply, shortfall in (
            (disk, [0, 0], Shortfall.SYNC),
            (two, 1, Shortfall.REPLICAS),
            (two, txredisapi.ResponseError("UNBLOCKED"), Shortfall.REFUSED),
        ):
            error = self.assertRaises(NotDurable, durability.check, reply)
            self.assertIs(error.shortfall, shortfall)
        self.assertRaises(txredisapi.ConnectionError, two.check, txredisapi.ConnectionError("lost"))


class CommitCase(SynchronousTestCase):
    durability = Durability(replicas=1, timeout=2.0)

    def setUp(self) -> None:
        self.clock = task.Clock()
        self.redis = FakeRedis()
        self.committer = make_committer(self.clock, self.redis, durability=self.durability)
        self.link = Link()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("jt709c_gateway.redis"):
            self.lines.append(formatEvent(event))

    def submit(self, *names: Any, flush: bool = True) -> None:
        """Records that are answered with their own names."""
        for name in names:
            self.committer.submit(*record(name, self.link, f"{name}".encode()))
        if flush:
            self.clock.advance(0)

    def names(self, index: int = -1) -> list[str]:
        return [content[0] for content in self.redis.batch(index)]

    def numbers(self) -> list[int]:
        """The numbers of all batches sent, in order."""
        return [self.redis.number(index) for index in range(len(self.redis.calls))]

    def slow(self, seconds: float = 1.0) -> None:
        """Have a wait take so long, so that further calls are coupled."""
        self.submit("slow")
        self.clock.advance(seconds)
        self.redis.reply([0, 1])
        self.redis.calls.clear()
        self.redis.behind.clear()
        self.link.writes.clear()

    @property
    def shortfalls(self) -> dict[str, int]:
        return dict(self.committer.statistics.shortfalls)


class WaitTests(CommitCase):
    def test_one_write(self) -> None:
        """The wait goes out with the script, in one write, and bounded."""
        self.submit("a", "b")
        (call,) = self.redis.calls
        self.assertEqual(call[:2], ("EVALSHA", COMMIT.hash))
        self.assertEqual(self.redis.behind, [[("WAIT", 1, 2000)]])
        self.assertEqual(self.link.writes, [])
        self.redis.reply([0, 1])
        self.assertEqual(self.link.writes, [[b"a", b"b"]])
        self.assertEqual(self.committer.unacked, 0)

    def test_nobody_asked(self) -> None:
        """By default the script goes out alone."""
        committer = make_committer(self.clock, self.redis)
        committer.submit(*record("a", self.link, b"a"))
        self.clock.advance(0)
        self.assertEqual(self.redis.behind, [[]])
        self.redis.reply(0)
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_too_few_replicas(self) -> None:
        """Too few replicas: no answer, no `then`; the same batch goes out soon, and is waited for anew."""
        told: list[bool] = []
        self.committer.submit(*record("a", self.link, b"a", told.append))
        self.clock.advance(0)
        for _ in range(3):
            self.clock.advance(2)
            self.redis.reply([-1 if len(self.redis.calls) > 1 else 0, 0])
            self.submit("later")
            calls = len(self.redis.calls)
            self.clock.pump([0.1] * 2)
            self.assertEqual(len(self.redis.calls), calls + 1)
        self.assertEqual((self.link.writes, told), ([], []))
        self.assertEqual(set(self.numbers()), {1})
        self.assertEqual(self.redis.behind[-1], [("WAIT", 1, 2000)])
        self.assertEqual(self.shortfalls, {"replicas": 3})
        self.redis.reply([-1, 1])
        self.assertEqual((self.link.writes, told), ([[b"a"]], [True]))
        self.assertEqual(self.names(), ["later"] * 3)

    def test_said_now_and_then(self) -> None:
        """It is logged, with the reason, at most every ten seconds."""
        self.submit("a")
        for _ in range(40):
            self.clock.advance(0.9)
            self.redis.reply([0, 0])
            self.clock.advance(0.1)
        said = [line for line in self.lines if "--durability" in line]
        self.assertTrue(3 <= len(said) <= 5, said)
        self.assertIn("0 of 1 replicas had it within 2 s", said[0])

    def test_refused(self) -> None:
        """A server that can't wait is asked again less and less often."""
        self.submit("a")
        for _ in range(60):
            if self.redis.pending:
                self.redis.reply([0, txredisapi.ResponseError("ERR unknown command 'WAIT'")])
            self.clock.advance(0.5)
        self.assertTrue(5 < len(self.redis.calls) < 20, len(self.redis.calls))
        self.assertEqual(self.link.writes, [])
        self.assertEqual(list(self.shortfalls), ["refused"])
        self.assertIn("unknown command", self.lines[0])

    def test_script_refused(self) -> None:
        """What the script itself is refused for counts as that, whatever the wait says."""
        self.submit("a")
        self.redis.reply([txredisapi.ResponseError("NOREPLICAS Not enough good replicas to write."), 1])
        self.assertEqual(self.shortfalls, {})
        self.assertIn("NOREPLICAS", self.lines[0])
        self.clock.pump([0.1] * 2)
        self.redis.reply([0, 1])
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_script_forgotten(self) -> None:
        """A server that doesn't know the script gets it, and then the same batch."""
        self.submit("a")
        self.redis.reply([txredisapi.ResponseError("NOSCRIPT No matching script."), 0])
        self.assertEqual(self.redis.calls[1], ("SCRIPT", "LOAD", COMMIT.source))
        self.redis.reply(COMMIT.hash.encode())
        self.redis.reply([0, 1])
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_connection_lost(self) -> None:
        """Lost while it waits: the batch was applied perhaps, and goes out again when there is a server."""
        for replies in (
            [0, txredisapi.ConnectionError("lost")],
            [txredisapi.ConnectionError("lost"), txredisapi.ConnectionError("lost")],
        ):
            self.submit("a")
            self.redis.connected = False
            self.redis.reply(replies)
            self.clock.advance(60)
            self.redis.connected = True
            self.committer.resume()
            self.clock.advance(0)
            self.assertEqual(self.redis.calls[-1], self.redis.calls[-2])
            self.assertEqual(self.link.writes, [])
            self.redis.reply([-1, 1])
            self.assertEqual(self.link.writes.pop(), [b"a"])
        self.assertEqual(self.shortfalls, {})

    def test_failed_records(self) -> None:
        """A record that was not written is not answered, however durable its batch is."""
        self.submit("a", "b", "c")
        self.redis.reply([[0, 1, b"WRONGTYPE"], 1])
        self.assertEqual(self.link.writes, [[b"a", b"", b"c"]])

    def test_full(self) -> None:
        """What waits to be durable counts as waiting."""
        self.committer.max_unacked = 3
        self.submit("a", "b", "c")
        self.redis.reply([0, 0])
        self.assertTrue(self.committer.full)
        self.clock.pump([0.1] * 2)
        self.redis.reply([-1, 1])
        self.assertFalse(self.committer.full)


class DiskTests(CommitCase):
    durability = Durability(fsync=True)

    def test_disk(self) -> None:
        """Answered once the server says that its disk has it."""
        self.submit("a")
        self.assertEqual(self.redis.behind, [[("WAITAOF", 1, 0, 5000)]])
        self.redis.reply([0, [0, 0]])
        self.assertEqual(self.link.writes, [])
        self.assertEqual(self.shortfalls, {"sync": 1})
        self.clock.pump([0.1] * 2)
        self.redis.reply([-1, [1, 0]])
        self.assertEqual(self.link.writes, [[b"a"]])


class TrainTests(CommitCase):
    """Where waiting takes long, several batches are written before one wait."""

    def many(self, batches: int) -> None:
        self.submit(*range(batches * MAX_BATCH), flush=False)
        # No two of a link are kept together here.
        self.committer._waiting = type(self.committer._waiting)(
            (packed, Link(), answer, then) for packed, _, answer, then in self.committer._waiting
        )
        self.clock.advance(0)

    def test_one_wait(self) -> None:
        """All that is there is written, with one wait behind the last; then all of it is answered."""
        self.slow()
        self.submit(*range(MAX_BATCH), flush=False)
        other = Link()
        self.committer.submit(*record("other", other, b"other"))
        self.clock.advance(0)
        self.assertEqual(self.redis.behind, [[]])
        self.redis.reply(0)
        self.assertEqual(self.redis.behind, [[], [("WAIT", 1, 2000)]])
        self.assertEqual((self.link.writes, other.writes), ([], []))
        self.assertEqual(self.committer.unacked, MAX_BATCH + 1)
        self.redis.reply([0, 1])
        self.assertEqual([len(write) for write in self.link.writes], [MAX_BATCH])
        self.assertEqual(other.writes, [[b"other"]])
        self.assertEqual(self.committer.unacked, 0)

    def test_as_long_as_waiting_takes(self) -> None:
        """However much there is, after as much time as waiting takes there is a wait."""
        self.slow(1.0)
        self.many(12)
        for _ in range(5):
            self.clock.advance(0.24)
            self.redis.reply(0 if not self.redis.behind[-1] else [0, 1])
        self.assertEqual([len(behind) for behind in self.redis.behind[:5]], [0, 0, 0, 0, 0])
        self.assertEqual(len(self.redis.behind[5]), 1)

    def test_bounded(self) -> None:
        """A train has an end, however long waiting takes."""
        self.slow(600)
        self.many(MAX_UNDURABLE + 5)
        while not self.redis.behind[-1]:
            self.redis.reply(0)
        self.assertEqual(len(self.redis.calls), MAX_UNDURABLE)

    def three(self) -> None:
        """Two batches written, the third on its way with the wait; some records of the first failed."""
        self.slow()
        self.submit(*range(MAX_BATCH), flush=False)
        self.others = [Link() for _ in range(MAX_BATCH + 1)]
        for number, other in enumerate(self.others):
            self.committer.submit(*record(f"other{number}", other, b"x"))
        self.clock.advance(0)
        self.redis.reply([0, 7, b"WRONGTYPE"])
        self.redis.reply(0)
        self.assertEqual([len(behind) for behind in self.redis.behind], [0, 0, 1])

    def check_answers(self, first: bytes) -> None:
        self.assertEqual(len(self.link.writes), 1)
        self.assertEqual(self.link.writes[0][7], first)
        self.assertEqual([one for one in self.others if one.writes != [[b"x"]]], [])
        self.assertEqual(self.committer.unacked, 0)

    def test_not_durable(self) -> None:
        """A wait in vain: all of the train goes out again, in order, with one wait behind it."""
        self.three()
        self.redis.reply([0, 0])
        self.assertEqual(self.link.writes, [])
        self.clock.pump([0.1] * 2)
        for _ in range(2):
            self.assertEqual(self.redis.behind[-1], [])
            self.redis.reply(-1)
        self.assertEqual(self.numbers(), [2, 3, 4] * 2)
        self.redis.reply([-1, 1])
        # What had failed when it was written has failed, though the server has forgotten it.
        self.check_answers(b"")

    def test_fail_over(self) -> None:
        """A server that has none of it writes all of it, and its word on what failed counts."""
        self.three()
        self.redis.connected = False
        self.redis.reply([0, txredisapi.ConnectionError("lost")])
        self.redis.connected = True
        self.committer.resume()
        self.clock.advance(0)
        self.redis.reply(0)
        self.redis.reply(0)
        self.redis.reply([0, 1])
        self.assertEqual(self.numbers(), [2, 3, 4] * 2)
        self.check_answers(b"7")

    def test_lost_between_calls(self) -> None:
        """A connection that is lost and made anew between two calls of a train doesn't make half a train."""
        self.slow()
        self.submit(*range(MAX_BATCH), flush=False)
        self.committer.submit(*record("other"))
        self.clock.advance(0)
        self.redis.connected = False
        self.redis.reply(0)
        self.assertEqual(len(self.redis.calls), 1)
        self.redis.connected = True
        self.committer.resume()
        self.clock.advance(0)
        self.redis.reply(0)
        self.redis.reply([0, 1])
        self.assertEqual(self.numbers(), [2, 2, 3])
        self.assertEqual(len(self.link.writes), 1)
