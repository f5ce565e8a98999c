"""TLS to Redis: loads certificates, verifies the server's identity, and explains failures.

`_Verifier` replaces Twisted's own verification (`optionsForClientTLS`) on every connection. Twisted only logs
when service_identity can't read a certificate, such as one without subjectAltName, and then accepts it for
any name (seen with 26.10). It also does not tell why OpenSSL refuses a chain.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from OpenSSL import SSL
from OpenSSL.crypto import X509
from OpenSSL.crypto import Error as CertificateError
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import defer, ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERIFY: Final = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
#: Reasons by OpenSSL's verification result (X509_V_ERR_…), except those for an unknown authority.
_REFUSALS: Final = {
    9: "is not valid yet",
    10: "has expired",
    23: "has been revoked",
    26: "is not one for a server",
}
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_ALERT: Final = re.compile(r"\balert (.+)$")
#: Alerts of a server that refuses the client's certificate (RFC 8446 §6).
_CERTIFICATE_ALERTS: Final = frozenset(
    {
        "bad certificate",
        "unsupported certificate",
        "certificate revoked",
        "certificate expired",
        "certificate unknown",
        "unknown ca",
        "access denied",
    }
)
#: OpenSSL's reasons for data that are not TLS.
_NOT_TLS: Final = frozenset(
    {"wrong version number", "packet length too long", "http request", "record layer failure"}
)


class CertificateRefused(Exception):
    """The server's certificate was refused; the message says why."""


@frozen
class TlsFiles:
    """Paths of PEM files: trusted authorities (None: the platform's), our certificate and its key.

    The key may be in the certificate's file; further certificates there form the chain to the authority.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __bool__(self) -> bool:
        return any((self.ca, self.certificate, self.key))


NO_FILES: Final = TlsFiles()


class TlsEndpoint:
    """Connects over TLS to `endpoint`; the server must prove that it is `host` (a name or an IP address).

    The files are read for every connection, so renewed files take effect without a restart. The constructor
    raises ValueError, one line, for files that are missing or unusable; later, the attempt fails with it.
    """

    def __init__(self, host: str, endpoint: Any, files: TlsFiles) -> None:
        self._host = host
        self._endpoint = endpoint
        self._files = files
        _Creator(host, files)

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        """Connect; the protocol may write at once, but data are sent only after the server is verified."""
        try:
            creator: Any = _Creator(self._host, self._files)
        except ValueError:
            return defer.fail()
        endpoint: Any = wrapClientTLS(creator, self._endpoint)
        connected: defer.Deferred[Any] = endpoint.connect(factory)
        return connected


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes the OpenSSL side of each connection."""

    _options: Any

    def __init__(self, host: str, files: TlsFiles) -> None:
        self._host = host
        _identity(host)
        certificate, chain = _own_certificate(files)
        self._options = ssl.optionsForClientTLS(
            host,
            trustRoot=None if files.ca is None else _authorities(files.ca),
            clientCertificate=certificate,
            extraCertificateOptions={"extraCertChain": chain} if chain else None,
        )

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self._options.clientConnectionForTLS(protocol)
        connection.set_verify(_VERIFY, _Verifier(self._host, protocol.failVerification))
        return connection


class _Verifier:
    """Decides for OpenSSL about every certificate of a chain; a refusal ends the handshake."""

    def __init__(self, host: str, refuse: Callable[[Failure], object]) -> None:
        self._host = host
        self._refuse = refuse

    def __call__(self, _: SSL.Connection, certificate: X509, number: int, depth: int, ok: int) -> bool:
        try:
            if not ok:
                raise CertificateRefused(_refusal(number, depth))
            if depth == 0:
                _check_identity(certificate, self._host)
        except Exception as error:
            # On any error the certificate counts as invalid.
            self._refuse(Failure(error))  # type: ignore[no-untyped-call]
            return False
        return True


def _refusal(number: int, depth: int) -> str:
    if number in _UNKNOWN_AUTHORITY:
        # The result concerns the authority's certificate if the server sends it along.
        return "the server's certificate is signed by no authority that we trust (--redis-ca)"
    whose = "the server's certificate" if depth == 0 else "the certificate of the server's authority"
    return f"{whose} {_REFUSALS.get(number, f'is not valid (OpenSSL verification error {number})')}"


def _check_identity(certificate: X509, host: str) -> None:
    names = extract_patterns(certificate)
    if not names:
        raise CertificateRefused("the server's certificate names no host (it has no subjectAltName)")
    try:
        verify_service_identity(names, [_identity(host)], [])
    except VerificationError:
        known = ", ".join(_shown(name) for name in names)
        raise CertificateRefused(f"the server's certificate is not for {host} but for {known}") from None


def _identity(host: str) -> DNS_ID | IPAddress_ID:
    return IPAddress_ID(host) if isIPAddress(host) or isIPv6Address(host) else DNS_ID(host)


def _shown(name: Any) -> str:
    pattern = getattr(name, "pattern", name)
    return pattern.decode("ascii", "replace") if isinstance(pattern, bytes) else str(pattern)


def explain(error: SSL.Error) -> str:
    """Return why TLS failed: OpenSSL's reason, or the alert that the server sent."""
    # OpenSSL keeps a list of (library, function, reason).
    reason = str(error.args[0][-1][-1]) if error.args and error.args[0] else "no reason given"
    if reason in _NOT_TLS:
        return "what answers there does not speak TLS"
    alert = _ALERT.search(reason)
    if alert is None:
        return f"TLS failed: {reason}"
    if alert[1] == "certificate required":
        return "the server wants a certificate of ours (--redis-cert, --redis-key)"
    if alert[1] in _CERTIFICATE_ALERTS:
        return f"the server refuses our certificate (--redis-cert): {alert[1]}"
    return f"the server refuses the TLS handshake: {alert[1]}"


def _authorities(path: str) -> Any:
    certificates = _read_certificates(path)
    if not certificates:
        raise ValueError(f"{path} holds no certificate that can be read (PEM)")
    return ssl.trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]


def _own_certificate(files: TlsFiles) -> tuple[Any, list[X509]]:
    """Load our certificate, its key, and the chain to its authority."""
    path = files.certificate
    if path is None:
        if files.key is not None:
            raise ValueError("a client key needs a client certificate")
        return None, []
    pem = _read_file(path) + b"\n" + (_read_file(files.key) if files.key else b"")
    try:
        own = ssl.PrivateCertificate.loadPEM(pem)  # type: ignore[no-untyped-call]
    except CertificateError:
        raise ValueError(f"{path} and its key can't be read (PEM, key without passphrase)") from None
    except VerifyError:
        raise ValueError(f"{files.key or path} is not the key of the certificate in {path}") from None
    return own, [certificate.original for certificate in _read_certificates(path)[1:]]


def _read_certificates(path: str) -> list[Any]:
    try:
        return [ssl.Certificate.loadPEM(pem) for pem in _CERTIFICATE.findall(_read_file(path))]
    except CertificateError:
        return []


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
