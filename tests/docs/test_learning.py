"""docs/profiles.rst, "Learning from the maker's app": its commands show and write what the page says."""

import re
import shlex
import tempfile
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.main import cli
from tests.support import ROOT

DOCS = ROOT / "docs"
LEARNED = DOCS / "examples" / "learned" / "learned.toml"


class LearningTests(SynchronousTestCase):
    def setUp(self) -> None:
        page = (DOCS / "profiles.rst").read_text()
        self.blocks = re.findall(r"^   \$ jt709c (profiles learn .*)\n((?:   .*\n)+)", page, re.MULTILINE)

    def run_block(self, command: str, folder: Path) -> str:
        words = shlex.split(command.replace("docs/examples", str(DOCS / "examples")))
        words = [str(folder / word) if word == "learned.toml" else word for word in words]
        result = CliRunner().invoke(cli, words)
        self.assertEqual(result.exit_code, 0, result.output)
        return result.output.replace(f"{folder}/", "")

    def test_the_page(self) -> None:
        """Both commands, and the profile that the second one writes."""
        self.assertEqual(len(self.blocks), 2)
        with tempfile.TemporaryDirectory() as name:
            for command, said in self.blocks:
                expected = re.sub("^   ", "", said, flags=re.MULTILINE)
                self.assertEqual(self.run_block(command, Path(name)), expected)
            self.assertEqual((Path(name) / "learned.toml").read_text(), LEARNED.read_text())
