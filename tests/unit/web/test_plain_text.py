"""Promise: a start says when passwords or the fleet leave the host without TLS."""

from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.service import Options, makeService
from jt709c_gateway.web.service import WebService
from tests.support import temporary_path
from tests.support.web import user_line


class PlainTextTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.users = temporary_path(self)
        with open(self.users, "w") as file:
            file.write(user_line("anna", "right"))

    def said(self, *arguments: str, host: Any, tls: bool = False) -> list[str]:
        """What the log has of it when the page is bound there."""
        options = Options()
        options.parseOptions(["--http=tcp:8089", *arguments])
        web = makeService(options)._web
        assert isinstance(web, WebService) and web._listener is not None
        factory = mock.Mock(spec=TLSMemoryBIOFactory) if tls else mock.Mock()
        web._listener.port = mock.Mock(getHost=lambda: host, factory=factory)
        lines: list[str] = []
        observe = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observe)
        try:
            web.warn_of_plain_text()
        finally:
            globalLogPublisher.removeObserver(observe)
        return [line for line in lines if "without TLS" in line]

    def test_said_once_when_bound_beyond_loopback(self) -> None:
        """One line that names the options, with one process and with several."""
        everywhere = IPv4Address("TCP", "0.0.0.0", 8089)
        named = ("--web-users", self.users)
        for workers in ("--workers=1", "--workers=2"):
            (line,) = self.said(*named, workers, host=everywhere)
            self.assertIn("--web-users beyond loopback without TLS (--http tcp:8089)", line)
            (line,) = self.said(*named, "--web-commands", workers, host=everywhere)
            self.assertIn("--web-users and --web-commands beyond", line)
            self.assertEqual(len(self.said("--web-users=none", workers, host=everywhere)), 1)

    def test_not_said_where_nothing_leaves(self) -> None:
        """On loopback, on a UNIX socket, with TLS, and without users there is nothing to say."""
        everywhere = IPv4Address("TCP", "192.0.2.1", 8089)
        named = ("--web-users", self.users, "--web-commands")
        self.assertEqual(self.said(*named, host=IPv4Address("TCP", "127.0.0.1", 8089)), [])
        self.assertEqual(self.said(*named, host=UNIXAddress("/run/x")), [])
        self.assertEqual(self.said(*named, host=everywhere, tls=True), [])
        self.assertEqual(self.said(host=everywhere), [])
