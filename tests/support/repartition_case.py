"""Test case for moves of keys between partitions of real servers."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.repartition.stores import MoveError, Store
from tests.support import RedisClient, ValkeyServer, key_prefix, shared_server
from tests.support.repartition import after_passing, content, fill, misplaced, move, store


class MoveCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.prefix = key_prefix()
        self.clients = [self.client()]
        self.addCleanup(self.begin_anew)

    def client(self, server: ValkeyServer | None = None) -> RedisClient:
        client = (server or shared_server()).client()
        self.addCleanup(client.close)
        return client

    def begin_anew(self) -> None:
        """Use another prefix: keys that are left would make each SCAN longer."""
        left = self.clients[0].call("KEYS", f"{self.prefix}*")
        if left:
            self.clients[0].call("DEL", *left)
        self.prefix = key_prefix()

    def store(self, count: int, prefix: str | None = None, **options: Any) -> Store:
        return store(self.clients, prefix or self.prefix, count, **options)

    def filled(self, count: int) -> Store:
        before = self.store(count)
        fill(before, self.clients)
        return before

    def refusal(self, before: Store, after: Store, **options: Any) -> str:
        error = self.assertRaises(MoveError, move, before, after, **options)
        self.assertNotIn("\n", str(error))
        return str(error)

    def check_moved(self, before: Store, after: Store) -> None:
        """Move all, and check that all of it is there once, where it belongs, and nothing else."""
        wanted = after_passing(content(before, self.clients))
        self.assertIn("the keys are in", move(before, after))
        self.check(wanted, after)

    def check(self, wanted: Any, after: Store) -> None:
        found = content(after, self.clients)
        for key, value in wanted.items():
            if key == ("reply", b"ward") and value[1] is None:
                # A delivered outcome sets the time for which the list is kept.
                self.assertEqual(found[key][0], value[0])
                continue
            self.assertEqual(found[key], value, key)
        self.assertEqual(set(found), set(wanted))
        self.assertEqual(misplaced(after, self.clients), [])
        for place in after.places:
            client = self.clients[place.number % len(self.clients)]
            marker = client.call("GET", place.keys.partitions)
            self.assertEqual(marker, str(after.count).encode() if after.count > 1 else None)
            self.assertGreaterEqual(int(client.call("GET", place.keys.epoch)), 6)
