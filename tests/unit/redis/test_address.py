"""What ``--redis`` may say, and where it leads."""

from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, client_endpoint, parse_redis_address
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.endpoints import ClusterEndpoint, SentinelEndpoint
from jt709c_gateway.redis.tls import TlsFiles
from tests.support import LOOPBACK, shared_server


class ParseTests(TestCase):
    def test_forms(self) -> None:
        """Every documented form gives the address it stands for."""
        expected = {
            "redis://localhost": RedisAddress(host="localhost"),
            " redis://localhost/ ": RedisAddress(host="localhost"),
            "redis://localhost:7000/3": RedisAddress(host="localhost", port=7000, db=3),
            "redis://:secret@h": RedisAddress(host="h", password="secret"),
            "redis://ann@h": RedisAddress(host="h", username="ann"),
            "redis://ann:s%40c%2fr@h": RedisAddress(host="h", username="ann", password="s@c/r"),
            "redis://ann:a@b/c@h/1": RedisAddress(host="h", username="ann", password="a@b/c", db=1),
            "redis://[::1]:7000": RedisAddress(host="::1", port=7000),
            "redis://[fe80::1%eth0]": RedisAddress(host="fe80::1%eth0"),
            "rediss://cache.example": RedisAddress(host="cache.example", tls=True),
            "unix:///run/redis.sock": RedisAddress(path="/run/redis.sock"),
            "unix:///run/re%20dis@1.sock?db=2": RedisAddress(path="/run/re dis@1.sock", db=2),
            "unix://:pw@/run/redis.sock": RedisAddress(path="/run/redis.sock", password="pw"),
            "redis+sentinel://a,b:7000,[::1]/fleet": RedisAddress(
                sentinels=(("a", 26379), ("b", 7000), ("::1", 26379)), master_name="fleet"
            ),
            "redis+sentinel://u:p@a/fleet/2": RedisAddress(
                sentinels=(("a", 26379),), master_name="fleet", username="u", password="p", db=2
            ),
            "rediss+sentinel://a/fleet": RedisAddress(
                sentinels=(("a", 26379),), master_name="fleet", tls=True
            ),
            "redis+cluster://a,b:7000,[::1]": RedisAddress(nodes=(("a", 6379), ("b", 7000), ("::1", 6379))),
            "rediss+cluster://u:p@a/": RedisAddress(
                nodes=(("a", 6379),), username="u", password="p", tls=True
            ),
            "embedded": EmbeddedAddress(),
            "embedded:6380": EmbeddedAddress(6380),
        }
        for text, address in expected.items():
            self.assertEqual(parse_redis_address(text), address, text)

    def test_refused(self) -> None:
        """What can't be read is refused in one line: what is wrong, and a form that is right."""
        wrong = {
            "": "expected one of: redis://",
            "localhost:6379": "expected one of: redis://",
            "http://localhost": "expected one of: redis://",
            "redis:localhost": "expected one of: redis://",
            "embedded://": "expected one of: redis://",
            "redis://": "the host is missing; expected redis://",
            "redis://:6379": "the host is missing",
            "redis://a b": "the host can't be read",
            "redis://::1": "in brackets",
            "redis://h:port": "a number from 1 to 65535",
            "redis://h:0": "a number from 1 to 65535",
            "redis://h:65536": "a number from 1 to 65535",
            "redis://h:": "a number from 1 to 65535",
            "redis://h:٣": "a number from 1 to 65535",
            "redis://h/first": "the database must be a number",
            "redis://h/-1": "the database must be a number",
            "redis://h?db=1": "the host can't be read",
            "rediss://h:x": "expected rediss://",
            "unix://run/redis.sock": "three slashes",
            "unix://": "three slashes",
            "unix:///": "the path is missing",
            "unix:///x?password=hidden": "?db=N",
            "unix:///x?db=": "the database must be a number",
            "redis+sentinel://a": "the name of the master is missing",
            "redis+cluster://": "the host is missing; expected redis+cluster://",
            "rediss+cluster://a/1": "no databases to choose from; expected rediss+cluster://",
            "redis+sentinel://a,,b/fleet": "the host is missing",
            "redis+sentinel://a/fleet/x": "the database must be a number",
            "embedded:": "a number from 1 to 65535; expected embedded or embedded:PORT",
            "embedded:http": "a number from 1 to 65535",
        }
        for text, part in wrong.items():
            message = str(self.assertRaises(ValueError, parse_redis_address, text))
            self.assertIn(part, message, text)
            self.assertNotIn("\n", message)
            self.assertNotIn("hidden", message)

    def test_password_hidden(self) -> None:
        """No password shows in an error, a repr or a masked URL."""
        for text in (
            "redis://ann:hid@den@h:x",
            "redis://:hid/den@h:x",
            "ann:hidden@h:1",
            "rediss://:hid\nden@h/x",
            "redis+sentinel://:hidden@a",
        ):
            message = str(self.assertRaises(ValueError, parse_redis_address, text))
            self.assertNotIn("hid", message)
            self.assertNotIn("den", message)
        address = parse_redis_address("redis://ann:hidden@h/2")
        self.assertNotIn("hidden", repr(address) + address.masked())

    def test_masked(self) -> None:
        """A masked address can be read again, but for the password."""
        for text in (
            "redis://h:6379/0",
            "rediss://ann:***@h:7000/2",
            "redis://[::1]:6379/0",
            "unix:///run/re%20dis.sock",
            "unix://:***@/run/redis.sock?db=1",
            "redis+sentinel://:***@a:26379,[::1]:26379/fleet/1",
            "rediss+sentinel://ann:***@a:26379/fleet/0",
            "redis+cluster://:***@a:6379,[::1]:6379",
            "rediss+cluster://ann:***@a:7000",
            "embedded",
            "embedded:6380",
        ):
            self.assertEqual(parse_redis_address(text).masked(), text)


class EndpointTests(TestCase):
    def test_kinds(self) -> None:
        """Each kind of address has its kind of endpoint."""
        for address, kind in (
            (RedisAddress(host="h"), HostnameEndpoint),
            (RedisAddress(path="/s"), UNIXClientEndpoint),
            (RedisAddress(sentinels=(("a", 1),), master_name="m"), SentinelEndpoint),
            (RedisAddress(nodes=(("a", 1),)), ClusterEndpoint),
        ):
            self.assertIsInstance(client_endpoint(address, reactor), kind)

    def test_certificates_only_with_tls(self) -> None:
        """A certificate that would do nothing is refused rather than passed over."""
        error = self.assertRaises(
            ValueError, client_endpoint, RedisAddress(host="h"), reactor, TlsFiles("ca.pem")
        )
        self.assertIn("rediss://", str(error))


class _FakeSentinel(LineOnlyReceiver):
    def lineReceived(self, line: bytes) -> None:
        self.factory.seen.append(line)
        if line == b"fleet" and self.factory.answer is not None:
            self.transport.write(self.factory.answer)


class SentinelTests(TestCase):
    """Fake sentinels on loopback, a real server as the master."""

    timeout = 20

    def sentinel(self, answer: bytes | None) -> tuple[str, int]:
        factory: Any = Factory.forProtocol(_FakeSentinel)
        factory.answer, factory.seen = answer, []
        port = reactor.listenTCP(0, factory, interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        return LOOPBACK, port.getHost().port

    def endpoint(self, *sentinels: tuple[str, int]) -> SentinelEndpoint:
        endpoint = client_endpoint(RedisAddress(sentinels=sentinels, master_name="fleet"), reactor)
        endpoint._timeout = 0.2
        return endpoint

    async def test_master_found(self) -> None:
        """The sentinel that knows leads to the master; absent, silent and ignorant ones are passed over."""
        port = str(shared_server().port).encode()
        knowing = self.sentinel(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port))
        absent = (LOOPBACK, 1)
        sentinels = (absent, self.sentinel(None), self.sentinel(b"*-1\r\n"), knowing)
        ready: defer.Deferred[None] = defer.Deferred()
        address = RedisAddress(sentinels=sentinels, master_name="fleet")
        connection = RedisConnection(
            reactor, address, self.endpoint(*sentinels), ready=lambda: ready.callback(None)
        )
        connection.startService()
        self.addCleanup(connection.stopService)
        await ready
        self.assertEqual(await connection.call("ECHO", "here"), b"here")

    async def test_no_master(self) -> None:
        """When no sentinel knows, the failure says what each one answered."""
        endpoint = self.endpoint(
            self.sentinel(None), self.sentinel(b"*-1\r\n"), self.sentinel(b"-ERR no\r\n")
        )
        with self.assertRaises(Exception) as caught:
            await endpoint.connect(Factory.forProtocol(LineOnlyReceiver))
        for part in ("'fleet'", "no answer within 0.2 s", "does not know it", "ERR no"):
            self.assertIn(part, str(caught.exception))
