"""Connected devices: one session per device, the newest connection wins (docs/fencing.rst)."""

from typing import Any

from attrs import define, field

from jt709c_gateway.gateway.session_limits import SessionLimits
from jt709c_gateway.gateway.sessions import Session


@define
class SessionTable:
    """Sessions by device, at most `limit`; `room` tells which one is evicted first."""

    limit: int
    room: SessionLimits = field(factory=SessionLimits)
    _by_device: dict[str, Session] = field(factory=dict)
    _by_imei: dict[str, str] = field(factory=dict)

    def __len__(self) -> int:
        return len(self._by_device)

    def __iter__(self) -> Any:
        return iter(list(self._by_device.values()))

    def __contains__(self, device: str) -> bool:
        return device in self._by_device

    def get(self, device: str) -> Session | None:
        """The session of a device, by its id or IMEI."""
        return self._by_device.get(device) or self._by_device.get(self._by_imei.get(device, ""))

    @property
    def full(self) -> bool:
        """Whether there is no room for another device."""
        return len(self._by_device) >= self.limit

    def put(self, session: Session) -> Session | None:
        """Register a session; returns the one that it replaces."""
        before = self._by_device.get(session.device)
        if before is not None:
            self.room.leave(before)
        self.room.enter(session)
        self._by_device[session.device] = session
        if before is not None and session.imei is None:
            session.imei = before.imei
        if session.imei:
            self._by_imei[session.imei] = session.device
        return before

    def set_imei(self, session: Session, imei: str) -> None:
        """Set the IMEI that a device has reported."""
        if session.imei and self._by_imei.get(session.imei) == session.device:
            del self._by_imei[session.imei]
        session.imei = imei
        if self._by_device.get(session.device) is session:
            self._by_imei[imei] = session.device

    def remove(self, session: Session) -> bool:
        """Remove this session; False when another one has replaced it."""
        if self._by_device.get(session.device) is not session:
            return False
        del self._by_device[session.device]
        self.room.leave(session)
        if session.imei and self._by_imei.get(session.imei) == session.device:
            del self._by_imei[session.imei]
        return True
