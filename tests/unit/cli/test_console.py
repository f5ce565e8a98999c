"""Lines on terminals."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.console import print_line

_WORDS = st.lists(st.text("abcdef0123456789-", min_size=1, max_size=30), min_size=1, max_size=12)


def shown(line: str, width: int, terminal: bool = True) -> list[str]:
    """The lines that a console of this width gets."""
    file = io.StringIO()
    out = Console(file=file, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_line(out, Text(line, no_wrap=True, overflow="ignore", end=""), 8)
    return [re.sub(r"\x1b\[[0-9;]*m", "", one).rstrip() for one in file.getvalue().splitlines()]


class LineTests(SynchronousTestCase):
    @given(_WORDS, st.sampled_from([40, 60, 80]))
    def test_no_line_is_broken(self, words: list[str], width: int) -> None:
        """Each fits, words stay whole, and what follows the first line is indented."""
        first, *others = lines = shown("  ".join(words), width)
        self.assertLessEqual(max(map(len, lines)), width)
        self.assertEqual(" ".join(lines).split(), words)
        self.assertTrue(all(line.startswith(" " * 8) for line in others), lines)
        self.assertFalse(first.startswith(" "))

    def test_a_pipe_gets_one_line(self) -> None:
        """Long lines suit other programs better than broken ones."""
        self.assertEqual(len(shown("word " * 100, 80, terminal=False)), 1)
