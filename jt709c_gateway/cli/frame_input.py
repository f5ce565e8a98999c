"""Reads frames from text and decodes them, for `decode` and `explain`."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import click
from attrs import define, field
from msgspec import UNSET, UnsetType

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.commands.value_description import described
from jt709c_gateway.dissector import explain
from jt709c_gateway.protocol import redact
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.dialects import JT701, JT709, SENTENCE
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import KIND_REPLY, KIND_UNKNOWN, Event, to_json
from jt709c_gateway.protocol.framing import Frame, Framer, Malformed
from jt709c_gateway.protocol.hex_input import read_hex
from jt709c_gateway.protocol.message import Message

#: The minimum length of a frame. Arguments that are shorter or begin like no frame are pieces of one.
_SHORTEST_FRAME: Final = 5

#: Kinds of events of frames that locks may not have sent.
_UNCERTAIN: Final = frozenset([KIND_REPLY, KIND_UNKNOWN])
_NOT_FROM_A_LOCK: Final = "this goes to a lock, which has no frame like it; jt709c explain shows its fields"

_DIALECTS: Final = {b"\x7e": JT709, b"(": SENTENCE, b"$": JT701}

#: Explanations of the reasons of the codec, which are metric labels.
_REASONS: Final = {
    "escape": "7D is followed by something other than 01 or 02",
    "check": "the check byte doesn't fit the bytes",
    "length": "the length differs from what the header says",
    "terminal_id": "the terminal id is neither decimal digits nor an IMEI",
    "too_long": "no end where the longest frame would have ended",
    "sentence": "not a sentence of either form: (id,1,serial,GROUP,…) or (id,Pnn,…)",
    "dollar_header": "not a $ header: decimal id digits and a possible length",
    "garbage": "no frame starts with these bytes; expected 7e, 28 or 24",
    "truncated": "the end of the frame is missing",
}


@define(slots=False)
class Result:
    """The result for one frame; the fields have the order of the JSON.

    `frame` and `answer` are hex; `error` describes why the frame is malformed. `to_lock` says that it is a
    command or an answer to a lock; its events are what a gateway would make of it. `passwords` are what is
    masked elsewhere, or can't be seen in the events.
    """

    frame: str
    dialect: str | None
    events: list[Event]
    answer: str | None
    error: str | None = None
    to_lock: bool = False
    passwords: str | UnsetType = UNSET


def to_line(result: Result) -> bytes:
    """Format the result as a line of JSON."""
    return to_json(result) + b"\n"


@define
class FrameDecoder:
    """Decodes items of input; the parts of a split message may be spread over several items."""

    secrets: bool = False
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _decoder: Decoder = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._decoder = Decoder(self.secrets)

    def decode(self, data: bytes) -> list[Result]:
        """Decode every frame in `data`, in order; malformed input gives a result with an error."""
        return [self._result(frame) for frame in Framer().feed_datagram(data)]

    def _result(self, frame: Frame) -> Result:
        result = self._decoded(frame)
        if all(event.kind in _UNCERTAIN for event in result.events):
            result.to_lock = explain(frame.raw).direction == "down"
        if result.to_lock and result.error is not None:
            result.error = _NOT_FROM_A_LOCK
        return result

    def _decoded(self, frame: Frame) -> Result:
        # A constant time, so that parts of a message don't expire while a file is read.
        message = self._decoder.decode(frame, now=0.0)
        dialect = _DIALECTS.get(frame.raw[:1])
        if isinstance(message, Malformed):
            error = _REASONS.get(message.reason, message.reason)
            return Result(message.raw.hex(), dialect, [], None, error)
        if message is None:
            raw = frame.raw if self.secrets else redact.mask_malformed(frame.raw)
            return Result(raw.hex(), dialect, [], None)
        answer = message.answer_at(self.now())
        if answer is not None and not self.secrets:
            answer = redact.mask_answer(answer)
        result = Result(
            _raw_hex(message), message.dialect, wrap_all(message, Origin()), answer.hex() if answer else None
        )
        if self.secrets and message.secret:
            result.passwords = message.secret
        return result


def _raw_hex(message: Message) -> str:
    """Return the masked frame in hex, also of sentences, whose `raw` is text."""
    return message.raw.encode("latin-1").hex() if message.wire[:1] == b"(" else message.raw


def items(arguments: Sequence[str], path: str | None) -> Iterator[bytes]:
    """Parse the bytes to decode, from arguments or lines; raise UserError."""
    if path is not None and arguments:
        raise UserError("give hex or --file, not both")
    if list(arguments) == ["-"]:
        path = "-"
    if path is not None:
        return _lines(path)
    if not arguments:
        raise UserError("nothing to decode: give hex, or --file FILE, or - for standard input")
    return iter(_arguments(arguments))


def _arguments(arguments: Sequence[str]) -> list[bytes]:
    pieces = [to_bytes(argument, "") for argument in arguments]
    if all(len(piece) >= _SHORTEST_FRAME and piece[:1] in _DIALECTS for piece in pieces):
        return pieces
    return [b"".join(pieces)]


def to_bytes(text: str, where: str) -> bytes:
    """Parse hex with any usual separators, or a sentence."""
    try:
        return read_hex(text)
    except ValueError as error:
        # The input is not repeated: it may be a malformed sentence with a password.
        raise UserError(f"{where}{error}: {described(text.strip())}") from None


def _lines(path: str) -> Iterator[bytes]:
    name = "standard input" if path == "-" else path
    try:
        with click.open_file(path, "rb") as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8", "replace").strip()
                if text and not text.startswith("#"):
                    yield _line(text, f"{name}, line {number}: ")
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None


def _line(text: str, where: str) -> bytes:
    if not text.startswith("{"):
        return to_bytes(text, where)
    try:
        frame = json.loads(text).get("frame")
    except ValueError:
        raise UserError(f"{where}not JSON") from None
    if not isinstance(frame, str):
        raise UserError(f'{where}no "frame" with hex in this JSON')
    return to_bytes(frame, where)
