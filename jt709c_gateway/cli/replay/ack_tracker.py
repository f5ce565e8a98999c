"""Matches the answers of the gateway to the frames sent on a connection."""

import re
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Frame, Framer, Malformed
from jt709c_gateway.protocol.jt808 import USUAL_LENGTH, FrameError, unpack
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.simulator.counters import Latencies

#: Maximum frames awaiting answers per connection; above it, the oldest counts as unanswered.
_AWAITED: Final = 4096
#: Frames of a gateway, and the maximum bytes buffered while none is found.
_DOWNLINK: Final = re.compile(rb"\x7e[^\x7e]{12,}\x7e|\([\x20-\x27\x2a-\x7d]*\)")
_LONGEST_ANSWER: Final = 4096
#: The numbers at the end of a sentence; in an answer they are the time.
_NUMBERS: Final = re.compile(rb"(?:,[0-9]*)*\)$")


@define
class Counts:
    """Counters of all connections. `due` frames require answers; `awaited` ones may still get them."""

    frames: int = 0
    bytes: int = 0
    malformed: int = 0
    due: int = 0
    answered: int = 0
    unanswered: int = 0
    #: Other frames of the gateway: commands and unexpected answers.
    other: int = 0
    connections: int = 0
    #: Connections that failed, and those that the gateway closed.
    refused: int = 0
    closed: int = 0
    #: Bytes that could not be sent because their connection was closed.
    unsent: int = 0
    latencies: Latencies = field(factory=Latencies)

    @property
    def awaited(self) -> int:
        """The number of frames whose answers may still arrive."""
        return self.due - self.answered - self.unanswered


@define(eq=False)
class _Answers:
    """Splits bytes of a gateway into binary frames and sentences; those for a JT701 have no device id."""

    _pending: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return all complete answers and commands; skip other bytes."""
        buffer = self._pending + data
        found, end = [], 0
        for match in _DOWNLINK.finditer(buffer):
            found.append(match[0])
            end = match.end()
        self._pending = buffer[end:][-_LONGEST_ANSWER:]
        return found


@define(eq=False)
class _Due:
    """Frames that count as answered when all these answers have arrived, such as a split message."""

    sent_at: float
    frames: int
    answers: list[bytes]


@define(eq=False)
class AckTracker:
    """Tracks the frames of one connection and their answers in `counts`; times are in seconds."""

    counts: Counts
    _sent: Framer = field(factory=Framer)
    _received: _Answers = field(factory=_Answers)
    _decoder: Decoder = field(factory=Decoder)
    _parts: int = 0
    _by_answer: dict[bytes, deque[_Due]] = field(factory=dict)
    _open: "OrderedDict[int, _Due]" = field(factory=OrderedDict)
    #: Frames whose answers may still arrive.
    awaited: int = 0

    @property
    def oldest(self) -> float | None:
        """When the oldest unanswered frame was sent."""
        return next((due.sent_at for due in self._open.values()), None)

    def sent(self, data: bytes, now: float, *, datagram: bool = False) -> None:
        """Track bytes that are sent to the gateway."""
        self.counts.bytes += len(data)
        frames = self._sent.feed_datagram(data) if datagram else self._sent.feed(data)
        if self._sent.in_doubt:
            # No wait for more bytes: the gateway too takes this as whole when nothing follows.
            frames += self._sent.settle()
        for frame in frames:
            self._note(frame, now)

    def _note(self, frame: Frame, now: float) -> None:
        if isinstance(frame, Malformed):
            self.counts.malformed += 1
            return
        self.counts.frames += 1
        message = self._decoder.decode(frame, now)
        if message is None:
            self._parts += 1
        elif isinstance(message, Message):
            self._expect(message, now)

    def _expect(self, message: Message, now: float) -> None:
        answer = message.answer_at(datetime.now(UTC))
        if not answer:
            return
        loose = message.time_answer is not None
        due = _Due(now, 1, [_key(part, loose=loose) for part in _Answers().feed(answer)])
        # Each part of a split message has its own answer, but all are sent when the message is complete.
        parts = min(self._parts, len(due.answers) - 1)
        due.frames += parts
        self._parts -= parts
        for key in due.answers:
            self._by_answer.setdefault(key, deque()).append(due)
        self.counts.due += due.frames
        self.awaited += due.frames
        self._open[id(due)] = due
        while len(self._open) > _AWAITED:
            self._give_up(next(iter(self._open.values())))

    def received(self, data: bytes, now: float) -> None:
        """Process bytes of the gateway."""
        for frame in self._received.feed(data):
            due = self._take(_key(frame)) or self._take(_key(frame, loose=True))
            if due is None:
                self.counts.other += 1
            elif not due.answers:
                self._close(due)
                self.counts.answered += due.frames
                self.counts.latencies.add(now - due.sent_at)

    def _take(self, key: bytes) -> _Due | None:
        """Remove and return the oldest frame that awaits this answer."""
        waiting = self._by_answer.get(key)
        if waiting is None:
            return None
        due = waiting[0]
        self._forget(due, key)
        return due

    def _forget(self, due: _Due, key: bytes) -> None:
        due.answers.remove(key)
        waiting = self._by_answer[key]
        waiting.remove(due)
        if not waiting:
            del self._by_answer[key]

    def _close(self, due: _Due) -> None:
        del self._open[id(due)]
        self.awaited -= due.frames

    def expire(self, before: float) -> None:
        """Give up answers to frames sent before this moment."""
        while self._open and (due := next(iter(self._open.values()))).sent_at <= before:
            self._give_up(due)

    def close(self) -> None:
        """Give up all answers."""
        for due in list(self._open.values()):
            self._give_up(due)

    def _give_up(self, due: _Due) -> None:
        self._close(due)
        self.counts.unanswered += due.frames
        for key in list(due.answers):
            self._forget(due, key)


def _key(answer: bytes, *, loose: bool = False) -> bytes:
    """Return the key of an answer: its bytes, without a time in it, which cannot be predicted."""
    if not loose:
        return answer
    if answer[:1] == b"(":
        return b"time " + _NUMBERS.sub(b"", answer)
    try:
        payload = unpack(answer)
    except FrameError:
        return answer
    return b"time " + payload[:2] + payload[4:USUAL_LENGTH]
