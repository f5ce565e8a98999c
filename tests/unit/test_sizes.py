"""Functions, classes and files stay short enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import jt709c_gateway
from tests.support import ROOT

#: The most lines of a file, a class and a function, with docstrings and comments, without decorators.
FILE, CLASS, FUNCTION = 400, 250, 60


def too_long(name: str, text: str) -> Iterator[str]:
    """Yield the file, and each class and function in it, that has too many lines."""
    lines = len(text.splitlines())
    if lines > FILE:
        yield f"{name}: {lines} lines; expected at most {FILE}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            most = CLASS
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            most = FUNCTION
        else:
            continue
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        if lines > most:
            yield f"{name}:{node.lineno} {node.name}: {lines} lines; expected at most {most}"


class SizeTests(SynchronousTestCase):
    def check(self, folder: Path) -> None:
        paths = sorted(folder.rglob("*.py"))
        self.assertGreater(len(paths), 10)
        found: list[str] = []
        for path in paths:
            found += too_long(str(path.relative_to(folder.parent)), path.read_text("utf-8"))
        self.assertEqual(found, [])

    def test_package(self) -> None:
        self.check(Path(jt709c_gateway.__file__).parent)

    def test_tests(self) -> None:
        self.check(ROOT / "tests")

    def test_benchmarks(self) -> None:
        self.check(ROOT / "benchmarks")

    def test_limits(self) -> None:
        """One line more than the limit is found, in a method and in a coroutine too."""
        for head, most in (
            ("def f():\n", FUNCTION),
            ("async def f():\n", FUNCTION),
            ("class F:\n", CLASS),
            ("# f\n", FILE),
        ):
            body = "    x = 1\n" if head[0] != "#" else "x = 1\n"
            self.assertEqual(list(too_long("f.py", head + body * (most - 1))), [], head)
            self.assertEqual(len(list(too_long("f.py", head + body * most))), 1, head)
        method = "class F:\n    def f(self):\n" + "        x = 1\n" * FUNCTION
        self.assertEqual(list(too_long("f.py", method)), ["f.py:2 f: 61 lines; expected at most 60"])
