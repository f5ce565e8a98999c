"""What is needed of a reactor to tell the time and to do things later."""

from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """IReactorTime, as a type; `twisted.internet.task.Clock` is one as well."""

    def seconds(self) -> float:
        """Seconds since some fixed moment."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        """Call it `delay` seconds from now."""
