"""Stop unlocking a lock that has refused the password twice in a row (DESIGN.md §4).

The fifth wrong password raises the lock's alarm (PROTOCOL.md §4), and a person at its keypad needs some of
those tries. The gateway keeps the count, per lock, in Redis; here is what to make of it. ``clear_lockout``
sets it to 0.
"""

from __future__ import annotations

from typing import Final

from jt709c_gateway.commands.profiles.spec import CommandSpec
from jt709c_gateway.commands.replies import Answer

LIMIT: Final = 2
"""Wrong passwords in a row after which no further unlock is sent."""

REASON: Final = f"not sent: {LIMIT} wrong passwords in a row; clear_lockout allows unlocks again"


def next_count(count: int, spec: CommandSpec, answer: Answer) -> int:
    """Wrong passwords in a row after ``answer``; commands that show no password leave the count as it is."""
    if not spec.shows_password:
        return count
    if answer.wrong_password:
        return count + 1
    return 0 if answer.accepted else count


def blocks(count: int, spec: CommandSpec) -> bool:
    """Whether a command must not be sent to a lock with ``count`` wrong passwords in a row."""
    return spec.physical and spec.shows_password and count >= LIMIT
