"""So many lines a minute about one thing, and how many were left out."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.log_limit import LogLimiter


class LogWindowTests(SynchronousTestCase):
    def test_a_minute(self) -> None:
        """Twenty lines go in, the others are counted, and told when the minute is over."""
        clock = Clock()
        window = LogLimiter(clock, "complaints")
        with capturedLogs() as told:
            self.assertEqual(sum(window.may_log() for _ in range(50)), 20)
            clock.advance(59)
            window.log_suppressed()
            self.assertEqual((window.may_log(), list(told)), (False, []))
            clock.advance(1)
            window.log_suppressed()
            self.assertEqual([(one["count"], one["things"]) for one in told], [(31, "complaints")])
            self.assertTrue(window.may_log())

    def test_nothing_left_out(self) -> None:
        """A minute in which all lines had room ends without a word, and so does one without lines."""
        clock = Clock()
        window = LogLimiter(clock, "complaints")
        with capturedLogs() as told:
            window.log_suppressed(now=True)
            window.may_log()
            clock.advance(61)
            window.log_suppressed()
        self.assertEqual(told, [])

    def test_the_end(self) -> None:
        """What was left out is told when the gateway stops."""
        window = LogLimiter(Clock(), "complaints", most=1)
        with capturedLogs() as told:
            window.may_log()
            window.may_log()
            window.log_suppressed(now=True)
        self.assertEqual([one["count"] for one in told], [1])
