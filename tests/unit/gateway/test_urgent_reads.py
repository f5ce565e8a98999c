"""--commit-window: what belongs to commands is read at once."""

import threading
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import jt709
from tests.support.commands import CommandCase, FakeLock, new_device
from tests.support.committer import NOW, Fleet


class _Executor:
    """Stands for the executor of a session."""

    def process_message(self, *_: Any) -> None:
        """No message concerns its commands."""


class UrgentTests(SynchronousTestCase):
    """Which connections are read at once."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.link = self.fleet.link()

    def session(self) -> Session:
        lock = FakeLock(new_device())
        self.fleet.hear(self.link, lock.location(b"", jt709.STATUS_FIX, NOW.timestamp()))
        return next(one for one in self.fleet.gateway.sessions if one.device == lock.device)

    def test_commands(self) -> None:
        """Those of locks with commands to execute or confirm; each such lock is counted once."""
        first, second = self.session(), self.session()
        executor: Any = _Executor()
        counts = []
        for session, given in (
            (first, executor),
            (first, executor),
            (second, executor),
            (first, None),
            (second, None),
            (second, None),
        ):
            session.assign_executor(given)
            counts.append(self.link.reasons_to_hurry)
        self.assertEqual(counts, [1, 1, 2, 1, 0, 0])


class CommandLifeTests(CommandCase):
    """The real daemon with the longest window: a second."""

    options = ("--commit-window", "1000")

    def seconds(self) -> float:
        """How long an unlock command takes from the queue to the event that confirms it."""
        began = time.monotonic()
        command = self.client.unlock(self.device)
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")
        return time.monotonic() - began

    def test_commands_do_not_wait(self) -> None:
        """While the reports of another lock wait for company, no step of a command does."""
        other = FakeLock(new_device())
        self.addCleanup(other.close)
        other.connect(self.daemon)
        self.lock.connect(self.daemon)
        waited: list[float] = []
        ended = threading.Event()

        def report() -> None:
            while not ended.is_set():
                began = time.monotonic()
                other.report()
                waited.append(time.monotonic() - began)

        reporting = threading.Thread(target=report)
        reporting.start()
        try:
            # A busy machine may take as long by itself, but not each time.
            taken = min(self.seconds() for _ in range(8))
        finally:
            ended.set()
            reporting.join()
        self.assertLess(taken, 0.4)
        self.assertGreater(max(waited), 0.4)
