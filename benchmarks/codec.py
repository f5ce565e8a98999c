"""What the codec costs per frame, step by step, without network and Redis."""

import argparse
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from statistics import median
from typing import Any

from common import above_zero, positive, report, run
from frames import Reports, device_wire

from jt709c_gateway.protocol import events, jt709, jt808
from jt709c_gateway.protocol.answers import general_answer
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap
from jt709c_gateway.protocol.framing import BinaryFrame, Framer
from jt709c_gateway.protocol.message import Message

_GATEWAY = Origin("gw1", "tcp", "203.0.113.7:50112")
_ID = "gw1-01JD8ZQ5Y3K7M2QX00000A1B"


class Steps:
    """Each step with what the step before it gave, for a thousand different frames."""

    def __init__(self, locks: int) -> None:
        reports = Reports()
        self.wires = [reports.frame(device_wire(100_000_000_000 + index), index) for index in range(locks)]
        self.frames = [self._framed(wire) for wire in self.wires]
        self.headers = [jt808.parse_header(frame.payload) for frame in self.frames]
        self.bodies = [
            frame.payload[header.body_start :]
            for frame, header in zip(self.frames, self.headers, strict=True)
        ]
        self.messages = [self._decoded(frame) for frame in self.frames]
        self.now = datetime.now(UTC)
        self.events = [self._event(message) for message in self.messages]
        self.json_bytes = len(events.to_json(self.events[0]))
        self.fields = sum(value is not None for value in vars(self.messages[0].events[0][1]).values())

    @staticmethod
    def _framed(wire: bytes) -> BinaryFrame:
        (frame,) = Framer().feed(wire)
        assert isinstance(frame, BinaryFrame)
        return frame

    @staticmethod
    def _decoded(frame: BinaryFrame) -> Message:
        message = Decoder().decode(frame, 0.0)
        assert isinstance(message, Message)
        return message

    def _event(self, message: Message) -> events.Event:
        ((kind, data),) = message.events
        return wrap(message, kind, data, _GATEWAY, message.dialect, self.now, _ID)

    def all(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Names of the steps, each with a function that takes it once for every frame."""
        feed, decode = Framer().feed, Decoder().decode
        json, answer = events.to_json, general_answer

        def framing() -> None:
            for wire in self.wires:
                feed(wire)

        def header() -> None:
            for frame in self.frames:
                jt808.parse_header(frame.payload)

        def body() -> None:
            for one in self.bodies:
                jt709.decode(one)

        def answers() -> None:
            for one in self.headers:
                answer(one.identity, one.serial, one.message_id)

        def message() -> None:
            for frame in self.frames:
                decode(frame, 0.0)

        def envelope() -> None:
            for one in self.messages:
                self._event(one)

        def encoding() -> None:
            for one in self.events:
                json(one)

        def fingerprint() -> None:
            for wire in self.wires:
                blake2b(wire, digest_size=8).hexdigest()

        def whole() -> None:
            for wire in self.wires:
                for frame in feed(wire):
                    one = decode(frame, 0.0)
                    assert isinstance(one, Message)
                    json(self._event(one))

        yield "framing and check byte", framing
        yield "header", header
        yield "body", body
        yield "answer", answers
        yield "decode (header, body, answer, message)", message
        yield "envelope", envelope
        yield "event to JSON", encoding
        yield "fingerprint", fingerprint
        yield "whole (framing, decode, envelope, JSON)", whole


def _once(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    """Take every step in turn, again and again."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=above_zero, default=5.0, help="for all steps [%(default)s]")
    parser.add_argument("--frames", type=positive, default=1000, help="different frames [%(default)s]")
    options = parser.parse_args()
    steps = Steps(options.frames)
    print(f"{len(steps.wires[0])} bytes, {steps.fields} fields, {steps.json_bytes} bytes of JSON")
    taken: dict[str, list[float]] = {name: [] for name, _ in steps.all()}
    end = time.perf_counter() + options.seconds
    while not taken["header"] or time.perf_counter() < end:
        for name, step in steps.all():
            taken[name].append(_once(step) / len(steps.wires) * 1e6)
    results: dict[str, Any] = {}
    for name, values in taken.items():
        results[name] = round(median(values), 2)
        print(f"{name:<42}{results[name]:>8.2f} µs  (best {min(values):.2f}, {len(values)} repeats)")
    rate = round(1e6 / results["whole (framing, decode, envelope, JSON)"])
    print(f"{rate:,} frames/s on one core")
    report("codec", options, {"us": results, "frames_per_second": rate, "fields": steps.fields})


if __name__ == "__main__":
    run(main)
