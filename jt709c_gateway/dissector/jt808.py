"""The envelope of `7E` frames (docs/protocol.rst §1)."""

from typing import Final

from jt709c_gateway.dissector import bodies, escapes, formatting
from jt709c_gateway.dissector import secrets as hiding
from jt709c_gateway.dissector.fields import Bits, Field, problems
from jt709c_gateway.dissector.header_fields import DOWN, UP, Heading
from jt709c_gateway.dissector.reader import Ended, Reader, Wire
from jt709c_gateway.protocol import jt808
from jt709c_gateway.protocol.dialects import JT705, JT709

#: Ids whose header has a serial of one byte and other attribute bits 10-14.
_ONE_BYTE_SERIAL: Final = jt808.ONE_BYTE_SERIAL | {jt808.JT705_ANSWER}
_HEADER_LENGTH: Final = 12
#: Ids from here on, and 0x4401, are sent by the gateway.
_FROM_GATEWAY: Final = 0x8000


def read(raw: bytes, secrets: bool, run_hidden: frozenset[int]) -> tuple[Heading, list[Field]]:
    """Dissect bytes that begin with a flag; `run_hidden` is always hidden."""
    found, closing = _unescape(raw)
    closed = closing >= 0
    # The end of the bytes between the flags.
    limit = len(found.data) - (len(raw) - closing) if closed else len(found.data)
    content = found.data[1:limit]
    sound = closed and closing == len(raw) - 1 and not found.faults and not jt808.checksum(content)
    is_2019 = _is_2019(content, closed)
    payload = max(len(content) - 1, 0) if closed else min(len(content), _announced(content, is_2019))
    wire = Wire(raw, found.data, found.at, secrets, faults=found.faults)
    hidden, masked = hiding.in_binary(wire, 1 + payload, sound)
    wire.hidden = hidden | run_hidden
    reader = Reader(wire, 0, len(found.data))
    reader.take(1, "flag", meaning="start of the frame")
    heading = _payload(reader, payload, is_2019)
    if payload < len(content):
        _check(reader, content[:payload], masked, secret=bool(wire.hidden) and not masked)
    if closed:
        reader.take(1, "flag", meaning="end of the frame")
    elif not reader.left and not any(problems(reader.fields)):
        reader.fields[-1].problem = "expected 7e behind it, found the end"
    reader.nothing_more("the end" if closed else "7e")
    return heading, reader.fields


def _unescape(raw: bytes) -> tuple[escapes.Unescaped, int]:
    """Undo escapes; return the frame and the offset of its closing flag, -1 if there is none.

    A 0x5501 may be sent without escapes, so that only its length tells where it ends.
    """
    first = raw.find(b"\x7e", 1)
    data = raw[1:-1]
    if 0 <= first < len(raw) - 1 and raw[-1:] == b"\x7e" and len(data) == _announced(data, False) + 1:
        one_byte = int.from_bytes(data[:2], "big") in jt808.ONE_BYTE_SERIAL
        if one_byte and not jt808.checksum(data):
            return escapes.whole(raw), len(raw) - 1
    return escapes.binary(raw, first if first >= 0 else len(raw)), first


def _header_length(data: bytes, is_2019: bool) -> int:
    """Return the length of a header in bytes, by its id and attributes."""
    if int.from_bytes(data[:2], "big") in _ONE_BYTE_SERIAL:
        return jt808.ONE_BYTE_SERIAL_HEADER
    attributes = int.from_bytes(data[2:4], "big")
    more = (5 if is_2019 else 0) + (4 if attributes & jt808.BIT_SPLIT else 0)
    return _HEADER_LENGTH + more


def _is_2019(content: bytes, closed: bool) -> bool:
    """Return whether the header has the 2019 form.

    Without the closing flag, the version bit decides, unless the length fits one of 2013 with or without the
    check byte.
    """
    if closed:
        return jt808.has_2019_header(content[:-1])
    attributes = int.from_bytes(content[2:4], "big")
    more = jt808.USUAL_LENGTH + (4 if attributes & jt808.BIT_SPLIT else 0)
    surplus = len(content) - more - (attributes & jt808.BODY_LENGTH)
    return bool(attributes & jt808.BIT_2019) and surplus not in (0, 1)


def _announced(data: bytes, is_2019: bool) -> int:
    """Return the length of header and body in bytes as announced by the header."""
    return _header_length(data, is_2019) + (int.from_bytes(data[2:4], "big") & jt808.BODY_LENGTH)


def _payload(reader: Reader, size: int, is_2019: bool) -> Heading:
    """Read header and body."""
    payload = Reader(reader.wire, reader.position, reader.position + size, reader.fields)
    data = payload.peek()
    heading = Heading(JT709, "7e frame")
    try:
        with payload.group("header") as header:
            _header(header, heading, data, is_2019)
        _body(payload, data, is_2019)
    except Ended as ended:
        if not any(problems(reader.fields)):
            reader.fields[-1].problem = str(ended)
    payload.nothing_more("the check byte")
    reader.position = payload.position
    return heading


def _header(reader: Reader, heading: Heading, data: bytes, is_2019: bool) -> None:
    message_id = reader.identifier(2, "message_id", lambda number: bodies.NAMES.get(number, "not known"))
    heading.title = bodies.NAMES.get(message_id, f"message {message_id:04x}")
    down = message_id & _FROM_GATEWAY or message_id == jt808.JT705_ANSWER
    heading.direction = DOWN if down else UP
    one_byte = message_id in _ONE_BYTE_SERIAL
    if one_byte:
        heading.dialect = JT705
    _attributes(reader, data, one_byte, is_2019)
    attributes = int.from_bytes(data[2:4], "big")
    long = is_2019 and not one_byte
    if long:
        reader.number(1, "version", "version of the header")
    _terminal_id(reader, heading, data[4 : 15 if long else 10], 10 if long else 6)
    reader.number(1 if one_byte else 2, "serial", lambda serial: f"serial {serial}")
    if attributes & jt808.BIT_SPLIT and not one_byte:
        packets = reader.number(2, "packets", lambda number: formatting.count(number, "part"))
        packet = reader.number(2, "packet", lambda number: f"part {number}")
        heading.title += f", part {packet} of {packets}"


def _attributes(reader: Reader, data: bytes, one_byte: bool, is_2019: bool) -> None:
    number = int.from_bytes(data[2:4], "big")
    length = number & jt808.BODY_LENGTH
    found = len(data) - _header_length(data, is_2019)
    bits = [Bits(0, 9, "body_length", length, formatting.count(length, "byte"))]
    if one_byte:
        wanted = number >> 15
        bits.append(Bits(15, 15, "answer_wanted", wanted, formatting.yes(wanted)))
    else:
        method = (number & jt808.ENCRYPTION) >> 10
        bits.append(Bits(10, 12, "encryption", method, f"method {method}" if method else "none"))
        for bit, name in ((13, "split"), (14, "header_2019")):
            bits.append(Bits(bit, bit, name, number >> bit & 1, formatting.yes(number >> bit & 1)))
        bits += formatting.set_bits(number & jt808.BIT_ANSWER_WANTED, {})
    problem = None
    if found < length:
        problem = f"expected a body of {formatting.count(length, 'byte')}, found {max(found, 0)}"
    reader.number(2, "attributes", ", ".join(_describe_bits(bits)), bits=bits, problem=problem)


def _describe_bits(bits: list[Bits]) -> list[str]:
    """Describe the length of the body and the attribute bits."""
    first, *others = bits
    return [f"body of {first.meaning}", *(each.name.replace("_", " ") for each in others if each.value)]


def _terminal_id(reader: Reader, heading: Heading, wire: bytes, size: int) -> None:
    problem, meaning, device, imei = None, "", None, None
    if len(wire) in (6, 11):
        try:
            identity = jt808.identify(wire)
        except jt808.FrameError:
            problem = f"expected decimal digits, or an IMEI as a number, found {wire[-size:].hex()}"
        else:
            device, imei = identity.device, identity.imei
            meaning = f"device {device}" + (", an IMEI" if imei else "")
    taken = reader.take(size, "terminal_id", wire[-size:].hex(), meaning, problem=problem)
    if taken.value is not None:
        heading.device, heading.imei = device, imei


def _body(reader: Reader, data: bytes, is_2019: bool) -> None:
    """Read the body, up to the announced length or the end of the bytes."""
    message_id, attributes = (int.from_bytes(data[at : at + 2], "big") for at in (0, 2))
    with reader.group("body", size=min(attributes & jt808.BODY_LENGTH, reader.left)) as body:
        if attributes & jt808.BIT_SPLIT and message_id not in _ONE_BYTE_SERIAL:
            # A password may begin in another part, so its position in this one is unknown.
            body.rest("part", "read when all parts are there", secret=True)
        else:
            read_body(body, message_id, attributes, is_2019)


def read_body(reader: Reader, message_id: int, attributes: int, is_2019: bool = False) -> None:
    """Read a whole body, after a header of JT/T 808-2019 or of an earlier version."""
    if attributes & jt808.ENCRYPTION and message_id not in _ONE_BYTE_SERIAL:
        reader.rest("data", "encrypted")
    else:
        bodies.read(reader, message_id, is_2019)


def _check(reader: Reader, payload: bytes, masked: bool, secret: bool) -> None:
    """Read the check byte, the XOR of header and body, which can't be verified if a password is masked.

    It is hidden if a password is, since it would reveal the XOR of the bytes of the password.
    """
    right = jt808.checksum(payload)
    found = reader.peek(1)[0]
    meaning = "right" if found == right else "can't be checked: a password is masked" if masked else "wrong"
    problem = f"expected {right:02x}, found {found:02x}" if meaning == "wrong" else None
    reader.take(1, "check", f"{found:02x}", meaning, problem=problem, secret=secret)
