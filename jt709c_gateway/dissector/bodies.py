"""Bodies of `7E` messages by their id, up and down (docs/protocol.rst §1; JT/T 808-2013 for the commands)."""

from collections.abc import Callable
from typing import Final

from jt709c_gateway.dissector import formatting, jt705, jt709
from jt709c_gateway.dissector.reader import Reader
from jt709c_gateway.protocol import jt808, jt808_messages, terminal_attributes

BodyReader = Callable[[Reader], None]

_RESULTS: Final = {0: "done", 1: "failed", 2: "wrong", 3: "unsupported"}
_SECRET: Final = "password of an access point"
_CONTROL: Final = {jt808.RESTART: "restart", jt808.FACTORY_RESET: "factory reset"}
_TEXT_FLAGS: Final = {0: "urgent", 2: "display", 3: "read_aloud", 4: "advertising_screen"}

NAMES: Final = {
    jt808.LOCATION: "location report",
    jt808.HEARTBEAT: "heartbeat",
    jt808.STORED_LOCATIONS: "stored locations",
    jt808.REGISTRATION: "registration",
    jt808.AUTHENTICATION: "authentication",
    jt808.LOGOUT: "logout",
    jt808.ATTRIBUTES: "terminal attributes",
    jt808.TIME_REQUEST: "time request",
    jt808.TERMINAL_ANSWER: "terminal's answer",
    jt808.PARAMETERS: "parameters",
    jt808.LOCATION_ANSWER: "answer to a location query",
    jt808.JT705_LOCATION: "location report",
    jt808.JT705_STORED: "stored location report",
    jt808.GENERAL_ANSWER: "general answer",
    jt808.REGISTRATION_ANSWER: "answer to a registration",
    jt808.TIME_ANSWER: "answer to a time request",
    jt808.JT705_ANSWER: "short answer",
    jt808.SET_PARAMETERS: "set parameters",
    jt808.QUERY_PARAMETERS: "query of all parameters",
    jt808.CONTROL: "control",
    jt808.QUERY_SOME_PARAMETERS: "query of parameters",
    jt808.QUERY_ATTRIBUTES: "query of terminal attributes",
    jt808.LOCATE: "location query",
    jt808.TEXT: "text",
}


def _heartbeat(reader: Reader) -> None:
    """Dissect an empty body or one of three bytes; other lengths are one field."""
    if reader.left != jt808_messages.HEARTBEAT_LENGTH:
        reader.rest("data", "not taken apart")
    else:
        reader.number(1, "battery_percent", lambda percent: formatting.unit(percent, "%"))
        reader.number(1, "gsm_signal", lambda signal: f"signal {signal}")
        reader.number(1, "status_bits")


def _stored_locations(reader: Reader) -> None:
    none = "expected 1 location or more, found 0" if reader.peek(2) == b"\x00\x00" else None
    count = reader.number(2, "count", lambda number: formatting.count(number, "location"), problem=none)
    stored = {jt808_messages.STORED_TYPE: "stored in a blind zone"}
    reader.number(1, "type", lambda kind: stored.get(kind, "sent in a batch"))
    index = 0
    while reader.left or index < count:
        index += 1
        with reader.group(f"location_{index}") as item:
            length = int.from_bytes(item.peek(2), "big")
            found = max(item.left - 2, 0)
            short = f"expected {length} bytes behind it, found {found}" if found < length else None
            item.number(2, "length", formatting.count(length, "byte"), problem=short)
            if length:
                with item.group("location", size=length) as location:
                    jt709.read(location)


def _attributes(reader: Reader, is_2019: bool = False) -> None:
    each = terminal_attributes.lengths(reader.peek(), is_2019)
    reader.number(2, "terminal_type")
    for name, length in zip(("maker", "model", "terminal_id"), each, strict=True):
        reader.text(length, name)
    reader.take(10, "iccid")
    for name in ("hardware", "firmware"):
        length = reader.number(1, f"{name}_length", lambda size: formatting.count(size, "byte"))
        reader.text(length, name)
    reader.rest("gnss_and_network", "not taken apart")


def _terminal_answer(reader: Reader) -> None:
    reader.number(2, "answered_serial", lambda serial: f"serial {serial}")
    reader.identifier(2, "answered_id", _message)
    reader.number(1, "result", lambda result: formatting.named(result, _RESULTS))


def _parameters(reader: Reader) -> None:
    reader.number(2, "answered_serial", lambda serial: f"serial {serial}")
    _parameter_list(reader)


def _parameter_list(reader: Reader) -> None:
    for _ in range(reader.number(1, "count", lambda number: formatting.count(number, "parameter"))):
        number = int.from_bytes(reader.peek(4), "big")
        secret = number in jt808.SECRET_PARAMETERS
        with reader.group(f"parameter_{number:04x}") as parameter:
            parameter.identifier(4, "id", _parameter)
            length = (parameter.peek(1) or b"\x00")[0]
            found = parameter.left - 1
            short = f"expected {length} bytes behind it, found {found}" if found < length else None
            parameter.number(1, "length", formatting.count(length, "byte"), problem=short)
            if length:
                parameter.take(length, "value", secret=secret)


def _location_answer(reader: Reader) -> None:
    reader.number(2, "answered_serial", lambda serial: f"serial {serial}")
    with reader.group("location") as location:
        jt709.read(location)


def _registration_answer(reader: Reader) -> None:
    reader.number(2, "answered_serial", lambda serial: f"serial {serial}")
    reader.number(1, "result", lambda result: "done" if not result else "refused")
    reader.text(reader.left, "auth_code")


def _time_answer(reader: Reader) -> None:
    reader.number(2, "year")
    for name in ("month", "day", "hour", "minute", "second"):
        reader.number(1, name, "UTC" if name == "second" else "")
    reader.number(1, "result", lambda result: formatting.named(result, _RESULTS))


def _jt705_answer(reader: Reader) -> None:
    reader.identifier(2, "answered_id", _message)
    reader.number(1, "result", lambda result: formatting.named(result, _RESULTS))


def _query_some(reader: Reader) -> None:
    for _ in range(reader.number(1, "count", lambda number: formatting.count(number, "parameter"))):
        reader.identifier(4, "id", _parameter)


def _control(reader: Reader) -> None:
    """Dissect the text of a control word, which may contain the password of an access point."""
    reader.number(1, "word", lambda word: formatting.named(word, _CONTROL))
    reader.text(reader.left, "text", "gbk", secret=True)


def _text(reader: Reader) -> None:
    flags = (reader.peek(1) or b"\x00")[0]
    bits = formatting.set_bits(flags, _TEXT_FLAGS)
    reader.number(1, "flags", formatting.listed(each.name for each in bits), bits=bits)
    reader.text(reader.left, "text", "gbk")


def _message(message_id: int) -> str:
    return NAMES.get(message_id, "not known")


def _parameter(number: int) -> str:
    return "parameter" + (f", {_SECRET}" if number in jt808.SECRET_PARAMETERS else "")


def _body(reader: Reader) -> None:
    reader.rest("data", "not taken apart")


def _empty(reader: Reader) -> None:
    reader.nothing_more()


READERS: Final[dict[int, BodyReader]] = {
    jt808.LOCATION: jt709.read,
    jt808.HEARTBEAT: _heartbeat,
    jt808.STORED_LOCATIONS: _stored_locations,
    jt808.REGISTRATION: _body,
    jt808.AUTHENTICATION: _body,
    jt808.LOGOUT: _body,
    jt808.ATTRIBUTES: _attributes,
    jt808.TIME_REQUEST: _empty,
    jt808.TERMINAL_ANSWER: _terminal_answer,
    jt808.PARAMETERS: _parameters,
    jt808.LOCATION_ANSWER: _location_answer,
    jt808.JT705_LOCATION: jt705.read,
    jt808.JT705_STORED: jt705.read,
    jt808.GENERAL_ANSWER: _terminal_answer,
    jt808.REGISTRATION_ANSWER: _registration_answer,
    jt808.TIME_ANSWER: _time_answer,
    jt808.JT705_ANSWER: _jt705_answer,
    jt808.SET_PARAMETERS: _parameter_list,
    jt808.QUERY_PARAMETERS: _empty,
    jt808.CONTROL: _control,
    jt808.QUERY_SOME_PARAMETERS: _query_some,
    jt808.QUERY_ATTRIBUTES: _empty,
    jt808.LOCATE: _empty,
    jt808.TEXT: _text,
}


def read(reader: Reader, message_id: int, is_2019: bool = False) -> None:
    """Dissect a whole body; that of an unknown message is one field."""
    if message_id == jt808.ATTRIBUTES:
        _attributes(reader, is_2019)
        return
    READERS.get(message_id, _body)(reader)
