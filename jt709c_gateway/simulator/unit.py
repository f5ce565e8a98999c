"""The thing itself: where the lock is, how it moves, its battery, its motor and its rope."""

import math
from datetime import UTC, datetime
from random import Random
from struct import Struct
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol import jt709, lock_events
from jt709c_gateway.simulator.route import Route

WAKE_RESTART: Final = 0
WAKE_TIMER: Final = 1
WAKE_CHARGING: Final = 5

ALARM_OVERSPEED: Final = 1 << 1
ALARM_LOW_BATTERY: Final = 1 << 7
#: Five wrong passwords raise an alarm, but no public document names its bit: an assumption.
ALARM_WRONG_PASSWORDS: Final = 1 << 20

_OVERSPEED_KMH: Final = 100.0
_LOW_PERCENT: Final = 20
#: Somebody charges it before it dies, so that a long simulation goes on.
_CHARGED_BELOW: Final = 5.0
_PERCENT_PER_SECOND: Final = 100 / (30 * 24 * 3600)
_CELL = Struct(">HHIH")
_PROTOCOL_VERSION: Final = 7
_NETWORK: Final = 4


@define(eq=False)
class Unit:
    """One lock on its way. Metres, km/h, percent; `now` in seconds since 1970.

    `factor` makes it travel and drain so many times faster than it says.
    """

    route: Route
    factor: float
    cruise_kmh: float
    way_m: float
    odometer_m: float
    battery: float
    signal: int
    cell_id: int
    moved_at: float = 0.0
    speed_kmh: float = 0.0
    motor_open: bool = False
    rope_open: bool = False
    alarm_bits: int = 0
    #: Seconds that the unit's own clock is ahead of `now`.
    clock_ahead: float = field(default=0.0)

    @classmethod
    def make(cls, route: Route, factor: float, dice: Random) -> "Unit":
        """A locked unit somewhere on the route, as `dice` fall."""
        return cls(
            route=route,
            factor=factor,
            cruise_kmh=dice.uniform(45, 85),
            way_m=dice.uniform(0, 2 * route.length_m),
            odometer_m=dice.uniform(0, 40_000_000),
            battery=dice.uniform(60, 100),
            signal=dice.randint(12, 31),
            cell_id=dice.randint(1, 0x0FFFFFFF),
        )

    @property
    def unlocked(self) -> bool:
        """Whether the motor or the rope is open (PROTOCOL.md §1.1)."""
        return self.motor_open or self.rope_open

    def advance(self, now: float) -> bool:
        """Travel and drain up to `now`; an unlocked unit stands. True when it was charged meanwhile."""
        passed = max(0.0, now - self.moved_at) * self.factor
        self.moved_at = now
        # Faster and slower by a fifth every few kilometres, as traffic goes.
        self.speed_kmh = 0.0 if self.unlocked else self.cruise_kmh * (1 + 0.2 * math.sin(self.way_m / 900))
        metres = self.speed_kmh / 3.6 * passed
        self.way_m = (self.way_m + metres) % (2 * self.route.length_m)
        self.odometer_m += metres
        self.battery -= passed * _PERCENT_PER_SECOND
        charged = self.battery < _CHARGED_BELOW
        if charged:
            self.battery = 100.0
        self._alarm(ALARM_LOW_BATTERY, self.battery < _LOW_PERCENT)
        self._alarm(ALARM_OVERSPEED, self.speed_kmh > _OVERSPEED_KMH)
        return charged

    def _alarm(self, bit: int, active: bool) -> None:
        self.alarm_bits = self.alarm_bits | bit if active else self.alarm_bits & ~bit

    def wrong_passwords(self, active: bool) -> None:
        """Raise or clear the alarm for too many wrong passwords."""
        self._alarm(ALARM_WRONG_PASSWORDS, active)

    def time(self, now: float) -> datetime:
        """What the unit's clock shows, UTC."""
        return datetime.fromtimestamp(now + self.clock_ahead, UTC)

    def body(self, now: float, wake: int, lock_event: bytes = b"") -> bytes:
        """A location body of this moment (PROTOCOL.md §1.1), with a lock event item when there is one."""
        place = self.route.at(self.way_m)
        status = jt709.STATUS_FIX | jt709.STATUS_GNSS | (wake & 0x0F) << 24
        status |= (jt709.STATUS_MOTOR if self.motor_open else 0) | (
            jt709.STATUS_ROPE if self.rope_open else 0
        )
        items = {
            jt709.BATTERY_PERCENT: bytes([round(self.battery)]),
            jt709.BATTERY_VOLTS: round(340 + 0.8 * self.battery).to_bytes(2, "big"),
            jt709.GSM_SIGNAL: bytes([self.signal]),
            jt709.SATELLITES: bytes([6 + self.cell_id % 9]),
            jt709.NETWORK: bytes([_NETWORK]),
            jt709.PROTOCOL_VERSION: _PROTOCOL_VERSION.to_bytes(2, "big"),
            jt709.ODOMETER: (int(self.odometer_m / 1000) & 0xFFFFFFFF).to_bytes(4, "big"),
            jt709.CELL: _CELL.pack(204, 4, self.cell_id, 4070),
        }
        if lock_event:
            items[lock_events.ITEM] = lock_event
        return jt709.encode(
            alarm_bits=self.alarm_bits,
            status=status,
            latitude=place.latitude,
            longitude=place.longitude,
            altitude_m=3 + self.cell_id % 40,
            speed_kmh=self.speed_kmh,
            course_deg=place.course,
            time=self.time(now),
            items=items,
        )
