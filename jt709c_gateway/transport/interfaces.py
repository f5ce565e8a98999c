"""Interfaces between the transports and the handler of their frames."""

from typing import Final, Protocol

from jt709c_gateway.protocol.framing import Frame

#: The reason for closing when the gateway shuts down.
SHUTDOWN: Final = "shutdown"


def peer_name(host: str, port: int) -> str:
    """Format `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Link(Protocol):
    """A connection to one peer: a TCP connection, or a UDP address."""

    @property
    def transport_name(self) -> str:
        """`tcp` or `udp`."""

    @property
    def peer(self) -> str:
        """`host:port`; final when the first frames are received."""

    def send(self, data: bytes) -> bool:
        """Write bytes; return False when the link is closed and nothing was written."""

    def close(self, reason: str) -> None:
        """Close the link; `reason` is a short word for logs and metrics."""

    def hasten(self, urgent: bool) -> None:
        """Count a reason to read at once what comes, or one that has gone."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Resume reading."""


class ConnectionHandler(Protocol):
    """The handler's side of one link."""

    def received(self, frames: list[Frame]) -> None:
        """Process frames in the order of their bytes. Never raises."""

    def skipped(self, count: int) -> None:
        """Count bytes that belonged to no frame."""

    def closed(self, reason: str) -> None:
        """Handle the end of the link."""


class Handler(Protocol):
    """Creates the handlers for TCP and UDP links."""

    def open(self, link: Link) -> ConnectionHandler:
        """Return the handler for a new link."""

    def dropped(self, reason: str) -> None:
        """Count a connection or datagram that was rejected before it had a handler."""
