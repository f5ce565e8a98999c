"""Certificates made for a test, and TLS in front of a real server."""

import datetime
import ipaddress
import itertools
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, ssl
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from jt709c_gateway.redis.tls import TlsFiles
from tests.support import LOOPBACK, temporary_path

_names = itertools.count(1)
_DAY = datetime.timedelta(days=1)


class Issued:
    """A certificate and its key, in memory and (`files`) in one PEM file each."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, directory: str | Path) -> tuple[str, str]:
        """Write both under a new name and return the paths of certificate and key."""
        path = Path(directory) / f"certificate{next(_names)}.pem"
        path.write_bytes(self.pem)
        key = path.with_suffix(".key")
        key.write_bytes(self.key_pem)
        return str(path), str(key)


class Authority(Issued):
    """A private CA; `file` is its certificate in a directory that is removed with the test."""

    def __init__(
        self,
        test: SynchronousTestCase,
        name: str = "Fleet CA",
        issuer: Issued | None = None,
        valid_for: float = 1.0,
    ) -> None:
        made = _issue(name, [], issuer, is_authority=True, valid_for=valid_for)
        super().__init__(made.certificate, made.key)
        self.directory = Path(temporary_path(test)).parent
        self.file = self.write(self.directory)[0]

    def issue(self, *names: str, valid_for: float = 1.0) -> Issued:
        """Issue a certificate for these DNS names and IP addresses, valid for `days` from now."""
        return _issue(names[0] if names else "nameless", names, self, valid_for=valid_for)

    def client_files(self, issued: Issued) -> TlsFiles:
        """Return the TLS files of a client that trusts this authority and presents that certificate."""
        return TlsFiles(self.file, *issued.write(self.directory))


def _issue(
    common_name: str,
    names: Any,
    issuer: Issued | None,
    *,
    is_authority: bool = False,
    valid_for: float = 1.0,
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * _DAY)
        .not_valid_after(now + valid_for * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        listed = [_general_name(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    return Issued(builder.sign(key if issuer is None else issuer.key, hashes.SHA256()), key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class _Back(ProxyClient):
    def connectionMade(self) -> None:
        if self.peer.gone:
            self.transport.abortConnection()
        else:
            super().connectionMade()


class _BackFactory(ProxyClientFactory):
    noisy = False
    protocol = _Back


class _Front(ProxyServer):
    clientProtocolFactory = _BackFactory
    #: The client has closed, perhaps before the server was reached.
    gone = False

    def dataReceived(self, data: bytes) -> None:
        self.factory.received.append(data)
        super().dataReceived(data)

    def connectionLost(self, reason: Any) -> None:
        self.gone = True
        super().connectionLost(reason)


@implementer(IOpenSSLContextFactory)
class TlsFront(ProxyFactory):
    """TLS on its own port in front of a server on loopback, since Valkey wheels have no TLS.

    Certificates may be changed at any time; the next connection uses them. `received` has all bytes that
    clients sent after their TLS handshake.
    """

    noisy = False
    protocol = _Front

    def __init__(
        self,
        test: SynchronousTestCase,
        backend: int,
        issued: Issued,
        client_authority: Issued | None = None,
        interface: str = LOOPBACK,
    ) -> None:
        super().__init__(LOOPBACK, backend)
        self.received: list[bytes] = []
        self.issued = issued
        self.client_authority = client_authority
        listening = reactor.listenSSL(0, self, self, interface=interface)
        test.addCleanup(listening.stopListening)
        self.tls_port: int = listening.getHost().port

    def getContext(self) -> Any:
        """The OpenSSL context for a new connection (IOpenSSLContextFactory)."""
        own = ssl.PrivateCertificate.loadPEM(self.issued.pem + self.issued.key_pem)
        authority = self.client_authority
        trusted = [] if authority is None else [ssl.Certificate.loadPEM(authority.pem)]
        return own.options(*trusted).getContext()
