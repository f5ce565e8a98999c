"""Scripts that a real server has forgotten are loaded again."""

from typing import Any

import txredisapi
from twisted.internet import defer, task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from tests.support import RedisError, ValkeyServer


class FlushedTests(SynchronousTestCase):
    """A server of its own: flushing would disturb others."""

    def setUp(self) -> None:
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        self.client = server.client()
        self.addCleanup(self.client.close)
        #: How many more times somebody flushes right behind a SCRIPT LOAD.
        self.flushes = 0

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """As a connection of the gateway does."""
        try:
            reply = self.client.call(*arguments)
        except RedisError as error:
            return defer.fail(txredisapi.ResponseError(str(error)))
        if arguments[0] == "SCRIPT" and self.flushes:
            self.flushes -= 1
            self.client.call("SCRIPT", "FLUSH")
        return defer.succeed(reply)

    def run_one(self) -> "defer.Deferred[Any]":
        keys = Keys("t")
        names = [keys.devices, keys.commands, keys.deadlines, keys.gateways, keys.let_go]
        return defer.Deferred.fromCoroutine(scripts.run(self, scripts.SURVEY, names, ["t", 10]))

    def test_not_there(self) -> None:
        """It is loaded, and from then on there."""
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.run_one())[0], 0)

    def test_flushed_meanwhile(self) -> None:
        """It is loaded once more when somebody flushes between loading and use."""
        self.flushes = 2
        self.assertEqual(self.successResultOf(self.run_one())[0], 0)

    def test_flushed_all_the_time(self) -> None:
        """In the end it fails."""
        self.flushes = 99
        self.assertIn("NOSCRIPT", str(self.failureResultOf(self.run_one(), txredisapi.ResponseError).value))


class LoaderTests(SynchronousTestCase):
    """The connections of many partitions to one server load the scripts once."""

    def test_once(self) -> None:
        """For each server, and again for connections that are made later."""
        clock, loaded = task.Clock(), []

        class Connection:
            def call(self, *arguments: Any) -> "defer.Deferred[bytes]":
                loaded.append(arguments[:2])
                return defer.succeed(b"")

        loader = scripts.ScriptLoader(clock)
        for seconds, server, times in ((0, "a", 1), (0, "a", 1), (1, "b", 2), (3, "a", 2), (2, "a", 3)):
            clock.advance(seconds)
            loading = loader.load(Connection(), Keys("t"), server)
            self.successResultOf(defer.Deferred.fromCoroutine(loading))
            self.assertEqual(len(loaded), times * len(scripts.SCRIPTS))
