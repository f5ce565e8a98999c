"""Typed access to the TOML tables of a profile; errors have file, table and expected value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from jt709c_gateway.commands.model import quote

_T = TypeVar("_T")

_WORDS: Final[Mapping[type, str]] = {
    str: "text",
    int: "an integer",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


class ProfileError(ValueError):
    """A profile is invalid. The message is one line: file, table path, problem, expected value."""

    def __init__(self, file: str, path: str, problem: str) -> None:
        super().__init__(f"{file}: {path}: {problem}" if path else f"{file}: {problem}")
        self.file = file
        self.path = path
        self.problem = problem


class TomlTable:
    """A TOML table that tracks the keys read, so that :meth:`finish` can reject the others."""

    def __init__(self, file: str, path: str, data: Mapping[str, Any]) -> None:
        self._file = file
        self._data = data
        self._read: set[str] = set()
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def error(self, key: str, problem: str) -> ProfileError:
        """An error about ``key``, or about the table itself where ``key`` is empty."""
        return ProfileError(self._file, self._path(key), problem)

    def _path(self, key: str) -> str:
        return ".".join(part for part in (self.path, key) if part)

    def names(self) -> list[str]:
        """The keys, in the order of the file."""
        return list(self._data)

    def raw(self, key: str) -> Any:
        """The value as TOML has it; ``None`` where it is absent."""
        self._read.add(key)
        return self._data.get(key)

    def _typed(self, key: str, kind: type[_T]) -> _T | None:
        value = self.raw(key)
        if value is None:
            return None
        # In Python true is an integer, in TOML it is not.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"is {quote(value)}; expected {_WORDS[kind]}")
        return value

    def text(self, key: str) -> str | None:
        """Text, or ``None`` where it is absent."""
        return self._typed(key, str)

    def needed_text(self, key: str) -> str:
        """Text that may be neither absent nor empty."""
        value = self._typed(key, str)
        if not value:
            raise self.error(key, "missing; expected text")
        return value

    def integer(self, key: str, low: int, high: int) -> int | None:
        """An integer from ``low`` to ``high``."""
        value = self._typed(key, int)
        if value is not None and not low <= value <= high:
            raise self.error(key, f"is {value}; expected an integer from {low} to {high}")
        return value

    def number(self, key: str) -> float | None:
        """An integer or a fraction."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            raise self.error(key, f"is {quote(value)}; expected a number")
        return float(value)

    def boolean(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self._typed(key, bool)
        return default if value is None else value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of text; empty where it is absent."""
        values: list[Any] = self._typed(key, list) or []
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, f"is {quote(values)}; expected a list of text")
        return tuple(values)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers from 0 up; empty where it is absent."""
        values: list[Any] = self._typed(key, list) or []
        if not all(type(value) is int and value >= 0 for value in values):
            raise self.error(key, f"is {quote(values)}; expected a list of integers from 0 up")
        return tuple(values)

    def table(self, key: str) -> TomlTable | None:
        """A table within this one."""
        value: dict[str, Any] | None = self._typed(key, dict)
        return None if value is None else TomlTable(self._file, self._path(key), value)

    def table_or_empty(self, key: str) -> TomlTable:
        """A table within this one; an empty one where it is absent."""
        return self.table(key) or TomlTable(self._file, self._path(key), {})

    def tables(self, key: str) -> list[TomlTable]:
        """An array of tables (``[[…]]``); empty where it is absent."""
        values: list[Any] = self._typed(key, list) or []
        if not all(isinstance(value, dict) for value in values):
            raise self.error(key, f"is {quote(values)}; expected tables, [[{self._path(key)}]]")
        return [TomlTable(self._file, f"{self._path(key)}[{n}]", value) for n, value in enumerate(values)]

    def subtables(self) -> list[tuple[str, TomlTable]]:
        """Every key as a table of its own."""
        return [(key, self.table_or_empty(key)) for key in self._data]

    def replaced(self, data: Mapping[str, Any]) -> TomlTable:
        """A table with other content that errors place where this one stands."""
        return TomlTable(self._file, self.path, data)

    def finish(self) -> None:
        """Reject keys that were not read, such as misspelt ones."""
        unknown = sorted(set(self._data) - self._read)
        if unknown:
            raise self.error(unknown[0], f"unknown key; expected one of {', '.join(sorted(self._read))}")
