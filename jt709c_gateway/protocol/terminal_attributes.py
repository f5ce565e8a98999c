"""The terminal attributes 0x0107 (docs/protocol.rst §1), decoded and encoded.

::

    type u16 | maker | model | id | ICCID BCD[10] | hardware and firmware, each a length u8 and text
             | GNSS u8, network u8 (JT/T 808; units may leave them out)

The lengths of the three texts depend on the edition of JT/T 808 and on the maker of the unit. They are
recognised by the following fields: an ICCID of digits, and two texts that end with the body, or before it
where other units write something of their own behind them.
"""

from itertools import product
from typing import Final

from jt709c_gateway.protocol.events import Attributes

_KIND_LENGTH: Final = 2
_ICCID_LENGTH: Final = 10
#: Bytes after the two texts.
_ENDINGS: Final = (0, 2)
#: Bytes of maker, model and id: in 2013, 2011, 2019, and as observed in units of 2019.
_OF_2013: Final = ((5, 20, 7), (5, 8, 7))
_OF_2019: Final = ((5, 30, 30), (11, 30, 30))
#: Then mixed ones.
_MIXED: Final = tuple(
    each for each in product((5, 11), (20, 30, 8), (7, 30)) if each not in _OF_2013 + _OF_2019
)

Lengths = tuple[int, int, int]


def lengths(body: bytes, is_2019: bool) -> Lengths:
    """Return the bytes of maker, model and id: those of the edition, unless only others fit the body."""
    editions = (_OF_2019 + _OF_2013 + _MIXED) if is_2019 else (_OF_2013 + _OF_2019 + _MIXED)
    behind = {each: _behind(body, each) for each in editions}
    fitting = [each for each in editions if behind[each] in _ENDINGS]
    return fitting[0] if fitting else min(editions, key=lambda each: behind[each])


def _behind(body: bytes, each: Lengths) -> int:
    """Return the bytes after the two texts; more than the body has if there is no ICCID or a text is cut."""
    iccid = _KIND_LENGTH + sum(each)
    position = iccid + _ICCID_LENGTH
    # Nineteen digits are padded with F; without a SIM card some units send nothing but F.
    digits = body[iccid:position].hex().rstrip("f")
    if digits and not digits.isdecimal():
        return len(body) + 1
    for _ in range(2):
        if position >= len(body):
            return len(body) + 1
        position += 1 + body[position]
    return len(body) - position if position <= len(body) else len(body) + 1


def decode(body: bytes, is_2019: bool) -> Attributes | None:
    """Decode a body; None when it is too short for its texts of fixed length."""
    each = lengths(body, is_2019)
    if len(body) < _KIND_LENGTH + sum(each) + _ICCID_LENGTH:
        return None
    texts = []
    position = _KIND_LENGTH
    for length in each:
        texts.append(_text(body[position : position + length]))
        position += length
    iccid = body[position : position + _ICCID_LENGTH].hex()
    hardware, position = _counted_text(body, position + _ICCID_LENGTH)
    firmware, _ = _counted_text(body, position)
    maker, model, terminal_id = texts
    kind = int.from_bytes(body[:_KIND_LENGTH], "big")
    return Attributes(kind, maker, model, terminal_id, iccid, hardware, firmware)


def encode(attributes: Attributes, each: Lengths = _OF_2013[0]) -> bytes:
    """The inverse, with fields of these lengths; texts are cut to their fields, and None is an empty one."""
    texts = (attributes.maker, attributes.model, attributes.terminal_id)
    fixed = b"".join(
        text.encode("latin-1")[:length].ljust(length, b"\x00")
        for text, length in zip(texts, each, strict=True)
    )
    counted = [(text or "").encode("latin-1") for text in (attributes.hardware, attributes.firmware)]
    head = attributes.terminal_type.to_bytes(_KIND_LENGTH, "big") + fixed + bytes.fromhex(attributes.iccid)
    return head + b"".join(bytes([len(text)]) + text for text in counted)


def _text(value: bytes) -> str:
    return value.strip(b"\x00 ").decode("latin-1")


def _counted_text(body: bytes, position: int) -> tuple[str | None, int]:
    if position >= len(body) or position + 1 + body[position] > len(body):
        return None, len(body)
    end = position + 1 + body[position]
    return _text(body[position + 1 : end]), end
