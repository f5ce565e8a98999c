"""Events of the gateway itself: `session` and `command`."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from attrs import define, field
from msgspec import UNSET

from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.event_labels import labelled
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
    #: What labels add to events, by device; empty without --labels-in-events.
    labels: dict[str, str] = field(factory=dict, repr=False)
    #: Seconds for which a moment is current.
    moment_length: float = 0.0
    _moment: Moment | None = field(default=None, init=False, repr=False)

    def moment(self) -> Moment:
        """The current time on all clocks, to `moment_length`; event ids made from now on contain it."""
        now, last = self.clock.seconds(), self._moment
        if last is not None and now - last.now < self.moment_length:
            return last
        self.ids.tick()
        utc = self.wall()
        self._moment = moment = Moment(now, utc, events.time_text(utc), utc.timestamp())
        return moment

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
        text, label = events.to_text(event), self.labels.get(device)
        return labelled(text, label) if label else text
