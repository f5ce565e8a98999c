"""Redis over TLS, as the daemon connects: what is wrong is said in one line, and mending it is enough."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import defer, reactor
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.redis import tls
from jt709c_gateway.redis.address import RedisAddress, client_endpoint
from jt709c_gateway.redis.client_protocol import one_line
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.tls import NO_FILES, TlsFiles
from tests.support import LOOPBACK, ValkeyServer
from tests.support.certificates import Authority, TlsFront

PASSWORD = "s3cret-of-redis"


class Watched:
    """A connection, the lines that it logs, and waiting for them."""

    def __init__(self, test: TestCase, address: RedisAddress, files: TlsFiles, **options: Any) -> None:
        self.lines: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], defer.Deferred[None]]] = []
        self._failed = 0
        self.ready = False
        globalLogPublisher.addObserver(self._observe)
        test.addCleanup(globalLogPublisher.removeObserver, self._observe)
        self.connection = RedisConnection(
            reactor,
            address,
            client_endpoint(address, reactor, files),
            retry_delay=self._delay,
            ready=self._is_ready,
            **options,
        )
        test.addCleanup(self.connection.stopService)
        self.connection.startService()

    def _observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("jt709c_gateway") or event.get("log_failure"):
            self.lines.append(formatEvent(event))

    def _delay(self, attempt: int) -> float:
        self._failed += 1
        self._check()
        return 0.01

    def _is_ready(self) -> None:
        self.ready = True
        self._check()

    def _check(self) -> None:
        for item in list(self._waiting):
            if item[0]():
                self._waiting.remove(item)
                item[1].callback(None)

    def _until(self, predicate: Callable[[], bool]) -> "defer.Deferred[None]":
        result: defer.Deferred[None] = defer.Deferred()
        self._waiting.append((predicate, result))
        self._check()
        return result

    def until_failed(self, more: int = 3) -> "defer.Deferred[None]":
        """Fires after so many more failed attempts."""
        wanted = self._failed + more
        return self._until(lambda: self._failed >= wanted)

    def until_ready(self) -> "defer.Deferred[None]":
        """Fires when the connection is usable."""
        return self._until(lambda: self.ready)


class TlsTestCase(TestCase):
    """A real server with a password, and TLS in front of it."""

    timeout = 30

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = ValkeyServer("--requirepass", PASSWORD).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.discard()

    def setUp(self) -> None:
        self.ca = Authority(self)
        self.trust = TlsFiles(self.ca.file)
        self.good = self.ca.issue("localhost", LOOPBACK)

    def front(self, *arguments: Any, **options: Any) -> TlsFront:
        return TlsFront(self, self.server.port, *arguments, **options)

    def address(self, front: TlsFront, host: str = "localhost", **more: Any) -> RedisAddress:
        fields = {"host": host, "port": front.tls_port, "tls": True, "password": PASSWORD, **more}
        return RedisAddress(**fields)

    async def fails_then(self, watched: Watched, said: str, mend: Callable[[], object]) -> None:
        """It says what is wrong, once, in one line; when that has been mended, it connects."""
        await watched.until_failed()
        (line,) = watched.lines
        self.assertIn(said, line)
        self.assertTrue(line.startswith("cannot connect to Redis at redis"), line)
        self.assertTrue(line.endswith("; trying again"), line)
        mend()
        await watched.until_ready()
        self.assertEqual(len(watched.lines), 2, watched.lines)
        self.assertTrue(watched.lines[1].startswith("connected to Redis at redis"), watched.lines)
        self.assertEqual(await watched.connection.call("ECHO", "here"), b"here")
        text = "".join(watched.lines)
        self.assertNotIn(PASSWORD, text)
        self.assertNotIn("\n", text)


class ServerCertificateTests(TlsTestCase):
    """The server has to prove who it is, before it hears anything."""

    async def refused(self, issued: Any, said: str, host: str = "localhost") -> None:
        front = self.front(issued)
        watched = Watched(self, self.address(front, host), self.trust)

        def mend() -> None:
            self.assertEqual(front.received, [], "something was said to a server that is not verified")
            front.issued = self.good

        await self.fails_then(watched, said, mend)

    async def test_unknown_authority(self) -> None:
        """A certificate of another authority, though its name be right."""
        issued = Authority(self, "Another CA").issue("localhost")
        await self.refused(issued, "the server's certificate is signed by no authority that we trust")

    async def test_self_signed(self) -> None:
        """A certificate that signs itself."""
        await self.refused(Authority(self, "localhost"), "is signed by no authority that we trust")

    async def test_another_name(self) -> None:
        """A certificate of the right authority for other names, which are told."""
        issued = self.ca.issue("elsewhere.example", "*.fleet.example")
        said = "the server's certificate is not for localhost but for elsewhere.example, *.fleet.example"
        await self.refused(issued, said)

    async def test_another_address(self) -> None:
        """Where the server is named by its IP address, the certificate must have that."""
        said = "the server's certificate is not for 127.0.0.1 but for localhost, 127.0.0.2"
        await self.refused(self.ca.issue("localhost", "127.0.0.2"), said, LOOPBACK)

    async def test_no_name(self) -> None:
        """A certificate without subjectAltName is for nobody, whatever its common name is."""
        await self.refused(self.ca.issue(), "names no host (it has no subjectAltName)")

    async def test_expired(self) -> None:
        """A certificate of yesterday."""
        await self.refused(self.ca.issue("localhost", valid_for=-1), "the server's certificate has expired")

    async def test_expired_authority(self) -> None:
        """An authority of yesterday."""
        old = Authority(self, valid_for=-1)
        front = self.front(old.issue("localhost"))
        watched = Watched(self, self.address(front), TlsFiles(old.file))
        said = "the certificate of the server's authority has expired"

        def mend() -> None:
            front.issued = self.good
            Path(old.file).write_bytes(self.ca.pem)

        await self.fails_then(watched, said, mend)

    async def test_platform_authorities(self) -> None:
        """Without --redis-ca the platform's authorities count, and a private one is none of them."""
        front = self.front(self.good)
        watched = Watched(self, self.address(front), NO_FILES)
        await watched.until_failed()
        self.assertEqual(len(watched.lines), 1)
        self.assertIn("signed by no authority that we trust (--redis-ca)", watched.lines[0])
        self.assertEqual(front.received, [])

    async def test_authority_replaced(self) -> None:
        """The file of authorities is read for every connection: one that is replaced counts at once."""
        file = self.ca.directory / "ca.pem"
        file.write_bytes(Authority(self, "The old CA").pem)
        watched = Watched(self, self.address(self.front(self.good)), TlsFiles(str(file)))
        await self.fails_then(
            watched, "signed by no authority", lambda: file.write_bytes(b"# Ours\n" + self.ca.pem)
        )

    async def test_authority_gone(self) -> None:
        """A file that has gone since the start is named."""
        file = self.ca.directory / "ca.pem"
        file.write_bytes(self.ca.pem)
        front = self.front(Authority(self, "Another CA").issue("localhost"))
        watched = Watched(self, self.address(front), TlsFiles(str(file)))
        await watched.until_failed(1)
        file.unlink()
        await watched.until_failed(2)
        self.assertIn(f"cannot read {file}: No such file", watched.lines[1])

    async def test_name_and_address(self) -> None:
        """A server is accepted by its name, by its IP address, and by a wildcard."""
        for names, host in ((["localhost"], "localhost"), ([LOOPBACK], LOOPBACK)):
            watched = Watched(self, self.address(self.front(self.ca.issue(*names)), host), self.trust)
            await watched.until_ready()
            self.assertEqual(len(watched.lines), 1, watched.lines)
            await watched.connection.stopService()

    async def test_ipv6_address(self) -> None:
        """The same by an IPv6 address."""
        front = self.front(self.ca.issue("::1"), interface="::1")
        watched = Watched(self, self.address(front, "::1"), self.trust)
        await watched.until_ready()

    async def test_intermediate_authority(self) -> None:
        """Several authorities in one file all count."""
        file = self.ca.directory / "both.pem"
        file.write_bytes(Authority(self, "Another CA").pem + self.ca.pem)
        watched = Watched(self, self.address(self.front(self.good)), TlsFiles(str(file)))
        await watched.until_ready()


class ClientCertificateTests(TlsTestCase):
    """A server that wants to know who we are."""

    def setUp(self) -> None:
        super().setUp()
        self.closed = self.front(self.good, self.ca)
        self.ours = self.ca.issue("gateway")

    async def test_right(self) -> None:
        """The right certificate is shown."""
        watched = Watched(self, self.address(self.closed), self.ca.client_files(self.ours))
        await watched.until_ready()
        self.assertEqual(len(watched.lines), 1, watched.lines)

    async def test_none(self) -> None:
        """A server that gets none says so."""
        watched = Watched(self, self.address(self.closed), self.trust)
        said = "the server wants a certificate of ours (--redis-cert, --redis-key)"
        await self.fails_then(watched, said, lambda: setattr(self.closed, "client_authority", None))

    async def test_wrong(self) -> None:
        """A certificate that the server doesn't know; the right one in the same files is enough."""
        files = self.ca.client_files(Authority(self, "Another CA").issue("gateway"))
        watched = Watched(self, self.address(self.closed), files)

        def mend() -> None:
            Path(files.certificate).write_bytes(self.ours.pem)
            Path(files.key).write_bytes(self.ours.key_pem)

        await self.fails_then(watched, "the server refuses our certificate (--redis-cert): unknown ca", mend)

    async def test_expired(self) -> None:
        """A certificate of yesterday."""
        files = self.ca.client_files(self.ca.issue("gateway", valid_for=-1))
        watched = Watched(self, self.address(self.closed), files)
        said = "the server refuses our certificate (--redis-cert): certificate expired"
        await self.fails_then(watched, said, lambda: setattr(self.closed, "client_authority", None))

    async def test_chain(self) -> None:
        """Certificates behind ours are sent along, so that the server finds its way to its authority."""
        below = Authority(self, "Gateways", issuer=self.ca)
        ours = below.issue("gateway")
        files = self.ca.client_files(ours)
        Path(files.certificate).write_bytes(ours.pem + below.pem)
        watched = Watched(self, self.address(self.closed), files)
        await watched.until_ready()

    def test_unfit_files(self) -> None:
        """What can be known to be wrong before the start is one line that names the file."""
        certificate, key = self.ours.write(self.ca.directory)
        other_key = self.ca.issue("other").write(self.ca.directory)[1]
        for files, said in (
            (TlsFiles("/missing/ca.pem"), "cannot read /missing/ca.pem: No such file"),
            (TlsFiles(key), f"{key} holds no certificate"),
            (TlsFiles(None, certificate), f"{certificate} and its key can't be read"),
            (TlsFiles(None, certificate, other_key), f"{other_key} is not the key of the certificate in"),
            (TlsFiles(None, None, key), "a client key needs a client certificate"),
        ):
            address = RedisAddress(host="h", tls=True)
            error = self.assertRaises(ValueError, client_endpoint, address, reactor, files)
            self.assertIn(said, str(error))
            self.assertNotIn("\n", str(error))

    def test_one_file(self) -> None:
        """Certificate and key may be in one file."""
        path = self.ca.directory / "both.pem"
        path.write_bytes(self.ours.pem + self.ours.key_pem)
        client_endpoint(RedisAddress(host="h", tls=True), reactor, TlsFiles(None, str(path)))


class WordTests(SynchronousTestCase):
    """OpenSSL's errors in words."""

    def test_reasons(self) -> None:
        """An alert is what the server said; a refusal of another kind keeps OpenSSL's words."""
        for reason, said in (
            ("tlsv13 alert certificate required", "wants a certificate of ours"),
            ("ssl/tls alert bad certificate", "refuses our certificate (--redis-cert): bad certificate"),
            ("tlsv1 alert unknown ca", "refuses our certificate (--redis-cert): unknown ca"),
            ("sslv3 alert handshake failure", "the server refuses the TLS handshake: handshake failure"),
            ("wrong version number", "does not speak TLS"),
            ("no shared cipher", "TLS failed: no shared cipher"),
        ):
            self.assertIn(said, one_line(SSL.Error([("SSL routines", "", reason)])))
        self.assertEqual(one_line(SSL.Error()), "TLS failed: no reason given")

    def test_unreadable_certificate(self) -> None:
        """A certificate that can't be checked at all is refused: this must never fail open."""
        refused: list[Any] = []
        verifier = tls._Verifier("localhost", refused.append)
        self.assertFalse(verifier(None, None, 0, 0, 1))
        self.assertEqual(len(refused), 1)
        self.assertFalse(verifier(None, None, 999, 0, 0))
        self.assertIn("verification error 999", refused[1].getErrorMessage())
        # A private authority whose certificate comes with the server's.
        self.assertFalse(verifier(None, None, 19, 1, 0))
        self.assertIn("the server's certificate is signed by no authority", refused[2].getErrorMessage())
