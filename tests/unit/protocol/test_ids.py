"""Ids of devices and names of dialects are made and spelled in one place."""

import ast
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import jt709c_gateway
from jt709c_gateway.protocol import device_id, jt808
from jt709c_gateway.protocol.dialects import DIALECTS

_MODULES = sorted(Path(jt709c_gateway.__file__).parent.rglob("*.py"))
_DIGITS = st.text("0123456789", min_size=1, max_size=12)


class DeviceIdTests(SynchronousTestCase):
    def test_canonical(self) -> None:
        """Leading zeros go, and one stays of an id of zeros."""
        for digits, device in (("007", "7"), ("794308010679", "794308010679"), ("000", "0"), ("0", "0")):
            self.assertEqual(device_id.canonical(digits), device)

    @given(_DIGITS)
    def test_same_number(self, digits: str) -> None:
        """The canonical form is the number, and its own canonical form."""
        device = device_id.canonical(digits)
        self.assertEqual(device, str(int(digits)))
        self.assertEqual(device_id.canonical(device), device)

    @given(_DIGITS)
    def test_on_the_wire(self, digits: str) -> None:
        """A device is found again in the bytes of its id."""
        device = device_id.canonical(digits)
        self.assertEqual(jt808.identify(device_id.terminal_id(device)).device, device)

    def test_sublock(self) -> None:
        """What may be the id of a sub-lock keeps its zeros."""
        self.assertEqual(device_id.canonical_name("0E03B60001"), "0E03B60001")
        self.assertEqual(device_id.canonical_name("00012"), "12")
        self.assertEqual(device_id.master_digits("12"), "0000000012")

    def test_one_place(self) -> None:
        """Nothing else takes zeros from an id. The others: of a prefix, and of a parameter's number."""
        found = {path.name for path in _MODULES if re.search(r"lstrip\(.0.\)", path.read_text())}
        self.assertEqual(found, {"device_id.py", "values.py", "masking.py"})


class DialectTests(SynchronousTestCase):
    def test_one_place(self) -> None:
        """No other module spells a dialect. Sub-locks have a type of the same name as one of them."""
        found = {
            path.name
            for path in _MODULES
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and node.value in DIALECTS
        }
        self.assertEqual(found, {"dialects.py", "events.py", "sublock.py"})
