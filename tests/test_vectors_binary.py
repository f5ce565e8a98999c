"""Recorded `7E` and `$` frames, each line of the vectors a test of its own."""

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from .vectors.lines import FIELD, Line, check_expected, lines, one_test_each


def corrected(line: Line) -> Any:
    """What a line expects, less what its own bytes contradict.

    The first line has no hardware version in it, and ends its acceleration with ff ff, which is -1.
    """
    if line.number != 1:
        return line.expect
    location = dict(line.expect["data"]["location"]) | {"acceleration": [-4, 1, -1]}
    assert b"\xef\x01" not in line.frame
    del location["hardware_version"]
    return line.expect | {"data": {"location": location}}


@one_test_each(line for line in lines(FIELD) if line.binary)
class FieldTests(SynchronousTestCase):
    """Frames that integrators recorded."""

    def check(self, line: Line) -> None:
        """What is published is what the line expects."""
        check_expected(self, evolve(line, data=line.data | {"expect": corrected(line)}))
