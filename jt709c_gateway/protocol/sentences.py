"""ASCII sentences, grouped and `Pnn` (PROTOCOL.md §2.1, §2.2).

::

    (device id,1,serial,GROUP,number[,function][,parameters…])    serial: three decimal digits
    (device id,Pnn[,parameters…])                                  also @JT for a heartbeat
"""

from datetime import UTC, datetime
from typing import Final

from attrs import define, field

#: What stands for one byte of a password.
MASK: Final = "*"
#: Passwords have six characters; shorter arguments than this are results, counters and switches.
_SECRET_LENGTH: Final = 4
#: Words whose arguments may hold a password (PROTOCOL.md §2, §4): ELOCK, and P43, P44, P52, P06 (APN).
SECRET_WORDS: Final = frozenset(["ELOCK", "P43", "P44", "P52", "P06"])
#: P06 carries the APN's user and password behind the host, port and APN, in any length.
_APN_WORD: Final = "P06"
_APN_SECRETS_FROM: Final = 4
DYNAMIC_PASSWORD: Final = ("ELOCK", "3")
DYNAMIC_PASSWORD_PNN: Final = ("P52", "2")
TIME_REQUEST: Final = ("BASE", "2", "TIME")


class SentenceError(Exception):
    """A sentence that has no device id or no word."""


@define
class Sentence:
    """A sentence taken apart. `serial` is None in the `Pnn` form, which has none.

    `word` is the group (`BASE`) or the word (`P43`); `arguments` is all that follows it.
    """

    device: str
    serial: int | None
    word: str
    arguments: tuple[str, ...] = field(repr=False)

    @property
    def grouped(self) -> bool:
        """Whether this is the grouped form, in which a serial tells which command an answer belongs to."""
        return self.serial is not None

    @property
    def starts(self) -> tuple[str, ...]:
        """Word and arguments in one tuple, to compare with what a sentence should begin with."""
        return (self.word, *self.arguments)


def parse(raw: bytes) -> Sentence:
    """Read `(…)`; SentenceError when it is no sentence of either form.

    Bytes map to characters one to one (Latin-1): a WLNET payload is binary.
    """
    parts = raw[1:-1].decode("latin-1").split(",")
    device = parts[0]
    if not (device.isascii() and device.isdigit() and len(device) <= 20):
        raise SentenceError("a sentence starts with the digits of a device id")
    if len(parts) >= 4 and parts[1] == "1" and len(parts[2]) == 3 and parts[2].isdecimal():
        word, serial, rest = parts[3], int(parts[2]), parts[4:]
    elif len(parts) >= 2:
        word, serial, rest = parts[1], None, parts[2:]
    else:
        raise SentenceError("a sentence has a word behind the device id")
    if not word or not word.isascii() or not word.isprintable() or len(word) > 16:
        raise SentenceError("a sentence's word has 1 to 16 printable characters")
    return Sentence(device.lstrip("0") or "0", serial, word, tuple(rest))


def grouped(device: str, serial: int, group: str, *parameters: str) -> bytes:
    """Encode the grouped form, serial modulo 1000. A unit drops a repeated one (PROTOCOL.md §2.1)."""
    return ("(" + ",".join((device, "1", f"{serial % 1000:03d}", group, *parameters)) + ")").encode("ascii")


def time_answer(raw: bytes, now: datetime) -> bytes:
    """Answer `…BASE,2,TIME)`: the same head and the time, `yyyyMMddHHmmss` in UTC."""
    head = raw[: raw.index(b",TIME") + 1]
    return head + now.astimezone(UTC).strftime("%Y%m%d%H%M%S").encode("ascii") + b")"


def mask(raw: bytes) -> tuple[str, bool]:
    """The sentence as text with every password in it as `*`, and whether there was one."""
    text = raw.decode("latin-1")
    parts = text[1:-1].split(",")
    word_at = next((index for index, part in enumerate(parts) if part in SECRET_WORDS), None)
    if word_at is None:
        return text, False
    masked = [*parts[: word_at + 1], *mask_arguments(parts[word_at], parts[word_at + 1 :])]
    return f"({','.join(masked)})", masked != parts


def mask_arguments(word: str, arguments: list[str] | tuple[str, ...]) -> list[str]:
    """The arguments of `word` with those that may be passwords as `*`."""
    if word not in SECRET_WORDS:
        return list(arguments)
    if (word, *arguments[:-1]) == DYNAMIC_PASSWORD:
        return [arguments[0], MASK * len(arguments[1])]
    reported = (word, *arguments[:1]) == DYNAMIC_PASSWORD_PNN
    return [
        MASK * len(argument) if (reported and index == 1) or _secret(word, index, argument) else argument
        for index, argument in enumerate(arguments)
    ]


def _secret(word: str, index: int, argument: str) -> bool:
    if word == _APN_WORD:
        return index >= _APN_SECRETS_FROM
    return len(argument) >= _SECRET_LENGTH
