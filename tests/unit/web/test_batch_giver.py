"""Batches that wait for their turn are held like the one whose commands are pushed."""

from types import SimpleNamespace
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.web.batch_giver import RATE, BatchGiver


class LeaseTests(SynchronousTestCase):
    def test_of_a_batch_whose_turn_has_not_come(self) -> None:
        """Its lease is renewed too, so that every gateway says that it is being given."""
        clock, called = Clock(), []

        def call(*arguments: Any) -> "defer.Deferred[int]":
            called.append(arguments)
            return defer.succeed(1)

        partition: Any = SimpleNamespace(redis=SimpleNamespace(call=call), keys=Keys())
        web: Any = SimpleNamespace(partitions=[partition], layout=SimpleNamespace(number=lambda batch_id: 0))
        giver = BatchGiver(clock, web, "gw1")
        giver.wire = lambda command: b"{}"
        command: Any = SimpleNamespace(id="c")
        giver.give("first", [(partition, command)] * (20 * RATE))
        giver.give("second", [(partition, command)])
        leases = {"first": 0, "second": 0}
        for _ in range(16 * RATE):
            clock.advance(1 / RATE)
        for one in leases:
            leases[one] = sum(each[:2] == ("SET", Keys().batch_lease(one)) for each in called)
        self.assertGreaterEqual(leases["first"], 3)
        self.assertGreaterEqual(leases["second"], 3)
        for _ in range(5 * RATE):
            clock.advance(1 / RATE)
        self.assertFalse(giver.has("second"))
