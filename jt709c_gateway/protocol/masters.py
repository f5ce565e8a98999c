"""Messages of JT701 masters: `$` frames, `Pnn` sentences, their sub-locks' reports (PROTOCOL.md §2.2-§3)."""

from typing import Final

from . import jt701, pnn, sublock
from .events import (
    KIND_LOCATION,
    KIND_LOCK,
    KIND_PASSWORD,
    KIND_PERIPHERAL,
    KIND_TIME_REQUEST,
    KIND_UNKNOWN,
    Password,
    TimeRequest,
    Unknown,
)
from .message import Message
from .sentences import DYNAMIC_PASSWORD_PNN, Sentence

JT701: Final = "jt701"
SUBLOCK_REPORT: Final = ("WLNET", "5")
PAYLOAD_MARK: Final = b",WLNET,5,2,"


def dollar(raw: bytes) -> Message:
    """A `$` frame; its serial is that of its last record. What can't be read is answered all the same."""
    head = jt701.parse_head(raw)
    device = head.device.lstrip("0") or "0"
    message = Message(JT701, device, None, None, raw.hex(), False, raw, [], report=True)
    message.stored = head.data_type == jt701.STORED
    records = jt701.decode(raw)
    for record in records:
        message.facts.append((KIND_LOCATION, record.location))
        message.impossible_date |= record.location.time is None
        message.serial = record.serial
    if not records:
        _unreadable(message, "the data can't be divided into records")
    message.answer = jt701.answers(raw, records)
    return message


def read_sentence(message: Message, sentence: Sentence) -> bool:
    """Add what a sentence of a master says, and its answer; False when it is not one of these."""
    starts = sentence.starts
    if starts[:2] == SUBLOCK_REPORT and sentence.serial is not None:
        _sublock(message, sentence.serial)
    elif sentence.grouped:
        return False
    elif starts == pnn.TIME_REQUEST:
        message.facts.append((KIND_TIME_REQUEST, TimeRequest()))
        message.time_answer = pnn.time_answer
    elif sentence.word == pnn.LOCK_REPORT:
        _lock_report(message, sentence.arguments)
    elif sentence.word == pnn.IMEI:
        message.imei = pnn.imei(sentence.arguments)
        return False
    elif sentence.word == pnn.FIRMWARE:
        message.firmware = pnn.firmware(sentence.arguments)
        return False
    elif starts[:2] == DYNAMIC_PASSWORD_PNN and len(starts) > 2 and starts[2]:
        message.facts.append((KIND_PASSWORD, Password()))
        message.report = True
        message.secret = starts[2]
        message.answer = pnn.password_answer(starts[2])
    else:
        return False
    return True


def _lock_report(message: Message, arguments: tuple[str, ...]) -> None:
    message.report = True
    message.serial = pnn.report_serial(arguments)
    if message.serial is not None:
        message.answer = pnn.acknowledge(message.serial)
    event = pnn.lock_event(arguments)
    if event is None:
        _unreadable(message, "the report lacks its source or its verification")
    else:
        message.facts.append((KIND_LOCK, event))


def _sublock(message: Message, serial: int) -> None:
    """The payload is taken from the wire: commas may be part of it."""
    message.dialect = JT701
    message.report = True
    message.answer = pnn.acknowledge(serial)
    _, mark, escaped = message.wire[:-1].partition(PAYLOAD_MARK)
    if not mark:
        _unreadable(message, "no such kind of sub-lock report is known")
        return
    try:
        peripheral, event = sublock.decode(sublock.unescape(escaped))
    except sublock.PayloadError as error:
        _unreadable(message, str(error))
        return
    message.facts.append((KIND_PERIPHERAL, peripheral))
    if event is not None:
        message.facts.append((KIND_LOCK, event))


def _unreadable(message: Message, reason: str) -> None:
    message.facts.append((KIND_UNKNOWN, Unknown(None, reason)))
