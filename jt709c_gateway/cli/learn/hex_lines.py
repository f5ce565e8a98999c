"""Reads the bytes in lines of hex, as logs of apps and terminals have them, and as dump programs write them.

::

    10:00:00.123 TX 28 50 30 31 29            hex with any usual separators, behind a time or not
    "Value sent: (0x) 28-50-30-31-29"
    00000010  28 50 30 31 29  |(P01)|         hexdump -C, od, Wireshark
    00000010: 2850 3031 29    (P01)           xxd
"""

import re
from collections.abc import Iterator
from typing import Final

from attrs import define

_RUN: Final = re.compile(r"(?<![0-9A-Za-z])(?:0x)?(?:[0-9A-Fa-f]{2}[ :,-]?(?:0x)?){5,}(?![0-9A-Za-z])")
#: Dates and times consist of digits, too.
_TIME: Final = re.compile(
    r"\b[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}(?:T(?=[0-9])|\b)|\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?Z?\b"
)
#: A line of a dump: the offset of its first byte, and what follows.
_DUMPED: Final = re.compile(r"\s*(?:0x)?([0-9A-Fa-f]{4,16}):?\s+((?:[0-9A-Fa-f]{2}){1,8}(?:\s.*)?)")
_GROUPS: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){1,8}(?: (?:[0-9A-Fa-f]{2}){1,8})*")
#: Some dump programs leave more room after so many bytes.
_HALF: Final = 8
_BASES: Final = (16, 8, 10)


@define
class HexLines:
    """Reads lines in order: the offset of a dump's line is the number of the bytes before it."""

    #: Bytes of the dump so far.
    _dumped: int = 0

    def of_dump(self, line: str) -> bytes | None:
        """Return the bytes of a dump's line without its offset and its text; None for other lines."""
        found = _DUMPED.fullmatch(line)
        if found is None or not self._is_next(found[1]):
            return None
        columns = re.split(r"\s{2,}", re.split(r"[|>]", found[2])[0].rstrip())
        read = bytes.fromhex(columns[0]) if _GROUPS.fullmatch(columns[0]) else b""
        if len(read) == _HALF and len(columns) > 1 and _GROUPS.fullmatch(columns[1]):
            # The text beside the bytes may consist of digits; it has no groups of the same width.
            width = len(columns[0].split()[0])
            if all(len(group) <= width for group in columns[1].split()):
                read += bytes.fromhex(columns[1])
        self._dumped = self._dumped + len(read) if int(found[1], 16) else len(read)
        return read

    def read(self, line: str) -> Iterator[bytes]:
        """Return the runs of bytes in a line that is none of a dump."""
        for run in _RUN.finditer(_TIME.sub(" ", line)):
            digits = re.sub(r"0x|[^0-9A-Fa-f]", "", run[0])
            yield bytes.fromhex(digits[: len(digits) // 2 * 2])

    def _is_next(self, offset: str) -> bool:
        """Return whether a dump begins with this offset, or goes on with it, in any usual base."""
        if not offset.strip("0"):
            return True
        for base in _BASES:
            try:
                if self._dumped and int(offset, base) == self._dumped:
                    return True
            except ValueError:
                pass
        return False
