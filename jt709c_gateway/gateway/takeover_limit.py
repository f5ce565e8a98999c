"""Limits how often two devices with the same id replace each other's session."""

from collections.abc import Callable
from typing import Final

from attrs import define, field
from twisted.logger import Logger

#: Takeovers of one device in one burst, and seconds after which another is allowed.
_AT_ONCE: Final = 10.0
_EVERY: Final = 2.0
#: Devices whose takeovers or warnings are remembered; the oldest are forgotten first.
_MAX_DEVICES: Final = 10_000


@define
class TakeoverLimiter:
    """Counts takeovers per device and limits their rate."""

    log = Logger()

    #: By device: takeovers left, and when they were counted.
    _lately: dict[str, tuple[float, float]] = field(factory=dict, init=False, repr=False)
    _warned: dict[str, None] = field(factory=dict, init=False, repr=False)
    #: By device: its peer here, until the one at the other gateway is known.
    _elsewhere: dict[str, str] = field(factory=dict, init=False, repr=False)

    def may_take_over(self, device: str, now: float) -> bool:
        """Whether a newer session of a device may replace the older one now."""
        return self._left(device, now) >= 1

    def record(self, device: str, now: float) -> None:
        """Count a takeover, here or at another gateway."""
        left = self._left(device, now) - 1
        self._lately.pop(device, None)
        if len(self._lately) >= _MAX_DEVICES:
            del self._lately[next(iter(self._lately))]
        self._lately[device] = (left, now)

    def _left(self, device: str, now: float) -> float:
        left, since = self._lately.get(device, (_AT_ONCE, now))
        return min(_AT_ONCE, left + (now - since) / _EVERY)

    def warn_once(self, device: str, first: str | None, second: str) -> None:
        """Log, once per device, that it alternates between two peers.

        `first` is None if its session is at another gateway: `take_elsewhere` returns such devices.
        """
        if device in self._warned:
            return
        if len(self._warned) >= _MAX_DEVICES:
            del self._warned[next(iter(self._warned))]
        self._warned[device] = None
        if first is None:
            self._elsewhere[device] = second
        else:
            self.warn(device, first, second)

    def warn(self, device: str, first: str, second: str) -> None:
        """Log that a device alternates between two peers."""
        self.log.warn(
            "two locks seem to have the id {device}: {first} and {second} take turns in ending each other's "
            "session; from now on not more often than every {every:g} s",
            device=device,
            first=first,
            second=second,
            every=_EVERY,
        )

    def take_elsewhere(self, chosen: Callable[[str], bool]) -> dict[str, str]:
        """Return and forget the `chosen` of the devices that are yet to be logged, with their peers here."""
        taken = {device: peer for device, peer in self._elsewhere.items() if chosen(device)}
        for device in taken:
            del self._elsewhere[device]
        return taken
