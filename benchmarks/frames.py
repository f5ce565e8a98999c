"""Frames for the benchmarks: the reports of many locks, no two of which are alike."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import xor

from jt709c_gateway.protocol import jt709, jt808

#: Items of a report as a lock in the field sends them; with them a frame has 77 bytes.
ITEMS = {
    jt709.BATTERY_PERCENT: b"\x64",
    jt709.BATTERY_VOLTS: b"\x01\xa2",
    jt709.GSM_SIGNAL: b"\x1d",
    jt709.SATELLITES: b"\x0c",
    jt709.PROTOCOL_VERSION: b"\x00\x07",
    jt709.ODOMETER: b"\x00\x00\x00\x90",
    jt709.CELL: bytes.fromhex("02e80400044a150fe6"),
}
_SERIAL_AT = 10
_TIME_AT = 12 + 22
_TIME_END = _TIME_AT + 6
#: Bytes that need no escape.
_PLAIN = bytes(value for value in range(256) if value not in (0x7D, 0x7E))
#: What ends a frame, by its check byte.
TAILS = tuple(jt808.escape(bytes([check])) + b"\x7e" for check in range(256))
_CHUNK = 4096
#: Reports of one lock are a second apart and none is of the future, where times would be cut to the present.
_PAST = timedelta(days=2)


def body(time: datetime) -> bytes:
    """A location body of this time."""
    return jt709.encode(
        alarm_bits=0,
        status=jt709.STATUS_FIX,
        latitude=-25.269608,
        longitude=-57.602956,
        altitude_m=92,
        speed_kmh=1.8,
        course_deg=0,
        time=time,
        items=ITEMS,
    )


def device_wire(number: int) -> bytes:
    """The terminal id of the lock with this number: twelve decimal digits."""
    return bytes.fromhex(f"{number:012d}")


def fresh_devices(count: int) -> Iterator[bytes]:
    """Ids that no earlier run has used, or it would have to be another report from a lock already known."""
    first = 100_000_000_000 + int(datetime.now(UTC).timestamp() * 10) % 8_000_000 * 100_000
    return (device_wire(first + index) for index in range(count))


class Reports:
    """What all locks' frames have in common, made ahead of time.

    A frame is a lock's `head`, the entry's bytes, and the tail that the check byte asks for::

        common, check = reports.entries[index]
        frame = head + common + TAILS[head_check ^ check]

    Each entry has a serial and a time of its own, so that no two frames of a lock are the same report; the
    gateway would answer the second without publishing it. Nothing but the check byte ever needs an escape.
    """

    def __init__(self) -> None:
        self._since = datetime.now(UTC).replace(microsecond=0) - _PAST
        self.entries: list[tuple[bytes, int]] = []
        self.extend()

    def extend(self) -> None:
        """Make some thousand more entries."""
        for index in range(len(self.entries), len(self.entries) + _CHUNK):
            payload = jt808.unpack(
                jt808.encode(
                    jt808.LOCATION,
                    device_wire(0),
                    self.serial(index),
                    body(self._since + timedelta(seconds=index)),
                )
            )
            common = payload[_SERIAL_AT:]
            if b"\x7d" in common or b"\x7e" in common:
                raise AssertionError("a frame that was to need no escape does")
            self.entries.append((common, reduce(xor, common)))

    @staticmethod
    def serial(index: int) -> int:
        """The serial of an entry: the numbers whose bytes need no escape, one after the other."""
        high, low = divmod(index % len(_PLAIN) ** 2, len(_PLAIN))
        return _PLAIN[high] << 8 | _PLAIN[low]

    def head(self, wire: bytes) -> tuple[bytes, int]:
        """What stands in front of a lock's entries, and its share of the check byte."""
        frame = jt808.encode(jt808.LOCATION, wire, 0, body(self._since))
        head = frame[: 1 + _SERIAL_AT]
        return head, reduce(xor, head[1:])

    def frame(self, wire: bytes, index: int) -> bytes:
        """One whole frame, made the slow way."""
        head, head_check = self.head(wire)
        common, check = self.entries[index]
        return head + common + TAILS[head_check ^ check]

    def verify(self, wire: bytes) -> None:
        """Hold some frames against the project's own encoder."""
        for index in (0, 1, 252, 253, 254, len(self.entries) - 1):
            time = self._since + timedelta(seconds=index)
            expected = jt808.encode(jt808.LOCATION, wire, self.serial(index), body(time))
            if self.frame(wire, index) != expected:
                raise AssertionError(f"frame {index} is not what it should be")
