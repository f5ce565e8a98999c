"""A partition whose server refuses a look-up for lack of a right is not called away: the right is named."""

from typing import Any

import txredisapi
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitioned_queries import PartitionAway
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from tests.support.partitioned import device_in

_LACKING = "NOPERM User page has no permissions to run the 'hget' command: HGET t:{1}:imei"


class LookUpTests(SynchronousTestCase):
    def failure(self, error: Exception) -> BaseException:
        """Why a device isn't found when its partition fails with this error."""
        redis = PartitionedWebRedis(None, Partitions("t", 2), "gw1", 1.0)

        def fail(*_: Any) -> "defer.Deferred[Any]":
            return defer.fail(error)

        self.patch(redis.partitions[1].redis, "call", fail)
        looking = redis.queries.look_up(device_in(redis.layout, 1))
        found: BaseException = self.failureResultOf(defer.Deferred.fromCoroutine(looking)).value
        return found

    def test_right(self) -> None:
        self.assertEqual(str(self.failure(txredisapi.ResponseError(_LACKING))), _LACKING)

    def test_away(self) -> None:
        """A connection that is lost, or a server that can't serve now, is away."""
        for error in (txredisapi.ConnectionError("lost"), txredisapi.ResponseError("LOADING it reads")):
            self.assertIsInstance(self.failure(error), PartitionAway)
