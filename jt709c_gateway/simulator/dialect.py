"""The interface of dialects: they encode reports, heartbeats and requests, and decode answers and commands.

`VirtualLock` has the behaviour of all locks, and uses the `Dialect` for the bytes.
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
    """The interface of a lock for its dialect. `now` is in seconds since 1970."""

    device: str
    options: LockOptions
    counters: Counters
    vehicle: Vehicle
    buffer: ReportBuffer
    mechanism: LockMechanism

    def keep(self, entry: Entry, *, first: bool = False) -> None:
        """Buffer a report for sending, with `first` ahead of others."""

    def answered(self, key: Hashable, now: float) -> None:
        """Process the answer to `key`."""

    def set_clock(self, now: float, text: str) -> bool:
        """Set the clock to `yyyyMMddHHmmss`, UTC; return False for an invalid time."""

    def disconnect_for(self, now: float, seconds: float) -> None:
        """Disconnect, and reconnect after `seconds`."""


FrameT = TypeVar("FrameT")


@define(eq=False)
class Dialect(ABC, Generic[FrameT]):
    """The dialect of one lock. No method raises, whatever the gateway sends."""

    #: Whether the lock locks by itself some time after it was opened.
    locks_itself: ClassVar[bool] = False

    lock: Host = field(repr=False)

    @property
    def window(self) -> int:
        """The maximum number of unanswered frames with reports."""
        return self.lock.options.window

    def start(self, now: float) -> None:
        """Handle the start of the lock."""

    def connected(self, now: float) -> list[bytes]:
        """Reset the state of the last connection; return the frames to send first."""
        return []

    def due(self, online: bool) -> float:
        """When to call `tick`."""
        return inf

    def tick(self, now: float, online: bool) -> list[bytes]:
        """Do periodic work; return the frames to send, which are ignored unless `online`."""
        return []

    def drain(self) -> None:
        """Stop making reports."""

    @abstractmethod
    def feed(self, data: bytes, datagram: bool) -> Sequence[FrameT]:
        """Split received bytes into frames."""

    @abstractmethod
    def process(self, frame: FrameT, now: float) -> list[bytes]:
        """Process a frame of the gateway; return the frames to send at once."""

    @abstractmethod
    def record(self, now: float, wake: int, movement: LockMovement | None) -> list[Entry]:
        """Make reports of the current state and of a movement."""

    @abstractmethod
    def fit(self, entries: Sequence[Entry]) -> int:
        """Return how many of the entries fit into the next frame."""

    @abstractmethod
    def pack(self, entries: Sequence[Entry], stored: bool) -> tuple[set[Hashable], bytes]:
        """Encode a frame of the entries; return the keys of its answers and the frame."""

    @abstractmethod
    def heartbeat(self) -> bytes:
        """Encode a heartbeat."""

    @abstractmethod
    def ask_time(self, first: bool) -> bytes:
        """Encode a time request, the first one or a later one."""

    @abstractmethod
    def report_dynamic_password(self, now: float) -> bytes:
        """Make a new dynamic password and report it."""
