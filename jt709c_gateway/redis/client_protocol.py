"""The client side of the Redis protocol, based on txredisapi with faster reading and stricter writing.

txredisapi assembles replies (`lineReceived`, nested arrays), matches them to requests (`ReplyQueue`) and
provides the exceptions. This module replaces:

- *Reading.* txredisapi copies the rest of its buffer for every line and goes through the reactor for every
  bulk item, so a reply of n items costs n reactor turns. `RedisProtocol.dataReceived` parses the buffer once,
  in a loop.
- *Writing.* `encode_command` refuses values without a meaning in Redis (None, True) instead of sending their
  names.
- *Errors.* An invalid line, or a reply without a request, ends the connection: all later replies would be
  matched to the wrong requests.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import txredisapi
from OpenSSL import SSL
from twisted.internet import defer, tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from jt709c_gateway.redis import errors, tls
from jt709c_gateway.util.direct_write import write_at_once

Argument = bytes | str | int | float
"""An argument of a command. Text is sent as UTF-8, numbers in decimal."""

_REPLY_TYPES = frozenset("+-:$*")
_FIRST_BYTES = b"+-:$*"
#: The first bytes of a TLS server's answer to plain text: record type, and first half of the version.
_TLS_ALERT = b"\x15\x03"
_REASON_LENGTH = 200
_SEND_BUFFER = 1 << 20
_LONGEST_BULK = 512 * 1024 * 1024 + 2


class ClosedByServer(txredisapi.ConnectionError):  # type: ignore[misc]
    """The server has closed the connection, cleanly or not."""


def encode_command(arguments: Iterable[Argument]) -> bytes:
    """Encode a command as an array of bulk strings; TypeError for an argument of another type."""
    # Joined once: a batch of events has some hundred kilobytes.
    parts = [b""]
    for argument in arguments:
        if isinstance(argument, str):
            data = argument.encode()
        elif isinstance(argument, bytes):
            data = argument
        elif isinstance(argument, int) and not isinstance(argument, bool):
            data = b"%d" % argument
        elif isinstance(argument, float):
            data = repr(argument).encode()
        else:
            raise TypeError(f"a Redis argument is text, bytes or a number, not {type(argument).__name__}")
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    parts[0] = b"*%d\r\n" % (len(parts) // 3)
    return b"".join(parts)


def one_line(error: BaseException | None) -> str:
    """Return the message of an error in one line of bounded length, for the log."""
    if error is None:
        return "unknown reason"
    if isinstance(error, ConnectionDone):
        return "the server closed the connection"
    text = tls.explain(error) if isinstance(error, SSL.Error) else str(error)
    return " ".join(text.split())[:_REASON_LENGTH] or type(error).__name__


@implementer(IHandshakeListener)
class RedisProtocol(txredisapi.BaseRedisProtocol):  # type: ignore[misc]
    """One connection to Redis, used through `call` and `pipeline`.

    Status replies arrive as `str`, bulk strings as `bytes`, integers as `int`, arrays as `list`, nil as None.
    The reader is always the pure Python one, whether hiredis is installed or not.

    When a request isn't answered within `reply_timeout` seconds (None: no limit, for blocking commands) the
    connection is aborted. The end of the connection fails every outstanding request once.
    """

    pushed: Callable[[Any], object] | None = None
    """Called with each message after the connection has subscribed; no requests may be sent then."""

    misplaced: tuple[str, ...] = ()
    """Prefixes of error replies that say that this server does not (or no longer) hold our keys."""

    securing: bool = False
    """Whether the connection uses TLS and the handshake is not complete."""

    line_mode: int
    bulk_length: int

    def __init__(self, clock: Any, reply_timeout: float | None = None) -> None:
        super().__init__(charset=None, convertNumbers=False, replyTimeout=reply_timeout)
        self.callLater = clock.callLater
        self._gone = False
        self._direct: bool = False
        self._lost_waiters: list[defer.Deferred[Exception]] = []
        self._chunks: list[bytes] = []
        self._held = 0
        self._wanted = 1
        self._ended: Exception | None = None

    def call(self, *arguments: Argument) -> "defer.Deferred[Any]":
        """Send one command; return a Deferred of its reply, or of ResponseError or ConnectionError."""
        try:
            (reply,) = self._request([arguments])
        except (TypeError, txredisapi.ConnectionError):
            return defer.fail()
        return reply.addCallback(self._outcome, arguments)

    def _outcome(self, reply: Any, command: Sequence[Argument]) -> Any:
        if isinstance(reply, txredisapi.ResponseError):
            raise txredisapi.ResponseError(errors.explain(str(reply), command))
        return self.handle_reply(reply)

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write; return a Deferred of one result for each, in order.

        An error is an exception *instance* in the list, so that one refused command doesn't hide the
        others. Only when nothing could be sent does the Deferred itself fail (ConnectionError, TypeError).
        """
        try:
            replies = self._request(commands)
        except (TypeError, txredisapi.ConnectionError):
            return defer.fail()
        results: list[Any] = []
        done: defer.Deferred[list[Any]] = defer.Deferred()
        for reply in replies:
            reply.addCallback(results.append)
        if replies:
            # Replies arrive in order, and errors as values: the last one completes the list.
            replies[-1].addCallback(lambda _: done.callback(results))
        else:
            done.callback(results)
        return done

    def when_lost(self) -> "defer.Deferred[Exception]":
        """Return a Deferred that fires with the reason after the connection has ended; it never fails."""
        if self._gone:
            return defer.succeed(self._ended or txredisapi.ConnectionError())
        waiter: defer.Deferred[Exception] = defer.Deferred()
        self._lost_waiters.append(waiter)
        return waiter

    def _request(self, commands: Sequence[Sequence[Argument]]) -> "list[defer.Deferred[Any]]":
        if not self.connected:
            raise txredisapi.ConnectionError("not connected to Redis")
        encoded = [encode_command(command) for command in commands]
        data = encoded[0] if len(encoded) == 1 else b"".join(encoded)
        replies = [self.replyQueue.get() for _ in commands]
        if replies and self.replyTimeout is not None:
            # Replies arrive in order: the last one means that all requests are answered.
            timer = self.callLater(self.replyTimeout, self._overdue)
            replies[-1].addBoth(_cancel_timer, timer)
        # A batch of the committer is larger than the reactor would send in one turn.
        if rest := write_at_once(self.transport, data) if self._direct else data:
            self.transport.write(rest)
        return replies

    def _overdue(self) -> None:
        self.abort(txredisapi.TimeoutError(f"no reply from Redis within {self.replyTimeout:g} s"))

    def abort(self, reason: Exception) -> None:
        """End the connection at once; outstanding requests fail with `reason`."""
        self._fail_outstanding(reason)
        self.transport.abortConnection()

    def _fail_outstanding(self, reason: Exception) -> None:
        # Not connected from here on, so a request made in a callback fails at once and does not enter the
        # queue that is being emptied.
        self.connected = 0
        if self._ended is None:
            self._ended = reason
        while self.replyQueue.waiting:
            self.replyQueue.put(self._ended)

    def connectionLost(self, reason: Failure) -> None:
        """Fail outstanding requests, then fire the Deferreds of `when_lost`."""
        hung_up = isinstance(reason.value, ConnectionDone | ConnectionLost)
        kind = ClosedByServer if hung_up else txredisapi.ConnectionError
        self._fail_outstanding(kind(one_line(reason.value)))
        super().connectionLost(reason)
        self._chunks.clear()
        self._gone = True
        for waiter in self._lost_waiters:
            waiter.callback(self._ended or txredisapi.ConnectionError())

    def connectionMade(self) -> None:
        """Turn Nagle's algorithm off and TCP keep-alive on."""
        super().connectionMade()
        self.securing = ISSLTransport.providedBy(self.transport)
        peer = self.transport.getPeer()
        # A TLS transport has no such methods.
        self._direct = isinstance(self.transport, tcp.Connection)
        if self._direct:
            self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if ITCPTransport.providedBy(self.transport) and isinstance(peer, IPv4Address | IPv6Address):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def handshakeCompleted(self) -> None:
        """Note that the TLS handshake is complete and the server's certificate verified."""
        self.securing = False

    def replyReceived(self, reply: Any) -> None:
        """Pass a complete reply to its request, or a message to `pushed`."""
        if isinstance(reply, txredisapi.InvalidResponse):
            self.abort(reply)
        elif isinstance(reply, txredisapi.ResponseError) and str(reply).startswith(self.misplaced):
            self.abort(
                txredisapi.ConnectionError(f"it is no longer the server for our keys: {one_line(reply)}")
            )
        elif self.replyQueue.waiting:
            self.replyQueue.put(reply)
        elif self.pushed is not None:
            self.pushed(reply)
        elif self._ended is None:
            self.abort(txredisapi.InvalidResponse("a reply without a request"))

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Read every complete line and bulk string; keep the rest until more data arrive."""
        self._chunks.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return
        buffer = b"".join(self._chunks)
        rest = self._read(buffer)
        if self._ended is not None:
            rest = len(buffer)
        self._chunks = [buffer[rest:]]
        self._held = len(buffer) - rest
        # A long bulk string is joined once, when it is complete.
        self._wanted = self._held + 1 if self.line_mode else self.bulk_length

    def _read(self, buffer: bytes) -> int:
        position = 0
        while self._ended is None:
            if self.line_mode:
                end = buffer.find(b"\r\n", position)
                bounded = len(buffer) - position <= self.MAX_LENGTH
                if end < 0 and bounded and buffer[position : position + 1] in _FIRST_BYTES:
                    break
                line = buffer[position:end].decode("utf-8", "backslashreplace")
                if end < 0 or line[:1] not in _REPLY_TYPES:
                    what = "speaks TLS" if buffer.startswith(_TLS_ALERT, position) else "is not Redis"
                    self.abort(txredisapi.InvalidResponse(f"what answers there {what}"))
                    break
                position = end + 2
                # A "$" line sets bulk_length (with the line end) and leaves line mode.
                self.lineReceived(line)
                if not self.line_mode and not 2 <= self.bulk_length <= _LONGEST_BULK:
                    self.abort(txredisapi.InvalidResponse(f"a bulk string of {self.bulk_length - 2} bytes"))
            else:
                end = position + self.bulk_length
                if end > len(buffer):
                    break
                self.line_mode, self.bulk_length = 1, 0
                self.bulkDataReceived(buffer[position : end - 2])
                position = end
        return position


def _cancel_timer(result: Any, timer: Any) -> Any:
    if timer.active():
        timer.cancel()
    return result


class RedisProtocolFactory(Factory):
    """Builds `RedisProtocol`; `reply_timeout` in seconds or None."""

    noisy = False

    def __init__(self, clock: Any, reply_timeout: float | None = None) -> None:
        self._clock = clock
        self._reply_timeout = reply_timeout

    def buildProtocol(self, addr: Any) -> RedisProtocol:
        """Return a new protocol."""
        protocol = RedisProtocol(self._clock, self._reply_timeout)
        protocol.factory = self
        return protocol


def connect(endpoint: Any, factory: RedisProtocolFactory) -> "defer.Deferred[RedisProtocol]":
    """Connect to a client endpoint; fail with CancelledError when cancelled.

    Endpoints report a cancelled attempt like a failed one, even as an unknown host name, and a caller that
    retries after a failure would retry after its cancellation.
    """

    def cancel(result: "defer.Deferred[RedisProtocol]") -> None:
        result.errback(defer.CancelledError())
        connecting.cancel()

    def settle(outcome: Any) -> None:
        if not result.called:
            result.callback(outcome)
        elif not isinstance(outcome, Failure):
            outcome.transport.abortConnection()

    connecting: defer.Deferred[Any] = endpoint.connect(factory)
    result: defer.Deferred[RedisProtocol] = defer.Deferred(cancel)
    connecting.addBoth(settle)
    return result
