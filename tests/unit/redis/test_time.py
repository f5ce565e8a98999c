"""Redis's time between two looks at it, and the reactor that counts on the monotonic clock."""

import time
from typing import Any

from twisted.internet import defer, task
from twisted.internet.base import ReactorBase
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.util.clock import count_monotonic


class Host:
    """A host whose clocks are moved by hand, and a Redis that tells its time after `delay` seconds."""

    def __init__(self, wall: float = 1_000_000.0, redis: float = 1_000_000.0, **options: Any) -> None:
        self.clock = task.Clock()
        self.clock.advance(500)
        self.wall, self.redis, self.delay = wall, redis, 0.0
        self.changes: list[float] = []
        self.time = RedisTime(self.clock, lambda: self.wall, self.changes.append, **options)

    def call(self, *arguments: Any) -> "defer.Deferred[list[bytes]]":
        """What a connection to Redis has."""
        assert arguments == ("TIME",)
        self.go_on(self.delay / 2)
        said = [f"{int(self.redis)}".encode(), f"{int(self.redis % 1 * 1e6)}".encode()]
        self.go_on(self.delay / 2)
        return defer.succeed(said)

    def go_on(self, seconds: float) -> None:
        """Time passes everywhere."""
        self.clock.advance(seconds)
        self.wall += seconds
        self.redis += seconds

    def look(self) -> None:
        """Measure, without anything to wait for."""
        measured: defer.Deferred[None] = defer.Deferred.fromCoroutine(self.time.measure(self))
        assert measured.called


class RedisTimeTests(SynchronousTestCase):
    def test_a_wrong_wall_clock_changes_nothing(self) -> None:
        """Times go by Redis's clock, also while the wall clock is wrong, or is set."""
        host = Host(wall=999_400.0)
        host.look()
        self.assertAlmostEqual(host.time.seconds(), host.redis, places=3)
        host.wall -= 3600
        host.go_on(10)
        self.assertAlmostEqual(host.time.seconds(), host.redis, places=3)
        self.assertAlmostEqual(host.time.utc().timestamp(), host.redis, places=3)

    def test_before_the_first_look_time_goes_on_from_the_wall_clock_at_the_start(self) -> None:
        """A step of the wall clock changes nothing even then."""
        host = Host(wall=2_000_000.0)
        host.wall += 86_400
        host.go_on(5)
        self.assertAlmostEqual(host.time.seconds(), 2_000_005.0, places=3)
        self.assertIsNone(host.time.skew)
        self.assertTrue(host.time.is_right)
        self.assertEqual(host.changes, [])

    def test_a_slow_answer_moves_a_good_estimate_by_nothing(self) -> None:
        """An answer says no more than that the time was within its way."""
        host = Host()
        host.look()
        before = host.time.seconds() - host.clock.seconds()
        host.delay = 4.0
        host.look()
        self.assertEqual(host.time.seconds() - host.clock.seconds(), before)

    def test_a_slow_first_answer_is_made_better_by_a_quick_one(self) -> None:
        """All of the delay may have been on one way."""
        host = Host()
        host.time.note(500.0, 504.0, 1_000_006.0)
        self.assertAlmostEqual(host.time.seconds(), 1_000_004.0)
        host.look()
        self.assertAlmostEqual(host.time.seconds(), host.redis, places=3)

    def test_a_slow_first_answer_changes_nothing_when_it_agrees(self) -> None:
        """The host's clock may be as right as Redis's, and such an answer can't tell."""
        host = Host()
        host.time.note(500.0, 504.0, 1_000_000.0)
        self.assertEqual(host.time.seconds(), 1_000_000.0)
        self.assertTrue(host.time.known)

    def test_the_skew_is_told_once_and_once_that_it_is_over(self) -> None:
        """A line when the host's clock is found to be off, none with each look, and one when it is right."""
        host = Host(wall=999_400.0)
        with capturedLogs() as captured:
            for _ in range(5):
                host.look()
                host.go_on(5)
        self.assertEqual(len(captured), 1)
        self.assertIn("600.0 s behind", captured[0]["log_format"].format(**captured[0]))
        self.assertAlmostEqual(host.time.skew or 0, -600.0, places=2)
        self.assertFalse(host.time.is_right)
        host.wall = host.redis
        with capturedLogs() as captured:
            host.look()
            host.look()
        self.assertEqual(len(captured), 1)
        self.assertTrue(host.time.is_right)
        host.wall += 30
        self.assertFalse(host.time.is_right)

    def test_who_is_to_be_quiet_is(self) -> None:
        """The process that looks after workers leaves it to them."""
        host = Host(wall=999_400.0, says=False)
        with capturedLogs() as captured:
            host.look()
        self.assertEqual(captured, [])

    def test_a_step_of_redis_is_followed_and_told(self) -> None:
        """Also that of another server which took its place; what drifts is no step."""
        for change in (3600.0, -3600.0, -2.0):
            host = Host()
            host.look()
            host.go_on(5)
            host.redis += change
            host.look()
            self.assertAlmostEqual(host.time.seconds(), host.redis, places=3)
            self.assertEqual([round(one, 2) for one in host.changes], [change])
        host = Host()
        host.look()
        host.redis += 0.2
        host.look()
        self.assertEqual(host.changes, [])
        self.assertAlmostEqual(host.time.seconds(), host.redis, places=3)


class _Reactor(ReactorBase):
    def installWaker(self) -> None:
        """There is nobody to wake."""


class MonotonicReactorTests(SynchronousTestCase):
    def test_timers_count_on_the_monotonic_clock(self) -> None:
        """What was scheduled before keeps what it had left."""
        reactor: Any = _Reactor()  # type: ignore[no-untyped-call]
        wall = [5_000_000.0]
        reactor.seconds = lambda: wall[0]
        called: list[str] = []
        reactor.callLater(0.05, called.append, "before")
        reactor.callLater(3600, called.append, "much later")
        count_monotonic(reactor)
        count_monotonic(reactor)
        self.assertIs(reactor.seconds, time.monotonic)
        reactor.callLater(0.05, called.append, "after")
        wall[0] -= 3600
        limit = time.monotonic() + 20
        while len(called) < 2 and time.monotonic() < limit:
            reactor.runUntilCurrent()
        self.assertEqual(called, ["before", "after"])
        left = sorted(call.getTime() - time.monotonic() for call in reactor.getDelayedCalls())
        self.assertEqual(len(left), 1)
        self.assertTrue(3570 < left[0] <= 3600, left)
