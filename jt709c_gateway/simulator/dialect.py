"""What a dialect says: how reports, heartbeats and questions are put into bytes, and what answers mean.

`VirtualLock` does what all locks do and asks the `Speech` of its dialect for the bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from math import inf
from typing import ClassVar, Generic, Protocol, TypeVar

from attrs import define, field

from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.lock_mechanism import LockMechanism, LockMovement
from jt709c_gateway.simulator.options import LockOptions
from jt709c_gateway.simulator.report_buffer import Entry, ReportBuffer
from jt709c_gateway.simulator.vehicle import Vehicle


class Host(Protocol):
    """The lock around a dialect: what it knows, and what it can be asked to do. `now`: seconds since 1970."""

    device: str
    options: LockOptions
    counters: Counters
    unit: Vehicle
    memory: ReportBuffer
    guard: LockMechanism

    def keep(self, entry: Entry, *, first: bool = False) -> None:
        """Put a report into the memory; it goes out when its turn comes, or with `first` before others."""

    def answered(self, key: Hashable, now: float) -> None:
        """The gateway has answered what was sent under `key`."""

    def set_clock(self, now: float, text: str) -> bool:
        """Set the clock to `yyyyMMddHHmmss`, UTC; False when that is no time of this century."""

    def nap(self, now: float, seconds: float) -> None:
        """Hang up, and come back after so many seconds."""


FrameT = TypeVar("FrameT")


@define(eq=False)
class Dialect(ABC, Generic[FrameT]):
    """A dialect, spoken by one lock. None of it raises, whatever the gateway sends."""

    #: Whether the lock closes by itself some time after it was opened.
    locks_itself: ClassVar[bool] = False

    lock: Host = field(repr=False)

    @property
    def window(self) -> int:
        """How many frames with reports may be under way."""
        return self.lock.options.window

    def start(self, now: float) -> None:
        """The lock is switched on."""

    def connected(self, now: float) -> list[bytes]:
        """A new connection: forget what is left of the last one; what to say first."""
        return []

    def due(self, online: bool) -> float:
        """When `tick` has something to do."""
        return inf

    def tick(self, now: float, online: bool) -> list[bytes]:
        """Do what is the dialect's alone; what to send, which nobody takes when not `online`."""
        return []

    def drain(self) -> None:
        """Make no more reports by itself."""

    @abstractmethod
    def feed(self, data: bytes, datagram: bool) -> Sequence[FrameT]:
        """Cut what arrived into frames."""

    @abstractmethod
    def take(self, frame: FrameT, now: float) -> list[bytes]:
        """Do what a frame from the gateway says; what to send at once because of it."""

    @abstractmethod
    def record(self, now: float, wake: int, movement: LockMovement | None) -> list[Entry]:
        """Reports of this moment, of a movement if there was one."""

    @abstractmethod
    def fit(self, entries: Sequence[Entry]) -> int:
        """How many of these can be sent in one frame now."""

    @abstractmethod
    def pack(self, entries: Sequence[Entry], stored: bool) -> tuple[set[Hashable], bytes]:
        """A frame with them, and what its answers will name."""

    @abstractmethod
    def heartbeat(self) -> bytes:
        """A sign of life."""

    @abstractmethod
    def ask_time(self, first: bool) -> bytes:
        """Ask what time it is, for the first time on or again."""

    @abstractmethod
    def tell_dynamic_password(self, now: float) -> bytes:
        """Make a new dynamic password and report it."""
