"""Splits long work into short slices, so that it delays no device."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.util.clock import Clock

_Item = TypeVar("_Item")
#: Items processed at once; the rest follows in slices of 10 ms.
_AT_ONCE: Final = 100


class TimeSlicer:
    """Processes items one after the other, and lets the reactor run between slices."""

    log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._cooperator = task.Cooperator(scheduler=partial(clock.callLater, 0))
        #: Number of calls of `run` that are not complete.
        self.running = 0

    def run(
        self,
        items: Iterable[_Item],
        each: Callable[[_Item], Any],
        pause: Callable[[], "defer.Deferred[Any] | None"] = lambda: None,
    ) -> None:
        """Call `each` with every item: with the first hundred at once, with the others in slices.

        A Deferred that `pause` returns is awaited before the next item.
        """
        rest = iter(items)
        for _, item in zip(range(_AT_ONCE), rest, strict=False):
            self._call(each, item)
        if (following := next(rest, None)) is None:
            return
        self.running += 1
        done = self._cooperator.cooperate(self._steps(following, rest, each, pause)).whenDone()
        done.addErrback(lambda failure: self.log.failure("sliced work failed", failure))
        done.addCallback(self._done)

    def _done(self, _: object) -> None:
        self.running -= 1

    def _steps(
        self,
        first: _Item,
        rest: Iterator[_Item],
        each: Callable[[_Item], Any],
        pause: Callable[[], "defer.Deferred[Any] | None"],
    ) -> Iterator[Any]:
        self._call(each, first)
        for item in rest:
            yield pause()
            self._call(each, item)

    def _call(self, each: Callable[[_Item], Any], item: _Item) -> None:
        try:
            each(item)
        except Exception:
            self.log.failure("a step of sliced work failed")
