"""Reassembles TCP segments into the byte streams that locks sent."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from jt709c_gateway.cli.replay.steps import Chunk, End, LeftOut, Step

#: Maximum bytes and segments buffered per stream while earlier ones are missing.
_HELD_BYTES: Final = 256 * 1024
_HELD_SEGMENTS: Final = 256
#: Maximum streams tracked at a time; above it, the longest silent one counts as ended.
_STREAMS: Final = 20_000

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10
_WRAP: Final = 1 << 32


@define
class Segment:
    """A TCP segment from a lock: sequence number of its first byte, flags, and bytes."""

    connection: str
    sequence: int
    flags: int
    data: bytes


@define
class _Stream:
    """A connection from its first captured segment on; sequence numbers do not wrap here."""

    name: str
    #: Sequence numbers of the next byte and of the first one.
    next: int
    first: int
    held: dict[int, bytes] = field(factory=dict)
    ends_at: int | None = None

    def absolute(self, sequence: int) -> int:
        """Convert a 32-bit sequence number to the absolute one nearest to `next`."""
        distance = (sequence - self.next) % _WRAP
        return self.next + (distance if distance < _WRAP // 2 else distance - _WRAP)


@define
class Streams:
    """Tracks the connections of a capture, in the direction to the gateway."""

    left_out: LeftOut
    _streams: OrderedDict[str, _Stream] = field(factory=OrderedDict, init=False)
    #: The number of connections so far between the same two addresses.
    _uses: OrderedDict[str, int] = field(factory=OrderedDict, init=False)

    def feed(self, segment: Segment, at: float) -> Iterator[Step]:
        """Process a segment; return the completed steps."""
        known = self._streams.get(segment.connection)
        if segment.flags & SYN:
            first = (segment.sequence + 1) % _WRAP
            if known is not None and known.first != first:
                yield from self._end(segment.connection, at)
                known = None
        else:
            first = segment.sequence
        if segment.flags & RST:
            yield from self._end(segment.connection, at)
            return
        if known is None:
            if not (segment.data or segment.flags & SYN):
                return
            yield from self._make_room(at)
            known = self._streams[segment.connection] = _Stream(self._name(segment.connection), first, first)
        self._streams.move_to_end(segment.connection)
        yield from self._add(known, known.absolute(first), segment, at)

    def reset(self, connection: str, at: float) -> Iterator[Step]:
        """Process a reset by the gateway."""
        yield from self._end(connection, at)

    def finish(self, at: float | None) -> Iterator[Step]:
        """Return the buffered bytes and the ends of open connections at the end of the capture."""
        for connection in list(self._streams):
            yield from self._end(connection, at)

    def _name(self, connection: str) -> str:
        uses = self._uses.get(connection, 0) + 1
        self._uses[connection] = uses
        self._uses.move_to_end(connection)
        if len(self._uses) > _STREAMS:
            self._uses.popitem(last=False)
        return connection if uses == 1 else f"{connection} #{uses}"

    def _make_room(self, at: float) -> Iterator[Step]:
        if len(self._streams) >= _STREAMS:
            yield from self._end(next(iter(self._streams)), at)

    def _add(self, stream: _Stream, first: int, segment: Segment, at: float) -> Iterator[Step]:
        if segment.flags & FIN:
            stream.ends_at = first + len(segment.data)
        if segment.data:
            longest = stream.held.get(first, b"")
            if len(segment.data) > len(longest):
                stream.held[first] = segment.data
        yield from self._give_out(stream, at)
        while len(stream.held) > _HELD_SEGMENTS or sum(map(len, stream.held.values())) > _HELD_BYTES:
            yield from self._skip(stream, at)
        if stream.ends_at is not None and stream.next >= stream.ends_at:
            yield from self._end(segment.connection, at)

    def _give_out(self, stream: _Stream, at: float | None) -> Iterator[Step]:
        """Return contiguous bytes from `next` on; drop repeated ones."""
        while stream.held:
            first = min(stream.held)
            if first > stream.next:
                return
            data = stream.held.pop(first)[stream.next - first :]
            if data:
                stream.next += len(data)
                yield Chunk(stream.name, data, at, "tcp")

    def _skip(self, stream: _Stream, at: float | None) -> Iterator[Step]:
        """Skip bytes that the capture lacks."""
        self.left_out.gaps += 1
        stream.next = min(stream.held)
        yield from self._give_out(stream, at)

    def _end(self, connection: str, at: float | None) -> Iterator[Step]:
        stream = self._streams.pop(connection, None)
        if stream is None:
            return
        while stream.held:
            yield from self._skip(stream, at)
        yield End(stream.name, at)
