"""Blocks unlock commands after the lock has refused the password twice in a row.

The fifth wrong password raises the alarm of the lock (docs/protocol.rst §4), and a person at the keypad needs
some of the tries. The gateway counts per lock, in Redis; ``clear_lockout`` resets the count.
"""

from __future__ import annotations

from typing import Final

from jt709c_gateway.commands.profiles.spec import CommandSpec
from jt709c_gateway.commands.replies import Answer

LIMIT: Final = 2
"""Wrong passwords in a row after which no further unlock is sent."""

REASON: Final = f"not sent: {LIMIT} wrong passwords in a row; clear_lockout allows unlocks again"


def next_count(count: int, spec: CommandSpec, answer: Answer) -> int:
    """Return the new count of wrong passwords in a row; commands without a password do not change it."""
    if not spec.shows_password:
        return count
    if answer.wrong_password:
        return count + 1
    return 0 if answer.accepted else count


def blocks(count: int, spec: CommandSpec) -> bool:
    """Whether ``count`` wrong passwords in a row forbid sending the command."""
    return spec.physical and spec.shows_password and count >= LIMIT
