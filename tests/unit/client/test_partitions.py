"""`jt709c_gateway.client` with several partitions: on two servers, and on a Redis Cluster."""

import asyncio
import json
import threading
from collections.abc import Collection, Iterator
from contextlib import aclosing
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.client import AsyncClient, Client, Gap, OutcomePending
from jt709c_gateway.client.connection import cluster_options
from tests.support import RedisClient, RedisError, wait_until
from tests.support.acl import COMMANDER, READER
from tests.support.cli_partitions import COUNT, DEVICES, LAYOUT, WithTwoServers
from tests.support.redis_groups import RedisCluster


def event(device: str, number: int) -> str:
    """An event as the gateway writes it."""
    fields = {"v": 1, "id": f"{device}-{number}", "kind": "lock", "device": device, "gateway": "gw1"}
    return json.dumps({**fields, "data": {}, "received_at": "2026-12-01T00:00:00.000000Z"})


def in_order(ids: Collection[str]) -> bool:
    """Whether the events of each device are in the order of their numbers."""
    last: dict[str, int] = {}
    for one in ids:
        device, _, number = one.partition("-")
        if int(number) <= last.get(device, -1):
            return False
        last[device] = int(number)
    return True


class BlockingTests(WithTwoServers):
    def setUp(self) -> None:
        super().setUp()
        self.gaps: list[Gap] = []

    def add(self, number: int, *events: int) -> None:
        """Add events of the first device of a partition."""
        for one in events:
            device = DEVICES[number][0]
            self.on(device, "XADD", "events", "*", "kind", "lock", "event", event(device, one))

    def fill(self, *events: int) -> set[str]:
        """Add these events to all partitions; return their ids."""
        for number in range(COUNT):
            self.add(number, *events)
        return {f"{DEVICES[number][0]}-{one}" for number in range(COUNT) for one in events}

    def pending(self) -> int:
        """How many events are not acknowledged."""
        return sum(self.on(DEVICES[number][0], "XPENDING", "events", "g")[0] for number in range(COUNT))

    def take(self, most: int | None = None, found: list[str] | None = None, **options: Any) -> list[str]:
        """The events of a consumer; the loop ends while number `most` is processed."""
        options = {"follow": False, "on_gap": self.gaps.append, **options}
        found = [] if found is None else found
        with Client(self.url(READER)) as client:
            for one in client.events.consume("g", "c", **options):
                found.append(one.id)
                if len(found) == most:
                    break
        return found

    def test_all_streams(self) -> None:
        """Each event comes once, in order within a device, and is acknowledged."""
        expected = self.fill(*range(20))
        found = self.take(count=7)
        self.assertEqual(sorted(found), sorted(expected))
        self.assertTrue(in_order(found))
        self.assertEqual((self.pending(), self.gaps, self.take()), (0, [], []))

    def test_some_streams(self) -> None:
        """Of a service with several processes, each may read its own partitions."""
        self.fill(1)
        self.assertEqual(sorted(self.take(partitions=[1, 3])), sorted(f"{DEVICES[k][0]}-1" for k in (1, 3)))
        self.assertEqual(sorted(self.take()), sorted(f"{DEVICES[k][0]}-1" for k in (0, 2)))
        self.assertRaises(ValueError, self.take, partitions=[4])

    def test_what_was_not_finished_comes_again(self) -> None:
        """At least once, wherever the loop was left."""
        expected = self.fill(*range(5))
        first = self.take(9)
        self.assertEqual(len(first), 9)
        second = self.take()
        self.assertEqual(set(first) | set(second), expected)
        self.assertIn(first[-1], second)
        self.assertEqual(self.pending(), 0)

    def test_a_gap_of_one_stream(self) -> None:
        """It is told with the stream that was trimmed."""
        self.fill(1)
        self.take()
        self.add(2, *range(2, 12))
        self.on(DEVICES[2][0], "XTRIM", "events", "MAXLEN", 3)
        self.assertEqual(len(self.take()), 3)
        self.assertEqual(self.gaps, [Gap(7, LAYOUT.keys[2].events)])

    def test_a_server_that_is_away(self) -> None:
        """The events of the other go on, and its own come when it is back."""
        self.fill(1)
        self.take()
        self.servers[1].kill()
        for number in (0, 2):
            self.add(number, 2)
        found: list[str] = []
        taking = threading.Thread(target=self.take, args=(3,), kwargs={"follow": True, "found": found})
        taking.start()
        wait_until(lambda: len(found) == 2)
        self.assertEqual(sorted(found), sorted(f"{DEVICES[k][0]}-2" for k in (0, 2)))
        self.servers[1].start()
        self.clients[1] = self.servers[1].client()
        self.addCleanup(self.clients[1].close)
        self.add(1, 3)
        taking.join(60)
        self.assertEqual(found[2:], [f"{DEVICES[1][0]}-3"])

    def commands(self) -> Any:
        return Client(self.url(COMMANDER)).commands

    def test_commands(self) -> None:
        """They go to the partition of the device; outcomes are found wherever they are."""
        device = DEVICES[3][0]
        commands = self.commands()
        sent = commands.send(device, "locate", command_id="c1")
        self.assertEqual(json.loads(self.on(device, "LPOP", "commands"))["id"], "c1")
        with self.assertRaises(OutcomePending) as caught:
            commands.wait(sent, timeout=0.1)
        self.assertIsNone(caught.exception.state)
        self.on(device, "HSET", "command:c1", "id", "c1", "state", "sent")
        with self.assertRaises(OutcomePending) as caught:
            commands.wait("c1", timeout=0.1)
        self.assertEqual(caught.exception.state, "sent")
        # Where the list of the name is.
        outcome = json.dumps({"id": "c1", "state": "done"})
        number = LAYOUT.number("c1")
        self.client(number).call("RPUSH", LAYOUT.keys[number].reply("c1"), outcome)
        self.assertTrue(commands.wait(sent, timeout=30).succeeded)
        self.on(device, "HSET", "command:c1", "state", "confirmed")
        for found in (commands.outcome("c1"), commands.outcome("c1", device)):
            self.assertEqual(found.state, "confirmed")

    def test_another_number(self) -> None:
        """It is not read as a smaller fleet."""
        with self.assertRaises(ValueError) as caught:
            Client(self.url(), partitions=5).commands.outcome("c1")
        self.assertIn("are in 4 partitions, not 5", str(caught.exception))


class _Waited:
    """The methods of AsyncClient.commands, each awaited with a client of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            async with AsyncClient(self._url) as client:
                return await getattr(client.commands, name)(*arguments, **options)

        return lambda *arguments, **options: asyncio.run(call(*arguments, **options))


class AsyncTests(BlockingTests):
    """The same with `AsyncClient`."""

    def take(self, most: int | None = None, found: list[str] | None = None, **options: Any) -> list[str]:
        options = {"follow": False, "on_gap": self.gaps.append, **options}
        return asyncio.run(self._take(most, [] if found is None else found, options))

    async def _take(self, most: int | None, found: list[str], options: dict[str, Any]) -> list[str]:
        async with (
            AsyncClient(self.url(READER)) as client,
            aclosing(client.events.consume("g", "c", **options)) as events,
        ):
            async for one in events:
                found.append(one.id)
                if len(found) == most:
                    break
        return found

    def commands(self) -> Any:
        return _Waited(self.url(COMMANDER))


class ClusterTests(SynchronousTestCase):
    """Both clients on a Redis Cluster of three primaries, one of which fails over."""

    def setUp(self) -> None:
        self.cluster = RedisCluster(LAYOUT.keys[0].prefix)
        self.addCleanup(self.cluster.discard)
        self.url = self.cluster.url(*self.cluster.nodes[:3])

    def call(self, command: str, key: str, *arguments: Any) -> Any:
        """Send a command to the node that has the key."""

        def attempt() -> Iterator[Any]:
            for node in self.cluster.nodes:
                if node.running:
                    try:
                        with node.client() as client:
                            yield self._ask(client, command, key, *arguments)
                    except (RedisError, OSError):
                        continue

        return wait_until(lambda: next(attempt(), None))

    def _ask(self, client: RedisClient, *command: Any) -> Any:
        return [client.call(*command)]

    def fill(self, number: int) -> set[str]:
        """Add one event to each partition."""
        for partition, keys in enumerate(LAYOUT):
            device = DEVICES[partition][0]
            self.call("XADD", keys.events, "*", "kind", "lock", "event", event(device, number))
        return {f"{DEVICES[partition][0]}-{number}" for partition in range(COUNT)}

    def test_cluster(self) -> None:
        """All streams are read, and go on after a fail-over."""
        for keys in LAYOUT:
            self.call("SET", keys.partitions, COUNT)
        expected = self.fill(1)
        with Client(self.url) as client:
            sent = client.commands.send(DEVICES[1][0], "locate")
            found = {one.id for one in client.events.consume("g", "c", follow=False)}
            self.assertEqual(found, expected)
            coming = client.events.consume("g", "c")
            seen: list[str] = []
            reading = threading.Thread(target=lambda: seen.extend(next(coming).id for _ in range(COUNT)))
            with self.cluster.holder.client() as holder:
                # WAIT is about the writes of its own connection.
                holder.call("SET", LAYOUT.keys[0].partitions, COUNT)
                wait_until(lambda: holder.call("WAIT", 1, 100) == 1)
            self.cluster.holder.kill()
            reading.start()
            expected = self.fill(2)
            reading.join(60)
            self.assertEqual(set(seen), expected)
            coming.close()
            self.assertIsNone(client.commands.outcome(sent.id))

        async def read() -> set[str]:
            async with AsyncClient(self.url) as client:
                return {one.id async for one in client.events.consume("other", follow=False)}

        self.assertEqual(len(asyncio.run(read())), 2 * COUNT)

    def test_url(self) -> None:
        self.assertIsNone(cluster_options("redis://a"))
        self.assertEqual(
            cluster_options("rediss+cluster://u:p%40@a:1,b"),
            {"nodes": [("a", 1), ("b", 6379)], "username": "u", "password": "p@", "ssl": True},
        )
