"""Frames for the benchmarks: the reports of many locks, no two of which are alike."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import xor
from random import Random

from jt709c_gateway.protocol import jt709, jt808

#: Items' bytes that are the same in all reports: the protocol version, and the cell's country and network.
_VERSION, _NETWORK = b"\x00\x07", b"\x02\xe8\x04"
_SERIAL_AT = 10
_SERIALS = 1 << 16
#: What ends a frame, by its check byte.
TAILS = tuple(jt808.escape(bytes([check])) + b"\x7e" for check in range(256))
_CHUNK = 4096
#: Entries between the first one of a lock and that of the next lock.
_STEP = 7
#: Reports of one lock are a second apart and none is of the future, where times would be cut to the present.
_PAST = timedelta(days=2)
_SEED = 709


class Journey:
    """Makes the contents of reports: of a lock under way, so that each number changes between reports."""

    def __init__(self) -> None:
        self._dice = Random(_SEED)
        self._latitude, self._longitude, self._metres = -25.269608, -57.602956, 144_000

    def body(self, time: datetime) -> bytes:
        """A location body of this time with the items that a lock in the field sends: 62 bytes."""
        dice = self._dice
        speed = dice.uniform(0, 90)
        self._latitude += dice.uniform(-2e-4, 2e-4)
        self._longitude += dice.uniform(-2e-4, 2e-4)
        self._metres += round(speed / 3.6)
        cell = (
            _NETWORK + dice.randrange(1 << 16).to_bytes(2, "big") + dice.randrange(1 << 16).to_bytes(2, "big")
        )
        return jt709.encode(
            alarm_bits=0,
            status=jt709.STATUS_FIX,
            latitude=self._latitude,
            longitude=self._longitude,
            altitude_m=dice.randint(60, 320),
            speed_kmh=speed,
            course_deg=dice.randrange(360),
            time=time,
            items={
                jt709.BATTERY_PERCENT: bytes([dice.randint(20, 100)]),
                jt709.BATTERY_VOLTS: dice.randint(360, 420).to_bytes(2, "big"),
                jt709.GSM_SIGNAL: bytes([dice.randint(5, 31)]),
                jt709.SATELLITES: bytes([dice.randint(4, 16)]),
                jt709.PROTOCOL_VERSION: _VERSION,
                jt709.ODOMETER: (self._metres // 1000).to_bytes(4, "big"),
                jt709.CELL: cell,
            },
        )


def device_wire(number: int) -> bytes:
    """The terminal id of the lock with this number: twelve decimal digits."""
    return bytes.fromhex(f"{number:012d}")


def fresh_devices(count: int, skip: int = 0) -> Iterator[bytes]:
    """Ids that no earlier run has used, or it would have to be another report from a lock already known.

    Generators that start together must `skip` different numbers of them, below 100,000 in all.
    """
    first = 100_000_000_000 + int(datetime.now(UTC).timestamp() * 10) % 8_000_000 * 100_000
    return (device_wire(first + skip + index) for index in range(count))


class Reports:
    """Makes the reports of all locks ahead of time; the locks share what comes after a frame's device id.

    A frame is a lock's `head`, the entry's bytes, and the tail that the check byte asks for::

        common, check = reports.entries[index]
        frame = head + common + TAILS[head_check ^ check]

    Each entry has a serial, a time and contents of its own, so no two frames of a lock are the same report,
    which the gateway would answer without publishing it. Each lock begins at another entry (`first`), so what
    different locks send at one moment differs, too.
    """

    def __init__(self) -> None:
        self._since = datetime.now(UTC).replace(microsecond=0) - _PAST
        self._journey = Journey()
        self.entries: list[tuple[bytes, int]] = []
        self.extend()

    def extend(self) -> None:
        """Make some thousand more entries."""
        for index in range(len(self.entries), len(self.entries) + _CHUNK):
            contents = self._journey.body(self._since + timedelta(seconds=index))
            frame = jt808.encode(jt808.LOCATION, device_wire(0), index % _SERIALS, contents)
            common = jt808.unpack(frame)[_SERIAL_AT:]
            self.entries.append((jt808.escape(common), reduce(xor, common)))

    @staticmethod
    def first(lock: int) -> int:
        """The entry at which the lock with this number begins."""
        return lock * _STEP % (_CHUNK // 2)

    def head(self, wire: bytes) -> tuple[bytes, int]:
        """Return what stands in front of a lock's entries, and its share of the check byte."""
        frame = jt808.encode(jt808.LOCATION, wire, 0, Journey().body(self._since))
        head = frame[: 1 + _SERIAL_AT]
        return head, reduce(xor, head[1:])

    def frame(self, wire: bytes, index: int) -> bytes:
        """One whole frame."""
        head, head_check = self.head(wire)
        common, check = self.entries[index]
        return head + common + TAILS[head_check ^ check]

    def verify(self, wire: bytes) -> None:
        """Compare some frames with those of the project's own encoder."""
        journey = Journey()
        for index in range(300):
            contents = journey.body(self._since + timedelta(seconds=index))
            if self.frame(wire, index) != jt808.encode(jt808.LOCATION, wire, index, contents):
                raise AssertionError(f"frame {index} is not what it should be")
