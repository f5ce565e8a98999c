"""The committer when calls fail, and when it has taken all that it may."""

import txredisapi

from jt709c_gateway.redis.scripts import COMMIT
from tests.unit.redis.test_committer import CommitterCase


class RetryTests(CommitterCase):
    def test_connection_lost(self) -> None:
        """A call whose fate is unknown is repeated, same number and content, before anything newer."""
        self.submit("a", "b")
        self.flush()
        self.submit("c")
        self.redis.connected = False
        self.redis.fail(txredisapi.ConnectionError("lost"))
        self.clock.advance(600)
        self.assertEqual(len(self.redis.calls), 1)
        self.assertEqual(self.link.writes, [])
        self.redis.connected = True
        self.committer.resume()
        self.flush()
        self.assertEqual(self.redis.calls[1], self.redis.calls[0])
        self.redis.reply(-1)
        self.assertEqual(self.link.writes, [[b"a", b"b"]])
        self.assertEqual((self.names(), self.redis.number()), (["c"], 2))

    def test_timeout(self) -> None:
        """A reply that takes too long is a lost connection."""
        self.submit("a")
        self.flush()
        self.redis.connected = False
        self.redis.fail(txredisapi.TimeoutError("no reply"))
        self.assertEqual(self.link.writes, [])
        self.redis.connected = True
        self.committer.resume()
        self.flush()
        self.assertEqual(self.redis.calls[1], self.redis.calls[0])

    def test_not_connected(self) -> None:
        """Without Redis records wait and nothing is called; when it is there they go out in order."""
        self.redis.connected = False
        self.submit("a")
        self.clock.advance(60)
        self.submit("b")
        self.clock.advance(60)
        self.assertEqual(self.redis.calls, [])
        self.redis.connected = True
        self.committer.resume()
        self.committer.resume()
        self.flush()
        self.assertEqual(self.names(), ["a", "b"])
        self.assertEqual(len(self.redis.calls), 1)

    def test_backoff(self) -> None:
        """A batch that Redis refuses is tried again, at first soon, then every five seconds; said once."""
        self.submit("a")
        self.flush()
        waits = []
        for _ in range(9):
            calls = len(self.redis.calls)
            self.redis.fail(txredisapi.ResponseError("OOM command not allowed"))
            waited = 0.0
            while len(self.redis.calls) == calls:
                self.clock.advance(0.0625)
                waited += 0.0625
            waits.append(waited)
        for wait, expected in zip(waits, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0), strict=True):
            self.assertTrue(expected <= wait <= expected + 0.07, waits)
        self.assertEqual({call[6:] for call in self.redis.calls}, {self.redis.calls[0][6:]})
        self.assertEqual(self.committer.statistics.retries, 9)
        self.redis.reply()
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_backoff_starts_anew(self) -> None:
        """After a success the next refusal is tried again soon."""
        for name in "ab":
            self.submit(name)
            self.flush()
            for _ in range(3):
                self.redis.fail(txredisapi.ResponseError("READONLY"))
                self.clock.pump([0.1] * 10)
            self.redis.reply()
        self.assertEqual(self.link.writes, [[b"a"], [b"b"]])

    def test_connection_back_during_backoff(self) -> None:
        """A connection that comes back while we wait doesn't make two calls of one batch."""
        self.submit("a")
        self.flush()
        self.redis.fail(txredisapi.ResponseError("LOADING"))
        self.committer.resume()
        self.submit("b")
        self.clock.pump([0.1] * 20)
        self.assertEqual(len(self.redis.calls), 2)
        self.assertEqual(self.names(), ["a"])

    def test_script_forgotten(self) -> None:
        """A server that has forgotten the script gets it, and then the same batch, at once."""
        self.submit("a")
        self.flush()
        self.submit("b")
        self.redis.fail(txredisapi.ResponseError("NOSCRIPT No matching script. Please use EVAL."))
        self.assertEqual(self.redis.calls[1], ("SCRIPT", "LOAD", COMMIT.source))
        self.redis.reply(COMMIT.hash.encode())
        self.assertEqual(self.redis.calls[2], self.redis.calls[0])
        self.redis.reply()
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_script_not_loaded(self) -> None:
        """When loading fails it is tried again; when the connection is lost meanwhile, upon its return."""
        self.submit("a")
        self.flush()
        self.redis.fail(txredisapi.ResponseError("NOSCRIPT"))
        self.redis.fail(txredisapi.ResponseError("NOPERM"))
        self.clock.pump([0.1] * 3)
        self.redis.fail(txredisapi.ResponseError("NOSCRIPT"))
        self.redis.connected = False
        self.redis.fail(txredisapi.ConnectionError("lost"))
        self.redis.connected = True
        self.committer.resume()
        self.flush()
        self.assertEqual(self.redis.calls[-1], self.redis.calls[0])
        self.redis.reply()
        self.assertEqual(self.link.writes, [[b"a"]])

    def test_strange_reply(self) -> None:
        """A reply that no script of ours gives is logged and the committer goes on."""
        self.submit("a")
        self.flush()
        self.redis.reply([])
        self.flushLoggedErrors(ValueError)
        self.clock.pump([0.1] * 60)
        self.submit("b")
        self.flush()
        while self.redis.pending:
            self.redis.reply()
        self.assertIn(b"b", self.link.writes[-1])


class FullTests(CommitterCase):
    options = {"max_unacked": 10}

    def setUp(self) -> None:
        super().setUp()
        self.drained: list[int] = []
        self.committer.drained = lambda: self.drained.append(self.committer.unacked)

    def test_hysteresis(self) -> None:
        """Full at the limit, batch under way included; drained once, when half of it is done."""
        self.submit(*range(4))
        self.flush()
        self.submit(*range(4, 9))
        self.assertFalse(self.committer.full)
        self.submit(9)
        self.assertTrue(self.committer.full)
        self.redis.reply()
        self.assertTrue(self.committer.full)
        self.assertEqual(self.drained, [])
        self.redis.reply()
        self.assertEqual(self.drained, [0])
        self.assertFalse(self.committer.full)
        self.submit("more")
        self.flush()
        self.redis.reply()
        self.assertEqual(self.drained, [0])

    def test_without_redis(self) -> None:
        """Without Redis it is full after so many records and stays so until it is back."""
        self.redis.connected = False
        self.submit(*range(10))
        self.clock.advance(1)
        self.assertTrue(self.committer.full)
        self.redis.connected = True
        self.committer.resume()
        self.flush()
        self.assertTrue(self.committer.full)
        self.redis.reply()
        self.assertFalse(self.committer.full)
        self.assertEqual(self.drained, [0])

    def test_drained_fails(self) -> None:
        """Whoever is told that there is room may fail."""
        self.committer.drained = lambda: {}["a bug"]
        self.submit(*range(10))
        self.assertTrue(self.committer.full)
        self.flush()
        self.redis.reply()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertFalse(self.committer.full)
