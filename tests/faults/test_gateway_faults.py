"""Faults of a gateway, with the embedded server and with an external one."""

import os
import signal
import time

from tests.faults.fault_case import FaultTestCase
from tests.support import wait_until


class GatewayFaultTests(FaultTestCase):
    def kill_at_random(self, rounds: int) -> None:
        """Kill and restart the daemon repeatedly, at random moments."""
        for _ in range(rounds):
            time.sleep(self.dice.uniform(0.0, 0.6))
            self.daemon.kill()
            self.daemon.start()
            self.fleet.wait_for(self.dice.randrange(1, 60))

    def test_killed(self) -> None:
        """``kill -9`` at random moments; its embedded server dies with it."""
        self.load(embedded=True)
        self.kill_at_random(3)
        self.settle(settled=False)

    def test_killed_with_a_server_that_lives_on(self) -> None:
        """The same with an external Redis, which outlives the gateway and executes its last requests."""
        self.load()
        self.kill_at_random(2)
        self.settle(settled=False)

    def test_both_killed(self) -> None:
        """A power cut: gateway and Redis are killed at once."""
        self.load()
        self.server.kill()
        self.daemon.kill()
        self.server.start()
        self.daemon.start()
        self.settle(settled=False)

    def test_terminated(self) -> None:
        """SIGTERM under load: it ends in time and with status 0, and all answered reports are in the
        stream."""
        self.load("--shutdown-timeout", "3", embedded=True)
        for _ in range(2):
            started = time.monotonic()
            self.assertEqual(self.daemon.stop(), 0)
            self.assertLess(time.monotonic() - started, 8)
            self.daemon.start()
            self.fleet.wait_for(self.dice.randrange(1, 60))
        self.settle(settled=False)
        self.assertNotIn("were not committed", self.daemon.log())

    def test_frozen(self) -> None:
        """The gateway hangs, as in a live migration, for longer than its ttl."""
        self.load()
        self.daemon.pause()
        self.outage(2.5)
        self.daemon.resume()
        self.settle()

    def test_server_killed(self) -> None:
        """The embedded server is killed at random moments: it is restarted with its data."""
        self.load(embedded=True)
        for _ in range(2):
            time.sleep(self.dice.uniform(0.0, 0.3))
            before = self.daemon.embedded_pid()
            os.kill(before, signal.SIGKILL)
            wait_until(lambda before=before: self.server_pid() not in (None, before))
            self.fleet.wait_for(self.dice.randrange(1, 60))
        self.settle()

    def server_pid(self) -> int | None:
        """The pid of the embedded server; None while it is down."""
        try:
            return self.daemon.embedded_pid()
        except OSError:
            return None
