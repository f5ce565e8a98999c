"""What somebody typed, for messages that others read too: by kind and length, never as it is.

A password may stand where any other thing should be: as a value, as the name of a field, as a command. So
only what is known to be harmless is repeated: a name that is documented, true, false and null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "a number")


def described(value: object) -> str:
    """A JSON value by its kind and length: ``text of 6 characters``, ``a number of 3 digits``."""
    match value:
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case str():
            return f"text of {counted(len(value), 'character')}"
        case int():
            return f"a number of {counted(_digits(value), 'digit')}"
        case list():
            return f"a list of {counted(len(value), 'item')}"
        case dict():
            return f"an object of {counted(len(value), 'field')}"
    return kind_of(value)


def _digits(number: int) -> int:
    # Python writes no integer of more than 4,300 digits; so many bits are about so many digits.
    return len(str(abs(number))) if number.bit_length() < 1000 else int(number.bit_length() * 0.30103) + 1


def counted(number: int, thing: str) -> str:
    """A number of things in words: ``1 character``, ``2 characters``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def unknown_name(name: str, known: Iterable[str]) -> str:
    """A name that is none of the known ones, by its length and the known one that looks like it."""
    near = get_close_matches(name.lower(), list(known), 1) if len(name) <= 64 else []
    return f"a name of {counted(len(name), 'character')}" + (f", near {near[0]}" if near else "")


def unknown_names(given: Iterable[str], known: Collection[str], thing: str, most: int = 5) -> str:
    """Those of the given names that are not known, by position and length; empty where all are."""
    strange = [(place, name) for place, name in enumerate(given, 1) if name not in known]
    named = ", ".join(f"{thing} {place} ({unknown_name(name, known)})" for place, name in strange[:most])
    return named + (f" and {len(strange) - most} more" if len(strange) > most else "")
