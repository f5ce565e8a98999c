"""The JT/T 808 envelope: escapes, check byte, header, terminal ids, answers (docs/protocol.rst §1).

::

    7E | message id u16 | attributes u16 | terminal id BCD[6] | serial u16 | (packets u16, packet no u16)
       | body | xor u8 | 7E

Big endian throughout. A 2019 header (attribute bit 14) has a version byte and ten id bytes instead of six;
0x5501 and 0x5502 have a serial of one byte.
"""

from functools import lru_cache
from struct import Struct
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.device_id import canonical

LOCATION: Final = 0x0200
HEARTBEAT: Final = 0x0002
STORED_LOCATIONS: Final = 0x0704
REGISTRATION: Final = 0x0100
AUTHENTICATION: Final = 0x0102
LOGOUT: Final = 0x0003
ATTRIBUTES: Final = 0x0107
TIME_REQUEST: Final = 0x0109
TERMINAL_ANSWER: Final = 0x0001
PARAMETERS: Final = 0x0104
LOCATION_ANSWER: Final = 0x0201
JT705_LOCATION: Final = 0x5501
JT705_STORED: Final = 0x5502
GENERAL_ANSWER: Final = 0x8001
REGISTRATION_ANSWER: Final = 0x8100
TIME_ANSWER: Final = 0x8109
JT705_ANSWER: Final = 0x4401
#: Ids from here on are sent by platforms to locks (JT/T 808-2013).
_FROM_PLATFORMS: Final = 0x8000
#: Commands (JT/T 808-2013).
SET_PARAMETERS: Final = 0x8103
QUERY_PARAMETERS: Final = 0x8104
CONTROL: Final = 0x8105
QUERY_SOME_PARAMETERS: Final = 0x8106
QUERY_ATTRIBUTES: Final = 0x8107
LOCATE: Final = 0x8201
TEXT: Final = 0x8300
#: Command words of 0x8105.
RESTART: Final = 4
FACTORY_RESET: Final = 5

#: Bytes of a terminal id, except in a 2019 header.
ID_LENGTH: Final = 6

#: Message ids whose header has a serial of one byte and whose attribute bits 10-14 mean something else.
ONE_BYTE_SERIAL: Final = frozenset([JT705_LOCATION, JT705_STORED])
ONE_BYTE_SERIAL_HEADER: Final = 11

#: Parameters of 0x8103 and 0x0104 that are passwords: of the APN and of its backup (JT/T 808-2013).
SECRET_PARAMETERS: Final = frozenset([0x0012, 0x0016])

BIT_SPLIT: Final = 0x2000
BIT_2019: Final = 0x4000
BIT_ANSWER_WANTED: Final = 0x8000
ENCRYPTION: Final = 0x1C00
BODY_LENGTH: Final = 0x03FF
#: Bytes by which the length field of a frame with a correct check byte may be wrong: such units exist.
MAX_SURPLUS: Final = 4
#: A heartbeat: a header and the check byte. (A 0x5501 has a shorter header but always a body.)
_SHORTEST: Final = 13

HEAD = Struct(">HH")
#: A header without parts, of a lock whose id has six bytes, and how many bytes it has.
USUAL_HEADER: Final = Struct(">HH6sH")
USUAL_LENGTH: Final = USUAL_HEADER.size
#: The same of JT/T 808-2019.
LENGTH_2019: Final = USUAL_LENGTH + 5
#: Its first version, and the first of the ten id bytes if the id has at most 12 digits.
_START_2019: Final = b"\x01" + bytes(4)
_WORD = Struct(">H")
_SPLIT = Struct(">HH")


def goes_to_locks(message_id: int) -> bool:
    """Return whether platforms, not locks, send this id."""
    return message_id >= _FROM_PLATFORMS or message_id == JT705_ANSWER


class FrameError(Exception):
    """An invalid `7E` frame: `reason` is `escape`, `check`, `length` or `terminal_id`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def escape(data: bytes) -> bytes:
    """Replace `7D` by `7D 01` and `7E` by `7D 02`, in this order."""
    return data.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02")


def unescape(data: bytes) -> bytes:
    """Undo `escape`; any byte but 01 or 02 behind `7D` is a FrameError (`escape`)."""
    # Asked for a number, `in` is one call of memchr; asked for a byte string, it fails at a number first.
    if 0x7D not in data:
        return data
    pieces = data.split(b"\x7d")
    out = [pieces[0]]
    for piece in pieces[1:]:
        if piece[:1] == b"\x02":
            out.append(b"\x7e")
        elif piece[:1] == b"\x01":
            out.append(b"\x7d")
        else:
            raise FrameError("escape", f"7D is followed by {piece[:1].hex() or 'the end'}, not by 01 or 02")
        out.append(piece[1:])
    return b"".join(out)


def checksum(data: bytes) -> int:
    """Return the XOR of all bytes; folding the number by halves is faster than a loop over the bytes."""
    value = int.from_bytes(data, "big")
    if len(data) > _FOLDED:
        value = _fold(value, len(data) * 8)
    # Only the lowest half is of interest after each fold. What is left above it is cut off once: that takes
    # as long as a fold, and makes those that follow shorter.
    value ^= value >> 512
    value ^= value >> 256
    value = (value ^ value >> 128) & 0xFFFF_FFFF_FFFF_FFFF_FFFF_FFFF_FFFF_FFFF
    value ^= value >> 64
    value ^= value >> 32
    value ^= value >> 16
    return (value ^ value >> 8) & 0xFF


#: Bytes that the fixed folds bring together: enough for nearly every frame.
_FOLDED: Final = 128


def _fold(value: int, bits: int) -> int:
    """Fold a number of so many bits until the fixed folds are enough."""
    while bits > _FOLDED * 8:
        # Half of the bytes, rounded up to whole ones, lie over the other half.
        half = (bits + 15) // 16 * 8
        value ^= value >> half
        value &= (1 << half) - 1
        bits = half
    return value


def unpack(raw: bytes) -> bytes:
    """Strip flags, escapes and check byte of one whole frame; return header and body, or raise FrameError."""
    data = raw[1:-1]
    if 0x7D in data:
        data = unescape(data)
    if len(data) < _SHORTEST:
        raise FrameError("length", f"{len(data)} bytes are too few for a header and a check byte")
    if checksum(data):
        raise FrameError("check", f"check byte is {data[-1]:02x}, the bytes give {checksum(data[:-1]):02x}")
    return data[:-1]


def pack(payload: bytes) -> bytes:
    """Add check byte, escapes and flags to header and body, the inverse of `unpack`."""
    return b"\x7e" + escape(payload + bytes([checksum(payload)])) + b"\x7e"


@define
class Identity:
    """The sender of a frame: `device` as canonical text, the IMEI if the id is one, and the id's bytes."""

    device: str
    imei: str | None
    wire: bytes
    #: 0x8001 for a location, split around the serials, which cancel each other out in its check byte; kept
    #: by `answers.general_answer` with the first one.
    location_answer: tuple[bytes, bytes] | None = field(default=None, init=False, repr=False, eq=False)


def luhn_digit(digits: str) -> str:
    """The digit that completes 14 digits to an IMEI."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


# Sized for large fleets; an id costs about 300 bytes here, and the oldest are dropped first.
@lru_cache(maxsize=32768)
def identify(wire: bytes) -> Identity:
    """Decode terminal id bytes to an Identity; FrameError (`terminal_id`) if unreadable.

    Six bytes, or the eleven of a 2019 header: its version byte and ten of id. BCD digits, shown without
    leading zeros. Six bytes with a nibble above 9 are a 48-bit number, the first 14 digits of the IMEI
    (docs/protocol.rst §1).
    """
    digits = wire[-10:].hex()
    imei = None
    if digits.isdecimal():
        device = canonical(digits)
    elif len(wire) == 6:
        number = str(int.from_bytes(wire, "big")).zfill(14)
        if len(number) > 14:
            raise FrameError("terminal_id", f"{digits} is neither BCD nor 14 digits of an IMEI")
        device = imei = number + luhn_digit(number)
    else:
        raise FrameError("terminal_id", f"{digits} has a nibble above 9")
    return Identity(device, imei, wire)


@define
class Header:
    """The header of a frame and where its body starts; `packet` counts from 1 up to `packets`."""

    message_id: int
    attributes: int
    identity: Identity
    serial: int
    body_start: int
    packets: int = 0
    packet: int = 0
    #: Bytes by which the body is longer than announced; only a few, otherwise the frame is invalid.
    surplus: int = 0

    @property
    def encrypted(self) -> bool:
        """Whether the body is encrypted, which can't be decoded here."""
        return bool(self.attributes & ENCRYPTION) and self.message_id not in ONE_BYTE_SERIAL

    @property
    def is_part(self) -> bool:
        """Whether the message is split, and this is a part of it; its number may be impossible."""
        return bool(self.attributes & BIT_SPLIT) and self.message_id not in ONE_BYTE_SERIAL

    @property
    def is_numbered(self) -> bool:
        """Whether the number of a part lies within the number of parts."""
        return 1 <= self.packet <= self.packets

    @property
    def is_2019(self) -> bool:
        """Whether it is a header of JT/T 808-2019."""
        return len(self.identity.wire) > ID_LENGTH

    @property
    def answer_wanted(self) -> bool:
        """Attribute bit 15, which only 0x5501 and 0x5502 use."""
        return bool(self.attributes & BIT_ANSWER_WANTED)


def parse_header(payload: bytes) -> Header:
    """Decode the header of an unpacked frame; FrameError if the length differs from the announced one."""
    message_id, attributes, wire, serial = USUAL_HEADER.unpack_from(payload)
    if attributes == len(payload) - USUAL_LENGTH and message_id not in ONE_BYTE_SERIAL:
        return Header(message_id, attributes, identify(wire), serial, USUAL_LENGTH)
    if message_id in ONE_BYTE_SERIAL:
        header = Header(message_id, attributes, identify(wire), payload[10], ONE_BYTE_SERIAL_HEADER)
    else:
        start = 15 if has_2019_header(payload) else 10
        if len(payload) < start + 2 + (4 if attributes & BIT_SPLIT else 0):
            raise FrameError("length", f"{len(payload)} bytes are too few for this header")
        serial = _WORD.unpack_from(payload, start)[0]
        header = Header(message_id, attributes, identify(payload[4:start]), serial, start + 2)
        if attributes & BIT_SPLIT:
            header.packets, header.packet = _SPLIT.unpack_from(payload, start + 2)
            header.body_start += 4
    body = len(payload) - header.body_start
    header.surplus = body - (attributes & BODY_LENGTH)
    if abs(header.surplus) > MAX_SURPLUS:
        raise FrameError("length", f"body has {body} bytes, the header says {attributes & BODY_LENGTH}")
    return header


def has_2019_header(payload: bytes) -> bool:
    """Return whether header and body are those of JT/T 808-2019.

    Some units set the bit on a header of 2013, so it counts only if the length fits. If it fits neither, a
    header of 2019 is recognised by its version and the zeros before a terminal id of at most 12 digits.
    """
    attributes = int.from_bytes(payload[2:4], "big")
    if not attributes & BIT_2019:
        return False
    rest = len(payload) - (attributes & BODY_LENGTH) - (4 if attributes & BIT_SPLIT else 0)
    if rest in (USUAL_LENGTH, LENGTH_2019):
        return rest == LENGTH_2019
    return payload.startswith(_START_2019, HEAD.size) and payload[9:15].hex().isdecimal()


def header_start(message_id: int, wire: bytes, body_length: int) -> bytes:
    """Encode a header up to the serial, in the edition that the lock uses."""
    flags = 0 if len(wire) == 6 else BIT_2019
    return HEAD.pack(message_id, body_length | flags) + wire


def encode(message_id: int, identity_wire: bytes, serial: int, body: bytes) -> bytes:
    """Encode one whole frame. ValueError for a body above 1023 bytes."""
    if len(body) > BODY_LENGTH:
        raise ValueError(f"a body has at most {BODY_LENGTH} bytes, not {len(body)}")
    return pack(header_start(message_id, identity_wire, len(body)) + _WORD.pack(serial & 0xFFFF) + body)


def encode_jt705(
    message_id: int, identity_wire: bytes, serial: int, body: bytes, *, answer_wanted: bool
) -> bytes:
    """Encode a whole 0x5501 or 0x5502, whose serial has one byte. ValueError for a body above 1023 bytes."""
    if len(body) > BODY_LENGTH:
        raise ValueError(f"a body has at most {BODY_LENGTH} bytes, not {len(body)}")
    attributes = len(body) | (BIT_ANSWER_WANTED if answer_wanted else 0)
    return pack(HEAD.pack(message_id, attributes) + identity_wire + bytes([serial & 0xFF]) + body)
