"""Finds the word in a sentence that passwords may follow, also in damaged sentences.

Sentences have no check byte: one damaged byte in the head or in the word makes another sentence.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from attrs import frozen

#: The last possible place of the word: after id, version and serial, or after a surplus comma.
_LAST_WORD: Final = 4
#: Words that units use: letters and digits. Other text in the word's place is a damaged word.
_WORD: Final = re.compile(r"@JT|[A-Za-z][A-Za-z0-9_]{1,15}")
#: Words of the `Pnn` form, each with its own meaning.
_PNN: Final = re.compile(r"P[0-9]{2}")
_HEAD_NUMBER: Final = re.compile(r"[0-9]{1,3}")
#: A word of so many letters is distinguishable from noise at any place.
_LONG: Final = 5
#: After an unknown word, shorter parts are results, counters and switches.
_SHORTEST: Final = 3
#: A number that can't contain a word, damaged or not: one with a point is longer than any word.
_NUMBER: Final = r",(?:[0-9]+|[0-9.]{7,})"
#: The usual beginning of a sentence, up to `_LAST_WORD`: a word unlike the secret ones, between numbers.
_USUAL: Final = re.compile(
    rf"[0-9]+,(?:(?:P[0-9]{{2}}|@JT)(?:(?:{_NUMBER}){{3}}(?:,|\Z)|(?:{_NUMBER}){{0,2}}\Z)"
    r"|[0-9]{1,3},[0-9]{1,3},(?:BASE|WLNET)(?:,[0-9]+(?:,|\Z)|\Z))"
)


@frozen
class Found:
    """The part from which on passwords may occur, and the word before it; `word` is None if damaged.

    The first `shown` characters of the part `at` are no password, nor are later parts shorter than
    `shortest`.
    """

    at: int
    word: str | None = None
    shown: int = 0
    shortest: int = 1

    def masked(self, parts: Sequence[str], mask: str) -> list[str]:
        """Return the parts of a damaged sentence with possible passwords masked."""
        first = parts[self.at][: self.shown] + mask * (len(parts[self.at]) - self.shown)
        behind = [mask * len(part) if len(part) >= self.shortest else part for part in parts[self.at + 1 :]]
        return [*parts[: self.at], first, *behind]


@frozen
class _Shapes:
    """Patterns that recognise the words, whole and damaged."""

    #: Any of the words inside a text, and any of those that are distinguishable from noise at any place.
    within: re.Pattern[str]
    long_within: re.Pattern[str]
    long: tuple[str, ...]
    #: Length of the longest word, with one inserted character.
    longest: int


@lru_cache(maxsize=16)
def _shapes(words: frozenset[str]) -> _Shapes:
    long = tuple(sorted(word for word in words if len(word) >= _LONG))
    within, long_within = ("|".join(map(re.escape, some)) or r"(?!)" for some in (sorted(words), long))
    return _Shapes(re.compile(within), re.compile(long_within), long, max(map(len, words), default=0) + 1)


def find(parts: Sequence[str], words: frozenset[str]) -> Found | None:
    """Find where passwords may occur; `parts` are the texts between the commas of a sentence.

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
    # Without an id it is a sentence to a lock, or not a sentence.
    at = _word_at(parts) if parts[0].isdecimal() else count
    if at < count and not _WORD.fullmatch(parts[at]):
        return Found(at, None, len(parts[at]) if len(parts[at]) < _SHORTEST else 0, _SHORTEST)
    return None


def _word_at(parts: Sequence[str]) -> int:
    """Return the expected place of the word in a sentence with an id."""
    is_grouped = len(parts) > 3 and _HEAD_NUMBER.fullmatch(parts[1]) and _HEAD_NUMBER.fullmatch(parts[2])
    return 3 if is_grouped else 1


def _damaged(part: str, following: str, index: int, words: frozenset[str], shapes: _Shapes) -> int:
    """Return how many characters of a part are one of the words, damaged or joined; 0 if none."""
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
    """Return whether a short text is similar to one of the words. Cached, since units have few words."""
    return any(_is_near(text, word) for word in words)


def _is_near(text: str, word: str) -> bool:
    """Return whether the texts differ by one changed, lost or inserted character."""
    if abs(len(text) - len(word)) > 1:
        return False
    shorter = min(len(text), len(word))
    at = next((at for at in range(shorter) if text[at] != word[at]), shorter)
    rest, tail = text[at:], word[at:]
    return rest[1:] == tail[1:] or rest[1:] == tail or rest == tail[1:]
