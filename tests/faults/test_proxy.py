"""The proxy injects each of its faults."""

import socket
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.proxy import Proxy
from tests.support import LOOPBACK, RedisClient, shared_server


class ProxyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.proxy = Proxy(shared_server().port).start()
        self.addCleanup(self.proxy.stop)

    def client(self, timeout: float = 5.0) -> RedisClient:
        """A client that connects through the proxy."""
        client = RedisClient(self.proxy.port, timeout=timeout)
        self.addCleanup(client.close)
        return client

    def test_passes(self) -> None:
        """Without a fault it changes nothing."""
        self.assertEqual(self.client().call("ECHO", "x" * 100_000), b"x" * 100_000)

    def test_slow(self) -> None:
        """Each direction is delayed, and later bytes don't overtake earlier ones when it is fast again."""
        client = self.client()
        client.call("PING")
        self.proxy.slow(0.1)
        started = time.monotonic()
        client.call("PING")
        self.assertGreater(time.monotonic() - started, 0.19)
        self.proxy.slow(0)
        self.assertEqual([client.call("ECHO", number) for number in range(5)], [b"0", b"1", b"2", b"3", b"4"])

    def test_nothing_overtakes(self) -> None:
        """Nothing overtakes, at whatever moment the delay ends."""
        client = socket.create_connection((LOOPBACK, self.proxy.port), 5)
        self.addCleanup(client.close)
        expected = b""
        for number in range(200):
            self.proxy.slow(0.002)
            client.sendall(b"ECHO %d\r\n" % (1000 + number))
            time.sleep(number * 0.00001)
            self.proxy.slow(0)
            client.sendall(b"ECHO %d\r\n" % (2000 + number))
            expected += b"$4\r\n%d\r\n$4\r\n%d\r\n" % (1000 + number, 2000 + number)
        received = b""
        while len(received) < len(expected) and (data := client.recv(65536)):
            received += data
        self.assertEqual(received, expected)

    def test_frozen(self) -> None:
        """Nothing passes until `thaw`, or it is lost."""
        client = self.client(timeout=0.2)
        client.call("PING")
        self.proxy.freeze()
        self.assertRaises(TimeoutError, client.call, "PING")
        self.proxy.thaw()
        other = self.client()
        self.assertEqual(other.call("PING"), b"PONG")
        self.proxy.freeze()
        self.proxy.thaw(lost=True)
        self.assertRaises(OSError, other.call, "PING")

    def test_cut(self) -> None:
        """The connection is cut after so many bytes of a reply."""
        client = self.client()
        client.call("PING")
        self.proxy.cut_after(7)
        # "$5" and its line end, three letters, then the end.
        self.assertEqual(client.call("ECHO", "hello"), b"h")
        self.assertRaises(OSError, client.call, "PING")
        self.assertEqual(self.proxy.cuts, 1)
        self.assertEqual(self.client().call("PING"), b"PONG")

    def test_reset(self) -> None:
        """Connections are reset."""
        client = self.client()
        client.call("PING")
        self.proxy.reset()
        self.assertRaises(OSError, client.call, "PING")

    def test_refused(self) -> None:
        """Connections are refused for a while; afterwards the port is the same."""
        client = self.client()
        client.call("PING")
        self.proxy.refuse()
        self.assertRaises(OSError, client.call, "PING")
        self.assertRaises(ConnectionRefusedError, RedisClient, self.proxy.port)
        self.proxy.accept()
        self.assertEqual(self.client().call("PING"), b"PONG")
