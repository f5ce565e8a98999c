"""The physical state of a lock: position, speed, battery, motor and rope."""

import math
from datetime import UTC, datetime
from random import Random
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.alarms import LOW_BATTERY
from jt709c_gateway.protocol.events import Cell
from jt709c_gateway.simulator.route import Place, Route

WAKE_RESTART: Final = 0
WAKE_TIMER: Final = 1
WAKE_CHARGING: Final = 5

#: Alarms by their names in events (docs/redis.rst, "Events"); the dialect maps them to bits.
OVERSPEED: Final = "overspeed"
WRONG_PASSWORD: Final = "wrong_password"

_OVERSPEED_KMH: Final = 100.0
_LOW_PERCENT: Final = 20
#: The lock is charged below this level, so that a long simulation continues.
_CHARGED_BELOW: Final = 5.0
_PERCENT_PER_SECOND: Final = 100 / (30 * 24 * 3600)
_MCC: Final = 204
_MNC: Final = 4
_LAC: Final = 4070


@define(eq=False)
class Vehicle:
    """The state of one lock, in metres, km/h and percent; `now` is in seconds since 1970.

    It travels and discharges `factor` times faster than it reports.
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
    alarms: set[str] = field(factory=set)
    #: Seconds by which the clock of the lock is ahead of `now`.
    clock_ahead: float = field(default=0.0)

    @classmethod
    def make(cls, route: Route, factor: float, dice: Random) -> "Vehicle":
        """Place a locked lock at a random position of the route."""
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
        """Whether the motor or the rope is open (docs/protocol.rst §1.1)."""
        return self.motor_open or self.rope_open

    def advance(self, now: float) -> bool:
        """Travel and discharge up to `now`; an unlocked lock stands. Return whether it was charged."""
        passed = max(0.0, now - self.moved_at) * self.factor
        self.moved_at = now
        # The speed varies by a fifth every few kilometres.
        self.speed_kmh = 0.0 if self.unlocked else self.cruise_kmh * (1 + 0.2 * math.sin(self.way_m / 900))
        metres = self.speed_kmh / 3.6 * passed
        self.way_m = (self.way_m + metres) % (2 * self.route.length_m)
        self.odometer_m += metres
        self.battery -= passed * _PERCENT_PER_SECOND
        charged = self.battery < _CHARGED_BELOW
        if charged:
            self.battery = 100.0
        self.alarm(LOW_BATTERY, self.battery < _LOW_PERCENT)
        self.alarm(OVERSPEED, self.speed_kmh > _OVERSPEED_KMH)
        return charged

    def alarm(self, name: str, active: bool) -> None:
        """Raise or clear an alarm."""
        (self.alarms.add if active else self.alarms.discard)(name)

    @property
    def place(self) -> Place:
        """The current position."""
        return self.route.at(self.way_m)

    @property
    def odometer_km(self) -> int:
        """The odometer in whole kilometres."""
        return int(self.odometer_m / 1000) & 0xFFFFFFFF

    @property
    def altitude_m(self) -> int:
        """A constant value of this lock."""
        return 3 + self.cell_id % 40

    @property
    def satellites(self) -> int:
        """A constant value of this lock."""
        return 6 + self.cell_id % 9

    @property
    def cell(self) -> Cell:
        """The current mobile cell."""
        return Cell(_MCC, _MNC, self.cell_id, _LAC)

    def time(self, now: float) -> datetime:
        """The time of the lock's clock, UTC."""
        return datetime.fromtimestamp(now + self.clock_ahead, UTC)
