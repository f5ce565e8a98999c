"""Access control of page and API (docs/web.rst, "Who may see it")."""

from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from jt709c_gateway.web.basic_auth import BasicAuth
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.roles import Right, User, refusal

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@define(eq=False)
class AccessControl:
    """Admits or rejects requests.

    `users` authenticates, None without a user file; `anybody` then admits every host. `hosts` are further
    accepted values of the Host header. `writable` is --web-commands.
    """

    users: BasicAuth | None = None
    anybody: bool = False
    hosts: frozenset[str] = frozenset()
    writable: bool = False

    async def admit(self, request: Any, local: bool) -> User | None:
        """Return the authenticated user, None without a user file; raise :class:`ApiError` if not admitted.

        `local` says that the server can only be reached from its own host.
        """
        if not local and self.users is None and not self.anybody:
            raise ApiError(
                403,
                "the status page is closed to other hosts: expected --web-users FILE, or --web-users none to "
                "let everybody in",
            )
        self._check_host(request, local)
        if self.users is None:
            return None
        peer = request.getClientAddress()
        address = peer.host if isinstance(peer, IPv4Address | IPv6Address) else ""
        return await self.users.authenticate(request.getHeader(b"authorization"), address)

    def check_logout(self, request: Any, local: bool) -> None:
        """Raise :class:`ApiError` where nobody can log out."""
        self._check_host(request, local)
        if self.users is None:
            raise ApiError(404, "there are no users here: expected --web-users FILE")

    def check_right(self, user: User | None, right: Right) -> None:
        """Raise :class:`ApiError` 403 if a user lacks a right."""
        problem = refusal(user, right, self.writable)
        if problem is not None:
            raise ApiError(403, problem)

    def is_current(self, user: User | None) -> bool:
        """Whether what has been admitted would be admitted again."""
        return user is None or (self.users is not None and self.users.is_current(user))

    def _check_host(self, request: Any, local: bool) -> None:
        """Reject unknown names in the Host header, which DNS rebinding would have."""
        if not local and self.users is not None and not self.hosts:
            # A browser has no password for a foreign name.
            return
        host = host_of(request)
        known = host in _LOOPBACK_HOSTS or host in self.hosts or (not local and _is_address(host))
        if not known:
            right = ", ".join(["localhost", "127.0.0.1", "[::1]", *sorted(self.hosts)])
            raise ApiError(403, f"host {host[:64]!r}: expected {right}, or --web-host with the name", "host")


def host_of(request: Any) -> str:
    """The name in the Host header without port and brackets; "" if missing, repeated or malformed."""
    given = request.requestHeaders.getRawHeaders(b"host", [])
    raw = given[0].decode("ascii", "replace") if len(given) == 1 else ""
    try:
        parts = urlsplit(f"//{raw}")
        return parts.hostname or "" if parts.netloc == raw and "@" not in raw else ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_local(address: object) -> bool:
    """Whether only this host can reach a port bound to this address."""
    if isinstance(address, UNIXAddress):
        return True
    return isinstance(address, IPv4Address | IPv6Address) and ip_address(address.host).is_loopback
