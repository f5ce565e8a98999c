"""ASCII sentences, grouped and `Pnn` (docs/protocol.rst §2.1, §2.2).

::

    (device id,version,serial,GROUP,number[,function][,parameters…])    both of one to three decimal digits
    (device id,Pnn[,parameters…])                                        also @JT for a heartbeat

Sentences to a lock have version 1 and a serial of three digits. Units answer under other versions, too.
"""

import re
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol import secret_words
from jt709c_gateway.protocol.device_id import canonical

#: The mask for one byte of a password.
MASK: Final = "*"
#: Passwords have six characters; shorter arguments than this are results, counters and switches.
_SECRET_LENGTH: Final = 4
_PASSWORD_LENGTH: Final = 6
#: Words whose arguments may contain a password (docs/protocol.rst §2, §4): P06 the APN's, OTA an FTP
#: server's.
SECRET_WORDS: Final = frozenset(["ELOCK", "P43", "P44", "P52", "P06", "OTA"])
#: P06: the APN's user and password follow host, port and APN, which follow the operation in a command; the
#: mark after them says which server it is.
_APN_WORD: Final = "P06"
_APN_OPERATIONS: Final = frozenset("0123")
_APN_SECRETS_AT: Final = 3
_SERVER_MARKS: Final = ("0", "1")
#: OTA,9,1: user and password follow host and port; file, bytes and checksum follow them.
_FTP_WORD: Final = "OTA"
_FTP_SECRETS_AT: Final = range(4, 6)
#: P52 with one of these is followed by dynamic passwords.
_DYNAMIC_WORD: Final = "P52"
_DYNAMIC_OPERATIONS: Final = ("0", "2")
DYNAMIC_PASSWORD: Final = ("ELOCK", "3")
DYNAMIC_PASSWORD_PNN: Final = ("P52", "2")
TIME_REQUEST: Final = ("BASE", "2", "TIME")
#: The version in commands.
USUAL_VERSION: Final = 1
#: Units that send one of these versions get commands with the same version (JT701T: 23).
OWN_VERSIONS: Final = frozenset([23])

#: A version or a serial in the head of a grouped sentence, and the beginning of the word after them.
_HEAD_NUMBER = re.compile(r"[0-9]{1,3}")
_GROUP = re.compile(r"[A-Za-z]")


class SentenceError(Exception):
    """A sentence without a device id or without a word."""


@define
class Sentence:
    """A parsed sentence. `serial` and `version` are None in the `Pnn` form, which has neither.

    `word` is the group (`BASE`) or the word (`P43`); `arguments` are the rest.
    """

    device: str
    serial: int | None
    word: str
    arguments: tuple[str, ...] = field(repr=False)
    version: int | None = None

    @property
    def grouped(self) -> bool:
        """Whether this is the grouped form, whose serial links an answer to its command."""
        return self.serial is not None

    @property
    def is_command(self) -> bool:
        """Whether this is to a lock: an `ELOCK` with a password, which no lock sends back (assumed).

        False for other commands of the grouped form too, which look like answers.
        """
        return (
            self.grouped
            and self.version == USUAL_VERSION
            and self.word == "ELOCK"
            and len(self.arguments) > 1
            and self.starts[:2] != DYNAMIC_PASSWORD
            and len(self.arguments[-1]) == _PASSWORD_LENGTH
        )

    @property
    def starts(self) -> tuple[str, ...]:
        """Word and arguments in one tuple, for comparison with an expected beginning."""
        return (self.word, *self.arguments)


def parse(raw: bytes) -> Sentence:
    """Parse `(…)`; SentenceError when it is no sentence of either form.

    Bytes map to characters one to one (Latin-1): a WLNET payload is binary.
    """
    parts = raw[1:-1].decode("latin-1").split(",")
    device = parts[0]
    if not (device.isascii() and device.isdigit() and len(device) <= 20):
        raise SentenceError("a sentence starts with the digits of a device id")
    version = serial = None
    if (
        len(parts) >= 4
        and _HEAD_NUMBER.fullmatch(parts[1])
        and _HEAD_NUMBER.fullmatch(parts[2])
        and _GROUP.match(parts[3])
    ):
        word, version, serial, rest = parts[3], int(parts[1]), int(parts[2]), parts[4:]
    elif len(parts) >= 2:
        word, rest = parts[1], parts[2:]
    else:
        raise SentenceError("a sentence has a word behind the device id")
    if not word or not word.isascii() or not word.isprintable() or len(word) > 16:
        raise SentenceError("a sentence's word has 1 to 16 printable characters")
    return Sentence(canonical(device), serial, word, tuple(rest), version)


def grouped(device: str, serial: int, group: str, *parameters: str, version: int = USUAL_VERSION) -> bytes:
    """Encode the grouped form, serial modulo 1000. Units drop a repeated serial (docs/protocol.rst §2.1)."""
    parts = (device, str(version), f"{serial % 1000:03d}", group, *parameters)
    return f"({','.join(parts)})".encode("ascii")


def time_answer(raw: bytes, now: datetime) -> bytes:
    """Answer `…BASE,2,TIME)`: the same head and the time, `yyyyMMddHHmmss` in UTC."""
    head = raw[: raw.index(b",TIME") + 1]
    return head + now.astimezone(UTC).strftime("%Y%m%d%H%M%S").encode("ascii") + b")"


def mask(raw: bytes) -> tuple[str, bool]:
    """Return the sentence as text with every password masked, and whether there was one.

    If the word is damaged, all possible passwords are masked.
    """
    text = raw.decode("latin-1")
    parts = text[1:-1].split(",")
    found = secret_words.find(parts, SECRET_WORDS)
    if found is None:
        return text, False
    if found.word is None:
        masked = found.masked(parts, MASK)
    else:
        behind = found.at + 1
        masked = [*parts[:behind], *mask_arguments(found.word, parts[behind:])]
    return f"({','.join(masked)})", masked != parts


def mask_arguments(word: str, arguments: list[str] | tuple[str, ...]) -> list[str]:
    """Return the arguments of `word` with possible passwords masked."""
    if word not in SECRET_WORDS:
        return list(arguments)
    if (word, *arguments[:-1]) == DYNAMIC_PASSWORD:
        return [arguments[0], MASK * len(arguments[1])]
    return [
        MASK * len(argument) if _secret(word, index, arguments) else argument
        for index, argument in enumerate(arguments)
    ]


def _secret(word: str, index: int, arguments: list[str] | tuple[str, ...]) -> bool:
    if word == _FTP_WORD:
        return index in _FTP_SECRETS_AT
    if word == _APN_WORD:
        first = _APN_SECRETS_AT + (arguments[0] in _APN_OPERATIONS)
        is_mark = index == first + 2 and arguments[index].strip() in _SERVER_MARKS
        return index >= first and not is_mark
    if word == _DYNAMIC_WORD and index and arguments[0].strip() in _DYNAMIC_OPERATIONS:
        return True
    return len(arguments[index]) >= _SECRET_LENGTH
