"""The file of admitted locks, for ``--devices``.

::

    # gate 3
    794308010679
    864180050123456   # a unit that sends its IMEI

One device id or IMEI a line, as in events; leading zeros don't matter. What follows a `#` is a comment.
"""

import os
import re
from pathlib import Path
from typing import Final

from attrs import field, frozen

from jt709c_gateway.protocol.device_id import canonical

#: Largest file, in bytes: some 300,000 ids, which are read in a tenth of a second.
MAX_BYTES: Final = 4 << 20
_ID: Final = re.compile(r"[0-9]{1,20}")
_SHOWN: Final = 40

#: Identifies a version of the file: inode, bytes, modification time in nanoseconds.
Signature = tuple[int, int, int]


class AllowlistError(ValueError):
    """A file that can't be used: line, text found and text expected."""


@frozen
class Allowlist:
    """One version of the file, with canonical ids."""

    path: Path
    signature: Signature
    devices: frozenset[str] = field(repr=False)


def signature_of(path: Path) -> Signature | None:
    """Signature of the current version; None when there is no file."""
    try:
        return _signature(os.stat(path))
    except OSError:
        return None


def _signature(status: os.stat_result) -> Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_allowlist(path: Path) -> Allowlist:
    """Read and check the whole file; raises AllowlistError for the first error in it."""
    try:
        with path.open("rb") as file:
            signature = _signature(os.fstat(file.fileno()))
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AllowlistError(f"can't be read ({error.strerror}); expected a file of device ids") from None
    if len(data) > MAX_BYTES:
        raise AllowlistError(f"expected at most {MAX_BYTES >> 20} MiB; keep so many ids in Redis")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AllowlistError("expected a text file with one device id or IMEI a line") from None
    devices = set()
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        if not _ID.fullmatch(entry):
            raise AllowlistError(
                f"line {number}: {entry[:_SHOWN]!r}: expected a device id or an IMEI, 1 to 20 digits"
            )
        devices.add(canonical(entry))
    if not devices:
        # An empty file is more likely a truncated write than the intention to reject every device.
        raise AllowlistError("expected a file with at least one device id or IMEI")
    return Allowlist(path, signature, frozenset(devices))
