"""Answers over UDP that can't be turned against others: its senders' addresses are anybody's claim."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.framing import Frame, Malformed
from jt709c_gateway.protocol.message import Message

#: How much longer than what it answers an answer may be.
_FACTOR: Final = 2


@define
class DatagramDecoder(Decoder):
    """Decodes what came over UDP, and takes away the answer that is too long for what it answers.

    As no byte of a datagram belongs to two frames, but for a flag that two may share, all that a datagram
    causes is at most twice as long as itself; for a split message, as all the datagrams that it came in.
    `withheld` is called for an answer that is taken away.
    """

    withheld: Callable[[], None] = lambda: None
    #: By device: where it was when it last said so, and when that was heard (monotonic seconds).
    places: dict[str, tuple[Location, float]] = field(factory=dict, repr=False)

    def decode(self, frame: Frame, now: float) -> Message | Malformed | None:
        """As `Decoder.decode`."""
        message = super().decode(frame, now)
        if isinstance(message, Message):
            if message.is_position:
                location: Any = message.facts[0][1]
                self.places[message.device] = (location, now)
            # The flag in front may be the end of the frame before.
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
