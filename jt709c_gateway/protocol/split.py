"""Putting split messages together again (PROTOCOL.md §1, attribute bit 13).

Parts are held, unanswered, until the last one is here; then the whole message is decoded and every part is
answered. Parts that never become whole are let go unanswered, so the lock sends them again.
"""

from typing import Final

from attrs import define, field

from .framing import BinaryFrame
from .jt808 import Header

#: Seconds after its first part in which a message must be complete.
TIMEOUT: Final = 60.0
#: Unfinished messages, and bytes of memory in them, that one connection may have.
MAX_MESSAGES: Final = 8
MAX_BYTES: Final = 131072
#: What holding a part costs beside its bytes, which are held twice (raw and payload).
_PART_COST: Final = 512

_Key = tuple[bytes, int, int, int]


@define
class Part:
    """One packet of a split message."""

    header: Header
    frame: BinaryFrame


@define
class _Unfinished:
    started: float
    parts: dict[int, Part] = field(factory=dict)
    size: int = 0


@define
class Reassembler:
    """Holds parts of split messages. Bounded in messages, bytes and seconds; the oldest goes first.

    Packets of one message have consecutive serials, so serial minus packet number tells messages apart.
    """

    _open: dict[_Key, _Unfinished] = field(factory=dict)
    #: Parts let go because their message was never completed, or because there were too many.
    dropped: int = 0

    def add(self, header: Header, frame: BinaryFrame, now: float) -> list[Part] | None:
        """Take one part; give all parts in order once they are complete. `now` in seconds, monotonic.

        A part numbered outside 1..total never completes anything and is dropped.
        """
        self.expire(now)
        if not 1 <= header.packet <= header.packets:
            self.dropped += 1
            return None
        first = header.serial - header.packet & 0xFFFF
        key = (header.identity.wire, header.message_id, header.packets, first)
        unfinished = self._open.setdefault(key, _Unfinished(now))
        if header.packet not in unfinished.parts:
            unfinished.parts[header.packet] = Part(header, frame)
            unfinished.size += 2 * len(frame.raw) + _PART_COST
        if len(unfinished.parts) == header.packets:
            del self._open[key]
            return [unfinished.parts[number] for number in range(1, header.packets + 1)]
        while len(self._open) > MAX_MESSAGES or self._bytes() > MAX_BYTES:
            self._drop(next(iter(self._open)))
        return None

    def expire(self, now: float) -> None:
        """Let go of what has been waiting longer than `TIMEOUT`."""
        for key in [key for key, held in self._open.items() if now - held.started > TIMEOUT]:
            self._drop(key)

    def _bytes(self) -> int:
        return sum(held.size for held in self._open.values())

    def _drop(self, key: _Key) -> None:
        self.dropped += len(self._open.pop(key).parts)
