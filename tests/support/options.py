"""Test case and helpers for options."""

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.config.option_parser import Options
from tests.support import temporary_path


def parse(*arguments: str) -> dict[str, Any]:
    options = Options()
    options.parseOptions(list(arguments))
    return options.settings


class OptionsCase(SynchronousTestCase):
    def refused(self, *arguments: str) -> str:
        """Return the one-line error of refused options."""
        error = self.assertRaises(SystemExit, parse, *arguments)
        said = str(error.code)
        self.assertTrue(said.startswith("jt709c-gateway: "), said)
        self.assertEqual(len(said.splitlines()), 1, said)
        return said

    def file(self, text: str | bytes) -> str:
        path = Path(temporary_path(self))
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)
