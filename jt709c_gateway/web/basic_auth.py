"""HTTP Basic authentication (RFC 7617) against the user file.

A check with bcrypt takes some tenths of a second of a core, on purpose. So a thread does it, one check at a
time; valid credentials are cached for a while, and failed attempts are throttled.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Collection
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

import bcrypt
from attrs import define, field
from twisted.internet import defer, threads
from twisted.logger import Logger

from jt709c_gateway.web.htpasswd import Signature, UserFile, UsersError, read_users, signature_of
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.roles import User

#: Seconds for which valid credentials are cached, and the size of that cache.
_REMEMBERED: Final = 300.0
_MOST_REMEMBERED: Final = 1000
#: Maximum number of queued checks.
_MOST_WAITING: Final = 20
#: Failed attempts allowed per address and in all, and how many are forgiven per second.
_ATTEMPTS: Final = 10
_ATTEMPTS_OF_ALL: Final = 100
_FORGIVEN: Final = 0.1
_MOST_ADDRESSES: Final = 2000
#: Lines about the roles in a file.
_MOST_LOGGED: Final = 20
#: bcrypt ignores further bytes.
_LONGEST_PASSWORD: Final = 72
#: The user that browsers keep after logging out; files have no name with a blank.
LOGGED_OUT: Final = "logged out"
#: The header of an answer 401.
CHALLENGE: Final = {"www-authenticate": 'Basic realm="jt709c-gateway", charset="UTF-8"'}

Check = Callable[[bytes, bytes], bool]


@define
class _Attempts:
    """Counts failed attempts, which are forgiven over time."""

    most: float
    forgiven: float
    count: float = 0.0
    at: float = 0.0

    def remaining(self, now: float) -> float:
        """How many more attempts are allowed."""
        self.count = max(0.0, self.count - (now - self.at) * self.forgiven)
        self.at = now
        return self.most - self.count

    def wait(self) -> int:
        """Seconds until the next attempt is allowed."""
        return max(1, round((self.count - self.most + 1) / self.forgiven))


@define(eq=False)
class BasicAuth:
    """Authenticates users by their passwords.

    A changed file is reloaded with the next request; an invalid one is ignored. `commands` are the names of
    all commands, for the roles.
    """

    log = Logger()

    clock: Any
    file: UserFile
    commands: Collection[str] = field(default=(), repr=False)
    check: Check = field(default=bcrypt.checkpw)
    _key: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)
    _valid: dict[bytes, float] = field(factory=dict, init=False, repr=False)
    _turn: defer.DeferredLock = field(factory=defer.DeferredLock, init=False, repr=False)
    _waiting: int = field(default=0, init=False)
    _all_attempts: _Attempts = field(init=False)
    _attempts_by_address: dict[str, _Attempts] = field(factory=dict, init=False, repr=False)
    _refused: Signature | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._all_attempts = _Attempts(_ATTEMPTS_OF_ALL, 10 * _FORGIVEN)

    async def authenticate(self, authorization: bytes | None, address: str) -> User:
        """Return the user; raise :class:`ApiError` 401, or 429 or 503 for too many attempts."""
        self._reload_if_changed()
        name, password = credentials(authorization)
        if name == LOGGED_OUT:
            raise refused("logged out: expected user and password")
        digest = hmac.digest(self._key, f"{name}:".encode() + password, "sha256")
        if self._is_known(digest):
            return self.file.users[name]
        attempts = self._attempts(address)
        self._throttle(attempts)
        if self._waiting >= _MOST_WAITING:
            raise ApiError(503, "too many logins at a time: try again", headers={"retry-after": "5"})
        self._waiting += 1
        try:
            await self._turn.acquire()
            try:
                # Meanwhile the same credentials may have been checked, or others have failed.
                if not self._is_known(digest):
                    self._throttle(attempts)
                    await self._check(name, password, digest, attempts)
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1
        user = self.file.users.get(name)
        if user is None or not self._is_known(digest):
            raise refused("the file of users has changed meanwhile: expected another attempt")
        return user

    def is_current(self, user: User) -> bool:
        """Whether the file still has this user, with the same password and role."""
        self._reload_if_changed()
        return self.file.users.get(user.name) == user

    def _is_known(self, digest: bytes) -> bool:
        now: float = self.clock.seconds()
        return self._valid.get(digest, -1.0) >= now

    def _throttle(self, attempts: _Attempts) -> None:
        now = self.clock.seconds()
        for one in (attempts, self._all_attempts):
            if one.remaining(now) < 1:
                raise ApiError(
                    429,
                    "too many failed logins: try again later",
                    headers={"retry-after": str(one.wait())},
                )

    async def _check(self, name: str, password: bytes, digest: bytes, attempts: _Attempts) -> None:
        known = self.file.users.get(name)
        hashed = _costliest(self.file) if known is None else known.hash
        fits: bool = await threads.deferToThread(self.check, password, hashed)
        now = self.file.users.get(name)
        # The user may have been removed from the file meanwhile.
        if not fits or known is None or now is None or now.hash != known.hash:
            attempts.count += 1
            self._all_attempts.count += 1
            raise refused("user and password do not fit: expected those of a user in --web-users")
        self._remember(digest)

    def _remember(self, digest: bytes) -> None:
        now = self.clock.seconds()
        self._valid = {
            one: until for one, until in list(self._valid.items())[-_MOST_REMEMBERED + 1 :] if until >= now
        }
        self._valid[digest] = now + _REMEMBERED

    def _attempts(self, address: str) -> _Attempts:
        found = self._attempts_by_address.pop(_network(address), None) or _Attempts(_ATTEMPTS, _FORGIVEN)
        self._attempts_by_address[_network(address)] = found
        if len(self._attempts_by_address) > _MOST_ADDRESSES:
            del self._attempts_by_address[next(iter(self._attempts_by_address))]
        return found

    def reread(self) -> None:
        """Reload the file now, and log its errors again."""
        self._refused = None
        self._reload_if_changed()

    def _reload_if_changed(self) -> None:
        """Reload the file if it has changed."""
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
        self._valid.clear()
        self.log.info(
            "--web-users {path}: read again, {count} users", path=str(found.path), count=len(found.users)
        )
        self.log_roles()

    def log_roles(self) -> None:
        """Log what in the roles grants nothing, and who has every right for want of a role."""
        path = str(self.file.path)
        doubts = self.file.doubts(self.commands)
        for doubt in doubts[:_MOST_LOGGED]:
            self.log.warn("--web-users {path}: {doubt}", path=path, doubt=doubt)
        if len(doubts) > _MOST_LOGGED:
            self.log.warn("--web-users {path}: {count} lines like these", path=path, count=len(doubts))
        without = self.file.without_a_line()
        if self.file.role_lines and without:
            self.log.info(
                "--web-users {path}: every right without a role have {names}",
                path=path,
                names=", ".join(without[:_MOST_LOGGED]) + (", …" if len(without) > _MOST_LOGGED else ""),
            )


def refused(message: str) -> ApiError:
    """An error 401 with a challenge."""
    return ApiError(401, message, headers=CHALLENGE)


def _costliest(file: UserFile) -> bytes:
    """The hash with the highest cost, so that an unknown user takes as long as a wrong password."""
    return max((one.hash for one in file.users.values()), key=lambda one: one[4:6])


def credentials(authorization: bytes | None) -> tuple[str, bytes]:
    """Return user name and password of an Authorization header; raise :class:`ApiError` 401."""
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
    """The key that counts as one client: an IPv4 address, or the first half of an IPv6 address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return found.exploded[:19] if isinstance(found, IPv6Address) else address
