"""What waiting for durability rests on: how real servers repeat, wait, and are promoted."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support import key_prefix, shared_server
from tests.support.committer import Script, Teller
from tests.support.failover import replicated
from tests.support.reporter import report


class ServerTests(SynchronousTestCase):
    """What the waits rest on, on real servers."""

    def test_repetition_is_waited_for(self) -> None:
        """A batch that is recognised on a connection of its own is waited for all the same."""
        primary, replica = replicated(self)
        contents = Teller().contents(report(1))
        replica.pause()
        with primary.client() as first, primary.client() as second:
            self.assertEqual(Script(first, "t").commit(contents, number=1), 0)
            self.assertEqual(first.call("WAIT", 1, 50), 0)
            again = Script(second, "t")
            # Nothing was written over this connection yet, so Redis has nothing to wait for.
            self.assertEqual(second.call("WAIT", 1, 50), 1)
            self.assertEqual(again.commit(contents, number=1), -1)
            self.assertEqual(second.call("WAIT", 1, 50), 0)
            # A lock sends again: recognised in a batch of its own, and waited for as well.
            self.assertEqual(again.commit(contents[-1:], number=2), 1)
            self.assertEqual(second.call("WAIT", 1, 50), 0)
            replica.resume()
            self.assertEqual(again.commit(contents, number=2), -1)
            self.assertEqual(second.call("WAIT", 1, 5000), 1)

    def test_promoted_replica(self) -> None:
        """At a promoted replica a batch that came through is recognised, and one that did not is written."""
        primary, replica = replicated(self)
        teller = Teller()
        first, second = teller.contents(report(1)), teller.contents(report(2))
        with primary.client() as client:
            script = Script(client, "t")
            self.assertEqual(script.commit(first, number=1), 0)
            self.assertEqual(client.call("WAIT", 1, 5000), 1)
            with replica.client() as other:
                other.call("REPLICAOF", "NO", "ONE")
            self.assertEqual(script.commit(second, number=2), 0)
        primary.kill()
        with replica.client() as client:
            script = Script(client, "t")
            self.assertEqual(script.commit(first, number=1), -1)
            self.assertEqual([event["serial"] for event in script.events("location")], [1])
            self.assertEqual(script.commit(second, number=2), 0)
            self.assertEqual([event["serial"] for event in script.events("location")], [1, 2])

    def test_condition(self) -> None:
        """A record with a condition is written where that holds; the others of its batch in any case."""
        client = shared_server().client()
        self.addCleanup(client.close)
        script = Script(client, key_prefix())
        command = script.keys.command("o1")
        record = (
            "7",
            None,
            "",
            0.0,
            [("command", "{}")],
            None,
            None,
            [("SET", f"{script.keys.prefix}:x", 1)],
        )
        batch = [(*record, ("held", command, "gw1/1-a", "1")), (*record[:7], None)]
        self.assertEqual(script.commit(batch), [0, 0, b"LATE"])
        self.assertEqual(len(script.events("command")), 1)
        self.assertEqual(client.call("EXISTS", f"{script.keys.prefix}:x"), 0)
        client.call("HSET", command, "holder", "gw1/1-a", "token", 1, "state", "queued")
        self.assertEqual(script.commit(batch), 0)
        self.assertEqual(len(script.events("command")), 3)
        self.assertEqual(client.call("EXISTS", f"{script.keys.prefix}:x"), 1)
