"""Finding the word in a sentence behind which passwords may stand, also where the sentence is damaged.

Sentences have no check byte: one damaged byte in the head or in the word makes another sentence of it.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

from attrs import frozen

#: Where the word stands at the latest: behind id, version and serial, or behind a comma too many.
_LAST_WORD: Final = 4
#: Words that units use: letters and digits. What else stands where the word should be is a damaged one.
_WORD: Final = re.compile(r"@JT|[A-Za-z][A-Za-z0-9_]{1,15}")
#: Each word of the `Pnn` form means something of its own.
_PNN: Final = re.compile(r"P[0-9]{2}")
_HEAD_NUMBER: Final = re.compile(r"[0-9]{1,3}")
#: A word of so many letters is told from noise wherever it stands.
_LONG: Final = 5
#: Behind what is no word, shorter parts are results, counters and switches.
_SHORTEST: Final = 3


@frozen
class Found:
    """From which part on passwords may stand, and behind which word; `word` is None where it is damaged.

    Of the part `at` the first `shown` characters are no password, and of those behind it what is shorter than
    `shortest`.
    """

    at: int
    word: str | None = None
    shown: int = 0
    shortest: int = 1

    def masked(self, parts: Sequence[str], mask: str) -> list[str]:
        """The parts of a damaged sentence with what may be a password in them masked."""
        first = parts[self.at][: self.shown] + mask * (len(parts[self.at]) - self.shown)
        behind = [mask * len(part) if len(part) >= self.shortest else part for part in parts[self.at + 1 :]]
        return [*parts[: self.at], first, *behind]


def find(parts: Sequence[str], words: Collection[str]) -> Found | None:
    """Where passwords may stand; `parts` are what stands between the commas of a sentence."""
    for index, part in enumerate(parts):
        if part in words:
            return Found(index, part, len(part))
    for index, part in enumerate(parts[1:], 1):
        shown = _damaged(part, parts[index + 1 : index + 2], index, words)
        if shown:
            return Found(index, None, shown)
    # Without an id it is a sentence to a lock, or none at all.
    at = _word_at(parts) if parts[0].isdecimal() else len(parts)
    if at < len(parts) and not _WORD.fullmatch(parts[at]):
        return Found(at, None, len(parts[at]) if len(parts[at]) < _SHORTEST else 0, _SHORTEST)
    return None


def _word_at(parts: Sequence[str]) -> int:
    """The part in which the word of a sentence with an id should be."""
    return 3 if len(parts) > 3 and all(map(_HEAD_NUMBER.fullmatch, parts[1:3])) else 1


def _damaged(part: str, following: Sequence[str], index: int, words: Collection[str]) -> int:
    """How much of a part is one of the words, damaged or run into another part; 0 where it is none."""
    text = part.upper()
    for word in words:
        if word in text and (len(word) >= _LONG or index <= _LAST_WORD):
            return text.index(word) + len(word)
    stripped = text.strip()
    if index > _LAST_WORD or stripped.isdecimal() or _PNN.fullmatch(stripped):
        return 0
    joined = stripped + "".join(following).strip().upper()
    for word in words:
        if _is_near(stripped, word) or joined == word or (len(word) >= _LONG and _is_near(joined, word)):
            return len(part)
    return 0


def _is_near(text: str, word: str) -> bool:
    """Whether one character changed, lost or put in makes one of the other."""
    if abs(len(text) - len(word)) > 1:
        return False
    shorter = min(len(text), len(word))
    at = next((at for at in range(shorter) if text[at] != word[at]), shorter)
    rest, tail = text[at:], word[at:]
    return rest[1:] == tail[1:] or rest[1:] == tail or rest == tail[1:]
