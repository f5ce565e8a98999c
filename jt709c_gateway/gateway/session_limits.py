"""Chooses the session to evict when there are too many; forged ids do not displace real devices."""

from itertools import islice
from typing import Final

from attrs import define, field

from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.transport.tcp import address_key

#: Sessions that are compared to find the one that was silent longest.
_SAMPLE: Final = 16


def address_of(session: Session) -> str:
    """The address a session is counted under: its host, or the /64 network of an IPv6 address."""
    return address_key((session.origin.peer or "").rpartition(":")[0].strip("[]"))


@define(eq=False)
class SessionLimits:
    """Counts sessions by connection and by address, and chooses which one is evicted.

    Each connection and each address has a number of guaranteed sessions. Further ones exist while there is
    room.
    """

    per_link: int = 8
    per_address: int = 20_000
    #: Connections above their limit, by number of sessions.
    _links: dict[int, dict[SessionConnection, None]] = field(factory=dict, repr=False)
    _addresses: dict[str, dict[Session, None]] = field(factory=dict, repr=False)
    #: Addresses above their limit.
    _crowded: dict[str, None] = field(factory=dict, repr=False)

    def enter(self, session: Session) -> None:
        """Count a session that begins."""
        self._count(session.connection, 1)
        address = address_of(session)
        there = self._addresses.setdefault(address, {})
        there[session] = None
        if len(there) > self.per_address:
            self._crowded[address] = None

    def leave(self, session: Session) -> None:
        """Count a session that ends."""
        self._count(session.connection, -1)
        address = address_of(session)
        there = self._addresses[address]
        del there[session]
        if len(there) <= self.per_address:
            self._crowded.pop(address, None)
        if not there:
            del self._addresses[address]

    def _count(self, link: SessionConnection, change: int) -> None:
        before, link.locks = link.locks, link.locks + change
        if before > self.per_link:
            del self._links[before][link]
            if not self._links[before]:
                del self._links[before]
        if link.locks > self.per_link:
            self._links.setdefault(link.locks, {})[link] = None

    def first_to_go(self) -> Session | None:
        """The session to evict, or None when no connection or address is above its limit.

        It belongs to the connection furthest above its limit, else to such an address. Of a sample of old
        sessions, it is the one that was silent longest.
        """
        if self._links:
            link = next(iter(self._links[max(self._links)]))
            by_device = link.sessions
            found = [by_device.pop(device) for device in list(islice(by_device, _SAMPLE))]
            # Move the sample to the end, so that the others are compared next.
            by_device.update((session.device, session) for session in found)
            return min(found, key=_last_heard, default=None)
        if self._crowded:
            there = self._addresses[max(self._crowded, key=lambda address: len(self._addresses[address]))]
            some = list(islice(there, _SAMPLE))
            for session in some:
                del there[session]
                there[session] = None
            return min(some, key=_last_heard)
        return None


def _last_heard(session: Session) -> float:
    return session.last_heard
