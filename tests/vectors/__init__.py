"""Recorded frames, and frames made by hand."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jt709c_gateway.protocol import jt709, jt808
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Frame, Framer, Malformed
from jt709c_gateway.protocol.message import Message

DEVICE = bytes.fromhex("794308010679")
MOMENT = datetime(2025, 11, 18, 11, 26, 11, tzinfo=UTC)


def load(name: str) -> list[dict[str, Any]]:
    """The vectors of one file, each frame as bytes."""
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    vectors = [json.loads(line) for line in lines]
    for vector in vectors:
        vector["frame"] = bytes.fromhex(vector["frame"])
    return vectors


def binary(message_id: int, body: bytes = b"", serial: int = 1, wire: bytes = DEVICE) -> bytes:
    """A sound `7E` frame."""
    return jt808.encode(message_id, wire, serial, body)


def part(message_id: int, body: bytes, serial: int, packets: int, packet: int) -> bytes:
    """One part of a split message."""
    head = message_id.to_bytes(2, "big") + (len(body) | jt808.BIT_SPLIT).to_bytes(2, "big") + DEVICE
    numbers = b"".join(number.to_bytes(2, "big") for number in (serial, packets, packet))
    return jt808.pack(head + numbers + body)


def location(items: bytes = b"", **changes: Any) -> bytes:
    """A location body with raw item bytes behind it."""
    fields: dict[str, Any] = {
        "alarm_bits": 0,
        "status": jt709.STATUS_FIX,
        "latitude": -25.269608,
        "longitude": -57.602956,
        "altitude_m": 92,
        "speed_kmh": 1.8,
        "course_deg": 0,
        "time": MOMENT,
        "items": {},
    }
    return jt709.encode(**(fields | changes)) + items


def frames_of(data: bytes) -> list[Frame]:
    """What a fresh framer makes of one chunk."""
    return Framer().feed(data)


def decode(data: bytes, decoder: Decoder | None = None) -> Message | Malformed | None:
    """The one frame in `data`, decoded."""
    (frame,) = Framer().feed_datagram(data)
    return (decoder or Decoder()).decode(frame, 0.0)


def message(data: bytes, decoder: Decoder | None = None) -> Message:
    """The message in `data`, which has to be sound."""
    decoded = decode(data, decoder)
    assert isinstance(decoded, Message), decoded
    return decoded


def fact(data: bytes) -> Any:
    """The only event of the message in `data`."""
    ((_, found),) = message(data).events
    return found
