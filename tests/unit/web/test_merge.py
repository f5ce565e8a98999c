"""Lists of several partitions, merged page by page."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitioned_queries import PartitionAway
from jt709c_gateway.web.merge import Merge, Page
from jt709c_gateway.web.partitioned_redis import WebPartition
from jt709c_gateway.web.redis_client import PartitionsAway

Numbers = list[int]


class Lists:
    """Numbers by partition, highest first; each read is noted."""

    def __init__(self, parts: list[Numbers]) -> None:
        self.parts = [sorted(part, reverse=True) for part in parts]
        self.away: set[int] = set()
        self.reads: list[tuple[int, int]] = []
        unused: Any = None
        self.merge: Merge[int] = Merge(
            [WebPartition(number, unused, unused) for number in range(len(parts))],
            self.read,
            lambda value, number: (value, number),
        )

    async def read(self, partition: WebPartition, after: int | None, count: int) -> Page[int]:
        """A page, as a partition has it."""
        self.reads.append((partition.number, count))
        if partition.number in self.away:
            raise PartitionAway(partition.number)
        part = self.parts[partition.number]
        found = [one for one in part if after is None or one < after][:count]
        return Page(found, len(found) == count)

    def take(self, most: int) -> list[tuple[int, int]]:
        """The next entries, each with its partition."""
        taken = _result(self.merge.take(most))
        return [(value, partition.number) for partition, value in taken]


def _result(coroutine: Any) -> Any:
    ended: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(ended.append)
    [result] = ended
    if isinstance(result, Failure):
        result.raiseException()
    return result


PARTS = st.lists(st.lists(st.integers(0, 60), unique=True, max_size=60), min_size=1, max_size=6)


class MergeTests(SynchronousTestCase):
    @given(PARTS, st.lists(st.integers(1, 25), min_size=1, max_size=5))
    def test_in_order(self, parts: list[Numbers], sizes: list[int]) -> None:
        """Whatever the partitions have and however much is taken at a time, all come in one order."""
        lists = Lists(parts)
        found: list[tuple[int, int]] = []
        for turn in range(200):
            size = sizes[turn % len(sizes)]
            some = lists.take(size)
            self.assertTrue(len(some) == size or not lists.merge.more)
            found += some
            if not lists.merge.more:
                break
        pairs = [(value, number) for number, part in enumerate(parts) for value in part]
        self.assertEqual(found, sorted(pairs, reverse=True))
        self.assertEqual(lists.merge.away, [])

    def test_alone(self) -> None:
        """One partition is asked for exactly what is wanted."""
        lists = Lists([list(range(30))])
        self.assertEqual([value for value, _ in lists.take(20)], list(range(29, 9, -1)))
        self.assertEqual(len(lists.take(20)), 10)
        self.assertEqual((lists.reads, lists.merge.more), ([(0, 20), (0, 20)], False))

    def test_shares(self) -> None:
        """Of many partitions each is asked for little more than its share, and all at the same time."""
        lists = Lists([list(range(number, 6400, 64)) for number in range(64)])
        self.assertEqual([value for value, _ in lists.take(200)], list(range(6399, 6199, -1)))
        self.assertEqual(lists.reads, [(number, 200 // 64 + 16) for number in range(64)])

    def test_away(self) -> None:
        """What is away is left out and named; what was read of it before is kept."""
        lists = Lists([list(range(0, 400, 2)), list(range(1, 400, 2))])
        first = lists.take(50)
        lists.away = {1}
        rest = lists.take(1000)
        self.assertEqual(lists.merge.away, [1])
        self.assertFalse(lists.merge.more)
        self.assertEqual([value for value, number in first + rest if number == 0], list(range(398, -1, -2)))
        self.assertEqual([value for value, _ in first], list(range(399, 349, -1)))

    def test_all_away(self) -> None:
        """When nothing can be read there is no list."""
        lists = Lists([[1], [2]])
        lists.away = {0, 1}
        with self.assertRaises(PartitionsAway) as caught:
            lists.take(5)
        self.assertEqual(caught.exception.numbers, [0, 1])
