"""Sub-locks and sensors behind a virtual master (docs/protocol.rst §3).

They report through their master, at the same interval and each at its own time. A command to unlock one is
carried out a moment after the master has answered it; some time later the sub-lock locks again. Every fourth
is a JT126 sensor, the others are JT709 locks.
"""

from math import inf
from random import Random
from typing import Final, Literal

from attrs import define, field

from jt709c_gateway.protocol import packed_position, sublock
from jt709c_gateway.simulator.options import MOST_SUBLOCKS, LockOptions
from jt709c_gateway.simulator.vehicle import Vehicle

#: Event bits of a JT709 sub-lock.
LOCKED: Final = 1 << 0
UNLOCKED_BY_LORA: Final = 1 << 3
_NO_EVENT: Final = 0
_SENSOR_EVERY: Final = 4
#: Seconds that a command needs from master to sub-lock.
_RADIO: Final = (0.5, 3.0)
_NEVER: Final = inf


def identity(master: str, number: int) -> str:
    """The id of a master's sub-lock, counted from 1: the end of the master's id and two digits."""
    return f"{master[-8:].zfill(8)}{number:02d}"


@define(eq=False)
class SubLock:
    """A sub-lock or sensor; times are in seconds since 1970."""

    identity: str
    kind: int
    battery: float
    rssi: int
    temperature: float
    humidity: int
    report_at: float
    #: When a command arrives, and when the sub-lock locks again.
    unlocks_at: float = _NEVER
    locks_at: float = _NEVER
    motor_open: bool = False
    cycles: int = 0
    serial: int = 0

    @classmethod
    def make(cls, identity: str, kind: int, first_report: float, dice: Random) -> "SubLock":
        """Create a locked sub-lock with random values."""
        return cls(
            identity=identity,
            kind=kind,
            battery=dice.uniform(60, 100),
            rssi=dice.randint(-100, -30),
            temperature=dice.uniform(-5, 35),
            humidity=dice.randint(30, 90),
            report_at=first_report,
            cycles=dice.randint(0, 500),
            # Random, since one answer would release all sub-locks of a master with the same serial.
            serial=dice.randrange(256),
        )

    @property
    def due(self) -> float:
        """When the next report is due."""
        return min(self.report_at, self.unlocks_at, self.locks_at)

    def payload(self, master: Vehicle, now: float, event: int) -> bytes:
        """Encode the report that the master forwards, not escaped."""
        self.serial = self.serial + 1 & 0xFF
        place = master.place
        if self.kind == sublock.LOCK_JT709:
            status = sublock.STATUS_MOTOR if self.motor_open else 0
            rest = sublock.encode_jt709(event, status, self.cycles, gateway=0, card=0)
        else:
            rest = sublock.encode_jt126(round(self.temperature, 1), self.humidity, gateway=0)
        return sublock.encode(
            master=packed_position.encode(
                master.time(now), place.latitude, place.longitude, True, master.speed_kmh, place.course
            ),
            time=master.time(now),
            peripheral=self.identity,
            serial=self.serial,
            battery_volts=round(2.8 + 0.004 * self.battery, 2),
            battery_percent=round(self.battery),
            rssi_dbm=self.rssi,
            kind=self.kind,
            rest=rest,
        )


@define(eq=False)
class SubLocks:
    """The sub-locks bound to one master. `interval` is in seconds."""

    master: str
    options: LockOptions = field(repr=False)
    vehicle: Vehicle = field(repr=False)
    interval: float
    _bound: dict[str, SubLock] = field(factory=dict, repr=False)
    _dice: Random = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._dice = Random(f"{self.options.seed}:{self.master}:sublocks")

    def start(self, now: float) -> None:
        """Start the sub-locks of the options, spread over the interval."""
        for number in range(1, self.options.sublocks + 1):
            kind = sublock.LOCK_JT709 if number % _SENSOR_EVERY else sublock.SENSOR_JT126
            self._add(identity(self.master, number), kind, now)

    @property
    def bound(self) -> list[str]:
        """The ids in the order of binding."""
        return list(self._bound)

    @property
    def due(self) -> float:
        """When the first report is due."""
        return min((one.due for one in self._bound.values()), default=_NEVER)

    def bind(self, identities: list[str], now: float) -> bool:
        """Replace the list; a new id is a JT709. Return False, without a change, for too many."""
        if len(set(identities)) > MOST_SUBLOCKS:
            return False
        before, self._bound = self._bound, {}
        for one in identities:
            if one in before:
                self._bound[one] = before[one]
            else:
                self._add(one, sublock.LOCK_JT709, now)
        return True

    def set_interval(self, seconds: float, now: float) -> None:
        """Set the report interval."""
        if self.interval != _NEVER:
            self.interval = seconds
            for one in self._bound.values():
                one.report_at = now + seconds * self._dice.random()

    def unlock(self, identity: str, now: float) -> bool:
        """Forward a command; return False for an unbound id."""
        found = self._bound.get(identity)
        if found is None or found.kind != sublock.LOCK_JT709:
            return False
        if not self.options.no_evidence:
            found.unlocks_at = now + self._dice.uniform(*_RADIO)
        return True

    def silence(self) -> None:
        """Stop periodic reports."""
        self.interval = _NEVER
        for one in self._bound.values():
            one.report_at = one.locks_at = _NEVER

    def reports(self, now: float) -> list[tuple[bytes, Literal["unlocked", "locked"] | None]]:
        """Return the payloads of due reports, each with its movement."""
        found: list[tuple[bytes, Literal["unlocked", "locked"] | None]] = []
        for one in self._bound.values():
            if now >= one.unlocks_at:
                one.unlocks_at, one.motor_open = _NEVER, True
                again = self.options.relock and self.interval != _NEVER
                one.locks_at = now + self.options.relock if again else _NEVER
                found.append((one.payload(self.vehicle, now, UNLOCKED_BY_LORA), "unlocked"))
            if now >= one.locks_at:
                one.locks_at, one.motor_open = _NEVER, False
                one.cycles = one.cycles + 1 & 0xFFFF
                found.append((one.payload(self.vehicle, now, LOCKED), "locked"))
            if now >= one.report_at:
                late = now - one.report_at >= self.interval
                one.report_at = self.interval + (now if late else one.report_at)
                found.append((one.payload(self.vehicle, now, _NO_EVENT), None))
        return found

    def _add(self, identity: str, kind: int, now: float) -> None:
        first = now + self.interval * self._dice.random()
        self._bound[identity] = SubLock.make(identity, kind, first, self._dice)
