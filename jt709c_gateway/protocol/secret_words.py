"""Finding the word in a sentence behind which passwords may stand, also where the sentence is damaged.

Sentences have no check byte: one damaged byte in the head or in the word makes another sentence of it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
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
#: A number in which no word can be, damaged or not: one with a point is longer than any of them.
_NUMBER: Final = r",(?:[0-9]+|[0-9.]{7,})"
#: How nearly all sentences begin, up to `_LAST_WORD`: a word far from the others, with numbers around it.
_USUAL: Final = re.compile(
    rf"[0-9]+,(?:(?:P[0-9]{{2}}|@JT)(?:(?:{_NUMBER}){{3}}(?:,|\Z)|(?:{_NUMBER}){{0,2}}\Z)"
    r"|[0-9]{1,3},[0-9]{1,3},(?:BASE|WLNET)(?:,[0-9]+(?:,|\Z)|\Z))"
)


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


@frozen
class _Shapes:
    """What tells the words, whole and damaged, from all else."""

    #: Any of the words inside a text, and any of those that are told from noise wherever they stand.
    within: re.Pattern[str]
    long_within: re.Pattern[str]
    long: tuple[str, ...]
    #: Characters of the longest, with one put in.
    longest: int


@lru_cache(maxsize=16)
def _shapes(words: frozenset[str]) -> _Shapes:
    long = tuple(sorted(word for word in words if len(word) >= _LONG))
    within, long_within = ("|".join(map(re.escape, some)) or r"(?!)" for some in (sorted(words), long))
    return _Shapes(re.compile(within), re.compile(long_within), long, max(map(len, words), default=0) + 1)


def find(parts: Sequence[str], words: frozenset[str]) -> Found | None:
    """Where passwords may stand; `parts` are what stands between the commas of a sentence.

    Each of the words has a letter in it, and neither a comma nor a blank.
    """
    if not words.isdisjoint(parts):
        index, word = next((index, part) for index, part in enumerate(parts) if part in words)
        return Found(index, word, len(word))
    shapes = _shapes(words)
    count = len(parts)
    everything = ",".join(parts)
    is_anywhere = shapes.long_within.search(everything.upper())
    if not is_anywhere and _USUAL.match(everything):
        return None
    for index in range(1, count if is_anywhere else min(count, _LAST_WORD + 1)):
        part = parts[index]
        if part.isdecimal():
            continue
        following = parts[index + 1] if index + 1 < count else ""
        if shown := _damaged(part, following, index, words, shapes):
            return Found(index, None, shown)
    # Without an id it is a sentence to a lock, or none at all.
    at = _word_at(parts) if parts[0].isdecimal() else count
    if at < count and not _WORD.fullmatch(parts[at]):
        return Found(at, None, len(parts[at]) if len(parts[at]) < _SHORTEST else 0, _SHORTEST)
    return None


def _word_at(parts: Sequence[str]) -> int:
    """The part in which the word of a sentence with an id should be."""
    is_grouped = len(parts) > 3 and _HEAD_NUMBER.fullmatch(parts[1]) and _HEAD_NUMBER.fullmatch(parts[2])
    return 3 if is_grouped else 1


def _damaged(part: str, following: str, index: int, words: frozenset[str], shapes: _Shapes) -> int:
    """How much of a part is one of the words, damaged or run into another part; 0 where it is none."""
    text = part.upper()
    if index > _LAST_WORD:
        found = shapes.long_within.search(text)
        return found.end() if found else 0
    if len(text) >= _SHORTEST and (found := shapes.within.search(text)):
        return found.end()
    stripped = text.strip()
    if len(stripped) > shapes.longest or stripped.isdecimal() or _PNN.fullmatch(stripped):
        return 0
    if _is_near_any(stripped, words):
        return len(part)
    joined = stripped + following.strip().upper()
    if len(joined) > shapes.longest:
        return 0
    is_one = joined in words or any(_is_near(joined, word) for word in shapes.long)
    return len(part) if is_one else 0


@lru_cache(maxsize=1024)
def _is_near_any(text: str, words: frozenset[str]) -> bool:
    """Whether a short text is near to one of the words. Remembered, since units have few words."""
    return any(_is_near(text, word) for word in words)


def _is_near(text: str, word: str) -> bool:
    """Whether one character changed, lost or put in makes one of the other."""
    if abs(len(text) - len(word)) > 1:
        return False
    shorter = min(len(text), len(word))
    at = next((at for at in range(shorter) if text[at] != word[at]), shorter)
    rest, tail = text[at:], word[at:]
    return rest[1:] == tail[1:] or rest[1:] == tail or rest == tail[1:]
