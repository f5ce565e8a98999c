"""Sentences, grouped and `Pnn`, up and down (docs/protocol.rst §2, §3)."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import UNSET

from jt709c_gateway.dissector import escapes, formatting, sentence_terms, sublock
from jt709c_gateway.dissector import secrets as hiding
from jt709c_gateway.dissector.fields import Field
from jt709c_gateway.dissector.header_fields import DOWN, UP, Heading
from jt709c_gateway.dissector.reader import Reader, Wire
from jt709c_gateway.protocol import jt701_messages, pnn, sentences
from jt709c_gateway.protocol.bcd import time_dmy
from jt709c_gateway.protocol.dialects import JT701, SENTENCE
from jt709c_gateway.protocol.sublock_end import MAX_SENTENCE

#: A `Pnn` sentence to a lock: it has no id.
COMMAND: Final = re.compile(rb"\(P\d\d(?:,[^()]*)?(?:\)|\Z)", re.DOTALL)
_EXPECTED: Final = "expected (id,version,serial,GROUP,…) or (id,Pnn,…)"
_UNLOCK: Final = ("P43", "P52")
_DMY: Final = re.compile(r"[0-9]{12}")


def _closing(raw: bytes) -> int:
    """Return the offset of the closing bracket, or -1; after a payload, only a bracket at the end counts."""
    if raw[-1:] == b")" or jt701_messages.PAYLOAD_MARK.search(raw):
        return len(raw) - 1 if raw[-1:] == b")" else -1
    return raw.find(b")")


def _payload_start(raw: bytes) -> int:
    """Return the offset of the payload of a sub-lock's report; -1 in other sentences."""
    sentence = _parse(raw)
    mark = jt701_messages.PAYLOAD_MARK.search(raw)
    if isinstance(sentence, str) or not sentence.grouped or mark is None:
        return -1
    return mark.end() if sentence.starts[:2] in jt701_messages.SUBLOCK_REPORTS else -1


def _parse(raw: bytes) -> sentences.Sentence | str:
    """Parse a sentence, also an unclosed one, or return why it is invalid."""
    try:
        return sentences.parse(raw if raw[-1:] == b")" else raw + b")")
    except sentences.SentenceError as error:
        return str(error)


def read(raw: bytes, secrets: bool, run_hidden: frozenset[int]) -> tuple[Heading, list[Field]]:
    """Dissect bytes that begin with a bracket; `run_hidden` is always hidden."""
    shut = _closing(raw)
    said = raw if shut < 0 else raw[: shut + 1]
    sound = shut == len(raw) - 1 and len(raw) <= MAX_SENTENCE
    sound = sound and (COMMAND.match(raw) is not None or not isinstance(_parse(said), str))
    start = _payload_start(said)
    found = escapes.whole(raw) if start < 0 else escapes.payload(raw, start, len(raw) if shut < 0 else shut)
    hidden = hiding.in_sentence(raw) if sound else hiding.in_run(raw)
    reader = Reader(Wire(raw, found.data, found.at, secrets, hidden | run_hidden), 0, len(found.data))
    end = reader.end if shut < 0 else reader.end - (len(raw) - shut)
    reader.take(1, "start", "(", "start of the sentence")
    inner = Reader(reader.wire, reader.position, end, reader.fields)
    heading = _down(inner) if COMMAND.match(raw) else _up(inner, said, start)
    reader.position = inner.position
    if shut >= 0:
        reader.take(1, "end", ")", "end of the sentence")
    last = reader.fields[-1]
    if shut < 0:
        last.problem = last.problem or "expected ) behind it, found the end"
    elif shut >= MAX_SENTENCE:
        last.problem = f"expected within {MAX_SENTENCE} bytes, found behind {shut}"
    reader.nothing_more()
    return heading, reader.fields


def _up(reader: Reader, raw: bytes, payload: int) -> Heading:
    sentence = _parse(raw)
    if isinstance(sentence, str):
        problem = f"{_EXPECTED}, found another form: {sentence}"
        if not reader.left:
            reader.fields[-1].problem = problem
        _token(reader, "device", problem=problem)
        while reader.left:
            _token(reader, "argument")
        return Heading(None, "sentence")
    _token(reader, "device", f"device {sentence.device}")
    if not sentence.grouped:
        title = _pnn(reader, sentence.word, sentence.arguments, sentence_terms.UP)
        return Heading(JT701, title, UP, sentence.device)
    _token(reader, "version")
    _token(reader, "serial", f"serial {sentence.serial}")
    title = sentence_terms.GROUPS.get(sentence.starts[:2], "sentence")
    _token(reader, "group", title)
    names = sentence_terms.named(sentence_terms.GROUPED, sentence.starts)
    _arguments(reader, names, _meaning, payload)
    if payload < 0:
        return Heading(SENTENCE, title, DOWN if sentence.is_command else None, sentence.device)
    if reader.left:
        with reader.group("payload", size=reader.left) as inner:
            sublock.read(inner)
    return Heading(JT701, title, UP, sentence.device)


def _down(reader: Reader) -> Heading:
    word, *arguments = reader.peek().decode("latin-1").split(",")
    return Heading(JT701, _pnn(reader, word, tuple(arguments), sentence_terms.DOWN), DOWN)


def _pnn(reader: Reader, word: str, arguments: tuple[str, ...], forms: sentence_terms.Names) -> str:
    title = sentence_terms.PNN.get(word, "sentence")
    names = sentence_terms.named(forms, (word, *arguments))
    if word == pnn.LOCK_REPORT and forms is sentence_terms.UP:
        readable = pnn.lock_event(arguments) is not None
        problem = None if readable else "expected a source and a verification behind it"
        _token(reader, "word", title, problem)
        _arguments(reader, names, _lock_report(arguments))
    else:
        _token(reader, "word", title)
        _arguments(reader, names, _unlock_result if word in _UNLOCK else _meaning)
    return title


def _arguments(
    reader: Reader, names: tuple[str, ...], meaning: Callable[[str, str], str], payload: int = -1
) -> None:
    """Read all arguments, or those before the payload."""
    index = 0
    while reader.left and not 0 <= payload <= reader.position:
        name = names[index] if index < len(names) else _more(names)
        value = reader.peek().partition(b",")[0].decode("latin-1")
        _token(reader, name, meaning(name, value))
        index += 1


def _more(names: tuple[str, ...]) -> str:
    """Return the name of an argument after the named ones, as in lists of cards and sub-locks."""
    return names[-1] if names and names[-1] in sentence_terms.REPEATED else "argument"


def _token(reader: Reader, name: str, meaning: str = "", problem: str | None = None) -> None:
    """Read one argument and the comma after it."""
    value, comma, _ = reader.peek().partition(b",")
    if size := len(value + comma):
        reader.take(size, name, value.decode("latin-1"), meaning, problem=problem)


def _meaning(name: str, value: str) -> str:
    if name == "time":
        return _time(value)
    if unit := sentence_terms.UNITS.get(name):
        return value if value.endswith(unit.strip()) else f"{value}{unit}"
    return sentence_terms.MEANINGS.get(name, {}).get(value, "")


def _unlock_result(name: str, value: str) -> str:
    return sentence_terms.UNLOCKED.get(value, "") if name == "result" else _meaning(name, value)


def _time(value: str) -> str:
    if value == sentences.TIME_REQUEST[-1]:
        return "asks for the time"
    try:
        return formatting.moment(datetime.strptime(value, "%Y%m%d%H%M%S"))
    except ValueError:
        return formatting.moment(time_dmy(bytes.fromhex(value))) if _DMY.fullmatch(value) else ""


def _lock_report(arguments: tuple[str, ...]) -> Callable[[str, str], str]:
    """Return the meanings of the arguments of a P45, from the decoder."""
    event = pnn.lock_event(arguments)
    known = {} if event is None else {
        "time": formatting.moment(event.time),
        "latitude": formatting.latitude(event.latitude),
        "longitude": formatting.longitude(event.longitude),
        "code": sentence_terms.LOCK_REPORT_SOURCES.get(event.code, event.method),
        "result": event.action + (f", fence {event.fence_id}" if event.fence_id else ""),
        "card": f"card {event.card}" if event.card else "none",
        "serial": f"serial {pnn.report_serial(arguments)}",
        "cell": "" if event.cell is UNSET else formatting.cell(event.cell),
    }  # fmt: skip
    return lambda name, value: known.get(name) or _meaning(name, value)
