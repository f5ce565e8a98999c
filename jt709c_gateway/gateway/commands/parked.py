"""The waiting commands of one device whose conditions did not hold when they were claimed last.

They are in the device's queue, and claims pass them over, so that they block no other command.
"""

from typing import Final

from attrs import define, field

from jt709c_gateway.gateway.sessions import Place, Session

#: Seconds after which conditions are checked again without a report: a named area may have changed.
RECHECK: Final = 60.0


@define(eq=False)
class ParkedCommands:
    """Tells which commands a claim passes over. Times are monotonic seconds."""

    #: When to check each again.
    _due: dict[str, float] = field(factory=dict, repr=False)
    #: What they were judged by: the session, and the position that it had.
    _session: Session | None = field(default=None, repr=False)
    _place: Place | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self._due)

    def __contains__(self, command_id: str) -> bool:
        return command_id in self._due

    def park(self, command_id: str, session: Session | None, now: float, wait: float | None) -> None:
        """Pass a command over from `now` on for `wait` seconds at most, and until the lock's next report."""
        self.release_outdated(session)
        self._session, self._place = session, None if session is None else session.place
        self._due[command_id] = now + (RECHECK if wait is None else max(0.0, min(wait, RECHECK)))

    def is_outdated(self, session: Session | None) -> bool:
        """Whether the lock has reported since the commands were judged, or has connected anew."""
        if not self._due:
            return False
        return session is None or session is not self._session or session.place is not self._place

    def release_outdated(self, session: Session | None) -> None:
        """Pass over no command that was judged by an earlier report."""
        if self.is_outdated(session):
            self._due.clear()

    def release_due(self, now: float) -> bool:
        """Pass over no command that is due; returns whether there was any."""
        due = [one for one, at in self._due.items() if at <= now]
        for one in due:
            del self._due[one]
        return bool(due)

    def passed_over(self, session: Session) -> list[str]:
        """The commands that a claim for this session passes over."""
        self.release_outdated(session)
        return list(self._due)

    def clear(self) -> None:
        """Pass over none: no command waits any more."""
        self._due.clear()
