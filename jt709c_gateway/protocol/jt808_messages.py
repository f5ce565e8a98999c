"""Decodes `7E` messages by their id, and encodes those that locks send (docs/protocol.rst §1)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from struct import Struct
from typing import Final

from jt709c_gateway.protocol import answers, jt705, jt709, jt709x, jt808, lock_event_item, terminal_attributes
from jt709c_gateway.protocol.dialects import JT705
from jt709c_gateway.protocol.events import (
    KIND_ATTRIBUTES,
    KIND_HEARTBEAT,
    KIND_LOCATION,
    KIND_LOCK,
    KIND_REGISTRATION,
    KIND_REPLY,
    KIND_TIME_REQUEST,
    KIND_UNKNOWN,
    EventData,
    Heartbeat,
    Location,
    Registration,
    Reply,
    TimeRequest,
    Unknown,
)
from jt709c_gateway.protocol.jt808 import Header
from jt709c_gateway.protocol.message import FIRST_YEAR, Message, content_of

_TERMINAL_ANSWER = Struct(">HHB")
_STORED_HEAD = Struct(">HB")
HEARTBEAT_LENGTH: Final = 3
_PARAMETER_HEAD = Struct(">IB")
#: The events of one position of a batch, and its bytes that are the same in a repetition.
_Position = tuple[list[tuple[str, EventData]], bytes]
#: For a position without a time.
_LAST: Final = datetime.max.replace(tzinfo=UTC)
#: 0x0704 type: the positions were stored in a blind zone.
STORED_TYPE: Final = 1


def decode_body(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """Add the events in the body to `message`; return the spans of passwords in the body.

    An unreadable message becomes an `unknown` event and is answered: its bytes are in Redis, so the lock may
    delete it.
    """
    if header.attributes & jt808.ENCRYPTION and header.encrypted:
        message.report = True
        message.events.append((KIND_UNKNOWN, Unknown(f"{header.message_id:04x}", "the body is encrypted")))
        return []
    reader = _READERS.get(header.message_id, _unknown)
    if header.surplus:
        reader = _odd_length
    elif header.attributes & jt808.BIT_SPLIT and header.is_part and not header.is_numbered:
        reader = _odd_part
    spans = reader(message, header, body)
    if header.surplus and header.serial is not None:
        # Bytes that announce a password may be at the place of the serial.
        longer = header.serial.to_bytes(2, "big") + body
        # The last character may be at the place of the check byte.
        shifted = lock_event_item.password_like(longer) + lock_event_item.password_cut_off(longer)
        spans = spans + [(max(start - 2, 0), end - 2) for start, end in shifted if end > 2]
    # An unknown or misread message may contain a lock event nevertheless.
    return spans + lock_event_item.password_like(body) if lock_event_item.ITEM in body else spans


def _unreadable(message: Message, header: Header, reason: str) -> list[tuple[int, int]]:
    message.report = True
    message.events.append((KIND_UNKNOWN, Unknown(f"{header.message_id:04x}", reason)))
    return []


def _odd_length(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """Add an `unknown` event for a body of the wrong length: the place of the error is unknown."""
    message.wrong_length = True
    if header.message_id in jt808.ONE_BYTE_SERIAL:
        _prepare_jt705(message, header)
    elif header.message_id == jt808.TERMINAL_ANSWER:
        message.answer = None
    return _unreadable(
        message, header, f"the body has {len(body)} bytes, the header says {len(body) - header.surplus}"
    )


def _odd_part(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """Add an `unknown` event for a part that can't be one: it completes nothing, and may be sent for ever."""
    if header.message_id == jt808.TERMINAL_ANSWER:
        message.answer = None
    return _unreadable(message, header, f"it is part {header.packet} of {header.packets}")


def _unknown(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    return _unreadable(message, header, "no such message id is known")


def _add_location(message: Message, body: bytes, offset: int) -> list[tuple[int, int]]:
    location, events = jt709.decode(body)
    if message.imei is None and type(location) is not Location:
        message.imei = jt709x.imei(body[jt709.FIXED_LENGTH :])
    message.report = True
    message.events.append((KIND_LOCATION, location))
    message.contents.append(content_of(location, body))
    if location.time is None:
        message.impossible_date = True
    if lock_event_item.ITEM not in body:
        return []
    message.events += [(KIND_LOCK, event) for event in events]
    return _password_spans(body, offset)


def _password_spans(body: bytes, offset: int) -> list[tuple[int, int]]:
    return [(start + offset, end + offset) for start, end in jt709.password_spans(body)]


def _location(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    if len(body) < jt709.FIXED_LENGTH:
        return _unreadable(message, header, f"a location has at least {jt709.FIXED_LENGTH} bytes")
    return _add_location(message, body, 0)


def _location_answer(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x0201: answered serial u16, then a location body."""
    if len(body) < 2 + jt709.FIXED_LENGTH:
        return _unreadable(message, header, "too short for a location")
    spans = _add_location(message, body[2:], 2)
    serial = int.from_bytes(body[:2], "big")
    message.events.append((KIND_REPLY, Reply("0201", (str(serial),), answered_serial=serial)))
    return spans


def encode_location_answer(serial: int, body: bytes) -> bytes:
    """A body of 0x0201 around a location body; `serial` is that of the query."""
    return serial.to_bytes(2, "big") + body


def _stored_locations(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x0704: count u16, type u8, then per item its length u16 and a location body.

    All readable items are decoded, whatever the count says; unreadable ones stay in the raw message.
    """
    if len(body) < _STORED_HEAD.size:
        return _unreadable(message, header, "too short for a count and a type")
    count, kind = _STORED_HEAD.unpack_from(body)
    message.stored = kind == STORED_TYPE
    spans: list[tuple[int, int]] = []
    before = message.events
    read: list[_Position] = []
    position = _STORED_HEAD.size
    found = 0
    while position < len(body):
        found += 1
        length = int.from_bytes(body[position : position + 2], "big")
        start, position = position + 2, position + 2 + length
        item = body[start:position]
        if jt709.FIXED_LENGTH <= length == len(item):
            message.events = []
            spans += _add_location(message, item, start)
            read.append((message.events, message.contents.pop()))
        else:
            # Bytes that aren't decoded may contain a password.
            spans += _password_spans(item, start)
    ordered = _in_order(read, message.stored)
    message.events = before + [event for one, _ in ordered for event in one]
    message.contents += [content for _, content in ordered]
    if len(read) < max(count, found) or not read:
        _unreadable(message, header, f"{len(read)} of {max(count, found)} locations could be read")
    return spans


def _in_order(read: list[_Position], stored: bool) -> list[_Position]:
    """Sort live positions by time, newest last: units send them in either order.

    Positions with an impossible time come last, since such a report counts as of its arrival. Positions of
    the same time keep their order.
    """
    return read if stored else sorted(read, key=lambda one: _moment(one[0]))


def _moment(events: list[tuple[str, EventData]]) -> datetime:
    time = getattr(events[0][1], "time", None)
    return time if isinstance(time, datetime) and time.year >= FIRST_YEAR else _LAST


def stored_length(body: bytes) -> int:
    """Return the size of a location body in a 0x0704."""
    return 2 + len(body)


def encode_stored(bodies: Sequence[bytes]) -> bytes:
    """Encode a body of 0x0704 with locations that were stored in a blind zone."""
    items = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
    return _STORED_HEAD.pack(len(bodies), STORED_TYPE) + items


def _heartbeat(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x0002: empty, or battery % u8, signal u8, status u8. Other lengths are not decoded."""
    heartbeat = Heartbeat(*body) if len(body) == HEARTBEAT_LENGTH else Heartbeat()
    if heartbeat.battery_percent is not None and heartbeat.battery_percent > jt709.FULL:
        heartbeat.battery_percent = None
    if heartbeat.gsm_signal == jt709.NO_SIGNAL:
        heartbeat.gsm_signal = None
    message.events.append((KIND_HEARTBEAT, heartbeat))
    return []


def encode_heartbeat(battery_percent: int, gsm_signal: int, status_bits: int) -> bytes:
    """Encode a body of 0x0002."""
    return bytes([battery_percent, gsm_signal, status_bits])


def _registration(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    message.events.append((KIND_REGISTRATION, Registration("registration", lock_event_item.mask(body).hex())))
    return []


def _authentication(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    message.events.append(
        (KIND_REGISTRATION, Registration("authentication", lock_event_item.mask(body).hex()))
    )
    return []


def _logout(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    message.events.append((KIND_REGISTRATION, Registration("logout", lock_event_item.mask(body).hex())))
    return []


def _attributes(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x0107, whose texts have other lengths in 2019 units (terminal_attributes.py)."""
    found = terminal_attributes.decode(body, header.is_2019)
    if found is None:
        return _unreadable(message, header, "too short for terminal attributes")
    message.firmware = found.firmware or None
    message.events.append((KIND_ATTRIBUTES, found))
    return []


def _time_request(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    message.events.append((KIND_TIME_REQUEST, TimeRequest()))
    message.time_answer = lambda now: answers.time_answer(header.identity, header.serial, now)
    return []


def _terminal_answer(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x0001: answered serial u16, answered id u16, result u8. It is not answered."""
    message.answer = None
    if len(body) < _TERMINAL_ANSWER.size:
        return _unreadable(message, header, "too short for a terminal's answer")
    serial, answered, result = _TERMINAL_ANSWER.unpack_from(body)
    name = f"{answered:04x}"
    reply = Reply("0001", (str(serial), name, str(result)), None, serial, name, result)
    message.events.append((KIND_REPLY, reply))
    return []


def encode_terminal_answer(serial: int, message_id: int, result: int) -> bytes:
    """Encode a body of 0x0001."""
    return _TERMINAL_ANSWER.pack(serial, message_id, result)


def _parameters(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x0104: answered serial u16, count u8, then per parameter id u32, length u8, value."""
    if len(body) < 3:
        return _unreadable(message, header, "too short for parameters")
    serial, count = int.from_bytes(body[:2], "big"), body[2]
    parameters: dict[str, str] = {}
    spans: list[tuple[int, int]] = []
    position, read = 3, 0
    safe = lock_event_item.mask(body)
    while position + 5 <= len(body):
        start, end = position + 5, position + 5 + body[position + 4]
        parameter = int.from_bytes(body[position : position + 4], "big")
        secret = parameter in jt808.SECRET_PARAMETERS
        if secret:
            spans.append((start, min(end, len(body))))
        if read < count and end <= len(body):
            parameters[f"{parameter:04x}"] = "2a" * (end - start) if secret else safe[start:end].hex()
            read += 1
        position = end
    reply = Reply("0104", (str(serial), str(count)), answered_serial=serial, parameters=parameters)
    message.events.append((KIND_REPLY, reply))
    return spans


def encode_parameters(serial: int, parameters: Mapping[int, bytes]) -> bytes:
    """A body of 0x0104: at most 255 parameters of at most 255 bytes."""
    items = b"".join(_PARAMETER_HEAD.pack(number, len(value)) + value for number, value in parameters.items())
    return serial.to_bytes(2, "big") + bytes([len(parameters)]) + items


def _prepare_jt705(message: Message, header: Header) -> None:
    message.dialect = JT705
    message.stored = header.message_id == jt808.JT705_STORED
    message.answer = (
        answers.jt705_answer(header.identity, header.message_id) if header.answer_wanted else None
    )


def _jt705(message: Message, header: Header, body: bytes) -> list[tuple[int, int]]:
    """0x5501, 0x5502: answered with 0x4401, and only when the lock asks for it."""
    _prepare_jt705(message, header)
    try:
        location, events = jt705.decode(body)
    except jt709.BodyError as error:
        return _unreadable(message, header, str(error))
    message.report = True
    message.events.append((KIND_LOCATION, location))
    message.contents.append(content_of(location, body))
    message.impossible_date = location.time is None
    message.events += [(KIND_LOCK, event) for event in events]
    return jt709.password_spans(body, jt705.FIXED_LENGTH)


_READERS: Final[dict[int, Callable[[Message, Header, bytes], list[tuple[int, int]]]]] = {
    jt808.LOCATION: _location,
    jt808.HEARTBEAT: _heartbeat,
    jt808.STORED_LOCATIONS: _stored_locations,
    jt808.REGISTRATION: _registration,
    jt808.AUTHENTICATION: _authentication,
    jt808.LOGOUT: _logout,
    jt808.ATTRIBUTES: _attributes,
    jt808.TIME_REQUEST: _time_request,
    jt808.TERMINAL_ANSWER: _terminal_answer,
    jt808.PARAMETERS: _parameters,
    jt808.LOCATION_ANSWER: _location_answer,
    jt808.JT705_LOCATION: _jt705,
    jt808.JT705_STORED: _jt705,
}
