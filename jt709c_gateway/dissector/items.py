"""Items: id u8, length u8, value, until the body ends (docs/protocol.rst §1.1, §1.2)."""

from collections.abc import Callable, Mapping
from typing import Final

from jt709c_gateway.dissector import formatting
from jt709c_gateway.dissector.reader import Reader
from jt709c_gateway.protocol import lock_event_item
from jt709c_gateway.protocol.events import Location

_UNKNOWN: Final = "not understood"
_CARD_LENGTH: Final = 4
_NONE: Final[Mapping[int, int]] = {}

#: Reads the value of an item; gets the decoder's location for a report with only this item.
ItemReader = Callable[[Reader, Location], None]


def walk(
    reader: Reader,
    decode: Callable[[bytes], Location],
    readers: Mapping[int, ItemReader],
    beside: Mapping[int, int] = _NONE,
) -> None:
    """Read all items; `decode` returns the decoder's result for one of them.

    `beside` has the ids and lengths of items that only qualify another item.
    """
    while reader.left > 1:
        identifier, length = reader.peek(2)
        whole = reader.peek(2 + length)
        name = f"item_{identifier:02x}"
        with reader.group(name, size=2 + length) as item:
            item.identifier(1, "id", "item")
            if len(whole) < 2 + length:
                problem = f"expected {length} bytes behind it, found {len(whole) - 2}"
                item.number(1, "length", problem=problem)
                _value(item, identifier)
                continue
            item.number(1, "length", formatting.count(length, "byte"))
            location = decode(whole)
            read = readers.get(identifier)
            if read is None or (f"{identifier:02x}" in location.items and beside.get(identifier) != length):
                item.describe(name, _UNKNOWN)
                _value(item, identifier)
            else:
                read(item, location)
    reader.nothing_more("an item's id, length and value")


def _value(reader: Reader, identifier: int) -> None:
    """Dissect an unknown value. With the id of a lock event it may contain a password."""
    span = lock_event_item.password_span(reader.peek()) if identifier == lock_event_item.ITEM else None
    if span is not None:
        reader.take(span[0], "code")
        reader.take(span[1] - span[0], "password", secret=True)
    reader.rest("value", _UNKNOWN)


def number(name: str, meaning: Callable[[Location], str], signed: bool = False) -> ItemReader:
    """Return a reader of an item with one number."""

    def read(reader: Reader, location: Location) -> None:
        reader.describe(name, meaning(location))
        reader.number(reader.left, name, meaning(location), signed=signed)

    return read


def lock_event(reader: Reader, location: Location) -> None:
    """Read item 0x0B: a code, and fields that depend on it."""
    event = location.lock_event
    said = formatting.lock_event(event)
    reader.describe("lock_event", said)
    code = reader.number(1, "code", lambda code: f"{code:02x}, {_code(code)}")
    card = code == lock_event_item.CARD_WITH_RESULT or code in lock_event_item.CARD_REFUSED
    if code in lock_event_item.WITH_PASSWORD and reader.left:
        reader.take(min(lock_event_item.PASSWORD_LENGTH, reader.left), "password", secret=True)
    elif card and reader.left >= _CARD_LENGTH:
        reader.number(_CARD_LENGTH, "card", event.card or "none" if event else "")
    if event is not None and event.result is not None:
        reader.number(1, "result", said)
    reader.rest("value", _UNKNOWN)


def _code(code: int) -> str:
    if code in lock_event_item.PASSWORD_WITH_RESULT:
        return "password, with its result"
    if code in lock_event_item.PASSWORD_REFUSED:
        return "password, refused"
    if code == lock_event_item.CARD_WITH_RESULT:
        return "card"
    if code in lock_event_item.LOCKED:
        return "locked"
    if code in lock_event_item.OPENED:
        return "opened"
    return "card, refused" if code in lock_event_item.CARD_REFUSED else "not known"
