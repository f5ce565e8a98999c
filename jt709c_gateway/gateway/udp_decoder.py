"""Decodes datagrams and limits the size of answers, so that forged addresses give no amplification."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.framing import Frame, Malformed
from jt709c_gateway.protocol.message import Message

#: Longest answer, as a multiple of the message it answers.
_FACTOR: Final = 2


@define
class DatagramDecoder(Decoder):
    """Decodes datagrams, and removes answers that are too long for the message they answer.

    No byte of a datagram belongs to two frames, except a flag that two may share. All answers to a datagram
    together are therefore at most twice as long as it, and those to a split message as all its datagrams.
    `withheld` is called for each removed answer.
    """

    withheld: Callable[[], None] = lambda: None
    #: By device: its last reported position, and its arrival in monotonic seconds.
    places: dict[str, tuple[Location, float]] = field(factory=dict, repr=False)

    def decode(self, frame: Frame, now: float) -> Message | Malformed | None:
        """As `Decoder.decode`."""
        message = super().decode(frame, now)
        if isinstance(message, Message):
            if message.is_position:
                location: Any = message.events[0][1]
                self.places[message.device] = (location, now)
            # The first flag may be the end of the previous frame.
            limit = _FACTOR * (len(message.wire) - 1)
            if message.answer is not None and len(message.answer) > limit:
                message.answer = None
                self.withheld()
            if message.time_answer is not None:
                message.time_answer = self._limited(message.time_answer, limit)
        return message

    def _limited(
        self, make: Callable[[datetime], bytes | None], limit: int
    ) -> Callable[[datetime], bytes | None]:
        def answer(now: datetime) -> bytes | None:
            made = make(now)
            if made is None or len(made) <= limit:
                return made
            self.withheld()
            return None

        return answer
