"""Ids of devices and sub-locks: their canonical form in keys and events, and their lengths on the wire."""

from typing import Final

#: Digits of a terminal id in a `7E` frame (docs/protocol.rst §1).
TERMINAL_DIGITS: Final = 12
#: Digits of a master's id in `$` frames and sentences, which have all of them (docs/protocol.rst §2).
MASTER_DIGITS: Final = 10
#: Hex digits of the id of a sub-lock or sensor (docs/protocol.rst §3).
SUBLOCK_DIGITS: Final = 10


def canonical(digits: str) -> str:
    """Return the canonical form of a device id: without leading zeros, and `0` when there is nothing else."""
    return digits.lstrip("0") or "0"


def canonical_name(name: str) -> str:
    """Return the canonical form of a device id that may be that of a sub-lock, which keeps its zeros."""
    return name if may_be_sublock(name) else canonical(name)


def may_be_sublock(name: str) -> bool:
    """Return whether a name has the length of a sub-lock's id; that of a device may have it, too."""
    return len(name) == SUBLOCK_DIGITS


def terminal_id(device: str) -> bytes:
    """Return the bytes of a device id of decimal digits in a `7E` frame."""
    return bytes.fromhex(device.zfill(TERMINAL_DIGITS))


def master_digits(device: str) -> str:
    """Return the id of a master with all of its digits."""
    return device.zfill(MASTER_DIGITS)
