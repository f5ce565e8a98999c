"""Subscriptions to Redis channels."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory

from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.connection import RedisConnection

#: Seconds between two PINGs on an idle subscription.
PING_EVERY: Final = 15.0
_GLOB: Final = frozenset("*?[]\\")
_MESSAGES: Final = ([b"message"], [b"pmessage"], [b"smessage"])

OnMessage = Callable[[str, str, bytes], None]
"""Called with the subscribed name, the channel (different for a pattern) and the message."""


def glob_escape(text: str) -> str:
    """Escape text for a PSUBSCRIBE pattern, so that it matches only itself."""
    return "".join(f"\\{character}" if character in _GLOB else character for character in text)


def keep_alive(connection: RedisConnection) -> None:
    """Send a PING on the idle connection; without a reply in time it is replaced."""
    if connection.connected:
        connection.call("PING").addErrback(lambda _: None)


class _Listener(RedisProtocol):
    """A connection on which published messages arrive besides replies."""

    on_message: OnMessage

    def replyReceived(self, reply: Any) -> None:
        """Pass published messages to `on_message`, and replies to their requests."""
        if isinstance(reply, list) and reply[:1] in _MESSAGES:
            subscription, channel = (reply[at].decode("utf-8", "replace") for at in (1, -2))
            self.on_message(subscription, channel, reply[-1])
        else:
            super().replyReceived(reply)


class ListenerEndpoint:
    """Connects with a protocol for subscriptions, in place of RedisConnection's factory.

    `on_message` must not raise. `reply_timeout` is in seconds.
    """

    def __init__(self, reactor: Any, endpoint: Any, on_message: OnMessage, reply_timeout: float) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._on_message = on_message
        self._reply_timeout = reply_timeout

    def connect(self, factory: IProtocolFactory) -> Any:
        """Connect; return a Deferred of the protocol."""

        def build() -> _Listener:
            protocol = _Listener(self._reactor, self._reply_timeout)
            protocol.on_message = self._on_message
            return protocol

        listening = Factory.forProtocol(build)
        listening.noisy = False
        return self._endpoint.connect(listening)


class Subscriptions:
    """Keeps the subscriptions of one connection, which may change at any time, across reconnects.

    A name with `*` is a pattern, others are channels: an ACL lets a user subscribe to any channel that
    matches its rules, but only to patterns that it lists literally. `refused(name, failure)` is called for a
    name that Redis refuses. Sharded subscriptions know no patterns.
    """

    def __init__(self, refused: Callable[[str, Any], object], sharded: bool = False) -> None:
        self.sharded = sharded
        self._names: frozenset[str] = frozenset()
        self._subscribed: set[str] = set()
        self._refused = refused
        self.connection: RedisConnection | None = None

    async def prepare(self, protocol: RedisProtocol) -> None:
        """Forget the subscriptions of the previous connection; for RedisConnection's `prepare`."""
        self._subscribed.clear()

    def ready(self) -> None:
        """Subscribe on the new connection; for RedisConnection's `ready`."""
        self.set_names(self._names)

    def set_names(self, names: Iterable[str]) -> None:
        """Subscribe to exactly these names, at once or when there is a connection."""
        self._names = frozenset(names)
        connection = self.connection
        if connection is None or not connection.connected:
            return
        for name in self._subscribed - self._names:
            self._subscribed.discard(name)
            self._send(connection, self._commands(name)[1], name)
        for name in self._names - self._subscribed:
            self._subscribed.add(name)
            self._send(connection, self._commands(name)[0], name)

    def _commands(self, name: str) -> tuple[str, str]:
        """Return the commands that begin and end a subscription."""
        if self.sharded:
            return "SSUBSCRIBE", "SUNSUBSCRIBE"
        return ("PSUBSCRIBE", "PUNSUBSCRIBE") if "*" in name else ("SUBSCRIBE", "UNSUBSCRIBE")

    def _send(self, connection: RedisConnection, command: str, name: str) -> None:
        # One command per name, since each name gets its own reply.
        connection.call(command, name).addErrback(lambda failure: self._refused(name, failure))
