"""Connections of subcommands to Redis: one for requests, one for subscriptions."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from attrs import define, evolve, field, frozen
from click.core import ParameterSource
from twisted.internet import defer

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.redis.address import RedisAddress, client_endpoint, parse_redis_addresses
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.connection_log import ConnectionLog
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE, read_password
from jt709c_gateway.redis.embedded.access import running_server
from jt709c_gateway.redis.embedded.data_directory import DEFAULT_DATA_DIR, EmbeddedServerError
from jt709c_gateway.redis.pubsub import ListenerEndpoint
from jt709c_gateway.redis.tls import NO_FILES, TlsFiles

#: Seconds to wait for the first connection to Redis.
_CONNECT: Final = 10.0
#: Options that say which Redis it is, for an error that it is not there.
_WHERE: Final = " (--redis or JT709C_REDIS; for an embedded one, embedded:DIR)"

OnMessage = Callable[[str, bytes], None]


@frozen
class Link:
    """The addresses of Redis and the certificates; several servers share the partitions.

    `partitions` is their number as given, None when it has to be found out.
    """

    addresses: tuple[RedisAddress, ...]
    files: TlsFiles = NO_FILES
    partitions: int | None = None

    @property
    def address(self) -> RedisAddress:
        """The only address, or that of partition 0."""
        return self.addresses[0]

    def masked(self) -> str:
        """The addresses without passwords."""
        return " ".join(one.masked() for one in self.addresses)

    def endpoint(self, reactor: Any, address: RedisAddress) -> Any:
        """Make the client endpoint of an address; raise UserError for unusable certificates."""
        try:
            return client_endpoint(address, reactor, self.files)
        except ValueError as error:
            raise UserError(str(error)) from None


def redis_link(options: RedisOptions) -> Link:
    """Make a link from options; raise UserError for unusable ones.

    `embedded:DIR` is the embedded server of the gateway with this data directory, which has its port and
    password; `embedded` uses the default directory.

    A password in the URL has precedence over one in a file, and that over one in the environment.
    """
    url = options.redis_url.strip()
    addresses = _addresses(url)
    if not url.startswith("embedded") and any(one.password is None for one in addresses):
        password = _password(options.redis_password_file)
        addresses = [evolve(one, password=password) if one.password is None else one for one in addresses]
    files = TlsFiles(options.redis_ca, options.redis_cert, options.redis_key)
    return Link(tuple(addresses), files, options.partitions)


def _addresses(text: str) -> list[RedisAddress]:
    word, colon, data_dir = text.partition(":")
    try:
        if word == "embedded":
            if not colon:
                return [running_server(DEFAULT_DATA_DIR)]
            if not data_dir or data_dir.isdigit():
                raise ValueError(
                    f"{text!r}: expected embedded:DIR with the --data-dir of the gateway, where its port is "
                    f"found (embedded:./{data_dir or 'DIR'} for one of this name)"
                )
            return [running_server(data_dir)]
        return [one for one in parse_redis_addresses(text) if isinstance(one, RedisAddress)]
    except (ValueError, EmbeddedServerError) as error:
        raise UserError(f"{_source()}: {error}") from None


def _source() -> str:
    """Return the option or the environment variable that names Redis."""
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source("redis_url")
    return "JT709C_REDIS" if source is ParameterSource.ENVIRONMENT else "--redis"


def _password(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        return read_password(Path(path))
    except ValueError as error:
        raise UserError(f"--redis-password-file {error}") from None


def subscribe(
    reactor: Any,
    link: Link,
    patterns: Sequence[str],
    on_message: OnMessage,
    *,
    ready: Callable[[], object] | None = None,
    log: ConnectionLog | None = None,
    reply_timeout: float = 5.0,
) -> RedisConnection:
    """Make a connection that subscribes to `patterns` after each (re)connect and then calls `ready`.

    A pattern without `*` is the name of a channel: Redis lets a user with an ACL subscribe to any matching
    channel, but to a pattern only if the ACL has the same pattern.

    `on_message(channel, payload)` must not raise. Call `keep_alive` on the connection regularly.
    """
    endpoint = ListenerEndpoint(
        reactor,
        link.endpoint(reactor, link.address),
        lambda _, channel, payload: on_message(channel, payload),
        reply_timeout,
    )

    async def subscribe_all(protocol: RedisProtocol) -> None:
        for pattern in patterns:
            await protocol.call("PSUBSCRIBE" if "*" in pattern else "SUBSCRIBE", pattern)

    return RedisConnection(
        reactor, link.address, endpoint, prepare=subscribe_all, ready=ready, connection_log=log
    )


@define(eq=False)
class FirstConnection(ConnectionLog):
    """Waits for the first connection; logs what happens after it.

    `tries` attempts may be made before the reason of a failure is final.
    """

    tries: int = 1
    _first: "defer.Deferred[str | None]" = field(factory=defer.Deferred, init=False, repr=False)

    def connected(self) -> None:
        """End the waiting."""
        super().connected()
        self._end(None)

    def failed(self, reason: str) -> None:
        """Log a failure, or end the waiting with it."""
        if self._first.called:
            super().failed(reason)
            return
        self.tries -= 1
        if self.tries <= 0:
            # Told by whoever waits.
            self._reasons.add(reason)
            self._end(f"cannot connect to Redis at {self.address}: {reason}{_WHERE}")

    def _end(self, trouble: str | None) -> None:
        if not self._first.called:
            self._first.callback(trouble)

    async def wait(self, reactor: Any) -> None:
        """Wait for the first connection, once; raise UserError after an error or a timeout."""
        try:
            trouble = await self._first.addTimeout(_CONNECT, reactor)
        except defer.TimeoutError:
            trouble = f"no connection to {self.address}"
        if trouble is not None:
            raise UserError(trouble)


def refused(what: str, error: str, user: str = "jt709c-reader") -> str:
    """Format an error reply of Redis to a user who wanted to do `what`."""
    if error.startswith(("NOPERM", "-NOPERM")):
        return (
            f"this Redis user may not {what} ({plain(error)}); expected one like {user} in etc/redis-acl.conf"
        )
    return f"Redis refused: {plain(error)}"
