"""A connection to Redis on which published messages arrive."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory

from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.connection import RedisConnection

#: Seconds between two questions whether a silent subscription still lives.
PING_EVERY: Final = 15.0
_GLOB: Final = frozenset("*?[]\\")

OnMessage = Callable[[str, str, bytes], None]
"""Given what was subscribed to, the channel (the same but for a pattern) and the message."""


def glob_escape(text: str) -> str:
    """Text as part of a PSUBSCRIBE pattern that matches just this text."""
    return "".join(f"\\{character}" if character in _GLOB else character for character in text)


def keep_alive(connection: RedisConnection) -> None:
    """Ask a silent server whether it is there: without an answer in time the connection is made anew."""
    if connection.connected:
        connection.call("PING").addErrback(lambda _: None)


class _Listener(RedisProtocol):
    """A connection on which published messages arrive among the replies."""

    on_message: OnMessage

    def replyReceived(self, reply: Any) -> None:
        """Take messages out; the rest are replies."""
        if isinstance(reply, list) and reply[:1] in ([b"message"], [b"pmessage"]):
            subscription, channel = (reply[at].decode("utf-8", "replace") for at in (1, -2))
            self.on_message(subscription, channel, reply[-1])
        else:
            super().replyReceived(reply)


class ListenerEndpoint:
    """Connects with a protocol that can listen, whatever factory RedisConnection brings along.

    `on_message` must not raise. `reply_timeout` is in seconds.
    """

    def __init__(self, reactor: Any, endpoint: Any, on_message: OnMessage, reply_timeout: float) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._on_message = on_message
        self._reply_timeout = reply_timeout

    def connect(self, factory: IProtocolFactory) -> Any:
        """A Deferred of the protocol."""

        def build() -> _Listener:
            protocol = _Listener(self._reactor, self._reply_timeout)
            protocol.on_message = self._on_message
            return protocol

        listening = Factory.forProtocol(build)
        listening.noisy = False
        return self._endpoint.connect(listening)


class Subscriptions:
    """What one connection is subscribed to, which may change at any time, and survives reconnecting.

    A name with `*` is a pattern, others are channels: Redis lets a user with an ACL subscribe to any channel
    that matches, but to a pattern only when the ACL has the very same one. `refused(name, failure)` is called
    for a name that Redis doesn't let us have.
    """

    def __init__(self, refused: Callable[[str, Any], object]) -> None:
        self._names: frozenset[str] = frozenset()
        self._subscribed: set[str] = set()
        self._refused = refused
        self.connection: RedisConnection | None = None

    async def prepare(self, protocol: RedisProtocol) -> None:
        """On a new connection nothing is subscribed to; for RedisConnection's `prepare`."""
        self._subscribed.clear()

    def ready(self) -> None:
        """The connection can be used; for RedisConnection's `ready`."""
        self.set_names(self._names)

    def set_names(self, names: Iterable[str]) -> None:
        """Be subscribed to these names and no others, as soon as there is a connection."""
        self._names = frozenset(names)
        connection = self.connection
        if connection is None or not connection.connected:
            return
        for name in self._subscribed - self._names:
            self._subscribed.discard(name)
            self._send(connection, "PUNSUBSCRIBE" if "*" in name else "UNSUBSCRIBE", name)
        for name in self._names - self._subscribed:
            self._subscribed.add(name)
            self._send(connection, "PSUBSCRIBE" if "*" in name else "SUBSCRIBE", name)

    def _send(self, connection: RedisConnection, command: str, name: str) -> None:
        # One name a command, since each gets a reply of its own.
        connection.call(command, name).addErrback(lambda failure: self._refused(name, failure))
