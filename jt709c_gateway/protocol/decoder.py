"""Decodes frames to messages: the entry point of the codec for all dialects."""

from typing import Final

from attrs import define, field

from jt709c_gateway.protocol import (
    jt701_messages,
    jt709,
    jt709x,
    jt808_messages,
    lock_event_item,
    pnn,
    redact,
    reply_values,
    sentences,
)
from jt709c_gateway.protocol.answers import answer_to, general_answer
from jt709c_gateway.protocol.dialects import JT701, JT709, SENTENCE
from jt709c_gateway.protocol.events import (
    KIND_HEARTBEAT,
    KIND_LOCATION,
    KIND_PASSWORD,
    KIND_REPLY,
    KIND_TIME_REQUEST,
    Heartbeat,
    Location,
    Password,
    Reply,
    TimeRequest,
)
from jt709c_gateway.protocol.framing import (
    MALFORMED_KEPT,
    BinaryFrame,
    DollarFrame,
    Frame,
    Malformed,
    SentenceFrame,
)
from jt709c_gateway.protocol.jt808 import (
    LOCATION,
    USUAL_HEADER,
    USUAL_LENGTH,
    FrameError,
    Header,
    identify,
    parse_header,
)
from jt709c_gateway.protocol.message import FIRST_YEAR, Message, VersionedMessage
from jt709c_gateway.protocol.reassembly import Reassembler

#: Offset of the year in a location body, two decimal digits, and the first valid year.
_YEAR_AT: Final = jt709.FIXED_LENGTH - 6
_FIRST_YEAR: Final = int(str(FIRST_YEAR % 100), 16)
_FIRMWARE_WORD: Final = ("BASE", "1")


@define
class Decoder:
    """Decodes the frames of one connection; holds the parts of split messages.

    With `secrets`, passwords stay readable in `raw`, and those in binary frames are in `secret`: for display
    at a terminal, never for publication. With
    `sentence_serial`, a sub-lock's report is answered by the serial of its sentence, not by the sub-lock's.
    """

    secrets: bool = False
    sentence_serial: bool = False
    parts: Reassembler = field(factory=Reassembler)

    def decode(self, frame: Frame, now: float) -> Message | Malformed | None:
        """Decode one frame to a Message; None for a part of a split message. `now` in seconds, monotonic."""
        if isinstance(frame, BinaryFrame):
            try:
                return _plain_location(frame) or self._any_binary(frame, now)
            except FrameError as error:
                return self._malformed(Malformed(error.reason, frame.raw))
        if isinstance(frame, SentenceFrame):
            return self._sentence(frame)
        if isinstance(frame, DollarFrame):
            return self._dollar(frame)
        return self._malformed(frame)

    def _malformed(self, frame: Malformed) -> Malformed:
        raw = frame.raw if self.secrets else redact.mask_malformed(frame.raw)
        return Malformed(frame.reason, raw[:MALFORMED_KEPT])

    def _any_binary(self, frame: BinaryFrame, now: float) -> Message | None:
        payload = frame.payload
        header = parse_header(payload)
        if header.packets and header.is_numbered:
            return self._part(header, frame, now)
        message = _begin(header, frame.raw)
        body = payload[header.body_start :]
        spans = jt808_messages.decode_body(message, header, body)
        if spans and self.secrets:
            message.secret = redact.passwords(body, spans)
        elif spans:
            start = header.body_start
            shifted = [(first + start, last + start) for first, last in spans]
            message.raw, message.raw_masked = redact.mask_spans(frame, shifted).hex(), True
        events = message.events
        message.is_position = (
            message.report and not message.stored and len(events) == 1 and events[0][0] == KIND_LOCATION
        )
        return message

    def _part(self, header: Header, frame: BinaryFrame, now: float) -> Message | None:
        """Hold a part until the message is complete; then answer every part."""
        parts = self.parts.add(header, frame, now)
        if parts is None:
            return None
        header.surplus = next((part.header.surplus for part in parts if part.header.surplus), 0)
        message = _begin(parts[0].header, b"".join(part.frame.raw for part in parts))
        bodies = [part.frame.payload[part.header.body_start :] for part in parts]
        whole = b"".join(bodies)
        spans = jt808_messages.decode_body(message, header, whole)
        if message.answer is not None:
            message.answer = b"".join(answer_to(part.header) or b"" for part in parts)
        if spans and self.secrets:
            message.secret = redact.passwords(whole, spans)
        elif spans:
            masked = []
            offset = 0
            for part, body in zip(parts, bodies, strict=True):
                start, end = part.header.body_start, part.header.body_start + len(body)
                moved = [(max(a - offset + start, start), min(b - offset + start, end)) for a, b in spans]
                masked.append(redact.mask_spans(part.frame, [span for span in moved if span[0] < span[1]]))
                offset += len(body)
            message.raw, message.raw_masked = b"".join(masked).hex(), True
        return message

    def _sentence(self, frame: SentenceFrame) -> Message | Malformed:
        # A truncated sub-lock report may contain a broken frame.
        safe = frame.raw if self.secrets else lock_event_item.mask(frame.raw)
        try:
            sentence = sentences.parse(safe)
        except sentences.SentenceError:
            return self._malformed(Malformed("sentence", frame.raw))
        raw, masked = (safe.decode("latin-1"), False) if self.secrets else sentences.mask(safe)
        message = VersionedMessage(
            SENTENCE if sentence.grouped else JT701,
            sentence.device,
            None,
            sentence.serial,
            raw,
            masked or safe != frame.raw,
            frame.raw,
            [],
        )
        message.sentence_version = sentence.version
        if not jt701_messages.read_sentence(message, sentence, self.sentence_serial):
            _read_sentence(message, sentence)
        return message

    def _dollar(self, frame: DollarFrame) -> Message:
        message = jt701_messages.dollar(frame.raw)
        # None of its own fields is a password, but it may be part of another, broken frame.
        safe = frame.raw if self.secrets else lock_event_item.mask(frame.raw)
        if safe != frame.raw:
            message.raw, message.raw_masked = safe.hex(), True
        return message


def _plain_location(frame: BinaryFrame) -> Message | None:
    """Decode a 0x0200 with the usual header and no lock event; None for every other frame.

    Nearly all frames of a fleet are such frames. The result equals that of the general path, without its
    checks for other cases.
    """
    payload = frame.payload
    message_id, attributes, wire, serial = USUAL_HEADER.unpack_from(payload)
    if message_id != LOCATION or attributes != len(payload) - USUAL_LENGTH:
        return None
    body = payload[USUAL_LENGTH:]
    if len(body) < jt709.FIXED_LENGTH or lock_event_item.ITEM in body:
        return None
    identity = identify(wire)
    location, _ = jt709.decode(body)
    imei = identity.imei
    if imei is None and type(location) is not Location:
        imei = jt709x.imei(body[jt709.FIXED_LENGTH :])
    raw = frame.raw
    is_dated = location.time is not None
    return Message(
        JT709,
        identity.device,
        imei,
        serial,
        raw.hex(),
        False,
        raw,
        [(KIND_LOCATION, location)],
        LOCATION,
        False,
        True,
        general_answer(identity, serial, LOCATION),
        None,
        identity.wire,
        None,
        None,
        not is_dated,
        # The result of `content_of`.
        [body if is_dated and body[_YEAR_AT] >= _FIRST_YEAR else b""],
        True,
    )


def _begin(header: Header, wire: bytes) -> Message:
    """Make the message from the header, with the answer that most ids get."""
    identity = header.identity
    return Message(
        JT709,
        identity.device,
        identity.imei,
        header.serial,
        wire.hex(),
        False,
        wire,
        [],
        header.message_id,
        False,
        False,
        answer_to(header),
        None,
        identity.wire,
    )


def _read_sentence(message: VersionedMessage, sentence: sentences.Sentence) -> None:
    starts = sentence.starts
    if sentence.grouped and starts[:3] == sentences.TIME_REQUEST:
        message.events.append((KIND_TIME_REQUEST, TimeRequest()))
        wire = message.wire
        message.time_answer = lambda now: sentences.time_answer(wire, now)
        return
    if sentence.grouped and starts[:2] == sentences.DYNAMIC_PASSWORD and len(starts) == 3 and starts[2]:
        message.events.append((KIND_PASSWORD, Password()))
        message.secret = sentence.arguments[1]
        return
    if sentence.word == pnn.HEARTBEAT:
        message.events.append((KIND_HEARTBEAT, Heartbeat()))
        return
    if sentence.grouped and starts[:2] == _FIRMWARE_WORD and len(starts) > 2:
        message.firmware = ",".join(sentence.arguments[1:]).strip() or None
    # From `raw`, so that the same bytes are masked here.
    word, *arguments = message.raw[1:-1].split(",")[-len(starts) :]
    reply = Reply(word, tuple(arguments))
    reply_values.read(message, reply, sentence.word, sentence.arguments)
    message.events.append((KIND_REPLY, reply))
