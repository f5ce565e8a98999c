"""What a transport and whoever handles its frames need of each other."""

from typing import Final, Protocol

from jt709c_gateway.protocol.framing import Frame

#: The reason given when the gateway itself leaves.
SHUTDOWN: Final = "shutdown"


def peer_name(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Link(Protocol):
    """A way to one peer: a TCP connection, or a UDP address. No socket shows."""

    @property
    def transport_name(self) -> str:
        """`tcp` or `udp`."""

    @property
    def peer(self) -> str:
        """`host:port`; final when the first frames are received."""

    def send(self, data: bytes) -> bool:
        """Hand bytes to the network; False when the link is gone and nothing was written."""

    def close(self, reason: str) -> None:
        """End the link; `reason` is a short word for logs and metrics."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Go on reading."""


class ConnectionHandler(Protocol):
    """The handler's side of one link."""

    def received(self, frames: list[Frame]) -> None:
        """Take frames in the order of their bytes. Never raises."""

    def skipped(self, count: int) -> None:
        """So many bytes belonged to no frame."""

    def closed(self, reason: str) -> None:
        """The link is gone."""


class Handler(Protocol):
    """Where TCP and UDP meet."""

    def open(self, link: Link) -> ConnectionHandler:
        """A peer is there."""

    def dropped(self, reason: str) -> None:
        """A connection or datagram was turned away before it came to a connection."""
