"""The computations of docs/scaling.rst."""

import doctest

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ROOT


class ScalingTests(SynchronousTestCase):
    def test_blocks(self) -> None:
        """Each block gives what the page says."""
        failed, tried = doctest.testfile(str(ROOT / "docs" / "scaling.rst"), module_relative=False)
        self.assertEqual(failed, 0)
        self.assertGreater(tried, 20)
