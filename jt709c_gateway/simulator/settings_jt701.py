"""Settings of a virtual master of the dialect `jt701`, and its fences (docs/protocol.rst §4).

`(Pnn,1,value,…)` sets and `(Pnn,0)` asks; both are answered by `(id,Pnn,value,…)`, P54 with the operation in
front. P06 asks and sets the main server as 0 and 1, the spare one as 2 and 3.
"""

import re
from typing import Final

from attrs import define, field, frozen

_Arguments = tuple[str, ...]
_Ranges = tuple[tuple[int, int] | None, ...]

_NUMBER = re.compile(r"-?[0-9]{1,5}")
_PLACE = re.compile(r"-?[0-9]{4,5}\.[0-9]{4}")
#: A node has two numbers, a page at most ten nodes, a fence five pages.
_NODE: Final = 2
_PAGE: Final = 10
_FENCES: Final = (1, 10)
_PAGES: Final = (1, 5)
_NAME = re.compile(r"[0-9A-Za-z]{1,16}")


def within(text: str, allowed: tuple[int, int]) -> bool:
    """Return whether a text is a number in a range."""
    return bool(_NUMBER.fullmatch(text)) and allowed[0] <= int(text) <= allowed[1]


@frozen
class _Setting:
    """What it is at first and the range of each value, None for any text; `behind` follows in answers.

    `off` is right outside of the range, too. `kept` says that a factory reset leaves it.
    """

    values: _Arguments
    ranges: _Ranges
    behind: _Arguments = ()
    off: str | None = None
    operation: bool = False
    kept: bool = False

    def takes(self, values: _Arguments) -> bool:
        """Return whether the values are valid."""
        return len(values) == len(self.ranges) and all(
            allowed is None or value == self.off or within(value, allowed)
            for value, allowed in zip(values, self.ranges, strict=True)
        )


_ONE: Final = (0, 1)
_SERVER: Final[_Ranges] = (None, (1, 65535), None, None, None)
SERVER: Final = "P06"
_SPARE: Final = "P06 spare"
CHANNELS: Final = "P59"
_SETTINGS: Final[dict[str, _Setting]] = {
    "P03": _Setting(("1", "5"), (_ONE, (5, 90))),
    "P04": _Setting(("30", "60"), ((5, 3600), (5, 1440))),
    SERVER: _Setting(("gateway.example.com", "8888", "internet", "", ""), _SERVER, ("0",), kept=True),
    _SPARE: _Setting(("spare.example.com", "8888", "internet", "", ""), _SERVER, ("1",), kept=True),
    "P10": _Setting(("0",), ((-720, 780),)),
    "P12": _Setting(("0",) * 5, (_ONE,) * 5, kept=True),
    "P37": _Setting(("126",), ((63, 500),), ("15",), off="0"),
    "P38": _Setting(("120",), ((3, 180),)),
    "P39": _Setting(("3",), ((3, 10),)),
    "P40": _Setting(("1",) * 10, ((0, 3),) * 10, ("0",) * 4),
    "P54": _Setting(("0",), (_ONE,), operation=True),
    "P58": _Setting(("0",), (_ONE,)),
    CHANNELS: _Setting(("1",) * 5, (_ONE,) * 5),
    "P61": _Setting(("30",), ((0, 90),)),
    "P83": _Setting(("1",), ((1, 10),)),
    "P94": _Setting(("0",), (None,)),
}
WORDS: Final = frozenset(_SETTINGS) - {_SPARE}


@define
class Settings:
    """The settings of one master."""

    _values: dict[str, _Arguments] = field(factory=dict, repr=False)

    def of(self, word: str) -> _Arguments:
        """Return the current values of a setting."""
        return self._values.get(word, _SETTINGS[word].values)

    def carry_out(self, word: str, arguments: _Arguments, *, refuse: bool) -> _Arguments | None:
        """Process a command; return the arguments of its answer, None for none. `refuse` sets nothing."""
        operation, values = arguments[:1], arguments[1:]
        if word == SERVER and operation in (("2",), ("3",)):
            word, operation = _SPARE, ("1" if operation == ("3",) else "0",)
        setting = _SETTINGS[word]
        if operation == ("1",) and setting.takes(values):
            if not refuse:
                self._values[word] = values
        elif operation != ("0",) or values:
            return None
        return *(operation if setting.operation else ()), *self.of(word), *setting.behind

    def reset(self) -> None:
        """Restore the factory settings, except those that a unit keeps."""
        self._values = {word: values for word, values in self._values.items() if _SETTINGS[word].kept}


@define
class Fences:
    """Up to ten, by number: on or off, a name, and pages of nodes (longitude, latitude, …)."""

    _heads: dict[str, _Arguments] = field(factory=dict)
    _pages: dict[str, dict[int, _Arguments]] = field(factory=dict)

    def head(self, arguments: _Arguments) -> _Arguments | None:
        """Process P24, which names and switches a fence, or asks for that."""
        match arguments:
            case ("1", fence, ("0" | "1") as on, name) if within(fence, _FENCES) and _NAME.fullmatch(name):
                self._heads[fence] = (on, name)
            case ("0", fence) if within(fence, _FENCES):
                pass
            case _:
                return None
        return arguments[1], *self._heads.get(arguments[1], ("0", ""))

    def nodes(self, arguments: _Arguments) -> list[_Arguments]:
        """Process P29, which sets a page or asks for all; return one answer per page."""
        match arguments:
            case ("1", fence, page, count, *places) if within(fence, _FENCES) and within(page, _PAGES):
                most = within(count, (1, _PAGE)) and len(places) == _NODE * int(count)
                if not most or not all(map(_PLACE.fullmatch, places)):
                    return []
                pages = self._pages.setdefault(fence, {})
                if page == "1":
                    pages.clear()
                pages[int(page)] = tuple(places)
                return [self._page(fence, int(page))]
            case ("0", fence) if within(fence, _FENCES):
                return [self._page(fence, page) for page in sorted(self._pages.get(fence, {})) or (1,)]
        return []

    def delete(self, arguments: _Arguments) -> _Arguments | None:
        """Process P30, which deletes a fence; the answer says whether it existed."""
        if len(arguments) != 1 or not within(arguments[0], _FENCES):
            return None
        known = self._pages.pop(arguments[0], None)
        return ("0" if known is None else "1",)

    def _page(self, fence: str, page: int) -> _Arguments:
        pages = self._pages.get(fence, {})
        places = pages.get(page, ())
        total = sum(map(len, pages.values())) // _NODE
        return fence, str(total), str(page), str(len(places) // _NODE), *places
