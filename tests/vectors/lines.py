"""Vectors line by line: each line becomes a test of its own name.

`real.jsonl` and `field.jsonl` are frames that units sent, `jt709.jsonl` what the manufacturer's decoder reads
from frames, `cases.jsonl` inputs that other servers, or this one, once got wrong.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from attrs import frozen
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message

REAL: Final = "real.jsonl"
FIELD: Final = "field.jsonl"
VENDOR: Final = "jt709.jsonl"
CASES: Final = "cases.jsonl"
NOW: Final = datetime(2026, 3, 2, 3, 4, 5, tzinfo=UTC)
_NAMED_BY: Final = ("name", "note", "meaning", "text", "dialect")
_LONGEST_NAME: Final = 60

_Test = TypeVar("_Test", bound=type[SynchronousTestCase])


@frozen
class Line:
    """One line of a file, numbered from 1; `frame` is what was sent, empty where the line tells of steps."""

    file: str
    number: int
    name: str
    frame: bytes
    data: dict[str, Any]

    @property
    def binary(self) -> bool:
        """Whether it begins with a `7E` or `$` frame."""
        return self.frame[:1] in (b"\x7e", b"$")

    @property
    def expect(self) -> Any:
        """What is the right answer, where the line says so."""
        return self.data.get("expect", {})


def lines(file: str) -> list[Line]:
    """All lines of one file."""
    text = (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()
    return [_line(file, number, json.loads(each)) for number, each in enumerate(text, 1)]


def case(name: str) -> Line:
    """The one line of `cases.jsonl` whose name begins so."""
    (found,) = [line for line in lines(CASES) if line.data["name"].startswith(name)]
    return found


def sent(line: Line) -> list[bytes]:
    """What a case sends: its one input, or one after the other."""
    given = line.data["input"]
    return [line.frame] if isinstance(given, str) else [bytes.fromhex(each) for each in given["send"]]


def _line(file: str, number: int, data: dict[str, Any]) -> Line:
    given = data.get("frame", data.get("input"))
    frame = b""
    if isinstance(given, str):
        frame = given.encode() if given.startswith("(") else bytes.fromhex(given)
    said = next((data[key] for key in _NAMED_BY if key in data), None) or data["vendor"]["MsgType"]
    slug = re.sub(r"[^a-z0-9]+", "_", said.lower())[:_LONGEST_NAME].strip("_")
    return Line(file, number, f"{file.removesuffix('.jsonl')}_{number:03}_{slug}", frame, data)


def one_test_each(chosen: Iterable[Line]) -> Callable[[_Test], _Test]:
    """Give a TestCase a test for each line, carried out by its `check(line)`."""

    def add(test: _Test) -> _Test:
        for line in chosen:

            def run(self: Any, line: Line = line) -> None:
                self.check(line)

            run.__name__ = f"test_{line.name}"
            run.__qualname__ = f"{test.__qualname__}.{run.__name__}"
            run.__doc__ = f"Line {line.number} of {line.file}."
            setattr(test, run.__name__, run)
        return test

    return add


class line_test:
    """Make a method the test of one line of `cases.jsonl`, by the beginning of its name.

    The method gets the line; the test has the line's name.
    """

    def __init__(self, name: str) -> None:
        self.line = case(name)

    def __call__(self, method: Callable[[Any, Line], None]) -> Self:
        self.method = method
        return self

    def __set_name__(self, owner: type, name: str) -> None:
        """Put the test in the place of the method."""
        line, method = self.line, self.method

        def run(test: Any) -> None:
            method(test, line)

        run.__name__ = f"test_{line.name}"
        run.__qualname__ = f"{owner.__qualname__}.{run.__name__}"
        run.__doc__ = method.__doc__
        delattr(owner, name)
        setattr(owner, run.__name__, run)


def messages(data: bytes) -> list[Message]:
    """All messages in `data`, in which everything has to be sound."""
    decoder = Decoder()
    decoded = [decoder.decode(frame, 0.0) for frame in Framer().feed_datagram(data)]
    found = [one for one in decoded if isinstance(one, Message)]
    assert len(found) == len(decoded), decoded
    return found


def published(data: bytes) -> list[dict[str, Any]]:
    """What is published of `data`, as consumers read it, in order."""
    return [
        from_json(to_json(event))
        for message in messages(data)
        for event in wrap_all(message, Origin(), NOW, lambda: "1")
    ]


def check_expected(test: SynchronousTestCase, line: Line) -> None:
    """What comes of a line of `field.jsonl` holds all that its `expect` names."""
    expect, events = line.expect, published(line.frame)
    test.assertTrue(events)
    kinds = [event["kind"] for event in events]
    wanted = expect.get("kinds", [])
    optional = {kind.rstrip("?") for kind in wanted if kind.endswith("?")}
    if wanted:
        test.assertEqual(
            [kind for kind in kinds if kind not in optional],
            [kind for kind in wanted if not kind.endswith("?")],
        )
    test.assertNotIn("unknown", kinds)
    for kind in expect.get("no", ()):
        test.assertNotIn(kind, kinds)
    for field in ("device", "imei", "serial", "stored"):
        if field in expect:
            test.assertEqual(events[0][field], expect[field], field)
    for kind, fields in expect.get("data", {}).items():
        data = next(event["data"] for event in events if event["kind"] == kind)
        test.assertEqual({name: data.get(name, "absent") for name in fields}, fields)
    if "answer" in expect:
        answers = [message.answer_at(NOW) or b"" for message in messages(line.frame)]
        test.assertEqual(b"".join(answers), (expect["answer"] or "").encode())
    for secret in expect.get("hidden", ()):
        test.assertNotIn(secret, json.dumps(events))
