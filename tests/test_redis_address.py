"""What ``--redis`` may say, and where it leads."""

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import defer, reactor, ssl
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, client_endpoint, parse_redis_address
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.sentinel import SentinelEndpoint
from tests.support import LOOPBACK, shared_server, temporary_path


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
        ):
            self.assertIsInstance(client_endpoint(address, reactor), kind)

    def test_certificates_only_with_tls(self) -> None:
        """A certificate that would do nothing is refused rather than passed over."""
        error = self.assertRaises(ValueError, client_endpoint, RedisAddress(host="h"), reactor, "ca.pem")
        self.assertIn("rediss://", str(error))

    def test_unfit_files(self) -> None:
        """Files that are missing or hold no certificate are named in a line."""
        address = RedisAddress(host="h", tls=True)
        empty = temporary_path(self)
        Path(empty).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for files, part in (
            (("/missing/ca.pem",), "cannot read /missing/ca.pem: No such file"),
            ((empty,), "holds no certificate"),
            ((None, empty), "can't be read"),
            ((None, None, empty), "needs a client certificate"),
        ):
            error = self.assertRaises(ValueError, client_endpoint, address, reactor, *files)
            self.assertIn(part, str(error))


class _Pong(LineOnlyReceiver):
    def lineReceived(self, line: bytes) -> None:
        if line == b"PING":
            self.transport.write(b"+PONG\r\n")


class TlsTests(TestCase):
    """Against a TLS listener that answers as Redis would."""

    timeout = 20

    def setUp(self) -> None:
        self.ca_key, self.ca = _certificate("Test CA", None, None)
        self.ca_file = temporary_path(self)
        Path(self.ca_file).write_bytes(_pem(self.ca))

    def listen(self, name: str, client_ca: bool = False) -> int:
        key, certificate = _certificate(name, self.ca_key, self.ca)
        roots = ssl.Certificate.loadPEM(_pem(self.ca))
        options = ssl.PrivateCertificate.loadPEM(_pem(certificate) + _key_pem(key)).options(
            *([roots] if client_ca else [])
        )
        port = reactor.listenSSL(0, Factory.forProtocol(_Pong), options, interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def connect(self, port: int, *files: str) -> "defer.Deferred[str]":
        address = RedisAddress(host="localhost", port=port, tls=True)
        result: defer.Deferred[str] = defer.Deferred()
        connection = RedisConnection(
            reactor,
            address,
            client_endpoint(address, reactor, TlsFiles(*files)),
            ready=lambda: result.callback("ready"),
        )
        # The first attempt that fails is the answer as well.
        connection._attempt_failed = lambda reason: result.called or result.callback(reason)
        connection.startService()
        self.addCleanup(connection.stopService)
        return result

    async def test_verified(self) -> None:
        """A server whose certificate is signed by the given CA, for this name, is connected to."""
        outcome = await self.connect(self.listen("localhost"), self.ca_file)
        self.assertEqual(outcome, "ready")

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused, even from the right CA."""
        outcome = await self.connect(self.listen("elsewhere.example"), self.ca_file)
        self.assertIn("certificate is for another name", outcome)

    async def test_unknown_authority(self) -> None:
        """A certificate that no trusted authority signed is refused."""
        outcome = await self.connect(self.listen("localhost"))
        self.assertIn("certificate verify failed", outcome)

    async def test_client_certificate(self) -> None:
        """A server that asks for a certificate gets ours."""
        key, certificate = _certificate("gateway", self.ca_key, self.ca)
        ours, its_key = temporary_path(self), temporary_path(self)
        Path(ours).write_bytes(_pem(certificate))
        Path(its_key).write_bytes(_key_pem(key))
        port = self.listen("localhost", client_ca=True)
        self.assertNotEqual(await self.connect(port, self.ca_file), "ready")
        self.assertEqual(await self.connect(port, self.ca_file, ours, its_key), "ready")


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
            await endpoint.connect(Factory.forProtocol(_Pong))
        for part in ("'fleet'", "no answer within 0.2 s", "does not know it", "ERR no"):
            self.assertIn(part, str(caught.exception))


def _certificate(name: str, issuer_key: Any, issuer: Any) -> tuple[Any, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    return key, builder.sign(issuer_key or key, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
