"""Redis addresses: reads the value of ``--redis`` and makes the Twisted endpoint for it."""

# The socket module loads it with the first name that it looks up, which fails while no descriptors are left.
import encodings.idna  # noqa: F401
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import attrs
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint

from jt709c_gateway.redis.endpoints import ClusterEndpoint, SentinelEndpoint
from jt709c_gateway.redis.tls import NO_FILES, TlsEndpoint, TlsFiles

REDIS_PORT = 6379
SENTINEL_PORT = 26379
CONNECT_TIMEOUT = 10.0
"""Timeout of an attempt to connect, in seconds."""

_FORMS = {
    "redis": "redis://[user[:password]@]host[:port][/db]",
    "rediss": "rediss://[user[:password]@]host[:port][/db]",
    "unix": "unix://[user[:password]@]/path/to/socket[?db=N]",
    "redis+cluster": "redis+cluster://[user[:password]@]host[:port][,host[:port]…]",
    "rediss+cluster": "rediss+cluster://[user[:password]@]host[:port][,host[:port]…]",
    "redis+sentinel": "redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/name[/db]",
    "rediss+sentinel": "rediss+sentinel://[user[:password]@]host[:port][,host[:port]…]/name[/db]",
    "embedded": "embedded or embedded:PORT",
}


@attrs.define(frozen=True)
class RedisAddress:
    """A Redis server: over TCP (`host`), a UNIX socket (`path`), found through `sentinels` (`master_name`),
    or the node of a cluster that holds our keys (`nodes` are some of its nodes).

    User and password are those of Redis itself; sentinels are asked without. `tls` applies to both.
    """

    host: str = ""
    port: int = REDIS_PORT
    path: str = ""
    sentinels: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    db: int = 0
    tls: bool = False

    @property
    def fails_over(self) -> bool:
        """Whether a fail-over is possible; the gateway then reconnects when the server becomes read-only."""
        return bool(self.sentinels or self.nodes)

    def masked(self) -> str:
        """The address as a URL with ``***`` for the password, for logs."""
        user = quote(self.username or "", safe="")
        if self.password is not None:
            user += ":***"
        login = f"{user}@" if user else ""
        if self.path:
            return f"unix://{login}{quote(self.path)}" + (f"?db={self.db}" if self.db else "")
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels:
            hosts = ",".join(_host_port(host, port) for host, port in self.sentinels)
            return f"{scheme}+sentinel://{login}{hosts}/{quote(self.master_name, safe='')}/{self.db}"
        if self.nodes:
            hosts = ",".join(_host_port(host, port) for host, port in self.nodes)
            return f"{scheme}+cluster://{login}{hosts}"
        return f"{scheme}://{login}{_host_port(self.host, self.port)}/{self.db}"


@attrs.define(frozen=True)
class EmbeddedAddress:
    """The embedded server: on a fixed loopback port, or (None) on a free one."""

    port: int | None = None

    def masked(self) -> str:
        """The address in the form of the command line."""
        return "embedded" if self.port is None else f"embedded:{self.port}"


def parse_redis_address(text: str) -> RedisAddress | EmbeddedAddress:
    """Parse the value of ``--redis``.

    User and password may be percent-encoded. The ValueError for an invalid value has one line with the
    problem and the expected form; a password is masked in it.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    parse = _PARSERS.get(scheme if separator else text.partition(":")[0])
    if parse is None or bool(separator) == (parse is _parse_embedded):
        raise ValueError(
            f"{_mask(text)!r} is no Redis address; expected one of: {', '.join(_FORMS.values())}"
        )
    try:
        return parse(scheme, rest if separator else text)
    except ValueError as error:
        form = _FORMS[scheme if separator else "embedded"]
        raise ValueError(f"{_mask(text)!r}: {error}; expected {form}") from None


def parse_redis_addresses(text: str) -> list[RedisAddress | EmbeddedAddress]:
    """Parse one address, or several with blanks between them; errors as `parse_redis_address`.

    Several servers share the partitions of a fleet, which a cluster does by itself.
    """
    found = [parse_redis_address(one) for one in text.split()] or [parse_redis_address(text)]
    for one in found if len(found) > 1 else ():
        if isinstance(one, EmbeddedAddress) or one.nodes:
            raise ValueError(f"{one.masked()!r}: stands alone; expected addresses of single servers")
    return found


def client_endpoint(address: RedisAddress, reactor: Any, files: TlsFiles = NO_FILES) -> Any:
    """Make the stream client endpoint for an address.

    With TLS the server's certificate must be valid for the host in the address (with sentinels: the host that
    the sentinel names) and signed by an authority in `files`. ValueError, one line, for files that are
    missing, unusable or unneeded.
    """
    if files and not address.tls:
        raise ValueError(
            f"certificates are only used with rediss:// or rediss+sentinel://, and the address is "
            f"{address.masked()}"
        )
    if address.path:
        return UNIXClientEndpoint(reactor, address.path, CONNECT_TIMEOUT)  # type: ignore[no-untyped-call]

    def reach(host: str, port: int) -> Any:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
        return TlsEndpoint(host, endpoint, files) if address.tls else endpoint

    if address.sentinels:
        sentinels = [(_host_port(host, port), reach(host, port)) for host, port in address.sentinels]
        return SentinelEndpoint(reactor, sentinels, address.master_name, reach)
    if address.nodes:
        return ClusterEndpoint(address.nodes, reach)
    return reach(address.host, address.port)


def _mask(text: str) -> str:
    # Up to the last "@", as a password that isn't encoded may contain one.
    text = re.sub(r"^(.*?://)?.*@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", text, flags=re.IGNORECASE)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_host(text: str, default_port: int) -> tuple[str, int]:
    if text.count(":") > 1 and not text.startswith("["):
        raise ValueError("an IPv6 address stands in brackets, [::1]")
    match = re.fullmatch(r"(?:\[([0-9A-Za-z:.%]+)\]|([^\s\[\]:/?#@]+))(?::(.*))?", text)
    if match is None:
        raise ValueError("the host is missing" if text[:1] in ("", ":") else "the host can't be read")
    bracketed, plain, port = match.groups()
    return bracketed or plain, default_port if port is None else _parse_port(port)


def _parse_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("the port must be a number from 1 to 65535")
    return int(text)


def _parse_db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("the database must be a number, 0 or more")
    return int(text)


def _split_login(text: str) -> tuple[str | None, str | None, str]:
    login, _, rest = text.rpartition("@")
    user, _, password = login.partition(":")
    return unquote(user) or None, unquote(password) or None, rest


def _parse_tcp(scheme: str, text: str) -> RedisAddress:
    username, password, rest = _split_login(text)
    location, _, db = rest.partition("/")
    host, port = _parse_host(location, REDIS_PORT)
    return RedisAddress(
        host=host,
        port=port,
        username=username,
        password=password,
        db=_parse_db(db) if db else 0,
        tls=scheme == "rediss",
    )


def _parse_unix(scheme: str, text: str) -> RedisAddress:
    # A path may contain "@" too, so the login ends at the first slash.
    login, slash, path = text.partition("/")
    if not slash or (login and not login.endswith("@")):
        raise ValueError("the path must be absolute, with three slashes after unix:")
    username, password, _ = _split_login(login)
    path, _, query = path.partition("?")
    if not path:
        raise ValueError("the path is missing")
    name, _, value = query.partition("=")
    if query and name != "db":
        raise ValueError("the only thing that may follow the path is ?db=N")
    return RedisAddress(
        path=unquote("/" + path),
        username=username,
        password=password,
        db=_parse_db(value) if query else 0,
    )


def _parse_sentinel(scheme: str, text: str) -> RedisAddress:
    username, password, rest = _split_login(text)
    hosts, _, path = rest.partition("/")
    name, _, db = path.partition("/")
    if not name:
        raise ValueError("the name of the master is missing")
    return RedisAddress(
        sentinels=tuple(_parse_host(host, SENTINEL_PORT) for host in hosts.split(",")),
        master_name=unquote(name),
        username=username,
        password=password,
        db=_parse_db(db) if db else 0,
        tls=scheme == "rediss+sentinel",
    )


def _parse_cluster(scheme: str, text: str) -> RedisAddress:
    username, password, rest = _split_login(text)
    hosts, _, path = rest.partition("/")
    if path:
        raise ValueError("a cluster has no databases to choose from")
    return RedisAddress(
        nodes=tuple(_parse_host(host, REDIS_PORT) for host in hosts.split(",")),
        username=username,
        password=password,
        tls=scheme.startswith("rediss"),
    )


def _parse_embedded(scheme: str, text: str) -> EmbeddedAddress:
    _, colon, port = text.partition(":")
    return EmbeddedAddress(_parse_port(port) if colon else None)


_PARSERS: dict[str, Callable[[str, str], RedisAddress | EmbeddedAddress]] = {
    "redis": _parse_tcp,
    "rediss": _parse_tcp,
    "unix": _parse_unix,
    "redis+cluster": _parse_cluster,
    "rediss+cluster": _parse_cluster,
    "redis+sentinel": _parse_sentinel,
    "rediss+sentinel": _parse_sentinel,
    "embedded": _parse_embedded,
}
