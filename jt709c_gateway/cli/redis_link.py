"""The commands' way to Redis: one connection to talk over, one to listen on."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from jt709c_gateway.cli.common import RedisOptions, UserError
from jt709c_gateway.option_values import PASSWORD_VARIABLE
from jt709c_gateway.options import read_password
from jt709c_gateway.redis.address import RedisAddress, client_endpoint, parse_redis_address
from jt709c_gateway.redis.cluster import has_hash_tag
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.listening import ListenerEndpoint
from jt709c_gateway.redis.protocol import RedisProtocol
from jt709c_gateway.redis.tls import NO_FILES, TlsFiles

OnMessage = Callable[[str, bytes], None]


@frozen
class Link:
    """Where Redis is, and the certificates for the way there."""

    address: RedisAddress
    files: TlsFiles = NO_FILES

    def endpoint(self, reactor: Any) -> Any:
        """The client endpoint; UserError for certificates that can't be used."""
        try:
            return client_endpoint(self.address, reactor, self.files)
        except ValueError as error:
            raise UserError(str(error)) from None


def reach(options: RedisOptions) -> Link:
    """The way to Redis for a command; UserError for what can't be used, `embedded` included.

    As for the gateway, a password in a file counts before one in the environment; one in the URL before
    both, since it is what was typed.
    """
    try:
        address = parse_redis_address(options.redis_url)
    except ValueError as error:
        raise UserError(f"--redis: {error}") from None
    if not isinstance(address, RedisAddress):
        raise UserError("--redis: embedded is the gateway's own; give the address that the gateway names")
    if address.password is None:
        address = evolve(address, password=_password(options.redis_password_file))
    return Link(address, TlsFiles(options.redis_ca, options.redis_cert, options.redis_key))


def _password(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        return read_password(Path(path))
    except ValueError as error:
        raise UserError(f"--redis-password-file {error}") from None


def talk(
    reactor: Any, link: Link, prefix: str, *, ready: Callable[[], object] | None = None
) -> RedisConnection:
    """A connection for commands about keys with `prefix`; start it with `startService`."""
    if link.address.nodes and not has_hash_tag(prefix):
        raise UserError(f"--prefix: on a cluster it is a hash tag, such as {{jt709c}}, and not {prefix!r}")
    endpoint = link.endpoint(reactor)
    return RedisConnection(reactor, link.address, endpoint, probe=Keys(prefix).imei, ready=ready)


def listen(
    reactor: Any,
    link: Link,
    patterns: Sequence[str],
    on_message: OnMessage,
    *,
    ready: Callable[[], object] | None = None,
    reply_timeout: float = 5.0,
) -> RedisConnection:
    """A connection subscribed to `patterns`, again after each reconnect; `ready` comes after that.

    One without `*` is the name of a channel: Redis lets a user with an ACL subscribe to any channel that
    matches, but to a pattern only when the ACL has the very same one.

    `on_message(channel, payload)` must not raise. Call `keep_alive` on it at times.
    """
    endpoint = ListenerEndpoint(
        reactor,
        link.endpoint(reactor),
        lambda _, channel, payload: on_message(channel, payload),
        reply_timeout,
    )

    async def subscribe(protocol: RedisProtocol) -> None:
        for pattern in patterns:
            await protocol.call("PSUBSCRIBE" if "*" in pattern else "SUBSCRIBE", pattern)

    return RedisConnection(reactor, link.address, endpoint, prepare=subscribe, ready=ready)
