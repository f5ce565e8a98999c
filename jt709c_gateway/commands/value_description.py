"""Describes invalid input in error messages by type and length, never by its text.

A password may be typed in any wrong place: as a value, as the name of a field, as a command. Messages repeat
only harmless words: documented names, true, false and null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def kind_of(value: object) -> str:
    """Name the type of a JSON value."""
    return _KINDS.get(type(value), "a number")


def described(value: object) -> str:
    """Describe a JSON value by type and length: ``text of 6 characters``, ``a number of 3 digits``."""
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
    # Python formats no integer above 4,300 digits; the number of bits gives an estimate.
    return len(str(abs(number))) if number.bit_length() < 1000 else int(number.bit_length() * 0.30103) + 1


def counted(number: int, thing: str) -> str:
    """Format a count: ``1 character``, ``2 characters``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Describe an unknown name by its length and the most similar known name."""
    near = get_close_matches(name.lower(), list(known), 1) if len(name) <= 64 else []
    return f"a name of {counted(len(name), 'character')}" + (f", near {near[0]}" if near else "")


def unknown_names(given: Iterable[str], known: Collection[str], thing: str, most: int = 5) -> str:
    """Describe the unknown ones of the given names by position and length; empty if all are known."""
    strange = [(place, name) for place, name in enumerate(given, 1) if name not in known]
    named = ", ".join(f"{thing} {place} ({unknown_name(name, known)})" for place, name in strange[:most])
    return named + (f" and {len(strange) - most} more" if len(strange) > most else "")
