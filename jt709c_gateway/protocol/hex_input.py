"""Reads frames typed as text: hex digits with any separators, or a sentence."""

import re
from typing import Final

_DECORATION: Final = re.compile(r"0x|[\s:,_-]", re.IGNORECASE)
_DIGITS: Final = re.compile("[0-9A-Fa-f]+")


def read_hex(text: str) -> bytes:
    """Convert text to bytes; the ValueError for invalid text does not repeat it."""
    stripped = text.strip()
    if stripped.startswith("(") and stripped.isascii():
        return stripped.encode("ascii")
    digits = _DECORATION.sub("", stripped)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        odd = len(digits) % 2 and _DIGITS.fullmatch(digits)
        raise ValueError("an odd number of hex digits" if odd else "not hex") from None
