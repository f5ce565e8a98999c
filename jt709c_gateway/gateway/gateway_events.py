"""Events of the gateway itself: `session` and `command`."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from attrs import define
from msgspec import UNSET

from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.envelope import VERSION
from jt709c_gateway.util.clock import Clock


@define(eq=False)
class GatewayEvents:
    """Makes the events of the gateway `name`, with ids and times as the events of devices have them."""

    name: str
    ids: EventIds
    clock: Clock
    wall: Callable[[], datetime]

    def moment(self) -> Moment:
        """The current time on all clocks; event ids made from now on contain it."""
        self.ids.tick()
        utc = self.wall()
        return Moment(self.clock.seconds(), utc, events.time_text(utc), utc.timestamp())

    def encode(self, device: str, kind: str, data: events.EventData, session: Session | None = None) -> str:
        """An event as JSON; `session` is the device's, if it has one."""
        transport: Literal["tcp", "udp"] | Any = None if session is None else session.origin.transport
        event = events.Event(
            VERSION,
            self.ids(),
            kind,
            device,
            None if session is None else session.imei,
            None if session is None else session.dialect_or_guess(None),
            None,
            False,
            self.wall(),
            None if session is None else session.clock.skew_s,
            self.name,
            transport,
            None if session is None else session.origin.peer,
            None,
            UNSET,
            data,
        )
        return events.to_text(event)
