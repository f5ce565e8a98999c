"""Promise: a fleet that comes back all at once is let in at once, whatever it listens on."""

import re
import socket
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor, tcp
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.transport import backlog
from jt709c_gateway.transport.backlog import BACKLOG, listening_endpoint, warn_of_limit, with_backlog
from jt709c_gateway.transport.listeners import TcpService
from jt709c_gateway.transport.tcp import LockFactory
from tests.support import LOOPBACK, free_port, shared_server
from tests.support.daemon import Daemon


def backlogs(port: int) -> set[int]:
    """The backlogs of all sockets that listen on a port, as the kernel has them."""
    said = subprocess.run(["ss", "-ltnH", f"sport = :{port}"], capture_output=True, text=True, check=True)
    return {int(line.split()[2]) for line in said.stdout.splitlines()}


class DescriptionTests(SynchronousTestCase):
    def test_ours_unless_it_names_its_own(self) -> None:
        """Every kind of endpoint that has a backlog gets ours; one that is named stays, and so do others."""
        ours = BACKLOG
        for description, expected in (
            ("tcp:8888", ours),
            ("tcp:8888:interface=127.0.0.1", ours),
            ("tcp:port=8888", ours),
            ("tcp:8888:127.0.0.1", ours),
            ("tcp:8888:interface=\\:\\:1", ours),
            ("tcp6:8888", ours),
            ("tcp6:8888:interface=\\:\\:1", ours),
            ("unix:/run/x\\:backlog\\=3", ours),
            ("unix:/run/a\\=b:mode=660", ours),
            ("tcp:8888:backlog=7", 7),
            ("tcp:backlog=7:port=8888", 7),
            ("tcp:8888:127.0.0.1:7", 7),
            ("tcp6:8888:7", 7),
            ("unix:/run/x:backlog=7", 7),
        ):
            with self.subTest(description=description):
                self.assertEqual(listening_endpoint(reactor, description)._backlog, expected)
        for description in ("systemd:domain=INET:index=0", "fd:3", "onion:80"):
            self.assertEqual(with_backlog(description), description)


class LimitTests(SynchronousTestCase):
    def said(self, limit: str, *descriptions: str) -> list[Any]:
        with tempfile.NamedTemporaryFile("w") as file, mock.patch.object(backlog, "_log") as log:
            file.write(limit)
            file.flush()
            warn_of_limit(descriptions, Path(file.name))
        return [call.kwargs for call in log.warn.call_args_list]

    def test_kernel_with_less_is_told(self) -> None:
        """A SOMAXCONN below what is asked for is one line with both; else there is none."""
        self.assertEqual(self.said("128\n", "tcp:1", "tcp:2:backlog=9"), [{"limit": 128, "asked": BACKLOG}])
        self.assertEqual(self.said("128", "tcp:1:backlog=512"), [{"limit": 128, "asked": 512}])
        for limit, descriptions in (
            ("4096", ("tcp:1",)),
            ("128", ("tcp:1:backlog=128",)),
            ("128", ()),
            ("128", ("systemd:domain=INET:index=0",)),
            ("no number", ("tcp:1",)),
        ):
            self.assertEqual(self.said(limit, *descriptions), [])
        warn_of_limit(["tcp:1"], Path("/nowhere"))


class DaemonTests(SynchronousTestCase):
    """With the kernel's own word for it; SOMAXCONN is 4096 since Linux 5.4."""

    def test_all_listeners(self) -> None:
        """Locks' ports, one behind a balancer, the status page, and each worker's share have it."""
        allowed = int(Path("/proc/sys/net/core/somaxconn").read_text())
        plain, proxied, own = free_port(), free_port(), free_port()
        for workers in ("1", "2"):
            daemon = Daemon(
                f"--listen=tcp:{plain}:interface={LOOPBACK}",
                f"--listen=haproxy:tcp:{proxied}:interface={LOOPBACK}",
                f"--listen=tcp:{own}:interface={LOOPBACK}:backlog=77",
                f"--workers={workers}",
                redis=shared_server().url,
                tcp=False,
                udp=False,
            )
            kept = [one for one in daemon.arguments() if one != "--no-tcp"]
            daemon.arguments = partial(list, kept)
            self.addCleanup(daemon.discard)
            daemon.start()
            for port in (plain, proxied, daemon.http_port):
                self.assertEqual(backlogs(port), {min(BACKLOG, allowed)}, (workers, port))
            self.assertEqual(backlogs(own), {77})
            warned = re.findall("connections wait to be accepted", daemon.log())
            self.assertEqual(len(warned), int(allowed < BACKLOG))
            daemon.stop()

    def test_thousands_wait_without_being_turned_away(self) -> None:
        """While the gateway is busy elsewhere, 3,000 connections come about at once and none is sent away."""
        daemon = Daemon(redis=shared_server().url, udp=False).start()
        self.addCleanup(daemon.discard)
        daemon.pause()
        self.addCleanup(daemon.resume)
        waiting = []
        try:
            for number in range(3000):
                one = socket.socket()
                one.bind((f"127.0.2.{1 + number // 1500}", 0))
                one.settimeout(0.9)
                # A SYN that is let fall comes again after a second.
                one.connect((LOOPBACK, daemon.tcp_port))
                waiting.append(one)
        finally:
            for one in waiting:
                one.close()


class TurnTests(SynchronousTestCase):
    def test_accepting_leaves_room_for_the_rest(self) -> None:
        """However many wait, some are accepted in each turn of the reactor, and never more than these."""
        factory = LockFactory(mock.Mock(), 1000, 1000)
        service = TcpService(listening_endpoint(reactor, f"tcp:0:interface={LOOPBACK}"), factory, "tcp:0")
        service.privilegedStartService()
        port = service.port
        address = (LOOPBACK, port.getHost().port)
        waiting = [socket.create_connection(address) for _ in range(150)]
        try:
            counts = []
            for _ in range(6):
                port.doRead()
                counts.append(factory.connections)
            self.assertEqual(counts, [32, 64, 96, 128, 150, 150])
        finally:
            for one in reactor.removeAll():
                if isinstance(one, tcp.Server | tcp.Port):
                    one.connectionLost(Failure(ConnectionDone()))
            for one in waiting:
                one.close()
