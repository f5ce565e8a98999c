"""Messages of JT701 masters: `$` frames, `Pnn` sentences, sub-lock reports (docs/protocol.rst §2.2-§3)."""

import re
from typing import Final

from msgspec import UNSET

from jt709c_gateway.protocol import jt701, pnn, sublock
from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.protocol.dialects import JT701
from jt709c_gateway.protocol.events import (
    KIND_ALARM,
    KIND_LOCATION,
    KIND_LOCK,
    KIND_PASSWORD,
    KIND_PERIPHERAL,
    KIND_TIME_REQUEST,
    KIND_UNKNOWN,
    LockEvent,
    Password,
    TimeRequest,
    Unknown,
)
from jt709c_gateway.protocol.message import VersionedMessage, content_of
from jt709c_gateway.protocol.sentences import DYNAMIC_PASSWORD_PNN, Sentence

SUBLOCK_REPORTS: Final = (("WLNET", "5"), ("WLNET", "7"))
#: The text before the payload of a sub-lock's report.
PAYLOAD_MARK = re.compile(rb",WLNET,[57],2,")


def dollar(raw: bytes) -> VersionedMessage:
    """Decode a `$` frame; its serial is that of its last record. Unreadable records are answered, too."""
    head = jt701.parse_head(raw)
    device = canonical(head.device)
    message = VersionedMessage(JT701, device, None, None, raw.hex(), False, raw, [], report=True)
    message.master_version = head.version
    message.stored = head.data_type == jt701.STORED
    records = jt701.decode(raw)
    for record in records:
        message.events.append((KIND_LOCATION, record.location))
        message.impossible_date |= record.location.time is None
        message.serial = record.serial
        message.imei = record.imei or message.imei
    # Contents are between the head, which says whether it is live or stored, and the serial.
    if len(records) == 1:
        message.contents.append(content_of(records[0].location, raw[jt701.HEADER_LENGTH : -1]))
    elif records:
        divided = jt701.divide(raw[jt701.HEADER_LENGTH :])
        message.contents = [
            content_of(one.location, data) for one, (data, _) in zip(records, divided, strict=True)
        ]
    if not records:
        _unreadable(message, "the data can't be divided into records")
    message.answer = jt701.answers(raw, records)
    return message


def read_sentence(message: VersionedMessage, sentence: Sentence, sentence_serial: bool) -> bool:
    """Add the events and the answer of a master's sentence; return False for other sentences.

    A sub-lock's report is answered by the sub-lock's serial, or, with `sentence_serial`, by the sentence's.
    """
    starts = sentence.starts
    if starts[:2] in SUBLOCK_REPORTS and sentence.serial is not None:
        _sublock(message, sentence.serial, sentence_serial)
    elif sentence.grouped:
        return False
    elif starts == pnn.TIME_REQUEST:
        message.events.append((KIND_TIME_REQUEST, TimeRequest()))
        message.time_answer = pnn.time_answer
    elif sentence.word == pnn.LOCK_REPORT:
        _lock_report(message, sentence.arguments)
    elif starts[:2] == DYNAMIC_PASSWORD_PNN and len(starts) > 2 and starts[2]:
        message.events.append((KIND_PASSWORD, Password()))
        message.report = True
        message.secret = starts[2]
        message.answer = pnn.password_answer(starts[2])
    else:
        return False
    return True


def _lock_report(message: VersionedMessage, arguments: tuple[str, ...]) -> None:
    message.report = True
    message.old_answer = pnn.OLD_LOCK_ANSWER
    message.serial = pnn.report_serial(arguments)
    if message.serial is not None:
        message.answer = pnn.acknowledge(message.serial)
    event = pnn.lock_event(arguments)
    if event is None:
        _unreadable(message, "the report lacks its source or its verification")
    else:
        message.events.append((KIND_LOCK, event))
        # A digit damaged in transit must not give the unit the id of another.
        message.imei = None if event.imei is UNSET else pnn.imei(event.imei)


def _sublock(message: VersionedMessage, serial: int, sentence_serial: bool) -> None:
    """Decode a sub-lock's report, whose payload is read from the wire: it may contain commas."""
    message.dialect = JT701
    message.report = True
    message.answer = pnn.acknowledge(serial)
    mark = PAYLOAD_MARK.search(message.wire)
    if mark is None:
        _unreadable(message, "no such kind of sub-lock report is known")
        return
    payload = sublock.unescape(message.wire[mark.end() : -1])
    own = sublock.serial_of(payload)
    if own is not None and not sentence_serial:
        message.answer = pnn.acknowledge(own)
    try:
        peripheral, events = sublock.decode(payload)
    except sublock.PayloadError as error:
        _unreadable(message, str(error))
        return
    message.events.append((KIND_PERIPHERAL, peripheral))
    for one in events:
        message.events.append((KIND_LOCK if isinstance(one, LockEvent) else KIND_ALARM, one))


def _unreadable(message: VersionedMessage, reason: str) -> None:
    message.events.append((KIND_UNKNOWN, Unknown(None, reason)))
