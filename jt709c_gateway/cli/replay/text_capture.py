"""Reads captures of text: hex, sentences, or JSON of `decode --jsonl` and `watch --json`."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import IO, Any, Final

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.frame_input import to_bytes
from jt709c_gateway.cli.replay.steps import CaptureError, Chunk, End, LeftOut, Step
from jt709c_gateway.cli.time_format import parse

#: Maximum length of a line in bytes: a whole split message in hex within the JSON of an event.
_LONGEST: Final = 1 << 20
_HEAD: Final = re.compile(
    r"(?:(?P<moment>\d{4}-\d\d-\d\dT\S+)\s+|(?P<epoch>\d{1,12}\.\d+)\s+|\+(?P<later>\d{1,9}(?:\.\d+)?)\s+)?"
    r"(?:(?P<label>\S+):\s+)?"
)
#: Devices whose last connection is remembered.
_DEVICES: Final = 20_000
#: The connection of lines without a name.
_UNNAMED: Final = "-"


def read(file: IO[bytes], name: str, left_out: LeftOut) -> Iterator[Step]:
    """Yield the steps of lines; raise CaptureError with the number of an invalid line.

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
    """Parses lines; remembers the time of the previous line and the frame of the previous event.

    Steps get seconds since the first line: what is written before the first date has no other time.
    """

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._at = 0.0
        #: The epoch second of the first line, once a line has a date.
        self._origin: float | None = None
        self._last: tuple[Any, ...] | None = None
        self._of_device: OrderedDict[str, str] = OrderedDict()

    def steps(self, text: str) -> Iterator[Step]:
        """Parse a line; raise CaptureError or UserError without the position."""
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

    def _time(self, head: re.Match[str]) -> float:
        if head["later"] is not None:
            return self._at + float(head["later"])
        if head["epoch"] is not None:
            return self._since_first(float(head["epoch"]))
        return self._at if head["moment"] is None else self._since_first(_moment(head["moment"]))

    def _since_first(self, epoch: float) -> float:
        if self._origin is None:
            # The first line with a date follows the line before it without a pause.
            self._origin = epoch - self._at
        return epoch - self._origin

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
        """Return the steps of a published event; several events of one frame give one step."""
        connection = f"{event.get('gateway')} {event.get('peer') or event.get('device')}"
        self._at = self._since_first(_moment(event["received_at"]))
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
                    yield Chunk(connection, _raw(raw), self._at, known)
        elif event["kind"] == "session" and isinstance(data, dict):
            yield from self._session(connection, str(event.get("device")), data.get("state"))

    def _session(self, connection: str, device: str, state: Any) -> Iterator[Step]:
        """Return the end of a connection: this one, or for `replaced` the lock's previous one."""
        if state == "offline":
            yield End(connection, self._at)
        elif state == "replaced" and self._of_device.get(device, connection) != connection:
            yield End(self._of_device[device], self._at)
        self._of_device[device] = connection
        self._of_device.move_to_end(device)
        if len(self._of_device) > _DEVICES:
            self._of_device.popitem(last=False)


def _raw(text: str) -> bytes:
    """Return the bytes of the `raw` of an event: hex, or a sentence in latin-1."""
    if not text.startswith("("):
        return to_bytes(text, "raw: ")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise CaptureError("raw: a sentence with characters that are no bytes") from None


def _moment(text: Any) -> float:
    moment = parse(text)
    if moment is None:
        raise CaptureError(f"{text!r} is not a time; expected one such as 2026-11-22T10:15:00.123Z")
    return moment.timestamp()
