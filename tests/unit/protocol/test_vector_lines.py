"""Each line of the vectors is a test of its own name."""

from collections import Counter
from importlib import import_module
from pathlib import Path
from unittest import TestCase

from twisted.trial.unittest import SynchronousTestCase

import tests
from tests.vectors.lines import CASES, FIELD, REAL, VENDOR, lines

TESTS = Path(tests.__file__).parent


def names() -> Counter[str]:
    """Count the tests by name, in the modules that have lines as tests."""
    found: Counter[str] = Counter()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        if "@one_test_each" not in text and "@line_test" not in text:
            continue
        module = import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, TestCase) and one.__module__ == module.__name__:
                found.update(name for name in vars(one) if name.startswith("test_"))
    return found


class LineNameTests(SynchronousTestCase):
    def test_each_line(self) -> None:
        """There is one test of each line's name, and there are as many lines as there should be."""
        counted = names()
        for file, count in ((FIELD, 33), (REAL, 26), (VENDOR, 120), (CASES, 37)):
            found = lines(file)
            self.assertEqual(len(found), count, file)
            for line in found:
                self.assertEqual(counted[f"test_{line.name}"], 1, line.name)
