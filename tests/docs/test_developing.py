"""Every path that the pages for engineers name exists."""

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ROOT

#: Where a path on these pages may begin.
_BASES = (ROOT, ROOT / "jt709c_gateway", ROOT / "jt709c_gateway" / "redis" / "lua")
_PATH = re.compile(r"``([\w./*-]+(?:/[\w.*-]+|\.(?:py|lua|rst|toml|yml|conf)))``")


class PathTests(SynchronousTestCase):
    """docs/architecture.rst and docs/developing.rst."""

    def _missing(self, page: str) -> list[str]:
        named = set(_PATH.findall((ROOT / "docs" / page).read_text()))
        self.assertGreater(len(named), 20)
        return sorted(path for path in named if not any(any(base.glob(path)) for base in _BASES))

    def test_architecture(self) -> None:
        self.assertEqual(self._missing("architecture.rst"), [])

    def test_developing(self) -> None:
        self.assertEqual(self._missing("developing.rst"), [])
