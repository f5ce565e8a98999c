"""Dissects bytes into explanations: the entry point for all dialects."""

from contextlib import suppress
from datetime import datetime
from typing import Final

from attrs import define, field

from jt709c_gateway.dissector import jt701, sentence, splitter
from jt709c_gateway.dissector import jt808 as binary
from jt709c_gateway.dissector import secrets as hiding
from jt709c_gateway.dissector.fields import Explanation, Field, problems
from jt709c_gateway.dissector.header_fields import DOWN, Heading
from jt709c_gateway.dissector.reader import Ended, Reader, Wire
from jt709c_gateway.protocol import jt808
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import BinaryFrame, Framer
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.redact import mask_answer

_DISSECTORS: Final = {b"\x7e": binary.read, b"(": sentence.read, b"$": jt701.read}
_STARTS: Final = "expected 7e, a sentence or a $ header, found other bytes"


@define
class Explainer:
    """Explains one input after the other; parts of split messages may be spread over several.

    Passwords are hidden unless `secrets`.
    """

    secrets: bool = False
    _decoder: Decoder = field(factory=Decoder)

    def explain_all(self, data: bytes, now: datetime | None = None) -> list[Explanation]:
        """Dissect all frames in `data` and the bytes between them.

        `now`, in UTC, is for answers with the time; without it they are omitted.
        """
        return [self._piece(piece, now) for piece in splitter.cut(data)]

    def explain(self, frame: bytes, now: datetime | None = None) -> Explanation:
        """Dissect bytes as one frame, whatever they contain."""
        return self._piece(splitter.Piece(0, frame), now)

    def _piece(self, piece: splitter.Piece, now: datetime | None) -> Explanation:
        dissect = _DISSECTORS.get(piece.raw[:1])
        if dissect is None or piece.padding:
            return _between(piece, self.secrets)
        heading, fields = dissect(piece.raw, self.secrets, piece.hidden)
        explanation = _explanation(piece, heading, fields)
        if heading.direction != DOWN:
            self._decode(explanation, piece.raw, now)
        return explanation

    def _decode(self, explanation: Explanation, raw: bytes, now: datetime | None) -> None:
        """Add the gateway's decoding of the frame, if it is sent to the gateway."""
        frames = Framer().feed_datagram(raw)
        if len(frames) != 1 or frames[0].raw != raw:
            return
        # The time is constant, so that parts of a message don't expire while a file is read.
        message = self._decoder.decode(frames[0], now=0.0)
        if not isinstance(message, Message):
            return
        explanation.dialect, explanation.device = message.dialect, message.device
        explanation.imei = message.imei
        explanation.events = [kind for kind, _ in message.events]
        if message.time_answer is None:
            explanation.answer = self._shown(message.answer)
        elif now is not None:
            explanation.answer = self._shown(message.time_answer(now))
        if len(message.wire) > len(raw):
            explanation.whole = self._whole(message)
            explanation.broken = explanation.broken or any(problems(explanation.whole))

    def _shown(self, answer: bytes | None) -> str | None:
        if answer is None:
            return None
        return (answer if self.secrets else mask_answer(answer)).hex()

    def _whole(self, message: Message) -> list[Field]:
        """Dissect the reassembled body of a split message."""
        frames = [frame for frame in Framer().feed_datagram(message.wire) if isinstance(frame, BinaryFrame)]
        headers = [jt808.parse_header(frame.payload) for frame in frames]
        parts = zip(headers, frames, strict=True)
        body = b"".join(frame.payload[header.body_start :] for header, frame in parts)
        spans = hiding.spans(headers[0], body)
        hidden = frozenset(at for first, last in spans for at in range(first, last))
        reader = Reader(Wire.plain(body, self.secrets, hidden), 0, len(body))
        with suppress(Ended), reader.group("body", size=len(body)) as inner:
            binary.read_body(inner, headers[0].message_id, headers[0].attributes)
        return reader.fields


def explain(frame: bytes, secrets: bool = False, now: datetime | None = None) -> Explanation:
    """Dissect one frame, valid or broken. `now`, in UTC, is for an answer with the time."""
    return Explainer(secrets).explain(frame, now)


def explain_all(data: bytes, secrets: bool = False, now: datetime | None = None) -> list[Explanation]:
    """Dissect all frames in `data` and the bytes between them."""
    return Explainer(secrets).explain_all(data, now)


def _explanation(piece: splitter.Piece, heading: Heading, fields: list[Field]) -> Explanation:
    broken = any(problems(fields))
    return Explanation(
        piece.offset, heading.dialect, heading.title, heading.direction, heading.device, heading.imei, broken,
        fields,
    )  # fmt: skip


def _between(piece: splitter.Piece, secrets: bool) -> Explanation:
    """Dissect bytes that belong to no frame."""
    title = "padding" if piece.padding else "garbage"
    hidden = piece.hidden | hiding.in_run(piece.raw)
    reader = Reader(Wire.plain(piece.raw, secrets, hidden), 0, len(piece.raw))
    reader.rest(title, problem=None if piece.padding else _STARTS)
    return _explanation(piece, Heading(None, title), reader.fields)
