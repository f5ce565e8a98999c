"""Who a request is from: HTTP Basic authentication (RFC 7617) against the file of users.

A check with bcrypt takes some tenths of a second of a core, on purpose. So it is done in a thread, one at a
time, what was right is remembered for a while, and what was wrong is slowed down.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

import bcrypt
from attrs import define, field
from twisted.internet import defer, threads
from twisted.logger import Logger

from jt709c_gateway.web.htpasswd import Signature, UserFile, UsersError, read_users, signature_of
from jt709c_gateway.web.http import ApiError

#: Seconds for which credentials that were right count without a check, and how many are remembered.
_REMEMBERED: Final = 300.0
_MOST_REMEMBERED: Final = 1000
#: Checks that may wait for their turn.
_MOST_WAITING: Final = 20
#: Wrong attempts in a row of one address, and of all, and how many a second are forgiven.
_ATTEMPTS: Final = 10
_ATTEMPTS_OF_ALL: Final = 100
_FORGIVEN: Final = 0.1
_MOST_ADDRESSES: Final = 2000
#: Seconds between two looks at the file.
_REVIEW: Final = 2.0
#: bcrypt takes no more bytes than this into account.
_LONGEST_PASSWORD: Final = 72
_CHALLENGE: Final = {"www-authenticate": 'Basic realm="jt709c-gateway", charset="UTF-8"'}

Check = Callable[[bytes, bytes], bool]


@define
class _Attempts:
    """Wrong attempts, some of which are forgiven as time goes by."""

    most: float
    forgiven: float
    count: float = 0.0
    at: float = 0.0

    def left(self, now: float) -> float:
        """How many more there may be."""
        self.count = max(0.0, self.count - (now - self.at) * self.forgiven)
        self.at = now
        return self.most - self.count

    def wait(self) -> int:
        """Seconds until there may be one more."""
        return max(1, round((self.count - self.most + 1) / self.forgiven))


@define(eq=False)
class BasicAuth:
    """Knows users by their passwords.

    The file is read again when it has changed; a version that can't be used changes nothing.
    """

    log = Logger()

    clock: Any
    file: UserFile
    check: Check = field(default=bcrypt.checkpw)
    _key: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)
    _right: dict[bytes, float] = field(factory=dict, init=False, repr=False)
    _turn: defer.DeferredLock = field(factory=defer.DeferredLock, init=False, repr=False)
    _waiting: int = field(default=0, init=False)
    _of_all: _Attempts = field(init=False)
    _of_one: dict[str, _Attempts] = field(factory=dict, init=False, repr=False)
    _reviewed: float = field(default=0.0, init=False)
    _refused: Signature | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._of_all = _Attempts(_ATTEMPTS_OF_ALL, 10 * _FORGIVEN)
        self._reviewed = self.clock.seconds()

    async def who(self, authorization: bytes | None, address: str) -> str:
        """The user's name; :class:`ApiError` 401 without one, 429 and 503 for too many attempts."""
        self._review()
        name, password = _credentials(authorization)
        digest = hmac.digest(self._key, f"{name}:".encode() + password, "sha256")
        if self._is_known(digest):
            return name
        attempts = self._attempts(address)
        self._slow_down(attempts)
        if self._waiting >= _MOST_WAITING:
            raise ApiError(
                503, "too many passwords wait for their check: try again", headers={"retry-after": "5"}
            )
        self._waiting += 1
        try:
            await self._turn.acquire()
            try:
                # The same may have been found right meanwhile, or others wrong.
                if not self._is_known(digest):
                    self._slow_down(attempts)
                    await self._check(name, password, digest, attempts)
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1
        return name

    def _is_known(self, digest: bytes) -> bool:
        now: float = self.clock.seconds()
        return self._right.get(digest, -1.0) >= now

    def _slow_down(self, attempts: _Attempts) -> None:
        now = self.clock.seconds()
        for one in (attempts, self._of_all):
            if one.left(now) < 1:
                raise ApiError(
                    429,
                    "too many attempts that failed: try again later",
                    headers={"retry-after": str(one.wait())},
                )

    async def _check(self, name: str, password: bytes, digest: bytes, attempts: _Attempts) -> None:
        known = self.file.hashes.get(name)
        fits: bool = await threads.deferToThread(self.check, password, known or _costliest(self.file))
        # The user may have been taken out of the file meanwhile.
        if not fits or known is None or self.file.hashes.get(name) != known:
            attempts.count += 1
            self._of_all.count += 1
            raise refused("user and password do not fit: expected those of a user in --web-users")
        self._remember(digest)

    def _remember(self, digest: bytes) -> None:
        now = self.clock.seconds()
        self._right = {
            one: until for one, until in list(self._right.items())[-_MOST_REMEMBERED + 1 :] if until >= now
        }
        self._right[digest] = now + _REMEMBERED

    def _attempts(self, address: str) -> _Attempts:
        found = self._of_one.pop(_network(address), None) or _Attempts(_ATTEMPTS, _FORGIVEN)
        self._of_one[_network(address)] = found
        if len(self._of_one) > _MOST_ADDRESSES:
            del self._of_one[next(iter(self._of_one))]
        return found

    def reread(self) -> None:
        """Look at the file now, and say again what is wrong with it."""
        self._reviewed, self._refused = -_REVIEW, None
        self._review()

    def _review(self) -> None:
        """Read the file again when it has changed."""
        if self.clock.seconds() - self._reviewed < _REVIEW:
            return
        self._reviewed = self.clock.seconds()
        signature = signature_of(self.file.path)
        if signature in (self.file.signature, self._refused):
            return
        try:
            found = read_users(self.file.path)
        except UsersError as error:
            self._refused = signature
            self.log.error(
                "--web-users {path}: {reason}. The users read before stay",
                path=str(self.file.path),
                reason=str(error),
            )
            return
        self.file = found
        self._right.clear()
        self.log.info(
            "--web-users {path}: read again, {count} users", path=str(found.path), count=len(found.hashes)
        )


def refused(message: str) -> ApiError:
    """The answer to whoever hasn't said, or not rightly, who he is."""
    return ApiError(401, message, headers=_CHALLENGE)


def _costliest(file: UserFile) -> bytes:
    """A hash by which a name that there isn't takes as long as a password that is wrong."""
    return max(file.hashes.values(), key=lambda one: one[4:6])


def _credentials(authorization: bytes | None) -> tuple[str, bytes]:
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        raise refused("expected user and password (HTTP Basic authentication)")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        user = name.decode()
    except (binascii.Error, UnicodeDecodeError):
        colon, user, password = b"", "", b""
    if not colon or len(password) > _LONGEST_PASSWORD or b"\0" in password or len(user) > 64:
        raise refused(f"expected user:password in Base64, the password of at most {_LONGEST_PASSWORD} bytes")
    return user, password


def _network(address: str) -> str:
    """What counts as one client: an address, of IPv6 its first half."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return found.exploded[:19] if isinstance(found, IPv6Address) else address
