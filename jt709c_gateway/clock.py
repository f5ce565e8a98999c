"""What is needed of a reactor to tell the time and to do things later."""

from collections.abc import Callable
from typing import Any, Protocol


class DelayedCall(Protocol):
    """Something that will be called, unless cancelled."""

    def cancel(self) -> None:
        """Don't call it."""

    def active(self) -> bool:
        """Whether it is still to come."""


class Clock(Protocol):
    """IReactorTime, as a type; `twisted.internet.task.Clock` is one as well."""

    def seconds(self) -> float:
        """Seconds since some fixed moment."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        """Call it `delay` seconds from now."""
