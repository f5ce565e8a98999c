"""docs/make_pictures.py makes the pictures of README and the documentation."""

import importlib.util
import os
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.browser.support import browser, what_is_missing
from tests.support import ROOT, temporary_path

DOCS = ROOT / "docs"
#: Bytes of all pictures together.
_MOST = 1_000_000


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


class PictureTests(SynchronousTestCase):
    """The pictures."""

    def test_the_script_makes_them(self) -> None:
        """The script makes them from the demo, with the expected content and the size of those in the
        repository."""
        missing = what_is_missing()
        if missing:
            self.assertNotEqual(os.environ.get("JT709C_REQUIRE_BROWSER"), "1", missing)
            self.skipTest(missing)
        directory = Path(temporary_path(self))
        directory.mkdir()
        script = _script()
        demo = script.Demo()
        self.addCleanup(demo.stop)
        demo.send("unlock", script.DEVICE)
        made = script.take(browser(), demo, directory) + script.take_map(browser(), demo, directory)
        there = {path.name: _size(path) for path in (DOCS / "pictures").glob("*.png")}
        self.assertEqual({path.name: _size(path) for path in made}, there)

    def test_those_that_are_shown_are_there(self) -> None:
        shown = re.findall(r"image:: (\S+)", (DOCS.parent / "README.rst").read_text())
        shown += [f"docs/{name}" for name in re.findall(r"image:: (\S+)", (DOCS / "index.rst").read_text())]
        self.assertEqual(len(shown), 3)
        self.assertEqual([name for name in shown if not (DOCS.parent / name).is_file()], [])
        self.assertLess(sum(path.stat().st_size for path in (DOCS / "pictures").iterdir()), _MOST)

    def test_the_diagram_is_well_formed(self) -> None:
        root = ElementTree.parse(DOCS / "pictures" / "overview.svg").getroot()
        self.assertTrue(root.tag.endswith("svg"))
