"""Event ids: unique across gateways, and ordered by time within one."""

import secrets
from collections.abc import Callable
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Last two characters of the millisecond; the others change about once a second.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
#: Last two digits of the counter; the rest is the same for 256 consecutive ids.
_LAST: Final = [f"{number:02X}" for number in range(256)]


def _base32(number: int, length: int) -> str:
    """A number in Crockford's base 32, as in a ULID."""
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (length - 1), -1, -5))


class EventIds:
    """Makes ids like `gw1-01JD8ZQ5Y3K7M2QX00000A1B`.

    They consist of the gateway's name, the millisecond (10 characters), six random characters per run, and a
    counter in hex. `clock` gives epoch seconds.
    """

    def __init__(self, gateway: str, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._run = _base32(secrets.randbits(30), 6)
        self._count = 0
        self._millisecond = self._second = -1
        self._head = self._prefix = self._page = ""
        self.tick()

    def tick(self) -> None:
        """Use the current time in the following ids; one call per chunk of input is enough."""
        millisecond = int(self._clock() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second = millisecond >> 10
            if second != self._second:
                self._second = second
                self._head = f"{self._gateway}-{_base32(second, 8)}"
            self._prefix = f"{self._head}{_PAIRS[millisecond & 1023]}{self._run}"
            self._turn()

    def _turn(self) -> None:
        self._page = f"{self._prefix}{self._count >> 8:06X}"

    def __call__(self) -> str:
        """The next id."""
        self._count = count = self._count + 1
        if not count & 0xFF:
            self._turn()
        return self._page + _LAST[count & 0xFF]
