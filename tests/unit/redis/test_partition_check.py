"""Gateways agree on the number of partitions, or refuse: checked against a real server."""

from typing import Any

import msgspec
import txredisapi
from twisted.internet import defer, task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.errors import is_state_of_server, other_marker
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partition_check import PartitionCheck
from jt709c_gateway.redis.partition_marker import (
    Moved,
    Moving,
    WrongPartitions,
    count_in,
    moved_to,
    problem,
)
from jt709c_gateway.redis.partitions import Partitions
from tests.support import RedisError, key_prefix, shared_server


class MarkerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = shared_server().client()
        self.addCleanup(self.client.close)
        self.prefix = key_prefix()
        self.clock = task.Clock()
        #: The keys that our user may not use.
        self.denied: set[str] = set()

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """As a connection does."""
        if self.denied & set(map(str, arguments)):
            return defer.fail(txredisapi.ResponseError("NOPERM no permissions to access a key"))
        try:
            return defer.succeed(self.client.call(*arguments))
        except RedisError as error:
            return defer.fail(txredisapi.ResponseError(str(error)))

    def gateway(self, count: int) -> PartitionCheck:
        """The check of a gateway with this number of partitions."""
        return PartitionCheck(self.clock, Partitions(self.prefix, count))

    def check(self, gateway: PartitionCheck, number: int = 0) -> "defer.Deferred[None]":
        return defer.Deferred.fromCoroutine(gateway.check(self, number))

    def checked(self, count: int) -> None:
        """A gateway finds all partitions as it expects them."""
        gateway = self.gateway(count)
        for one in [self.check(gateway, number) for number in range(count)]:
            self.successResultOf(one)

    def refusal(self, count: int, number: int = 0) -> str:
        """What a gateway says that refuses at this partition."""
        failure = self.failureResultOf(self.check(self.gateway(count), number), WrongPartitions)
        text = str(failure.value)
        self.assertNotIn("\n", text)
        return text

    def marker(self, number: int) -> bytes | None:
        found: bytes | None = self.client.call("GET", f"{self.prefix}:{{{number}}}:partitions")
        return found

    def mark(self, key: str, marker: Any) -> None:
        self.client.call("SET", key, msgspec.json.encode(marker))


class FreshTests(MarkerCase):
    """Nobody has written yet."""

    def test_marked(self) -> None:
        """Each of several partitions gets the number; the same gateway and others like it are content."""
        self.checked(4)
        self.assertEqual([self.marker(number) for number in range(5)], [b"4"] * 4 + [None])
        self.checked(4)

    def test_claimed(self) -> None:
        """A single partition is claimed by a number of no run yet, and has no marker."""
        self.checked(1)
        self.checked(1)
        self.assertEqual(self.client.call("GET", f"{self.prefix}:epoch"), b"0")
        self.assertIsNone(self.client.call("GET", f"{self.prefix}:partitions"))

    def test_two_at_once(self) -> None:
        """Of two gateways with different numbers the first to mark wins, and only one uses anything."""
        four, eight = self.gateway(4), self.gateway(8)
        mine = [self.check(four, number) for number in (3, 2, 1)]
        theirs = [self.check(eight, number) for number in range(7, -1, -1)]
        for one in theirs:
            self.successResultOf(one)
        self.failureResultOf(self.check(four, 0), WrongPartitions)
        self.clock.advance(10)
        for one in mine:
            self.failureResultOf(one, txredisapi.ConnectionError, WrongPartitions)
        self.assertEqual(self.marker(3), b"8")

    def test_single_and_several_at_once(self) -> None:
        """Neither has written anything else when the other comes."""
        self.checked(1)
        self.assertIn("are in 1 partition, not 4: give --partitions 1, or", self.refusal_of_first(4))
        self.assertIsNone(self.marker(0))
        self.checked(1)

    def refusal_of_first(self, count: int) -> str:
        """What a gateway says whose other partitions are away."""
        waiting = self.check(self.gateway(count))
        self.clock.advance(5)
        return str(self.failureResultOf(waiting, WrongPartitions).value)

    def test_first_away(self) -> None:
        """Others are not used while the first can't be asked, which is an error that is tried again."""
        waiting = self.check(self.gateway(4), 2)
        self.assertNoResult(waiting)
        self.clock.advance(5)
        self.assertIn("partition 0", str(self.failureResultOf(waiting, txredisapi.ConnectionError).value))
        self.assertIsNone(self.marker(2))

    def test_another_away(self) -> None:
        """The first waits for the others for a while only."""
        gateway = self.gateway(4)
        first, second = self.check(gateway, 0), self.check(gateway, 1)
        self.assertNoResult(first)
        self.clock.advance(3)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual([self.marker(number) for number in range(3)], [b"4", b"4", None])

    def test_cancelled(self) -> None:
        """A connection that ends meanwhile leaves nothing behind that disturbs the others."""
        gateway = self.gateway(2)
        waiting = self.check(gateway, 1)
        waiting.cancel()
        self.failureResultOf(waiting)
        again = self.check(gateway, 1)
        self.successResultOf(self.check(gateway, 0))
        self.successResultOf(again)


class DividedTests(MarkerCase):
    """The store was written with another number."""

    def test_refused(self) -> None:
        """In one line that says both ways out."""
        self.checked(4)
        for count in (1, 2, 8):
            self.assertEqual(
                self.refusal(count),
                f"the keys under the prefix {self.prefix} are in 4 partitions, not {count}: give "
                f"--partitions 4, or move them with jt709c repartition --from 4 --to {count}",
            )
        self.assertEqual([self.marker(number) for number in range(8)], [b"4"] * 4 + [None] * 4)

    def test_first_lost(self) -> None:
        """Partition 0 has lost its data: a wrong gateway doesn't mark it, and the right one does."""
        self.checked(4)
        self.client.call("DEL", f"{self.prefix}:{{0}}:partitions")
        wrong = self.gateway(8)
        first = self.check(wrong, 0)
        self.failureResultOf(self.check(wrong, 1), WrongPartitions)
        self.assertNoResult(first)
        first.cancel()
        self.failureResultOf(first)
        self.assertIsNone(self.marker(0))
        gateway = self.gateway(4)
        others = [self.check(gateway, number) for number in (1, 2, 3)]
        again = self.check(gateway, 0)
        self.clock.advance(5)
        for one in (*others, again):
            self.successResultOf(one)
        self.assertEqual(self.marker(0), b"4")

    def test_older_single(self) -> None:
        """A store of a version without markers has the number of its last run."""
        self.client.call("SET", f"{self.prefix}:epoch", 7)
        waiting = self.check(self.gateway(4))
        self.clock.advance(5)
        self.assertIn("are in 1 partition, not 4", str(self.failureResultOf(waiting).value))
        self.checked(1)
        self.assertEqual(self.client.call("GET", f"{self.prefix}:epoch"), b"7")

    def test_moving(self) -> None:
        """Nobody starts while the keys are moved."""
        self.mark(f"{self.prefix}:{{0}}:partitions", Moving(4, 8))
        for count in (1, 4, 8):
            self.assertIn("are being moved from 4 to 8 partitions: run jt709c", self.refusal(count))
        self.client.call("DEL", f"{self.prefix}:{{0}}:partitions")
        self.mark(f"{self.prefix}:partitions", Moving(1, 8))
        self.assertIn("are being moved from 1 to 8 partitions", self.refusal(1))

    def test_moved(self) -> None:
        """The old place says where the keys are."""
        self.mark(f"{self.prefix}:partitions", Moved(4, "fleet"))
        self.assertIn("moved to 4 partitions: give --prefix fleet --partitions 4", self.refusal(1))
        self.mark(f"{self.prefix}:{{0}}:partitions", Moved(1, "fleet", "redis://other:6379/0"))
        text = self.refusal(4)
        self.assertIn("give --redis 'redis://other:6379/0' --prefix fleet --partitions 1, or delete", text)

    def test_moved_here(self) -> None:
        """Partitions that are no more do not keep those from being used that have their keys now."""
        self.mark(f"{self.prefix}:partitions", Moved(4, self.prefix))
        self.assertIn(f"give --prefix {self.prefix} --partitions 4", self.refusal(1))
        self.checked(4)
        for number in range(4):
            self.mark(f"{self.prefix}:{{{number}}}:partitions", Moved(1, self.prefix))
        self.client.call("DEL", f"{self.prefix}:partitions")
        self.assertIn(f"give --prefix {self.prefix} --partitions 1", self.refusal(4))
        self.checked(1)

    def test_count_of_moved(self) -> None:
        """A partition that is no more tells readers how many there are now, unless they are elsewhere."""
        key = f"{self.prefix}:{{0}}:partitions"
        self.assertEqual(count_in(self.prefix, key, moved_to(self.prefix, 1)), 1)
        with self.assertRaisesRegex(WrongPartitions, "give --prefix fleet --partitions 1"):
            count_in(self.prefix, key, moved_to("fleet", 1))

    def test_malformed(self) -> None:
        """A marker that is none is refused, not taken for any number."""
        for value in ("", "four", "[4]", "4.5", "{}", b"\xff"):
            self.client.call("SET", f"{self.prefix}:{{0}}:partitions", value)
            self.assertIn(f"{self.prefix}:{{0}}:partitions can't be read", self.refusal(4))

    def test_limited_user(self) -> None:
        """A user of a single partition that may not read markers uses it as before there were any."""
        self.denied = {Keys(self.prefix).partitions}
        self.checked(1)

    def test_plural(self) -> None:
        self.assertIn("from 4 to 1 partition:", problem("p", "k", Moving(4, 1), 4))


class GuardTests(MarkerCase):
    """Scripts by which a gateway writes refuse one whose fleet was divided in another way meanwhile."""

    def enter(self, keys: Keys) -> "defer.Deferred[int]":
        entering = scripts.run(self, scripts.ENTER.form_for(keys), [keys.epoch], [keys.prefix])
        return defer.Deferred.fromCoroutine(entering)

    def test_several(self) -> None:
        """Its own number lets it write, and no marker, since Redis may have lost it; others do not."""
        keys = Partitions(self.prefix, 4).keys[1]
        self.assertEqual(self.successResultOf(self.enter(keys)), 1)
        self.client.call("SET", keys.partitions, 4)
        self.assertEqual(self.successResultOf(self.enter(keys)), 2)
        for marker in (8, Moving(4, 8), Moved(3, self.prefix)):
            self.mark(keys.partitions, marker)
            error = self.failureResultOf(self.enter(keys), txredisapi.ResponseError).value
            self.assertEqual(other_marker(error), msgspec.json.encode(marker))
            self.assertTrue(is_state_of_server(error))
        self.assertEqual(self.client.call("GET", keys.epoch), b"2")

    def test_single(self) -> None:
        """A single partition has no marker; one whose user may not read it writes as before."""
        keys = Keys(self.prefix)
        self.assertEqual(self.successResultOf(self.enter(keys)), 1)
        self.mark(keys.partitions, Moving(1, 4))
        self.failureResultOf(self.enter(keys), txredisapi.ResponseError)
        self.client.call("DEL", keys.partitions)
        user = f"limited-{self.prefix}"
        self.addCleanup(self.client.call, "ACL", "DELUSER", user)
        self.client.call("ACL", "SETUSER", user, "on", ">x", "+@all", f"~{self.prefix}:epoch")
        with shared_server().client() as limited:
            limited.call("AUTH", user, "x")
            self.patch(self, "client", limited)
            self.assertEqual(self.successResultOf(self.enter(keys)), 2)

    def test_other_errors(self) -> None:
        """Another refusal is none of these."""
        self.assertIsNone(other_marker(txredisapi.ResponseError("OOM command not allowed")))
        self.assertIsNone(other_marker(txredisapi.ConnectionError("DIVIDED 4")))
