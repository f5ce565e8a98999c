"""Faults of locks and networks: connections that end in every way, and peers that do not read."""

import socket
import time

from tests.faults.fault_case import FaultTestCase
from tests.support import LOOPBACK
from tests.vectors import binary

#: Frames that the peer sends without reading.
_LOUD = 2000


class PeerFaultTests(FaultTestCase):
    def test_resets(self) -> None:
        """Connections are reset with reports and commands on their way."""
        self.load()
        for _ in range(25):
            self.fleet.reset(3)
            time.sleep(self.dice.uniform(0.0, 0.1))
        self.settle()

    def test_half_open(self) -> None:
        """Locks vanish and reconnect: the newest connection counts and the old ones are closed."""
        self.load()
        for _ in range(10):
            self.fleet.vanish(3)
            self.fleet.wait_for(20)
        self.wait_for_metric("jt709c_links", lambda value: value == len(self.fleet.devices))
        self.settle()

    def test_hundred_reconnections_a_minute(self) -> None:
        """Locks that close and reconnect again and again, with several unanswered reports each time."""
        self.load()
        for _ in range(100):
            self.fleet.hang_up(2)
            time.sleep(0.02)
        self.wait_for_metric("jt709c_links", lambda value: value == len(self.fleet.devices))
        self.settle()

    def test_peers_that_never_read(self) -> None:
        """Peers that send much and read no answer delay neither others nor the gateway's shutdown."""
        self.load()
        heartbeats = b"".join(binary(0x0002, serial=serial) for serial in range(_LOUD))
        for _ in range(3):
            peer = socket.create_connection((LOOPBACK, self.daemon.tcp_port))
            self.addCleanup(peer.close)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.sendall(heartbeats)
        self.settle()
        started = time.monotonic()
        self.assertEqual(self.daemon.stop(), 0)
        self.assertLess(time.monotonic() - started, 8)
