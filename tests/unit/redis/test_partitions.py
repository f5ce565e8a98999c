"""Which partition has what, and what several committers do as one."""

import json
from typing import Any

from twisted.internet import defer, task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.commit_outcomes import Statistics
from jt709c_gateway.redis.commit_records import EventsRecord, MalformedRecord
from jt709c_gateway.redis.commit_router import CommitRouter
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.redis.durability import Shortfall
from jt709c_gateway.redis.fleet_stats import SPANS, FleetCounts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.transfers import Transfer, read_transfer, target_of
from tests.support.redis_groups import ClusterNode

#: Slots as Redis's CLUSTER KEYSLOT gives them; 31C3 for 123456789 is the check value of CRC-16/XMODEM.
SLOTS = {"123456789": 0x31C3, "foo": 12182, "bar": 5061, "hello": 866, "0": 13907, "3": 1584}
DEVICES = [str(794308010679 + number) for number in range(20_000)]


class NumberTests(SynchronousTestCase):
    """The number of a name's partition."""

    def test_known_values(self) -> None:
        """It is the CRC-16 of Redis Cluster modulo the number of partitions."""
        for name, slot in SLOTS.items():
            self.assertEqual(Partitions("x", 16384).number(name), slot)
            self.assertEqual(Partitions("x", 4).number(name), slot % 4)
            self.assertEqual(Partitions("x").number(name), 0)

    def test_keyslot(self) -> None:
        """A real server computes the same, and the slot of a partition's keys from its number alone."""
        node = ClusterNode().start()
        self.addCleanup(node.discard)
        layout, all_slots = Partitions("jt709c", 12), Partitions("x", 16384)
        with node.client() as client:
            for device in DEVICES[:200]:
                self.assertEqual(client.call("CLUSTER", "KEYSLOT", device), all_slots.number(device))
            for number, keys in enumerate(layout):
                named = (
                    keys.events,
                    keys.device("1"),
                    keys.command("{2}"),
                    keys.intake("a}b"),
                    keys.transfers,
                )
                slots = {client.call("CLUSTER", "KEYSLOT", one) for one in named}
                self.assertEqual(slots, {all_slots.number(str(number))})

    def test_leading_zeros(self) -> None:
        """They don't matter: a device has one partition, however it is written."""
        layout = Partitions("x", 12)
        for device in ("794308010679", "00794308010679"):
            self.assertEqual(layout.number_of(device), layout.number("794308010679"))
            self.assertEqual(layout.keys_of(device), layout.keys[layout.number("794308010679")])

    def test_even(self) -> None:
        """Devices spread evenly, also when their ids follow each other."""
        for count in (2, 3, 4, 12, 64):
            layout, found = Partitions("x", count), [0] * count
            for device in DEVICES:
                found[layout.number(device)] += 1
            mean = len(DEVICES) / count
            self.assertLess(max(abs(one - mean) for one in found), 5 * mean**0.5, count)

    def test_prefixes(self) -> None:
        """A single partition has the keys as they were; several have their number; channels are shared."""
        self.assertEqual(Partitions("jt709c").keys, (Keys("jt709c"),))
        several, sharded = Partitions("a:b", 2), Partitions("a:b", 2, sharded=True)
        self.assertEqual([keys.events for keys in several], ["a:b:{0}:events", "a:b:{1}:events"])
        self.assertEqual(several.keys[1].channel("lock", "*"), "a:b:event:lock:*")
        self.assertEqual(sharded.keys[1].channel("lock", "*"), "a:b:{1}:event:lock:*")


class TransferTests(SynchronousTestCase):
    """Entries for other partitions."""

    def test_target(self) -> None:
        """An entry names its partition; an outcome goes to that of its list."""
        layout = Partitions("x", 4)
        self.assertEqual(target_of(Transfer(at=0, entry="", to=3), layout), 3)
        self.assertEqual(target_of(Transfer(at=0, entry="", reply_to="hello"), layout), 866 % 4)
        for wrong in (
            Transfer(at=0, entry="", to=4),
            Transfer(at=0, entry="", to=-1),
            Transfer(at=0, entry=""),
        ):
            self.assertIsNone(target_of(wrong, layout))

    def test_form(self) -> None:
        """It is JSON, without what is not given; anything else is none."""
        packed = Transfer(at=1.5, entry='{"a":1}', to=2).packed()
        self.assertEqual(json.loads(packed), {"at": 1.5, "entry": '{"a":1}', "to": 2})
        self.assertEqual(read_transfer(packed), Transfer(at=1.5, entry='{"a":1}', to=2))
        for wrong in (b"", b"[]", b'{"at":1}', b'{"at":"x","entry":""}', b"\xff", b"[" * 100_000):
            self.assertIsNone(read_transfer(wrong))


class _Redis:
    """A connection that is there or not, and answers nothing."""

    def __init__(self) -> None:
        self.connected = True

    def call(self, *arguments: object) -> object:
        raise AssertionError(arguments)


class RouterTests(SynchronousTestCase):
    """Several committers as one."""

    def setUp(self) -> None:
        self.layout = Partitions("x", 4)
        self.wires = [_Redis() for _ in self.layout]
        self.committers = [
            Committer(task.Clock(), wire, keys, "gw1", "boot", max_unacked=3)
            for wire, keys in zip(self.wires, self.layout, strict=True)
        ]
        self.router = CommitRouter(self.layout, self.committers)
        self.devices = [
            next(one for one in DEVICES if self.layout.number(one) == number) for number in range(4)
        ]

    def give(self, number: int, count: int = 1) -> None:
        for _ in range(count):
            self.router.submit(EventsRecord(device=self.devices[number], events=[]))

    def test_by_device(self) -> None:
        """A record goes to the partition of its device."""
        for number in range(4):
            self.give(number, number)
            self.assertIs(self.router.of(self.devices[number]), self.committers[number])
        self.assertEqual([one.unacked for one in self.committers], [0, 1, 2, 3])
        self.assertEqual((self.router.unacked, self.router.submitted), (6, 6))

    def test_full(self) -> None:
        """One that is full holds up its own devices only."""
        self.give(2, 3)
        self.assertTrue(self.router.of(self.devices[2]).full)
        self.assertFalse(self.router.full)
        for number in (0, 1, 3):
            self.give(number, 3)
        self.assertTrue(self.router.full)
        self.assertEqual(self.router.max_unacked, 12)

    def test_malformed(self) -> None:
        """Unreadable input of a peer stays in one partition, while that can be reached and has room."""
        record = MalformedRecord(peer="192.0.2.7:1", reason="check", raw="00", time="")
        first = self.layout.number(record.peer)
        self.router.submit(record)
        self.assertEqual(self.committers[first].unacked, 1)
        self.wires[first].connected = False
        self.router.submit(record)
        second = (first + 1) % 4
        self.assertEqual(self.committers[second].unacked, 1)
        self.give(second, 2)
        self.router.submit(record)
        self.assertEqual(self.committers[(first + 2) % 4].unacked, 1)
        for wire in self.wires:
            wire.connected = False
        self.router.submit(record)
        self.assertEqual(self.committers[first].unacked, 2)

    def test_batching(self) -> None:
        """Frames that are read together are sent together in each partition."""
        self.router.batching = True
        self.give(0)
        self.give(3)
        self.assertTrue(all(one.batching for one in self.committers))
        for wire in self.wires:
            wire.connected = False
        self.router.send_batch()
        self.assertFalse(any(one.batching for one in self.committers))


class SumTests(SynchronousTestCase):
    """Figures of several partitions."""

    def test_statistics(self) -> None:
        """They are added up."""
        one, two = Statistics(batches=1, records=5, late=2), Statistics(batches=2, records=7, retries=1)
        one.shortfalls[Shortfall.REFUSED] += 1
        two.shortfalls[Shortfall.REFUSED] += 2
        total = Statistics.sum_of([one, two])
        self.assertEqual((total.batches, total.records, total.late, total.retries), (3, 12, 2, 1))
        self.assertEqual(total.shortfalls, {Shortfall.REFUSED: 3})
        self.assertEqual((one.batches, one.shortfalls[Shortfall.REFUSED]), (1, 1))

    def test_fleet(self) -> None:
        """So is the fleet; the oldest command is the oldest of all. Unknown parts make no smaller fleet."""
        first = FleetCounts(1, dict.fromkeys(SPANS, 1), 1, 2, 3, 20.0, {"devices": 1, "histories": 0})
        second = FleetCounts(10, dict.fromkeys(SPANS, 5), 0, 0, 0, None, {"devices": 0, "histories": 2})
        total = FleetCounts.sum_of([first, second])
        assert total is not None
        self.assertEqual((total.locks, total.untaken, total.waiting, total.under_way), (11, 1, 2, 3))
        self.assertEqual((total.oldest, total.seen), (20.0, dict.fromkeys(SPANS, 6)))
        self.assertEqual(total.let_go, {"devices": 1, "histories": 2})
        self.assertIsNone(FleetCounts.sum_of([first, None]))


class _Store:
    """A partition with one sub-lock, which reported through `master` at `time`."""

    def __init__(self, master: str, time: float) -> None:
        self.found = (Known(master, "jt701", None, None, "0001000101", "5"), time)

    async def device_with(self, imei: str) -> None:
        return None

    async def look_up_device(self, device: str) -> tuple[Known, None]:
        return Known(device, None, None, None), None

    async def look_up_sublock(self, name: str) -> tuple[Known, float]:
        return self.found


class SublockTests(SynchronousTestCase):
    """Where a sub-lock is."""

    def test_moved(self) -> None:
        """Of the masters that it reported through, in several partitions, it is the last one's."""
        stores: list[Any] = [
            _Store("8000010001", 10.0),
            _Store("8000010002", 30.0),
            _Store("8000010003", 20.0),
        ]
        queries = PartitionedQueries(Partitions("x", 3), stores)
        found = self.successResultOf(defer.Deferred.fromCoroutine(queries.look_up("0001000101")))
        self.assertEqual(found.device, "8000010002")
