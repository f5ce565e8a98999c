"""Closes connections and ends sessions of devices that have been silent for too long."""

from itertools import islice
from typing import Final

from attrs import define, field

from jt709c_gateway.gateway.gateway_events import GatewayEvents
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.gateway.session_lifecycle import SessionLifecycle
from jt709c_gateway.gateway.sessions import SessionConnection
from jt709c_gateway.util.clock import Clock

#: Silent sessions of one connection that one check ends.
_ENDED_AT_ONCE: Final = 500


@define(eq=False)
class IdleTimeout:
    """Applies `Policy.idle_timeout`, and `Policy.first_frame_timeout` before a connection has a session."""

    policy: Policy
    clock: Clock
    events: GatewayEvents = field(repr=False)
    lifecycle: SessionLifecycle = field(repr=False)

    def check(self, connection: SessionConnection) -> None:
        """Close a connection that is idle, or end the silent sessions of one that several devices share."""
        policy, now = self.policy, self.clock.seconds()
        limit = policy.idle_timeout
        if not connection.is_open:
            return
        if now - connection.last_received > limit:
            connection.link.close("idle")
        elif not connection.sessions and now - connection.opened > policy.first_frame_timeout:
            connection.link.close("admission" if connection.asking else "no_frame")
        elif connection.locks > 1:
            # Other devices use the same connection; only this one is silent.
            moment = self.events.moment()
            silent = (one for one in connection.sessions.values() if now - one.last_heard > limit)
            for session in list(islice(silent, _ENDED_AT_ONCE)):
                self.lifecycle.end_session(session, "idle", moment)
