"""Reassembles split messages (docs/protocol.rst §1.3).

Parts are held, unanswered, until the last one arrives; then the message is decoded and every part is
answered. Parts of incomplete messages are dropped unanswered, so the lock sends them again.

All connections and addresses share one `PartStore`. When it is full, the connection or address that holds the
most loses its oldest message; if all hold little, the oldest message of all is dropped.
"""

from bisect import bisect, insort
from itertools import islice
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.framing import BinaryFrame
from jt709c_gateway.protocol.jt808 import Header, pack, parse_header

#: Seconds after its first part in which a message must be complete.
TIMEOUT: Final = 60.0
#: Maximum incomplete messages, and bytes of memory in them, of one device on one connection or address.
MAX_MESSAGES: Final = 8
MAX_BYTES: Final = 65_536
#: Maximum bytes of memory in the incomplete messages of all connections and addresses together.
MAX_BYTES_IN_ALL: Final = 64 << 20
#: Bytes of overhead of a part, and of an incomplete message.
_PART_COST: Final = 224
_MESSAGE_COST: Final = 1024
#: Bytes below which a connection or address counts as holding nothing when memory must be freed.
_SHARE: Final = 8_192
#: Maximum serials of other messages between the parts of one on a connection. Datagrams may be lost, so over
#: UDP there must be fewer than parts: the last parts of the next message are further away.
_MAX_BETWEEN: Final = 256
#: Maximum sets of parts from other addresses that are tried with one part.
_MAX_TRIED: Final = 8
#: Maximum messages dropped for one new part, and by one call of `expire`.
_EXPIRED_BY_PART: Final = 8
_EXPIRED_AT_ONCE: Final = 5_000

_Kind = tuple[int, int]


@define
class Part:
    """One packet of a split message."""

    header: Header
    frame: BinaryFrame


@define(eq=False)
class _Unfinished:
    """The parts of one message from one connection or address: serial and payload by number."""

    holder: "Reassembler"
    wire: bytes
    #: Message id and number of parts.
    kind: _Kind
    started: float
    parts: dict[int, tuple[int, bytes]] = field(factory=dict)
    size: int = 0
    #: The numbers of the received parts, sorted.
    _numbers: list[int] = field(factory=list)
    #: Whether all of them have one serial.
    _alike: bool = True

    @property
    def whole(self) -> bool:
        """Whether no part is missing."""
        return len(self.parts) == self.kind[1]

    def put(self, number: int, serial: int, payload: bytes) -> None:
        """Add a new part."""
        self._alike = self._alike and all(held == serial for held, _ in islice(self.parts.values(), 1))
        self.parts[number] = (serial, payload)
        insort(self._numbers, number)

    def spread(self, number: int, serial: int) -> int | None:
        """Return how many serials of other messages are between the parts if this is one of them.

        None if it can't be one. Serials go up with the numbers of the parts, or all parts have one serial.
        """
        if number in self.parts:
            return 0 if self.parts[number][0] == serial else None
        first = self._numbers[0]
        if self._alike and self.parts[first][0] == serial:
            return 0
        if self._alike and len(self.parts) > 1:
            return None
        at = bisect(self._numbers, number)
        # How far the serials on both sides are ahead of this one, beyond the difference of their numbers.
        sides = [self._ahead(other, number, serial) for other in self._numbers[max(at - 1, 0) : at + 1]]
        if (at and sides[0] > 0) or (at < len(self._numbers) and sides[-1] < 0):
            return None
        ends = [0, self._ahead(first, number, serial), self._ahead(self._numbers[-1], number, serial)]
        return max(ends) - min(ends)

    def _ahead(self, other: int, number: int, serial: int) -> int:
        return _signed(self.parts[other][0] - serial) - (other - number)

    def copy(self) -> "_Unfinished":
        """Return a copy, to try other parts with."""
        parts, numbers = dict(self.parts), list(self._numbers)
        return _Unfinished(self.holder, self.wire, self.kind, self.started, parts, 0, numbers, self._alike)

    def absorb(self, other: "_Unfinished", limit: int) -> bool:
        """Add the parts of another set; return False when they can't all belong to this message."""
        for number, (serial, payload) in other.parts.items():
            spread = self.spread(number, serial)
            if spread is None or spread >= limit or self.parts.get(number, (0, payload))[1] != payload:
                return False
        for number, (serial, payload) in other.parts.items():
            if number not in self.parts:
                self.put(number, serial, payload)
        return True


def _signed(difference: int) -> int:
    """Return a difference of serials, which wrap after 65535."""
    return (difference + 0x8000 & 0xFFFF) - 0x8000


@define(eq=False)
class PartStore:
    """All incomplete messages of the process, bounded in bytes by `limit`."""

    limit: int = MAX_BYTES_IN_ALL
    size: int = field(default=0, init=False)
    #: Number of parts dropped because their message was never completed, or because of the limits.
    dropped: int = field(default=0, init=False)
    #: In the order of their first parts.
    _messages: dict[_Unfinished, None] = field(factory=dict, init=False, repr=False)
    #: Holders by the number of their whole shares.
    _holders: "dict[int, dict[Reassembler, None]]" = field(factory=dict, init=False, repr=False)
    #: Over UDP: holders by address, and sets of parts by the bytes of a device's id.
    _addresses: "dict[str, Reassembler]" = field(factory=dict, init=False, repr=False)
    _datagrams: dict[bytes, dict[_Unfinished, None]] = field(factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self._messages)

    def address(self, peer: str) -> "Reassembler":
        """Return the holder of the parts in datagrams from an address."""
        return self._addresses.get(peer) or Reassembler(self, peer)

    def expire(self, now: float, most: int = _EXPIRED_AT_ONCE) -> None:
        """Drop messages that have been incomplete for longer than `TIMEOUT`; call this every few seconds."""
        while most and self._messages:
            oldest = next(iter(self._messages))
            if now - oldest.started <= TIMEOUT:
                return
            self.drop(oldest)
            most -= 1

    def drop(self, message: _Unfinished) -> None:
        """Drop a message; its parts stay unanswered."""
        self.dropped += len(message.parts)
        self.take_out(message)

    def begin(self, holder: "Reassembler", wire: bytes, kind: _Kind, now: float) -> _Unfinished:
        """Add a message whose first part has arrived."""
        message = _Unfinished(holder, wire, kind, now)
        self._messages[message] = None
        if not holder.messages:
            holder.messages, holder.devices = {}, {}
        holder.messages[message] = None
        holder.devices.setdefault(wire, {})[message] = None
        if holder.peer is not None:
            self._addresses[holder.peer] = holder
            self._datagrams.setdefault(wire, {})[message] = None
        self.grow(message, _MESSAGE_COST)
        return message

    def take_out(self, message: _Unfinished) -> None:
        """Remove a message."""
        holder = message.holder
        self.grow(message, -message.size)
        del self._messages[message], holder.messages[message]
        _remove(holder.devices, message)
        if holder.peer is not None:
            _remove(self._datagrams, message)
            if not holder.devices:
                self._addresses.pop(holder.peer, None)

    def grow(self, message: _Unfinished, size: int) -> None:
        """Count bytes that a message occupies, or releases."""
        holder = message.holder
        before = holder.size // _SHARE
        message.size += size
        holder.size += size
        self.size += size
        after = holder.size // _SHARE
        if before == after:
            return
        if before:
            del self._holders[before][holder]
            if not self._holders[before]:
                del self._holders[before]
        if after:
            self._holders.setdefault(after, {})[holder] = None

    def keep_within_limit(self) -> None:
        """Drop the oldest message of the largest holder while the limit is exceeded."""
        while self.size > self.limit:
            if self._holders:
                fullest = next(iter(self._holders[max(self._holders)]))
                self.drop(next(iter(fullest.messages)))
            else:
                self.drop(next(iter(self._messages)))

    def others(self, message: _Unfinished) -> list[_Unfinished]:
        """Return the parts of such a message of the same device from other addresses, newest first."""
        found = []
        for other in reversed(self._datagrams[message.wire]):
            if other.kind == message.kind and other.holder is not message.holder:
                found.append(other)
                if len(found) == _MAX_TRIED:
                    break
        return found


def _remove(devices: dict[bytes, dict[_Unfinished, None]], message: _Unfinished) -> None:
    of_device = devices[message.wire]
    del of_device[message]
    if not of_device:
        del devices[message.wire]


#: Of holders without messages; never written to.
_NO_MESSAGES: Final[dict[_Unfinished, None]] = {}
_NO_DEVICES: Final[dict[bytes, dict[_Unfinished, None]]] = {}


@define(eq=False)
class Reassembler:
    """Holds the parts from one connection, or from the address `peer`.

    Bounded in messages and bytes per device, and on a connection in bytes for all devices together; the
    oldest message is dropped first. Datagrams of one lock may come from several addresses: if those of one
    address don't complete a message, those of other addresses are tried with them.
    """

    store: PartStore = field(factory=PartStore, repr=False)
    peer: str | None = None
    size: int = field(default=0, init=False)
    #: In the order of their first parts, and the same by the bytes of the device's id. `PartStore` makes
    #: both: most connections never have any.
    messages: dict[_Unfinished, None] = field(default=_NO_MESSAGES, init=False, repr=False)
    devices: dict[bytes, dict[_Unfinished, None]] = field(default=_NO_DEVICES, init=False, repr=False)

    @property
    def dropped(self) -> int:
        """Number of parts that the store has dropped."""
        return self.store.dropped

    def add(self, header: Header, frame: BinaryFrame, now: float) -> list[Part] | None:
        """Add a numbered part; return all in order when they are complete. `now` in seconds, monotonic."""
        store = self.store
        store.expire(now, _EXPIRED_BY_PART)
        number, serial = header.packet, header.serial
        wire, kind = header.identity.wire, (header.message_id, header.packets)
        message = self._place(wire, kind, number, serial)
        if message is not None and message.parts.get(number, (0, frame.payload))[1] != frame.payload:
            # The lock has restarted and sends another message with the same serials.
            store.drop(message)
            message = None
        if message is None:
            message = store.begin(self, wire, kind, now)
        if number not in message.parts:
            message.put(number, serial, frame.payload)
            store.grow(message, len(frame.payload) + _PART_COST)
        whole = self._finish(message)
        if whole is None:
            self._keep_within_limits(message)
        return whole

    def _place(self, wire: bytes, kind: _Kind, number: int, serial: int) -> _Unfinished | None:
        """Return the message of a part: the one with the nearest serials, the newest of these."""
        best, least = None, self._spread_limit(kind)
        for message in reversed(self.devices.get(wire, {})):
            if message.kind == kind:
                spread = message.spread(number, serial)
                if spread is not None and spread < least:
                    best, least = message, spread
        return best

    def _spread_limit(self, kind: _Kind) -> int:
        return _MAX_BETWEEN if self.peer is None else kind[1]

    def _finish(self, message: _Unfinished) -> list[Part] | None:
        used = [message]
        if not message.whole and self.peer is not None and (others := self.store.others(message)):
            message = message.copy()
            for other in others:
                if message.absorb(other, self._spread_limit(message.kind)):
                    used.append(other)
                if message.whole:
                    break
        if not message.whole:
            return None
        for one in used:
            self.store.take_out(one)
        return [_part(message.parts[number][1]) for number in range(1, message.kind[1] + 1)]

    def _keep_within_limits(self, message: _Unfinished) -> None:
        of_device = self.devices[message.wire]
        while len(of_device) > MAX_MESSAGES or sum(one.size for one in of_device) > MAX_BYTES:
            self.store.drop(next(iter(of_device)))
        while self.peer is None and self.size > MAX_BYTES:
            self.store.drop(next(iter(self.messages)))
        self.store.keep_within_limit()

    def close(self) -> None:
        """Drop the parts of an ended connection. Those of an address stay, as they may still be completed."""
        if self.peer is None:
            for message in list(self.messages):
                self.store.drop(message)


def _part(payload: bytes) -> Part:
    # The payload determines the bytes on the wire, so these need not be held, too.
    return Part(parse_header(payload), BinaryFrame(pack(payload), payload))
