"""Which node of a cluster is connected to: the configured ones in turn, and what a redirection names."""

from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import ResponseError

from jt709c_gateway.redis.endpoints import ClusterEndpoint, has_hash_tag, moved_to


class _Endpoint:
    """A node that nobody reaches, which notes that it was tried."""

    def __init__(self, tried: list[tuple[str, int]], host: str, port: int) -> None:
        self._tried, self._node = tried, (host, port)

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        self._tried.append(self._node)
        return defer.fail(ConnectionRefusedError())


class EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tried: list[tuple[str, int]] = []
        self.endpoint = ClusterEndpoint(
            [("a", 1), ("b", 2)], lambda host, port: _Endpoint(self.tried, host, port)
        )

    def connect(self) -> None:
        self.failureResultOf(self.endpoint.connect(None), ConnectionRefusedError)

    def test_in_turn(self) -> None:
        """Without a redirection the nodes are asked one after the other, for ever."""
        for _ in range(5):
            self.connect()
        self.assertEqual(self.tried, [("a", 1), ("b", 2)] * 2 + [("a", 1)])

    def test_sent_on(self) -> None:
        """To be sent on to another node changes nothing about whose turn it is."""
        self.connect()
        self.failureResultOf(self.endpoint.node_endpoint("c", 3).connect(None), ConnectionRefusedError)
        self.connect()
        self.assertEqual(self.tried, [("a", 1), ("c", 3), ("b", 2)])


class WordsTests(SynchronousTestCase):
    def test_moved(self) -> None:
        """Host and port of a redirection; nothing of any other reply."""
        for text, target in {
            "MOVED 5683 192.0.2.7:6381": ("192.0.2.7", 6381),
            "MOVED 5683 node-1.example:6381": ("node-1.example", 6381),
            "MOVED 5683 2001:db8::1:6381": ("2001:db8::1", 6381),
            "MOVED 5683 :6381": ("", 6381),
            "MOVED 5683 ?:6381": ("", 6381),
            "ASK 5683 192.0.2.7:6381": None,
            "NOPERM this user has no permissions": None,
        }.items():
            self.assertEqual(moved_to(ResponseError(text)), target, text)
        self.assertIsNone(moved_to(None))
        self.assertIsNone(moved_to(b"a value"))

    def test_hash_tag(self) -> None:
        """What counts is what stands between the first brace and the next closing one."""
        for prefix, tagged in {
            "{jt709c}": True,
            "eu:{jt709c}:x": True,
            "{a{b}": True,
            "jt709c": False,
            "{}": False,
            "{}{a}": False,
            "{a": False,
            "}a{": False,
        }.items():
            self.assertIs(has_hash_tag(prefix), tagged, prefix)
