"""Connections that exist before it is known where Redis is."""

from typing import Any

import txredisapi
from twisted.internet import defer, reactor, task
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.redis.address import client_endpoint
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.durability import Durability
from jt709c_gateway.redis.gateway_connections import GatewayConnections
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.late_connection import LateConnection
from jt709c_gateway.redis.redis_time import RedisTime
from tests.support import key_prefix, shared_server


def connector() -> RedisConnector:
    """Leads to the server of all tests."""
    address = shared_server().address
    return RedisConnector(reactor, address, client_endpoint(address, reactor), None)


class LateConnectionTests(TestCase):
    """One connection."""

    timeout = 30

    async def test_before_and_after(self) -> None:
        """It can't be used before its server is known; then it is the connection to that."""
        ready: defer.Deferred[None] = defer.Deferred()
        connection = LateConnection(ready=lambda: ready.callback(None))
        connection.startService()
        self.addCleanup(connection.stopService)
        self.assertFalse(connection.connected)
        self.failureResultOf(connection.call("PING"), txredisapi.ConnectionError)
        self.failureResultOf(connection.pipeline([("PING",)]), txredisapi.ConnectionError)
        connection.use(connector())
        await ready
        self.assertTrue(connection.connected)
        self.assertEqual(await connection.call("ECHO", "one"), b"one")
        self.assertEqual(await connection.pipeline([("ECHO", "two")]), [b"two"])
        await connection.stopService()
        self.assertFalse(connection.connected)


class GatewayConnectionsTests(TestCase):
    """All connections of a gateway, over a real server."""

    timeout = 30

    def setUp(self) -> None:
        self.examined: list[Any] = []

    async def _examine(self, protocol: Any) -> None:
        self.examined.append(protocol)

    async def test_ready(self) -> None:
        """Each is prepared, and commits are ready before commands; at the end none is connected."""
        told: list[str] = []
        done: defer.Deferred[None] = defer.Deferred()
        time = RedisTime(reactor)
        connections = GatewayConnections(
            Durability(),
            5.0,
            Keys(key_prefix()),
            time,
            examine=self._examine,
            commits_ready=lambda: told.append("commits"),
            commands_ready=lambda: done.callback(told.append("commands")),
        )
        connections.startService()
        self.addCleanup(connections.stopService)
        self.assertFalse(connections.connected)
        connections.use(connector())
        await done
        while not connections.connected:
            await task.deferLater(reactor, 0.01)
        self.assertEqual((told, len(self.examined), time.known), (["commits", "commands"], 1, True))
        await connections.stopService()
        self.assertFalse(connections.connected)


class SharingTests(SynchronousTestCase):
    """Which connections are one."""

    def test_sharing(self) -> None:
        """Commits have a connection of their own only if they wait for durability; BLMOVE always has one."""
        for durability, shared in ((Durability(), True), (Durability(fsync=True), False)):
            connections = GatewayConnections(
                durability,
                5.0,
                Keys("k"),
                RedisTime(task.Clock()),
                examine=lambda protocol: defer.succeed(None),
                commits_ready=lambda: None,
                commands_ready=lambda: None,
            )
            self.assertIs(connections.commits is connections.commands, shared)
            self.assertNotIn(connections.blocking, (connections.commits, connections.commands))
