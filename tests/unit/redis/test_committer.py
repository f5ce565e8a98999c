"""Group commit over a connection whose every reply the test gives."""

from typing import Any

import txredisapi
from twisted.internet import task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.batch import MAX_BATCH, MAX_BATCH_BYTES
from jt709c_gateway.redis.committer import Limits
from jt709c_gateway.redis.scripts import COMMIT
from tests.support.committer import FakeRedis, make_committer


class Link:
    """Takes answers; one list per write."""

    def __init__(self, error: Exception | None = None) -> None:
        self.writes: list[list[bytes]] = []
        self.error = error

    def committed(self, answers: list[bytes]) -> None:
        self.writes.append(answers)
        if self.error is not None:
            raise self.error


def record(name: Any, recipient: Any = None, answer: Any = None, then: Any = None) -> tuple[Any, ...]:
    """What `submit` takes."""
    return (f"{name}", None), recipient, answer, then


class CommitterCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = task.Clock()
        self.redis = FakeRedis()
        self.committer = make_committer(self.clock, self.redis, **self.options)
        self.link = Link()

    def submit(self, *names: Any) -> None:
        """Records that are answered with their own names."""
        for name in names:
            self.committer.submit(*record(name, self.link, f"{name}".encode()))

    def names(self, index: int = -1) -> list[str]:
        return [content[0] for content in self.redis.batch(index)]

    def flush(self) -> None:
        self.clock.advance(0)


class GroupTests(CommitterCase):
    def test_call(self) -> None:
        """A batch goes out as one call of the script with keys, limits, a number and the records."""
        self.submit("a")
        self.flush()
        (call,) = self.redis.calls
        self.assertEqual(
            call[:8],
            ("EVALSHA", COMMIT.hash, 1, "t:events", "t", "t:commit:gw1:boot1", 1, Limits().packed()),
        )
        self.assertEqual(self.redis.batch(), [["a", None]])

    def test_one_turn(self) -> None:
        """What arrives in one turn of the reactor goes out together."""
        self.submit("a", "b", "c")
        self.assertEqual(self.redis.calls, [])
        self.flush()
        self.assertEqual(self.names(), ["a", "b", "c"])

    def test_gathers_during_a_call(self) -> None:
        """What arrives while a call is under way goes into the next one, which follows its reply at once."""
        self.submit("a")
        self.flush()
        self.submit("b")
        self.flush()
        self.submit("c")
        self.flush()
        self.assertEqual(len(self.redis.calls), 1)
        self.redis.reply()
        self.assertEqual(len(self.redis.calls), 2)
        self.assertEqual(self.names(), ["b", "c"])
        self.assertEqual(self.redis.number(), 2)

    def test_batches_are_bounded(self) -> None:
        """A batch has at most MAX_BATCH records; the command holds across batches."""
        names = [f"{number}" for number in range(2 * MAX_BATCH + 50)]
        links = [Link(), Link()]
        for number, name in enumerate(names):
            self.committer.submit(*record(name, links[number % 2], name.encode()))
        self.flush()
        sizes, seen = [], []
        while self.redis.pending:
            sizes.append(len(self.redis.batch()))
            seen += self.names()
            self.redis.reply()
        self.assertEqual(sizes, [MAX_BATCH, MAX_BATCH, 50])
        self.assertEqual(seen, names)
        for first, link in enumerate(links):
            answers = [one.decode() for write in link.writes for one in write]
            self.assertEqual(answers, names[first::2])

    def test_links_stay_together(self) -> None:
        """What one link sent at once is committed together, as far as that is not much more than a batch."""
        other = Link()
        for number in range(MAX_BATCH - 2):
            self.committer.submit(*record(number, other, b"other"))
        self.submit(*range(8))
        self.committer.submit(*record("next", other, b"other"))
        self.flush()
        self.assertEqual(self.names()[-8:], [f"{number}" for number in range(8)])
        self.redis.reply()
        self.assertEqual(len(self.link.writes), 1)
        self.assertEqual(self.names(), ["next"])
        self.redis.reply()
        self.submit(*range(3 * MAX_BATCH))
        self.flush()
        self.assertLess(len(self.redis.batch()), MAX_BATCH * 1.5)

    def test_large_records(self) -> None:
        """A batch has at most MAX_BATCH_BYTES, and one record beyond that all the same."""
        sizes = (MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES // 3, MAX_BATCH_BYTES // 3, 2 * MAX_BATCH_BYTES, 1)
        for size in sizes:
            self.submit("x" * size)
        self.flush()
        found = []
        while self.redis.pending:
            found.append([len(name) for name in self.names()])
            self.redis.reply()
        self.assertEqual(found, [list(sizes[:2]), [sizes[2]], [sizes[3]], [1]])
        self.assertEqual(sum(len(one) for write in self.link.writes for one in write), sum(sizes))
        self.assertEqual((self.committer.unacked, self.committer.full), (0, False))

    def test_next_call_before_answers(self) -> None:
        """The next call is on its way before the answers of the last one are written."""
        calls: list[int] = []
        self.link.committed = lambda answers: calls.append(len(self.redis.calls))  # type: ignore[method-assign]
        self.submit("a")
        self.flush()
        self.submit("b")
        self.redis.reply()
        self.assertEqual(calls, [2])

    def test_statistics(self) -> None:
        """Batches, records and duplicates are counted, and each batch is told with its duration and size."""
        seen: list[tuple[float, int]] = []
        self.committer.observed = lambda seconds, size: seen.append((seconds, size))
        self.submit("a", "b")
        self.flush()
        self.clock.advance(0.25)
        self.redis.reply(1)
        self.submit("c")
        self.flush()
        self.redis.reply(-1)
        statistics = self.committer.statistics
        self.assertEqual((statistics.batches, statistics.records, statistics.duplicates), (2, 3, 1))
        self.assertEqual(seen, [(0.25, 2), (0.0, 1)])


class AnswerTests(CommitterCase):
    def test_only_after_success(self) -> None:
        """Nothing is answered before Redis has accepted it."""
        self.submit("a")
        self.flush()
        self.clock.advance(60)
        self.assertEqual(self.link.writes, [])
        self.redis.reply()
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_one_write_per_link(self) -> None:
        """The answers of a batch reach each link in one write, in order, empty where none is due."""
        other = Link()
        self.submit("a")
        self.committer.submit(*record("x", other, b"x"))
        self.submit("b")
        self.committer.submit(*record("nobody"))
        self.committer.submit(*record("silent", self.link))
        self.submit("c")
        self.flush()
        self.redis.reply(2)
        self.assertEqual(self.link.writes, [[b"a", b"b", b"", b"c"]])
        self.assertEqual(other.writes, [[b"x"]])

    def test_made_at_the_end(self) -> None:
        """An answer that is a function is made when the record has been written."""
        self.committer.submit(*record("a", self.link, lambda: f"{self.clock.seconds():g}".encode()))
        self.committer.submit(*record("b", self.link, lambda: None))
        self.flush()
        self.clock.advance(7)
        self.redis.reply()
        self.assertEqual(self.link.writes, [[b"7", b""]])

    def test_failed_records(self) -> None:
        """A record that could not be written stays unanswered; the others of its batch are answered."""
        made: list[int] = []
        self.submit("a", "b")
        self.committer.submit(*record("c", self.link, lambda: made.append(1)))
        self.submit("d")
        self.flush()
        self.redis.reply([0, 1, b"WRONGTYPE a key of another type", 2, b"WRONGTYPE"])
        self.assertEqual(self.link.writes, [[b"a", b"", b"", b"d"]])
        self.assertEqual(made, [])
        self.assertEqual(self.committer.statistics.failed_records, 2)
        self.assertEqual(self.committer.unacked, 0)
        self.assertEqual(len(self.redis.calls), 1)

    def test_then(self) -> None:
        """`then` is called once with whether the record was written."""
        told: list[tuple[str, bool]] = []
        for name in "ab":
            self.committer.submit(*record(name, then=lambda written, name=name: told.append((name, written))))
        self.flush()
        self.assertEqual(told, [])
        self.redis.reply([0, 1, b"WRONGTYPE"])
        self.assertEqual(told, [("a", True), ("b", False)])

    def test_repeated_and_failed(self) -> None:
        """When a batch turns out to be applied already, what had failed then stays unanswered."""
        self.submit("a", "b")
        self.flush()
        self.redis.fail(txredisapi.ConnectionError("lost"))
        self.committer.resume()
        self.flush()
        self.redis.reply([-1, 0, b"not written"])
        self.assertEqual(self.link.writes, [[b"", b"b"]])
        self.assertEqual(self.committer.statistics.duplicates, 0)


class ExceptionTests(CommitterCase):
    """What others do wrong when they are called harms neither the next in line nor the next batch."""

    def check_goes_on(self, errors: int) -> None:
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), errors)
        self.assertIn(b"good", [one for write in self.link.writes for one in write])
        self.submit("next")
        self.flush()
        self.redis.reply()
        self.assertEqual(self.link.writes[-1], [b"next"])
        self.assertEqual(self.committer.unacked, 0)

    def fail(self, *_: Any) -> None:
        raise RuntimeError("a bug elsewhere")

    def test_recipient(self) -> None:
        """A link that fails when it is given its answers."""
        self.committer.submit(*record("bad", Link(RuntimeError("a bug")), b"bad"))
        self.submit("good")
        self.flush()
        self.redis.reply()
        self.check_goes_on(1)

    def test_then(self) -> None:
        """A callback that fails."""
        self.committer.submit(*record("bad", then=self.fail))
        self.submit("good")
        self.flush()
        self.redis.reply()
        self.check_goes_on(1)

    def test_answer(self) -> None:
        """An answer that can't be made."""
        self.committer.submit(*record("bad", self.link, self.fail))
        self.submit("good")
        self.flush()
        self.redis.reply()
        self.check_goes_on(1)

    def test_observers(self) -> None:
        """Metrics."""
        self.committer.observed = self.fail
        self.submit("good")
        self.flush()
        self.redis.reply()
        self.committer.observed = lambda seconds, size: None
        self.check_goes_on(1)

    def test_unencodable(self) -> None:
        """A record that can't be sent at all counts as not written; the others are."""
        told: list[bool] = []
        self.committer.submit(*record("\ud800", self.link, b"never", told.append))
        self.submit("good")
        self.flush()
        self.assertEqual(self.names(), ["good"])
        self.redis.reply()
        self.assertEqual(told, [False])
        self.assertEqual(self.link.writes[0], [b""])
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)
        self.assertEqual(self.committer.statistics.failed_records, 1)
        self.check_goes_on(0)

    def test_only_unencodable(self) -> None:
        """A batch of which nothing can be sent doesn't hold up the next."""
        self.committer.submit((2**70, 1))
        self.committer.submit((2**70,))
        self.flush()
        self.flushLoggedErrors(OverflowError)
        while self.redis.pending:
            self.redis.reply()
        self.submit("good")
        self.flush()
        self.redis.reply()
        self.assertEqual(self.link.writes, [[b"good"]])
