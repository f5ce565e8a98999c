"""--commit-window: what waits for company before it is written, what doesn't, and that the promise holds."""

import time
from collections.abc import Callable
from typing import Any

import txredisapi
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import jt709
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.commit_window import ENOUGH
from jt709c_gateway.redis.durability import Durability
from tests.support.commands import CommandCase, FakeLock, new_device
from tests.support.committer import NOW, Fleet
from tests.unit.redis.test_committer import CommitterCase, record

WINDOW = 0.005


class WindowTests(CommitterCase):
    """Records that may wait, and others."""

    options = {"commit_window": WINDOW}

    def wait(self, *names: Any) -> None:
        """Submit records that may wait, in a turn of the reactor."""
        for name in names:
            self.committer.submit(*record(name, self.link, f"{name}".encode()), may_wait=True)
        self.flush()

    def answers(self) -> list[bytes]:
        return [answer for write in self.link.writes for answer in write]

    def test_waits(self) -> None:
        """What comes within the window is one batch, sent when the window of the oldest ends."""
        self.wait("a")
        self.clock.advance(WINDOW * 0.6)
        self.wait("b")
        self.clock.advance(WINDOW * 0.3)
        self.assertEqual(self.redis.calls, [])
        self.clock.advance(WINDOW * 0.2)
        self.assertEqual(self.names(), ["a", "b"])

    def test_answered_after_the_commit(self) -> None:
        """The end of the window answers nothing: the reply of Redis does."""
        self.wait("a")
        self.clock.advance(2 * WINDOW)
        self.assertEqual(self.answers(), [])
        self.redis.reply()
        self.assertEqual(self.answers(), [b"a"])

    def test_urgent(self) -> None:
        """An urgent record takes along what waits, in the order of arrival, and leaves no timer behind."""
        self.wait("a", "b")
        self.submit("urgent")
        self.flush()
        self.assertEqual(self.names(), ["a", "b", "urgent"])
        self.redis.reply()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_behind_an_urgent_one(self) -> None:
        """What comes in the same turn behind an urgent record goes with it."""
        self.submit("urgent")
        self.wait("a")
        self.assertEqual(self.names(), ["urgent", "a"])

    def test_next_window(self) -> None:
        """Each batch has a window of its own."""
        for name in ("a", "b"):
            self.wait(name)
            self.clock.advance(WINDOW * 0.9)
            self.assertEqual(self.redis.pending, [])
            self.clock.advance(WINDOW * 0.2)
            self.assertEqual(self.names(), [name])
            self.redis.reply()

    def test_enough(self) -> None:
        """A number of records that is worth a call doesn't wait."""
        self.wait(*range(ENOUGH - 1))
        self.assertEqual(self.redis.calls, [])
        self.wait("last")
        self.assertEqual(len(self.names()), ENOUGH)

    def test_full(self) -> None:
        """Nor does anything wait while no further frames are read."""
        self.committer.max_unacked = 2
        self.wait("a", "b")
        self.assertEqual(self.names(), ["a", "b"])

    def test_during_a_call(self) -> None:
        """What comes during a call follows its reply, if its window has ended by then."""
        self.submit("call")
        self.flush()
        self.wait("a")
        self.clock.advance(WINDOW * 2)
        self.assertEqual(len(self.redis.calls), 1)
        self.redis.reply()
        self.assertEqual(self.names(), ["a"])

    def test_rest_of_the_window(self) -> None:
        """Otherwise it waits for the rest of its window, which began when it came."""
        self.submit("call")
        self.flush()
        self.wait("a")
        self.clock.advance(WINDOW * 0.6)
        self.redis.reply()
        self.assertEqual(len(self.redis.calls), 1)
        self.clock.advance(WINDOW * 0.5)
        self.assertEqual(self.names(), ["a"])

    def test_saturated(self) -> None:
        """Under load each reply is followed by the next call: with enough records, or an urgent one."""
        self.submit("call")
        self.flush()
        self.wait(*range(ENOUGH))
        self.redis.reply()
        self.assertEqual(len(self.names()), ENOUGH)
        self.wait("a")
        self.submit("urgent")
        self.redis.reply()
        self.assertEqual(self.names(), ["a", "urgent"])

    def test_connection_lost(self) -> None:
        """A window that ends while Redis is away loses nothing."""
        self.wait("a")
        self.redis.connected = False
        self.clock.advance(WINDOW * 2)
        self.wait("b")
        self.redis.connected = True
        self.committer.resume()
        self.flush()
        self.assertEqual(self.names(), ["a", "b"])

    def test_retry(self) -> None:
        """What comes while a failed batch waits for its repetition neither hastens nor passes it."""
        self.submit("failed")
        self.flush()
        self.redis.fail(txredisapi.ResponseError("ERR busy"))
        self.wait("a")
        self.clock.advance(WINDOW * 2)
        self.assertEqual(len(self.redis.calls), 1)
        self.clock.advance(1)
        self.assertEqual(self.names(), ["failed"])
        self.redis.reply()
        self.assertEqual(self.names(), ["a"])

    def test_durability(self) -> None:
        """A wait for durability follows the last call also when further records still wait for company."""
        self.committer.durability = Durability(replicas=1)
        self.wait("a")
        self.clock.advance(WINDOW * 2)
        self.wait("b")
        self.assertEqual(self.redis.behind[-1], [("WAIT", 1, 5000)])
        self.redis.reply([0, 1])
        self.assertEqual(self.answers(), [b"a"])
        self.clock.advance(WINDOW)
        self.redis.reply([0, 1])
        self.assertEqual(self.answers(), [b"a", b"b"])


class NoWindowTests(CommitterCase):
    """--commit-window 0."""

    def test_none(self) -> None:
        """A record that might wait goes out in the same turn, and the next one at the reply."""
        self.committer.submit(*record("a"), may_wait=True)
        self.flush()
        self.assertEqual(self.names(), ["a"])
        self.committer.submit(*record("b"), may_wait=True)
        self.redis.reply()
        self.assertEqual(self.names(), ["b"])


class _Executor:
    """Stands for the executor of a session, for which each message is an answer or evidence, or nothing."""

    concerned = False

    def process_message(self, message: Message, moment: Any, elsewhere: bool = False) -> Any:
        return self.steps if self.concerned else None

    def steps(self) -> None:
        """What follows for the commands."""


class GatewayTests(SynchronousTestCase):
    """Which messages wait."""

    def setUp(self) -> None:
        self.fleet = Fleet(commit_window=WINDOW)
        self.lock = FakeLock(new_device())
        self.link = self.fleet.link()
        self._at = NOW.timestamp()

    def feed(self, *frames: bytes) -> int:
        """Frames come; how many records have been sent to Redis a turn of the reactor later."""
        self.fleet.feed(self.link, *frames)
        self.fleet.clock.advance(0)
        return len(self.fleet.redis.batch()) if self.fleet.redis.pending else 0

    def report(self) -> bytes:
        self._at += 1
        return self.lock.location(b"", jt709.STATUS_FIX, self._at)

    def introduce(self) -> Session:
        """The lock has a session, and nothing waits."""
        self.fleet.hear(self.link, self.report())
        (session,) = self.fleet.gateway.sessions
        return session

    def test_report(self) -> None:
        """A report waits, and is answered when Redis has it."""
        self.introduce()
        before = len(self.link.sent)
        self.assertEqual(self.feed(self.report()), 0)
        self.fleet.clock.advance(WINDOW)
        self.assertEqual(len(self.fleet.redis.batch()), 1)
        self.assertEqual(len(self.link.sent), before)
        self.fleet.redis.reply()
        self.assertEqual(len(self.link.sent), before + 1)

    def test_malformed(self) -> None:
        """So does unreadable input."""
        self.introduce()
        self.assertEqual(self.feed(b"\x7e" + b"\x01" * 20 + b"\x7e"), 0)

    def test_session(self) -> None:
        """A session that opens doesn't, since the lock's commands wait for it; its report goes with it."""
        self.assertEqual(self.feed(self.report()), 2)

    def test_answer_or_evidence(self) -> None:
        """Nor does a message that answers or confirms a command."""
        session = self.introduce()
        session.executor = executor = _Executor()  # type: ignore[assignment]
        self.assertEqual(self.feed(self.report()), 0)
        executor.concerned = True
        self.assertEqual(self.feed(self.report()), 2)

    def test_states_of_commands(self) -> None:
        """Nor does what is committed without being declared as something that may wait."""
        session = self.introduce()
        self.fleet.gateway.lifecycle.reassert_session(session)
        self.fleet.clock.advance(0)
        self.assertEqual(len(self.fleet.redis.batch()), 1)


class CommandLifeTests(CommandCase):
    """The real daemon with the longest window: a second."""

    options = ("--commit-window", "1000")

    def seconds(self, deed: Callable[[], None]) -> float:
        """How long something takes."""
        began = time.monotonic()
        deed()
        return time.monotonic() - began

    def unlock(self) -> None:
        """An unlock command from the queue to the event that confirms it."""
        command = self.client.unlock(self.device)
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")

    def test_only_reports_wait(self) -> None:
        """A report is answered after the window, and of a command's life no step waits for it."""
        self.lock.connect(self.daemon)
        self.assertGreater(self.seconds(self.lock.report), 0.99)
        # A busy machine may take as long by itself, but not each time.
        self.assertLess(min(self.seconds(self.unlock) for _ in range(4)), 0.9)
