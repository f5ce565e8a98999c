"""TLS to Redis: users and passwords, mistaken addresses, sentinels."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.tls import NO_FILES
from tests.support import LOOPBACK
from tests.support.certificates import TlsFront
from tests.unit.redis.test_tls import PASSWORD, TlsTestCase, Watched


class LoginTests(TlsTestCase):
    """Passwords and users, over TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.admin = self.server.client()
        self.addCleanup(self.admin.close)
        self.admin.call("AUTH", PASSWORD)

    def watch(self, **more: Any) -> Watched:
        options = {"password": more.pop("source")} if "source" in more else {}
        return Watched(self, self.address(self.front(self.good), **more), self.trust, **options)

    async def test_wrong_password(self) -> None:
        """A user's password that is wrong, until the server is given that one."""
        self.admin.call("ACL", "SETUSER", "ann", "on", ">another", "~*", "+@all")
        watched = self.watch(username="ann")
        await self.fails_then(
            watched,
            "AUTH refused: WRONGPASS",
            lambda: self.admin.call("ACL", "SETUSER", "ann", f">{PASSWORD}"),
        )

    async def test_unknown_user(self) -> None:
        """A user that there isn't, until there is."""
        watched = self.watch(username="nobody")
        await self.fails_then(
            watched,
            "AUTH refused: WRONGPASS",
            lambda: self.admin.call("ACL", "SETUSER", "nobody", "on", f">{PASSWORD}", "~*", "+@all"),
        )
        self.assertIn("rediss://nobody:***@localhost", watched.lines[0])

    async def test_no_password(self) -> None:
        """A server that wants a password which we don't have; it is read anew for every connection."""
        found: list[str | None] = [None]
        watched = self.watch(password=None, source=lambda: found[0])
        await self.fails_then(watched, "PING refused: NOAUTH", lambda: found.append(found.pop() or PASSWORD))

    async def test_unreadable_password(self) -> None:
        """A password that can't be read is a failed attempt."""
        path = self.ca.directory / "password"

        def read() -> str:
            if not path.exists():
                raise ValueError("there is no such file")
            return path.read_text()

        watched = self.watch(source=read)
        await self.fails_then(watched, "there is no such file", lambda: path.write_text(PASSWORD))


class MistakenTests(TlsTestCase):
    """TLS on one side only."""

    async def test_plain_server(self) -> None:
        """A server without TLS, which waits for the rest of what it takes for a command."""
        address = RedisAddress(host="localhost", port=self.server.port, tls=True, password=PASSWORD)
        watched = Watched(self, address, self.trust, handshake_timeout=0.1)
        await watched.until_failed()
        self.assertEqual(len(watched.lines), 1, watched.lines)
        self.assertIn("no TLS handshake within 0.1 s; does the server speak TLS?", watched.lines[0])

    async def test_plain_server_that_answers(self) -> None:
        """One that takes the handshake for an unknown command, and says so."""

        class Plain(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"-ERR unknown command\r\n")

        port = reactor.listenTCP(0, Factory.forProtocol(Plain), interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        address = RedisAddress(host="localhost", port=port.getHost().port, tls=True)
        watched = Watched(self, address, self.trust)
        await watched.until_failed()
        self.assertEqual(len(watched.lines), 1, watched.lines)
        self.assertIn("what answers there does not speak TLS", watched.lines[0])

    async def test_tls_server(self) -> None:
        """A server with TLS hangs up on who speaks without; with rediss:// it is well."""
        front = self.front(self.good)
        watched = Watched(self, self.address(front, tls=False, password=None), NO_FILES)
        await watched.until_failed()
        self.assertEqual(len(watched.lines), 1, watched.lines)
        self.assertIn("does it expect TLS (rediss://)?", watched.lines[0])

    async def test_tls_server_that_aborts(self) -> None:
        """Redis itself breaks such a connection off, since it hasn't read all of it."""

        class Abort(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.abortConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Abort), interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        watched = Watched(self, RedisAddress(host="localhost", port=port.getHost().port), NO_FILES)
        await watched.until_failed()
        self.assertEqual(len(watched.lines), 1, watched.lines)
        self.assertIn("does it expect TLS (rediss://)?", watched.lines[0])

    async def test_tls_server_that_answers(self) -> None:
        """One that tells of its trouble in an alert."""

        class Alert(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(bytes.fromhex("15030100020246"))

        port = reactor.listenTCP(0, Factory.forProtocol(Alert), interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        watched = Watched(self, RedisAddress(host="localhost", port=port.getHost().port), NO_FILES)
        await watched.until_failed()
        self.assertEqual(len(watched.lines), 1, watched.lines)
        self.assertIn("what answers there speaks TLS", watched.lines[0])


class SentinelTests(TlsTestCase):
    """Sentinels and the master that they name, all over TLS. A sentinel here knows one answer."""

    def sentinel(self, host: str, port: int) -> "TlsFront":
        answer = f"*2\r\n${len(host)}\r\n{host}\r\n${len(str(port))}\r\n{port}\r\n".encode()

        class Sentinel(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(answer)

        listening = reactor.listenTCP(0, Factory.forProtocol(Sentinel), interface=LOOPBACK)
        self.addCleanup(listening.stopListening)
        return TlsFront(self, listening.getHost().port, self.good)

    def watch(self, sentinel: TlsFront) -> Watched:
        address = RedisAddress(
            sentinels=(("localhost", sentinel.tls_port),), master_name="fleet", password=PASSWORD, tls=True
        )
        self.assertTrue(address.masked().startswith("rediss+sentinel://:***@localhost"))
        return Watched(self, address, self.trust)

    async def test_master(self) -> None:
        """The master is connected to, verified by the address that the sentinel gives."""
        front = self.front(self.ca.issue("localhost"))
        watched = self.watch(self.sentinel(LOOPBACK, front.tls_port))
        await self.fails_then(
            watched, "not for 127.0.0.1 but for localhost", lambda: setattr(front, "issued", self.good)
        )

    async def test_sentinel_not_verified(self) -> None:
        """A sentinel is verified as well; what is wrong is told beside its name."""
        sentinel = self.sentinel("localhost", self.front(self.good).tls_port)
        sentinel.issued = self.ca.issue("elsewhere.example")
        said = f"(localhost:{sentinel.tls_port}: the server's certificate is not for localhost"
        await self.fails_then(self.watch(sentinel), said, lambda: setattr(sentinel, "issued", self.good))
