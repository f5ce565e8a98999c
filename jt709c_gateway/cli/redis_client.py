"""Connections of subcommands to Redis: one for requests, one for subscriptions."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from jt709c_gateway.cli.common import RedisOptions, UserError
from jt709c_gateway.config.options import read_password
from jt709c_gateway.config.values import DEFAULT_DATA_DIR, PASSWORD_VARIABLE
from jt709c_gateway.redis.address import RedisAddress, client_endpoint, parse_redis_address
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.cluster import has_hash_tag
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.embedded.access import running_server
from jt709c_gateway.redis.embedded.data_directory import EmbeddedServerError
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.pubsub import ListenerEndpoint
from jt709c_gateway.redis.tls import NO_FILES, TlsFiles

OnMessage = Callable[[str, bytes], None]


@frozen
class Link:
    """The address of Redis and the certificates."""

    address: RedisAddress
    files: TlsFiles = NO_FILES

    def endpoint(self, reactor: Any) -> Any:
        """The client endpoint; UserError for certificates that can't be used."""
        try:
            return client_endpoint(self.address, reactor, self.files)
        except ValueError as error:
            raise UserError(str(error)) from None


def reach(options: RedisOptions) -> Link:
    """The way to Redis for a command; UserError for what can't be used.

    ``embedded:DIR`` is the embedded server of the gateway with this data directory, where its port and its
    password are; ``embedded`` that of a gateway which was started here with the default.

    As for the gateway, a password in a file counts before one in the environment; one in the URL before
    both, since it is what was typed.
    """
    address = _address(options.redis_url.strip())
    if address.password is None and not options.redis_url.strip().startswith("embedded"):
        address = evolve(address, password=_password(options.redis_password_file))
    return Link(address, TlsFiles(options.redis_ca, options.redis_cert, options.redis_key))


def _address(text: str) -> RedisAddress:
    word, colon, data_dir = text.partition(":")
    try:
        if word == "embedded":
            if not colon:
                return running_server(DEFAULT_DATA_DIR)
            if not data_dir or data_dir.isdigit():
                raise ValueError(
                    f"{text!r}: expected embedded:DIR with the --data-dir of the gateway, where its port is "
                    f"found (embedded:./{data_dir or 'DIR'} if that is what it is called)"
                )
            return running_server(data_dir)
        address = parse_redis_address(text)
    except (ValueError, EmbeddedServerError) as error:
        raise UserError(f"--redis: {error}") from None
    assert isinstance(address, RedisAddress)
    return address


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
