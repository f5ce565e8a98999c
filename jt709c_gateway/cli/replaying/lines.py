"""Captures as text: hex, sentences, or JSON as `decode --jsonl` and `watch --json` print it."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any, Final

from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.frames import to_bytes
from jt709c_gateway.cli.moments import parse
from jt709c_gateway.cli.replaying.steps import CaptureError, Chunk, End, LeftOut, Step

#: The longest line, bytes: a whole split message in hex, and an event's JSON around it.
_LONGEST: Final = 1 << 20
_HEAD: Final = re.compile(
    r"(?:(?P<moment>\d{4}-\d\d-\d\dT\S+)\s+|(?P<epoch>\d{1,12}\.\d+)\s+|\+(?P<later>\d{1,9}(?:\.\d+)?)\s+)?"
    r"(?:(?P<label>\S+):\s+)?"
)
#: The connection of lines that name none.
_UNNAMED: Final = "-"


def read(file: IO[bytes], name: str, left_out: LeftOut) -> Iterator[Step]:
    """The steps of a file of lines; CaptureError, with the line's number, for one that is none.

    A line is `[TIME] [CONNECTION:] FRAMES`, or JSON with `frame`, or an event. A TIME is RFC 3339, epoch
    seconds with a fraction, or `+1.5` for seconds after the line before.
    """
    reader = _Lines(left_out)
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
        where = f"{name}, line {number}: "
        if len(line) > _LONGEST:
            raise CaptureError(f"{where}longer than {_LONGEST} bytes; is this a text file?")
        text = line.decode("utf-8", "replace").strip()
        if text and not text.startswith("#"):
            try:
                yield from reader.steps(text)
            except (CaptureError, UserError) as error:
                raise CaptureError(f"{where}{error}") from None


class _Lines:
    """Knows the time of the line before, and the frame that the event before was made of."""

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._at: float | None = None
        self._last: tuple[Any, ...] | None = None

    def steps(self, text: str) -> Iterator[Step]:
        """What a line says; CaptureError or UserError, without the place, when that is nothing."""
        if text.startswith("{"):
            yield from self._json(text)
            return
        head = _HEAD.match(text)
        assert head is not None, "an empty head fits, too"
        at = self._time(head)
        data = to_bytes(text[head.end() :], "")
        if not data:
            raise CaptureError("no frame; expected [TIME] [CONNECTION:] HEX")
        self._at = at
        yield Chunk(head["label"] or _UNNAMED, data, at)

    def _time(self, head: re.Match[str]) -> float | None:
        if head["later"] is not None:
            return (self._at or 0.0) + float(head["later"])
        if head["epoch"] is not None:
            return float(head["epoch"])
        return self._at if head["moment"] is None else _moment(head["moment"])

    def _json(self, text: str) -> Iterator[Step]:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            raise CaptureError("not JSON") from None
        if isinstance(line.get("frame"), str):
            yield Chunk(_UNNAMED, to_bytes(line["frame"], ""), self._at)
        elif "kind" in line and "received_at" in line:
            yield from self._event(line)
        else:
            raise CaptureError('neither "frame" with hex nor an event in this JSON')

    def _event(self, event: dict[str, Any]) -> Iterator[Step]:
        """An event as published: its frame, once for all events that were made of it."""
        connection = f"{event.get('gateway')} {event.get('peer') or event.get('device')}"
        self._at = _moment(event["received_at"])
        raw, data = event.get("raw"), event.get("data")
        if isinstance(raw, str):
            same = (connection, event["received_at"], event.get("serial"), raw)
            if same != self._last:
                self._last = same
                if event.get("raw_masked"):
                    self._left_out.masked += 1
                else:
                    transport = event.get("transport")
                    known = transport if transport in ("tcp", "udp") else None
                    yield Chunk(connection, to_bytes(raw, "raw: "), self._at, known)
        elif event["kind"] == "session" and isinstance(data, dict) and data.get("state") != "online":
            yield End(connection, self._at)


def _moment(text: Any) -> float:
    moment = parse(text)
    if moment is None:
        raise CaptureError(f"{text!r} is no time; expected one such as 2026-11-22T10:15:00.123Z")
    return moment.timestamp()
