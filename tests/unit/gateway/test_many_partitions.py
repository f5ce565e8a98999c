"""What a gateway does regularly for each partition costs no more with many of them than with 32."""

from unittest import mock

from twisted.internet import task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.background_tasks import BackgroundTasks
from jt709c_gateway.redis.partitions import Partitions


class IntervalTests(SynchronousTestCase):
    def intervals(self, count: int) -> list[float]:
        """The intervals of what is done for each of so many partitions."""
        tasks = BackgroundTasks(
            task.Clock(), mock.MagicMock(), mock.MagicMock(), Partitions("t", count).keys[0], 15.0
        )
        found: list[float] = []
        self.patch(tasks, "_run_every", lambda interval, job: found.append(interval))
        self.patch(tasks, "_consumer", mock.MagicMock())
        tasks.startService()
        tasks.start(mock.MagicMock())
        return found

    def test_many(self) -> None:
        one, some, many = (self.intervals(count) for count in (1, 32, 256))
        self.assertEqual(one, some)

        def calls(intervals: list[float]) -> float:
            return sum(1 / interval for interval in intervals)

        # Heartbeats, which keep to the ttl, are the rest.
        self.assertLess(256 * calls(many), 1.3 * 32 * calls(some))
