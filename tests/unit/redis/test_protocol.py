"""The Redis protocol: replies read however they are cut up, requests written and failed once each."""

from typing import Any

import txredisapi
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer, task
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.client_protocol import RedisProtocol, encode_command, one_line
from jt709c_gateway.redis.connection import retry_delay


class _Transport(StringTransport):
    """Tells its protocol of the end a turn later, as a real one does; here, when `end` is called."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


def _protocol(clock: task.Clock | None = None, reply_timeout: float | None = None) -> RedisProtocol:
    protocol = RedisProtocol(clock or task.Clock(), reply_timeout)
    protocol.makeConnection(_Transport())
    return protocol


def _encode_reply(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(_encode_reply, value))


class ReadingTests(SynchronousTestCase):
    def test_replies(self) -> None:
        """Each kind of reply arrives as its Python type, whole, byte by byte, and split at every point."""
        data = (
            b"+OK\r\n:-7\r\n$4\r\n\r\n\xff\x00\r\n$-1\r\n$0\r\n\r\n*0\r\n*-1\r\n"
            b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n+b\r\n$-1\r\n-WRONGTYPE no\r\n"
        )
        expected = ["OK", -7, b"\r\n\xff\x00", None, b"", [], None, [1, [b"a", "b"], None]]
        splits = [[data], [data[i : i + 1] for i in range(len(data))]]
        splits += [[data[:i], data[i:]] for i in range(1, len(data))]
        for chunks in splits:
            protocol = _protocol()
            result = protocol.pipeline([("X",)] * 9)
            for chunk in chunks:
                protocol.dataReceived(chunk)
            *replies, error = self.successResultOf(result)
            self.assertEqual(replies, expected)
            self.assertIsInstance(error, txredisapi.ResponseError)
            self.assertEqual(str(error), "WRONGTYPE no")

    @given(
        st.lists(
            st.recursive(
                st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
                lambda inner: st.lists(inner, max_size=4),
                max_leaves=20,
            ),
            min_size=1,
            max_size=5,
        ),
        st.integers(1, 50),
    )
    def test_any_reply(self, values: list[Any], size: int) -> None:
        """Whatever a server can send is read as it was sent, however it is cut up."""
        protocol = _protocol()
        result = protocol.pipeline([("X",)] * len(values))
        data = b"".join(map(_encode_reply, values))
        for start in range(0, len(data), size):
            protocol.dataReceived(data[start : start + size])
        self.assertEqual(self.successResultOf(result), values)

    def test_many_items(self) -> None:
        """A reply of a hundred thousand items is read in the same turn, without recursion."""
        protocol = _protocol()
        result = protocol.call("X")
        items = [b"%d" % number for number in range(100_000)]
        protocol.dataReceived(_encode_reply(items))
        self.assertEqual(self.successResultOf(result), items)

    def test_not_redis(self) -> None:
        """What no Redis would send ends the connection and fails the request, whatever bytes it is."""
        for data in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"\xff\xfe\x00\r\n",
            b"+" + b"x" * 20_000,
            b"$abc\r\n",
            b"$-5\r\n",
            b"$99999999999\r\n",
        ):
            protocol = _protocol()
            result = protocol.call("PING")
            protocol.dataReceived(data)
            self.failureResultOf(result, txredisapi.RedisError)
            self.assertTrue(protocol.transport.aborted)
            # What follows in the same or a later read changes nothing any more.
            protocol.dataReceived(b"+PONG\r\n")
            self.assertFalse(protocol.connected)

    def test_binary_in_lines(self) -> None:
        """Bytes that are no UTF-8, in an error or a status, are shown escaped."""
        protocol = _protocol()
        result = protocol.pipeline([("X",), ("X",)])
        protocol.dataReceived(b"+\xff\r\n-ERR \xfe\r\n")
        status, error = self.successResultOf(result)
        self.assertEqual((status, str(error)), ("\\xff", "ERR \\xfe"))

    def test_unasked_reply(self) -> None:
        """A reply that nobody asked for ends the connection, as later ones would be matched wrongly."""
        protocol = _protocol()
        protocol.dataReceived(b"+OK\r\n")
        self.assertTrue(protocol.transport.aborted)


class WritingTests(SynchronousTestCase):
    def test_arguments(self) -> None:
        """Text, bytes and numbers are sent as they are."""
        self.assertEqual(
            encode_command(["SET", b"\xff\r\n", "ä", -5, 0.5]),
            b"*5\r\n$3\r\nSET\r\n$3\r\n\xff\r\n\r\n$2\r\n\xc3\xa4\r\n$2\r\n-5\r\n$3\r\n0.5\r\n",
        )

    def test_senseless_arguments(self) -> None:
        """None, a truth value or a list is refused before anything is written."""
        protocol = _protocol()
        for argument in (None, True, ["a"]):
            self.failureResultOf(protocol.call("SET", argument), TypeError)
            self.failureResultOf(protocol.pipeline([("GET", "a"), ("SET", argument)]), TypeError)
        self.assertEqual(protocol.transport.value(), b"")

    def test_one_write(self) -> None:
        """A pipeline is one write to the transport, and an empty one none."""
        protocol = _protocol()
        writes: list[bytes] = []
        protocol.transport.write = writes.append
        protocol.pipeline([("A",), ("B",)])
        self.assertEqual(writes, [b"*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n"])
        self.assertEqual(self.successResultOf(protocol.pipeline([])), [])

    def test_cancelled_request(self) -> None:
        """The reply to a request that was given up goes to nobody else."""
        protocol = _protocol()
        first, second = protocol.call("A"), protocol.pipeline([("B",)])
        third = protocol.call("C")
        first.cancel()
        second.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.failureResultOf(second, defer.CancelledError)
        protocol.dataReceived(b":1\r\n:2\r\n:3\r\n")
        self.assertEqual(self.successResultOf(third), 3)


class EndingTests(SynchronousTestCase):
    def test_timeout(self) -> None:
        """When a reply is overdue, every request fails once and the connection is aborted."""
        clock = task.Clock()
        protocol = _protocol(clock, reply_timeout=5.0)
        late, later = protocol.call("A"), protocol.pipeline([("B",), ("C",)])
        # A request made out of the failure finds no connection, and doesn't keep the emptying going for ever.
        again = late.addErrback(lambda _: protocol.call("AGAIN"))
        clock.advance(5.0)
        self.failureResultOf(again, txredisapi.ConnectionError)
        for result in self.successResultOf(later):
            self.assertIsInstance(result, txredisapi.TimeoutError)
        self.assertTrue(protocol.transport.aborted)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_answered_in_time(self) -> None:
        """A reply in time leaves no timer behind."""
        clock = task.Clock()
        protocol = _protocol(clock, reply_timeout=5.0)
        result = protocol.pipeline([("A",), ("B",)])
        protocol.dataReceived(b"+a\r\n+b\r\n")
        self.assertEqual(self.successResultOf(result), ["a", "b"])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_retry_delay(self) -> None:
        """Attempts begin after a tenth of a second and settle at about five seconds."""
        self.assertTrue(0.07 < retry_delay(1) < 0.13)
        for attempt in (20, 10**6):
            self.assertTrue(3.7 < retry_delay(attempt) < 6.3)

    def test_one_line(self) -> None:
        """An error is told in one line, and one without a text by its kind."""
        self.assertEqual(one_line(ValueError("a\nb")), "a b")
        self.assertEqual(one_line(ValueError()), "ValueError")
