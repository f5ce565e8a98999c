"""The time of arrival: one for all that comes within a moment."""

from datetime import timedelta

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Moment, Policy
from tests.support.committer import NOW, Fleet


class MomentTests(SynchronousTestCase):
    def moments(self, length: float, *steps: float) -> list[Moment]:
        """Moments of a gateway: the first, and one after each of these steps in seconds."""
        fleet = Fleet(Policy(moment_length=length))
        found = [fleet.gateway.events.moment()]
        for step in steps:
            fleet.clock.advance(step)
            fleet.wall += timedelta(seconds=step)
            found.append(fleet.gateway.events.moment())
        return found

    def test_shared(self) -> None:
        """Within its length a moment stays the same; then all clocks are read again."""
        first, same, next_one, same_again = self.moments(0.001, 0.0006, 0.0006, 0.0003)
        self.assertIs(same, first)
        self.assertEqual(next_one.utc, NOW + timedelta(seconds=0.0012))
        self.assertAlmostEqual(next_one.epoch - first.epoch, 0.0012, places=5)
        self.assertAlmostEqual(next_one.now - first.now, 0.0012)
        self.assertEqual(next_one.iso, "2025-11-18T11:30:00.001200Z")
        self.assertIs(same_again, next_one)

    def test_own(self) -> None:
        """Without a length each has its own, also when no time has passed."""
        first, second = self.moments(0.0, 0.0)
        self.assertIsNot(second, first)
