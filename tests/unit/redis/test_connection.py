"""The connection to Redis: made usable first, coming back by itself, and failing each request once."""

import itertools
from collections.abc import Callable
from typing import Any

import attrs
import txredisapi
from twisted.internet import defer, reactor, task
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from jt709c_gateway.redis.address import RedisAddress, client_endpoint
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.connection import RedisConnection
from tests.support import LOOPBACK, ValkeyServer, free_port, key_prefix, shared_server, temporary_path


class ConnectionCase(TestCase):
    """Against real servers, and one that only listens."""

    timeout = 30

    def setUp(self) -> None:
        self.events: list[str] = []
        self.waiting: list[tuple[Callable[[], bool], defer.Deferred[None]]] = []
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("jt709c_gateway.redis"):
            self.lines.append(formatEvent(event))

    def note(self, event: str) -> None:
        self.events.append(event)
        for item in list(self.waiting):
            if item[0]():
                self.waiting.remove(item)
                item[1].callback(None)

    def until(self, predicate: Callable[[], bool]) -> "defer.Deferred[None]":
        """Fires when an event has made `predicate` true."""
        result: defer.Deferred[None] = defer.Deferred()
        if predicate():
            result.callback(None)
        else:
            self.waiting.append((predicate, result))
        return result

    def until_ready(self, times: int = 1) -> "defer.Deferred[None]":
        return self.until(lambda: self.events.count("ready") >= times)

    def server(self, *options: str) -> ValkeyServer:
        server = ValkeyServer(*options).start()
        self.addCleanup(server.discard)
        return server

    def connection(self, address: RedisAddress, **options: Any) -> RedisConnection:
        options.setdefault("retry_delay", lambda attempt: 0.01)
        connection = RedisConnection(
            reactor,
            address,
            client_endpoint(address, reactor),
            ready=lambda: self.note("ready"),
            lost=lambda reason: self.note(f"lost {reason}"),
            **options,
        )
        self.addCleanup(connection.stopService)
        connection.startService()
        return connection


class ConnectTests(ConnectionCase):
    """The connection is made usable before anyone gets it."""

    async def test_commands(self) -> None:
        """Commands reach the server; binary data come back as they were; errors are told as errors."""
        connection = self.connection(shared_server().address)
        self.failureResultOf(connection.call("PING"), txredisapi.ConnectionError)
        self.failureResultOf(connection.pipeline([("PING",)]), txredisapi.ConnectionError)
        self.assertFalse(connection.connected)
        await self.until_ready()
        self.assertTrue(connection.connected)
        key = key_prefix()
        data = bytes(range(256)) * 1000
        self.assertEqual(await connection.call("SET", key, data), "OK")
        self.assertEqual(await connection.call("GET", key), data)
        await self.assertFailure(connection.call("LPUSH", key, "x"), txredisapi.ResponseError)
        number, error, text = await connection.pipeline(
            [("INCR", f"{key}:n"), ("LPUSH", key, "x"), ("ECHO", "0012")]
        )
        self.assertEqual((number, text), (1, b"0012"))
        self.assertIsInstance(error, txredisapi.ResponseError)
        self.assertIn("WRONGTYPE", str(error))

    async def test_login_and_database(self) -> None:
        """User, password and database are used before anyone gets the connection."""
        server = self.server("--user", "ann", "on", ">s3cret", "~*", "+@all")
        address = attrs.evolve(server.address, username="ann", password="s3cret", db=2)
        connection = self.connection(address)
        await self.until_ready()
        self.assertEqual(await connection.call("ACL", "WHOAMI"), b"ann")
        self.assertIn(b" db=2 ", await connection.call("CLIENT", "INFO"))

    async def test_unix_socket(self) -> None:
        """A server is reached by its UNIX socket as well."""
        path = temporary_path(self)
        self.server("--unixsocket", path)
        connection = self.connection(RedisAddress(path=path))
        await self.until_ready()
        self.assertEqual(await connection.call("ECHO", "here"), b"here")
        self.assertIn(f"connected to Redis at unix://{path}", self.lines)

    async def test_refused_password(self) -> None:
        """A refused password is logged once, without it, and tried again until it is accepted."""
        server = self.server("--requirepass", "other")
        attempts = itertools.count()
        ready: defer.Deferred[None] = defer.Deferred()

        def delay(attempt: int) -> float:
            if next(attempts) == 3:
                with server.client() as admin:
                    admin.call("AUTH", "other")
                    admin.call("CONFIG", "SET", "requirepass", "s3cret")
                ready.callback(None)
            return 0.01

        self.connection(attrs.evolve(server.address, password="s3cret"), retry_delay=delay)
        await ready
        await self.until_ready()
        self.assertEqual(len(self.lines), 2, self.lines)
        self.assertIn("AUTH refused: WRONGPASS", self.lines[0])
        self.assertTrue(self.lines[1].startswith("connected to Redis at redis://:***@"))
        self.assertNotIn("s3cret", "".join(self.lines))

    async def test_loading_server(self) -> None:
        """A server that says it isn't ready yet doesn't count as one."""
        answers = iter([b"-LOADING Redis is loading the dataset in memory\r\n", b"+PONG\r\n"])

        class Loading(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(next(answers))

        port = reactor.listenTCP(0, Factory.forProtocol(Loading), interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        self.connection(RedisAddress(host=LOOPBACK, port=port.getHost().port))
        await self.until_ready()
        self.assertIn("PING refused: LOADING", self.lines[0])

    async def test_silent_server(self) -> None:
        """One that takes connections and says nothing is given up, also where replies may take for ever."""
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        attempts: defer.Deferred[None] = defer.Deferred()

        def delay(attempt: int) -> float:
            if attempt == 3:
                attempts.callback(None)
            return 0.01

        address = RedisAddress(host=LOOPBACK, port=port.getHost().port)
        self.connection(address, reply_timeout=None, handshake_timeout=0.05, retry_delay=delay)
        await attempts
        self.assertEqual(len(self.lines), 1, self.lines)
        self.assertIn("not usable within 0.05 s", self.lines[0])

    async def test_prepare(self) -> None:
        """`prepare` runs before anyone is told; while it fails the connection is made anew."""
        tries: list[RedisProtocol] = []

        async def prepare(protocol: RedisProtocol) -> None:
            self.assertEqual(self.events, [])
            tries.append(protocol)
            if len(tries) == 1:
                raise ValueError("not yet")
            if len(tries) == 2:
                await protocol.call("NOSUCH")
            if len(tries) == 3:
                # The connection ends in the middle of it.
                await protocol.call(
                    "CLIENT", "KILL", "ID", await protocol.call("CLIENT", "ID"), "SKIPME", "no"
                )
                await protocol.call("PING")

        connection = self.connection(shared_server().address, prepare=prepare)
        await self.until_ready()
        self.assertEqual(len(tries), 4)
        self.assertTrue(tries[3].connected)
        self.assertEqual([protocol.connected for protocol in tries[:3]], [0, 0, 0])
        self.assertEqual(await connection.call("PING"), "PONG")

    async def test_subscription(self) -> None:
        """A connection that `prepare` made a subscriber hands every message to `pushed`."""
        channel = key_prefix()
        messages: list[Any] = []

        async def prepare(protocol: RedisProtocol) -> None:
            protocol.pushed = lambda message: (messages.append(message), self.note("message"))
            await protocol.call("SUBSCRIBE", channel)

        self.connection(shared_server().address, reply_timeout=None, prepare=prepare)
        await self.until_ready()
        with shared_server().client() as client:
            for text in ("1", "2"):
                client.call("PUBLISH", channel, text)
        await self.until(lambda: len(messages) == 2)
        name = channel.encode()
        self.assertEqual(messages, [[b"message", name, b"1"], [b"message", name, b"2"]])

    async def test_callbacks_may_fail(self) -> None:
        """What `ready` raises is logged, and the connection stays."""
        address = shared_server().address
        done: defer.Deferred[None] = defer.Deferred()

        def ready() -> None:
            done.callback(None)
            raise RuntimeError("from ready")

        connection = RedisConnection(reactor, address, client_endpoint(address, reactor), ready=ready)
        self.addCleanup(connection.stopService)
        connection.startService()
        await done
        await task.deferLater(reactor, 0, lambda: None)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(await connection.call("PING"), "PONG")


class OutageTests(ConnectionCase):
    """A server goes, hangs, or becomes a replica."""

    async def test_left_when_read_only(self) -> None:
        """A server that has become a replica is left, where another may have taken its place."""
        server = self.server()
        address = attrs.evolve(server.address, sentinels=((LOOPBACK, 1),))
        connection = RedisConnection(
            reactor,
            address,
            client_endpoint(server.address, reactor),
            probe="some-hash",
            ready=lambda: self.note("ready"),
            lost=lambda reason: self.note(f"lost {reason}"),
            retry_delay=lambda attempt: 0.01,
        )
        plain = self.connection(server.address)
        self.addCleanup(connection.stopService)
        connection.startService()
        await self.until_ready(2)
        with server.client() as admin:
            admin.call("REPLICAOF", LOOPBACK, free_port())
            with self.assertRaises(txredisapi.ResponseError):
                await plain.call("SET", "a", "b")
            with self.assertRaises(txredisapi.ConnectionError):
                await connection.call("SET", "a", "b")
            await self.until(lambda: any("READONLY" in one for one in self.events))
            self.assertTrue(plain.connected)
            admin.call("REPLICAOF", "NO", "ONE")
        await self.until_ready(3)

    async def test_outage(self) -> None:
        """A server that goes and comes back: one line for each change, and each request fails once."""
        server = self.server()
        connection = self.connection(server.address)
        await self.until_ready()
        outcomes: list[Any] = []
        blocked = connection.call("BLPOP", "never", 0).addBoth(outcomes.append)
        server.kill()
        await self.until(lambda: len(self.events) == 2)
        self.assertEqual(len(outcomes), 1)
        self.assertIsInstance(outcomes[0].value, txredisapi.ConnectionError)
        self.assertFalse(connection.connected)
        self.failureResultOf(connection.call("PING"), txredisapi.ConnectionError)
        # Some attempts fail before it is back.
        await task.deferLater(reactor, 0.1, lambda: None)
        server.start()
        await self.until_ready(2)
        self.assertEqual(await connection.call("PING"), "PONG")
        self.assertEqual(len(self.lines), 4, self.lines)
        for line, beginning in zip(
            self.lines, ("connected", "lost", "cannot connect", "connected"), strict=True
        ):
            self.assertTrue(line.startswith(beginning), line)
        self.assertIsNone(blocked.result)

    async def test_hung_server(self) -> None:
        """A server that stops answering is left after the reply timeout, and found again when it goes on."""
        server = self.server()
        connection = self.connection(server.address, reply_timeout=0.2)
        await self.until_ready()
        server.pause()
        self.addCleanup(server.resume)
        first, second = connection.call("PING"), connection.pipeline([("PING",), ("PING",)])
        await self.assertFailure(first, txredisapi.TimeoutError)
        for result in await second:
            self.assertIsInstance(result, txredisapi.TimeoutError)
        await self.until(lambda: "lost no reply from Redis within 0.2 s" in self.events)
        server.resume()
        await self.until_ready(2)
        self.assertEqual(await connection.call("PING"), "PONG")


class StopTests(ConnectionCase):
    async def test_stop(self) -> None:
        """Stopping closes the connection, fails what is outstanding and ends the trying."""
        connection = self.connection(shared_server().address)
        await self.until_ready()
        outstanding = self.assertFailure(connection.call("BLPOP", "never", 0), txredisapi.ConnectionError)
        await connection.stopService()
        await outstanding
        self.assertFalse(connection.connected)
        self.assertEqual(self.events, ["ready", "lost stopped"])
        connection.startService()
        await self.until_ready(2)

    async def test_stop_while_connecting(self) -> None:
        """Stopping ends an attempt or a pause as well, and stopping twice is harmless."""
        address = RedisAddress(host=LOOPBACK, port=free_port())
        connection = self.connection(address, retry_delay=lambda attempt: 3600.0)
        await connection.stopService()
        await connection.stopService()
        connection.startService()
        await task.deferLater(reactor, 0.05, lambda: None)
        await connection.stopService()

    async def test_stop_with_hung_server(self) -> None:
        """A server that takes nothing any more doesn't hold up the stop."""
        server = self.server()
        connection = self.connection(server.address, reply_timeout=None)
        await self.until_ready()
        server.pause()
        self.addCleanup(server.resume)
        outstanding = self.assertFailure(
            connection.call("SET", "big", b"x" * 50_000_000), txredisapi.ConnectionError
        )
        await connection.stopService()
        await outstanding
