"""Protocols and callbacks by which parts of the gateway call others that import them."""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from attrs import define

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.gateway_events import GatewayEvents
from jt709c_gateway.gateway.malformed import MalformedInput
from jt709c_gateway.gateway.policy import Moment, Policy
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.commit_router import Commits


class NoSession(StrEnum):
    """Why a message gets no session now."""

    QUERY = "query"
    """Whether its device is admitted has to be queried first."""
    WAIT = "wait"
    """It has to wait; its connection is resumed later."""
    CLOSED = "closed"
    """Its device is rejected, or there is no room: the link is closed, or the datagram dropped."""
    RATE = "rate"
    """Its device exceeds --max-rate: it is dropped."""
    SHARE = "share"
    """Its device exceeds --max-share: it is dropped."""
    NEW_DEVICES = "new_devices"
    """Its address exceeds --max-new-devices: it is dropped."""


class ConnectionGateway(Protocol):
    """The gateway, as a device connection sees it."""

    #: Set while stopping: frames are dropped unanswered, so that devices send them to another gateway.
    draining: bool

    @property
    def name(self) -> str:
        """Name of the gateway."""

    @property
    def policy(self) -> Policy:
        """Its limits."""

    @property
    def counters(self) -> Counters:
        """What it counts."""

    @property
    def committer(self) -> Commits:
        """Tells whether reading must pause."""

    @property
    def admission(self) -> Admission:
        """Answers queries whether a device is admitted."""

    @property
    def events(self) -> GatewayEvents:
        """Tells the time."""

    @property
    def malformed(self) -> MalformedInput:
        """Takes what could not be read."""

    def session_for(
        self, connection: SessionConnection, message: Message, moment: Moment, admitted: bool | None = None
    ) -> Session | NoSession:
        """The session for a message of a device that is new here, or has used up its budget."""

    def handle_message(self, session: Session, message: Message, moment: Moment) -> None:
        """Queue the message's events for commit; the answer is sent after the commit."""

    def handle_guest_message(self, guest: Session, message: Message, moment: Moment) -> None:
        """The same for a device whose session is not at this UDP address."""

    def dropped(self, reason: str) -> None:
        """Count a message, a connection or a datagram that was dropped."""

    def add_paused(self, connection: SessionConnection) -> None:
        """Resume this connection when the committer has room."""

    def session_superseded(self, session: Session) -> None:
        """End a session whose device has a newer one at another gateway."""

    def connection_closed(self, connection: SessionConnection, reason: str) -> None:
        """End all sessions of a closed connection."""


@define(eq=False)
class SessionCallbacks:
    """Callbacks for the begin, first report, IMEI and end of sessions; `daemon.connect` sets them."""

    online: Callable[[Session], None] = lambda session: None
    #: With the reason.
    offline: Callable[[Session, str], None] = lambda session, reason: None
    #: After the first report of the session is committed.
    reported: Callable[[Session], None] = lambda session: None
    #: After a device's IMEI is committed; with the device.
    named: Callable[[str], None] = lambda device: None
