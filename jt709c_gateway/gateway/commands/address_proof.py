"""Decides which commands may be sent to a device's UDP address.

The source address of a datagram can be forged, and a command sent to it reaches the owner of that address.
Before a command that opens a lock or contains a password is sent over UDP, the gateway therefore sends a
harmless query (`address_query.py`): only its receiver can answer with the query's serial.
"""

from enum import StrEnum

from attrs import frozen

from jt709c_gateway.commands.profiles import CommandSpec
from jt709c_gateway.gateway.sessions import Session


class UdpCommands(StrEnum):
    """When commands that open a lock or contain a password are sent over UDP."""

    CONFIRMED = "confirmed"
    """To addresses that have answered a query."""
    ANY = "any"
    """To the source of the device's last datagram."""
    TCP = "tcp"
    """Never: such commands wait until the device connects over TCP."""


def needs_proof(spec: CommandSpec) -> bool:
    """Whether a command may only be sent to a proven address."""
    return spec.physical or spec.shows_password or bool(spec.secret_names)


@frozen
class AddressProof:
    """Decides which commands may be sent over UDP."""

    policy: UdpCommands = UdpCommands.CONFIRMED

    def trusts(self, session: Session) -> bool:
        """Whether commands that open a lock may be sent to this session's address."""
        if self.policy is UdpCommands.ANY or not session.connection.is_datagram:
            return True
        return self.policy is UdpCommands.CONFIRMED and session.address_proven

    def allows(self, session: Session, spec: CommandSpec) -> bool:
        """Whether this command may be sent to this session's address."""
        return self.trusts(session) or not needs_proof(spec)
