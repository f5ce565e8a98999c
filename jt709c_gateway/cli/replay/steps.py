"""The steps of a capture: bytes of connections, in the order of the capture."""

from attrs import define, frozen


class CaptureError(ValueError):
    """A capture is malformed; the message has the position."""


@frozen
class Chunk:
    """Bytes that a lock sent in one piece; with UDP, a datagram.

    `at` is in seconds from any beginning; None is right behind the step before. `connection` is a name that
    no other connection of the capture has. `transport` is `tcp` or `udp` as captured, None where nothing
    says so.
    """

    connection: str
    data: bytes
    at: float | None = None
    transport: str | None = None


@frozen
class End:
    """The end of a connection."""

    connection: str
    at: float | None = None


Step = Chunk | End


@define
class LeftOut:
    """Counts omitted data by reason, and gaps in the replayed data."""

    #: Frames whose passwords the gateway masked, and which therefore can't be restored.
    masked: int = 0
    #: Packets that can't be decoded.
    unreadable: int = 0
    #: Fragments of IP packets, which are not reassembled.
    fragments: int = 0
    #: Places where bytes of a TCP stream are missing.
    gaps: int = 0

    def describe(self) -> str:
        """Describe what was left out; empty if nothing was."""
        parts = (
            (self.masked, "frames with masked passwords left out"),
            (self.unreadable, "packets left out that can't be read"),
            (self.fragments, "IP fragments left out"),
            (self.gaps, "gaps in TCP streams"),
        )
        return ", ".join(f"{count} {what}" for count, what in parts if count)
