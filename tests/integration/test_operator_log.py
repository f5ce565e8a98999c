"""What operators read in the log: where the gateway listens, failed accepts, and rejected commands."""

import json
import os
import re
import resource
from typing import Any

from twisted.internet import task
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.gateway.commands.rejections import UNKNOWN, log_rejection
from jt709c_gateway.transport.accept_errors import PERIOD, AcceptErrors
from jt709c_gateway.transport.listeners import address_text
from jt709c_gateway.web.page_url import page_url
from tests.support import wait_until
from tests.support.daemon import Daemon, DaemonCase, Lock
from tests.support.reporter import report


class _Port:
    """A port bound to this address."""

    factory = None

    def __init__(self, address: Any) -> None:
        self.getHost = lambda: address


class AcceptErrorTests(SynchronousTestCase):
    """Connections that could not be accepted."""

    def setUp(self) -> None:
        self.clock = task.Clock()
        self.errors = AcceptErrors(self.clock, "tcp 127.0.0.1:8888")

    def closed(self, count: int) -> None:
        """Return Twisted's log event for so many closed connections."""
        logger = self.errors.logger
        logger.info("EMFILE encountered; releasing reserved file descriptor.")
        for number in range(count):
            logger.info("EMFILE recovery: Closed socket from {address}", address=number)
        logger.info("Re-reserving EMFILE recovery file descriptor.")

    def logged(self, count: int) -> list[str]:
        with capturedLogs() as events:
            self.closed(count)
            self.clock.advance(PERIOD)
        return [formatEvent(event) for event in events]

    def test_one_line_a_minute_has_the_count(self) -> None:
        first, second = self.logged(3)
        line = "connections that could not be accepted at tcp 127.0.0.1:8888: {} (EMFILE); raise LimitNOFILE"
        self.assertIn(line.format(1), first)
        self.assertIn(line.format(2), second)
        with capturedLogs() as events:
            self.closed(7)
            self.closed(7)
        self.assertEqual(events, [])
        with capturedLogs() as events:
            self.clock.advance(PERIOD)
        self.assertEqual(len(events), 1)
        self.assertIn(line.format(14), formatEvent(events[0]))

    def test_other_reasons_are_named(self) -> None:
        with capturedLogs() as events:
            self.errors.logger.info("Could not accept new connection ({acceptError})", acceptError="ENOMEM")
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["connections that could not be accepted at tcp 127.0.0.1:8888: 1 (ENOMEM)"],
        )

    def test_the_end_logs_what_is_left(self) -> None:
        self.closed(4)
        with capturedLogs() as events:
            self.errors.stop()
        self.assertIn("tcp 127.0.0.1:8888: 3 (EMFILE)", formatEvent(events[0]))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AddressTests(SynchronousTestCase):
    """Addresses as people write them."""

    def test_ports_of_locks(self) -> None:
        self.assertEqual(address_text(IPv4Address("TCP", "0.0.0.0", 8888)), "tcp 0.0.0.0:8888")
        self.assertEqual(address_text(IPv6Address("UDP", "::", 8888)), "udp [::]:8888")
        self.assertIn("/run/locks", address_text(UNIXAddress("/run/locks")))

    def test_the_page(self) -> None:
        for address, names, url in (
            (IPv4Address("TCP", "127.0.0.1", 8089), (), "http://127.0.0.1:8089/"),
            (IPv4Address("TCP", "0.0.0.0", 8089), (), "http://127.0.0.1:8089/"),
            (IPv6Address("TCP", "::", 8089), (), "http://[::1]:8089/"),
            (IPv6Address("TCP", "2001:db8::7", 8089), (), "http://[2001:db8::7]:8089/"),
            (IPv4Address("TCP", "0.0.0.0", 8089), ("locks.example.net",), "http://locks.example.net:8089/"),
        ):
            self.assertEqual(page_url(_Port(address), names), url)


class RejectionTests(SynchronousTestCase):
    """The line about an invalid command."""

    def line(self, where: str, **known: Any) -> str:
        with capturedLogs() as events:
            log_rejection(InvalidCommand("ttl", "is -1", "1 to 604800", **known), where)
        return "".join(formatEvent(event) for event in events)

    def test_names_id_device_and_issuer(self) -> None:
        line = self.line("794308010001", command_id="abc", device="794308010001", issued_by="web:ann")
        self.assertEqual(
            line,
            "a command is invalid (command abc, device 794308010001, issued by web:ann): "
            "ttl: is -1; expected 1 to 604800",
        )

    def test_an_unreadable_entry_of_a_queue_is_named_as_such(self) -> None:
        error = InvalidCommand("entry", "is no JSON", "a command", command_id="abc")
        with capturedLogs() as events:
            log_rejection(error, "794308010001", "invalid entry in a lock's queue", LogLevel.error)
        self.assertEqual(events[0]["log_level"], LogLevel.error)
        self.assertEqual(
            formatEvent(events[0]),
            "invalid entry in a lock's queue (command abc, device 794308010001): "
            "entry: is no JSON; expected a command",
        )

    def test_says_when_nothing_is_known(self) -> None:
        self.assertIn("(without id, device and issuer)", self.line(UNKNOWN))


class LogTests(DaemonCase):
    """The log of a real gateway."""

    def test_says_where_it_listens_without_class_names(self) -> None:
        log = self.daemon.log()
        self.assertIn(f"listening for locks on tcp 127.0.0.1:{self.daemon.tcp_port}\n", log)
        self.assertIn(f"listening for locks on udp 127.0.0.1:{self.daemon.udp_port}\n", log)
        self.assertIn(f"status page at http://127.0.0.1:{self.daemon.http_port}/\n", log)
        self.assertIn(f"TCP for locks starting on {self.daemon.tcp_port}\n", log)
        for name in ("LockFactory", "LockDatagrams", "_QuietSite", "ConnectionLimit", "IPv4Address("):
            self.assertNotIn(name, log)

    def test_an_invalid_command_is_named(self) -> None:
        fields = {"id": "c-7", "device": "794308010001", "command": "unlock", "ttl": -1, "issued_by": "ann"}
        with self.server.client() as client:
            client.call("RPUSH", "jt709c:commands", json.dumps(fields))
        wait_until(lambda: "a command is invalid" in self.daemon.log())
        self.assertRegex(
            self.daemon.log(), r"invalid \(command c-7, device 794308010001, issued by ann\): ttl: "
        )


class DescriptorTests(SynchronousTestCase):
    """A gateway without a free descriptor."""

    def test_logs_one_line_for_many_connections(self) -> None:
        daemon = Daemon("--max-connections", "300")
        self.addCleanup(daemon.discard)
        daemon.start()
        limit = len(list_descriptors(daemon.pid)) + 3
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, 4096))
        # The reserve for the embedded server counts, so a few more connections may fit.
        locks = [daemon.lock() for _ in range(40)]
        for lock in locks:
            self.addCleanup(lock.close)
        wait_until(lambda: "(EMFILE)" in daemon.log())
        wait_until(lambda: sum(lock.closed_within(0.05) for lock in locks) >= 30)
        self.assertEqual(len(re.findall("could not be accepted at", daemon.log())), 1)
        self.assertNotIn("EMFILE recovery", daemon.log())
        # Accepted connections are served.
        served = next(lock for lock in locks if not lock.ended)
        self.assertTrue(answered(served))


def list_descriptors(pid: int) -> list[str]:
    """Return the open descriptors of a process."""
    return os.listdir(f"/proc/{pid}/fd")


def answered(lock: Lock) -> bool:
    """Whether a report of this lock is answered."""
    return bool(lock.ask(report(1)))
