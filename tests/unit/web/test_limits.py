"""Limits of the web server: what clients without a password can do to it, and to other clients."""

import os
import socket
import time
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web.limits import MAX_CONNECTIONS
from jt709c_gateway.web.monitoring import make_site
from tests.support import LOOPBACK, shared_server, wait_until
from tests.support.daemon import Daemon

HOST = b"host: localhost\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"
#: A form of the longest body that is taken, all of it empty parts.
PARTS = b"--x\r\n\r\n" * 9000 + b"--x--\r\n"
FORM = b"content-type: multipart/form-data; boundary=x\r\n"


class SiteCase(SynchronousTestCase):
    """The site without a network; `made` counts how often its metrics have been made."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.made = 0
        self.site = make_site(self.clock, CollectorRegistry(), lambda: {"ready": True}, self.refresh)

    def refresh(self) -> None:
        self.made += 1

    def connect(self, data: bytes = b"") -> Any:
        """A connection on which this has come; its transport."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", LOOPBACK, 1))
        if protocol is None:
            return None
        transport = StringTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        return transport


class BodyTests(SiteCase):
    def refused(self, *headers: bytes) -> bytes:
        head = b"POST /metrics HTTP/1.1\r\n" + HOST + b"".join(headers) + b"content-length: 65536\r\n\r\n"
        transport = self.connect(head)
        self.assertTrue(transport.disconnecting)
        return bytes(transport.value())

    def test_a_form_is_refused_before_it_is_taken_in(self) -> None:
        """Twisted would take it apart before anybody is asked who he is, and no lock is served meanwhile."""
        for kind in (FORM, FORM.upper(), b"content-type: application/x-www-form-urlencoded\r\n"):
            answer = self.refused(kind)
            self.assertTrue(answer.startswith(b"HTTP/1.1 415 "), answer)
            self.assertIn(b"content-type: expected application/json", answer)
        self.assertTrue(
            self.refused(b"content-type: application/json\r\n", FORM).startswith(b"HTTP/1.1 415 ")
        )
        self.assertTrue(
            self.refused(FORM, b"content-type: application/json\r\n").startswith(b"HTTP/1.1 415 ")
        )

    def test_a_request_without_a_body_may_have_any_type(self) -> None:
        """Some clients name one with each request."""
        transport = self.connect(b"GET /healthz HTTP/1.1\r\n" + HOST + FORM + b"\r\n")
        self.clock.advance(0)
        self.assertIn(b"200 OK", transport.value())

    def test_a_body_in_chunks_opens_no_file(self) -> None:
        """A body of unknown length is kept in memory, of which there is a bound, and takes no descriptor."""
        before = len(os.listdir("/proc/self/fd"))
        head = b"POST /metrics HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n"
        held = [self.connect(head) for _ in range(5)]
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual([one.disconnecting for one in held], [False] * 5)


class PageTests(SiteCase):
    def test_pages_asked_for_at_the_same_time_are_made_once(self) -> None:
        """However many ask for /metrics, it takes no more than a share of the gateway's time."""
        transports = [self.connect(METRICS * 3) for _ in range(100)]
        self.clock.advance(0)
        self.assertEqual([one.value().count(b"200 OK") for one in transports], [1] * 100)
        self.assertEqual(self.made, 1)
        self.clock.advance(0.01)
        self.assertEqual(self.made, 1)
        self.clock.pump([0.05] * 2)
        self.assertEqual([one.value().count(b"200 OK") for one in transports], [3] * 100)
        self.assertEqual(self.made, 3)

    def test_a_page_is_made_after_it_was_asked_for(self) -> None:
        """Nobody gets one that was made before."""
        first = self.connect(METRICS)
        self.clock.advance(0)
        second = self.connect(METRICS)
        self.assertEqual((first.value().count(b"200 OK"), second.value()), (1, b""))
        self.clock.advance(0.06)
        self.assertEqual((second.value().count(b"200 OK"), self.made), (1, 2))

    def test_who_goes_away_gets_nothing(self) -> None:
        """And the others get theirs."""
        gone, stays = self.connect(METRICS), self.connect(METRICS)
        gone.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        self.assertEqual((gone.value(), stays.value().count(b"200 OK")), (b"", 1))


class ConnectionTests(SiteCase):
    def test_while_all_are_answered_one_more_is_refused(self) -> None:
        """Nobody loses an answer that is under way; when it is complete, the next makes room."""
        held = [self.connect(METRICS) for _ in range(MAX_CONNECTIONS)]
        self.assertIs(self.connect(), None)
        self.clock.advance(0)
        self.assertIsNot(self.connect(), None)
        self.assertEqual([one.disconnecting or one.disconnected for one in held].count(True), 1)

    def test_the_longest_quiet_makes_room(self) -> None:
        """Of those that wait for nothing, and each once."""
        busy = self.connect(METRICS)
        quiet = [self.connect(b"GET /me") for _ in range(MAX_CONNECTIONS - 1)]
        more = [self.connect() for _ in range(3)]
        self.assertNotIn(None, more)
        self.assertEqual([one.disconnected or one.disconnecting for one in [busy, *quiet[:4]]].count(True), 3)
        self.assertFalse(busy.disconnected or busy.disconnecting)


class DaemonTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.daemon = Daemon(redis=shared_server().url).start()
        self.addCleanup(self.daemon.discard)

    def test_idle_connections_keep_nobody_out(self) -> None:
        """Those that say nothing, or not all, make room for a load balancer, and there is an end of them."""
        before = len(os.listdir(f"/proc/{self.daemon.pid}/fd"))
        held = []
        for number in range(MAX_CONNECTIONS + 100):
            one = socket.create_connection((LOOPBACK, self.daemon.http_port))
            one.sendall([b"", b"GET /readyz HT", METRICS[:-2], METRICS][number % 4])
            held.append(one)
        try:
            for _ in range(5):
                self.assertEqual(self.daemon.get("/readyz")[0], 200)
            descriptors = len(os.listdir(f"/proc/{self.daemon.pid}/fd"))
            self.assertLessEqual(descriptors, before + MAX_CONNECTIONS + 5)
        finally:
            for one in held:
                one.close()
        wait_until(lambda: len(os.listdir(f"/proc/{self.daemon.pid}/fd")) <= before + 5)
        self.assertNotIn("Traceback", self.daemon.log())

    def test_forms_do_not_hold_up_locks(self) -> None:
        """While somebody sends forms, pages are answered as ever."""
        request = b"POST /metrics HTTP/1.1\r\n" + HOST + FORM + b"content-length: %d\r\n\r\n" % len(PARTS)
        for _ in range(10):
            with socket.create_connection((LOOPBACK, self.daemon.http_port), 10) as connection:
                connection.sendall(request)
                self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 415 "))
        at = time.monotonic()
        self.assertEqual(self.daemon.get("/healthz")[0], 200)
        self.assertLess(time.monotonic() - at, 2)
