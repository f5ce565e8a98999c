"""Frames that a connection has received and cannot process yet."""

from attrs import define, field

from jt709c_gateway.protocol.framing import Frame
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.transport.interfaces import Link


@define(eq=False)
class PendingFrames:
    """Keeps frames of a link, at most one read's worth, and pauses reading until they are processed."""

    _link: Link
    frames: list[Frame] = field(factory=list)
    #: The message before them, if it awaits admission or its rate limit.
    message: Message | None = None
    _paused: bool = False

    def hold(self, frames: list[Frame], message: Message | None = None) -> bool:
        """Keep these and stop reading; returns whether reading has gone on until now."""
        self.frames, self.message = frames, message
        if self._paused:
            return False
        self._paused = True
        self._link.pause()
        return True

    def take(self) -> tuple[Message | None, list[Frame]]:
        """Keep nothing any more; returns what was kept."""
        message, frames = self.message, self.frames
        self.message, self.frames = None, []
        return message, frames

    def resume_if_empty(self) -> None:
        """Read on, unless something is kept again."""
        if not self.frames and self.message is None:
            self._paused = False
            self._link.resume()
