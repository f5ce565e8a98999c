"""Connections of subcommands to Redis: one for requests, one for subscriptions."""

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import txredisapi
from attrs import define, evolve, field, frozen
from click.core import ParameterSource
from twisted.internet import defer, task

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.runner import notice, run
from jt709c_gateway.redis.address import RedisAddress, client_endpoint, parse_redis_address
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE, read_password
from jt709c_gateway.redis.embedded.access import running_server
from jt709c_gateway.redis.embedded.data_directory import DEFAULT_DATA_DIR, EmbeddedServerError
from jt709c_gateway.redis.endpoints import has_hash_tag
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.pubsub import ListenerEndpoint
from jt709c_gateway.redis.tls import NO_FILES, TlsFiles

#: Seconds to wait for the first connection to Redis.
_CONNECT: Final = 10.0
#: Options that say which Redis it is, for an error that it is not there.
_WHERE: Final = " (--redis or JT709C_REDIS; for an embedded one, embedded:DIR)"

OnMessage = Callable[[str, bytes], None]

_Answer = TypeVar("_Answer")


@frozen
class Link:
    """The address of Redis and the certificates."""

    address: RedisAddress
    files: TlsFiles = NO_FILES

    def endpoint(self, reactor: Any) -> Any:
        """Make the client endpoint; raise UserError for unusable certificates."""
        try:
            return client_endpoint(self.address, reactor, self.files)
        except ValueError as error:
            raise UserError(str(error)) from None


def redis_link(options: RedisOptions) -> Link:
    """Make a link from options; raise UserError for unusable ones.

    `embedded:DIR` is the embedded server of the gateway with this data directory, which has its port and
    password; `embedded` uses the default directory.

    A password in the URL has precedence over one in a file, and that over one in the environment.
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
                    f"found (embedded:./{data_dir or 'DIR'} for one of this name)"
                )
            return running_server(data_dir)
        address = parse_redis_address(text)
    except (ValueError, EmbeddedServerError) as error:
        raise UserError(f"{_source()}: {error}") from None
    assert isinstance(address, RedisAddress)
    return address


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


def connect(
    reactor: Any, link: Link, prefix: str, *, ready: Callable[[], object] | None = None
) -> RedisConnection:
    """Make a connection for requests about keys with `prefix`; start it with `startService`."""
    if link.address.nodes and not has_hash_tag(prefix):
        raise UserError(f"--prefix: on a cluster it is a hash tag, such as {{jt709c}}, and not {prefix!r}")
    endpoint = link.endpoint(reactor)
    return RedisConnection(reactor, link.address, endpoint, probe=Keys(prefix).imei, ready=ready)


def subscribe(
    reactor: Any,
    link: Link,
    patterns: Sequence[str],
    on_message: OnMessage,
    *,
    ready: Callable[[], object] | None = None,
    reply_timeout: float = 5.0,
) -> RedisConnection:
    """Make a connection that subscribes to `patterns` after each (re)connect and then calls `ready`.

    A pattern without `*` is the name of a channel: Redis lets a user with an ACL subscribe to any matching
    channel, but to a pattern only if the ACL has the same pattern.

    `on_message(channel, payload)` must not raise. Call `keep_alive` on the connection regularly.
    """
    endpoint = ListenerEndpoint(
        reactor,
        link.endpoint(reactor),
        lambda _, channel, payload: on_message(channel, payload),
        reply_timeout,
    )

    async def subscribe_all(protocol: RedisProtocol) -> None:
        for pattern in patterns:
            await protocol.call("PSUBSCRIBE" if "*" in pattern else "SUBSCRIBE", pattern)

    return RedisConnection(reactor, link.address, endpoint, prepare=subscribe_all, ready=ready)


@define(eq=False)
class FirstConnection:
    """Waits for the first connection; an error before it ends the subcommand with that reason.

    `where` is the address without a password.
    """

    where: str
    _trouble: defer.Deferred[str] = field(factory=defer.Deferred, repr=False)
    _connected: bool = False

    def notice(self, text: str) -> None:
        """Show a notice; before the first connection, give up with it as the reason."""
        if self._connected:
            notice(text)
        elif not self._trouble.called:
            self._trouble.callback(text.removesuffix("; trying again"))

    async def wait(self, reactor: Any, ready: "defer.Deferred[None]") -> None:
        """Wait for `ready`; raise UserError after an error or a timeout."""
        overdue = task.deferLater(reactor, _CONNECT, lambda: f"no connection to {self.where}")
        ways: list[defer.Deferred[Any]] = [ready, self._trouble, overdue]
        outcome = await defer.DeferredList(ways, fireOnOneCallback=True)
        overdue.addErrback(lambda _: None)
        overdue.cancel()
        if isinstance(outcome, list):
            # All attempts were cancelled with this one.
            raise defer.CancelledError
        result, which = outcome
        if which:
            raise UserError(f"{result}{_WHERE if str(result).startswith('cannot connect') else ''}")
        self._connected = True


def fire_once(ready: "defer.Deferred[None]") -> None:
    """Fire a Deferred at the first connection, not at later ones."""
    if not ready.called:
        ready.callback(None)


def query(
    options: RedisOptions,
    prefix: str,
    what: str,
    question: Callable[[RedisConnection], Awaitable[_Answer]],
    user: str = "jt709c-reader",
) -> _Answer:
    """Run the reactor to connect and get the answer to `question`; raise UserError if that fails.

    `what` says what it does, as in `read a history`, and `user` which user in etc/redis-acl.conf may do it. A
    signal ends the process.
    """
    link = redis_link(options)
    first = FirstConnection(link.address.masked())
    answers: list[_Answer] = []

    async def begin(reactor: Any) -> int:
        answers.append(await _query(reactor, link, prefix, first, question))
        return 0

    try:
        status = run(begin, first.notice)
    except txredisapi.ConnectionError:
        raise UserError(f"the connection to {link.address.masked()} was lost") from None
    except txredisapi.ResponseError as error:
        raise UserError(refused(what, str(error), user)) from None
    if not answers:
        sys.exit(status)
    return answers[0]


async def _query(
    reactor: Any,
    link: Link,
    prefix: str,
    first: FirstConnection,
    question: Callable[[RedisConnection], Awaitable[_Answer]],
) -> _Answer:
    ready: defer.Deferred[None] = defer.Deferred()
    connection = connect(reactor, link, prefix, ready=lambda: fire_once(ready))
    connection.startService()
    try:
        await first.wait(reactor, ready)
        return await question(connection)
    finally:
        await connection.stopService()


def refused(what: str, error: str, user: str = "jt709c-reader") -> str:
    """Format an error reply of Redis to a user who wanted to do `what`."""
    if error.startswith(("NOPERM", "-NOPERM")):
        return (
            f"this Redis user may not {what} ({plain(error)}); expected one like {user} in etc/redis-acl.conf"
        )
    return f"Redis refused: {plain(error)}"
