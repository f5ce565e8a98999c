"""Tells which reports of a device have come before (docs/redis.rst, "Repeated reports")."""

from collections import deque
from collections.abc import Callable, Set
from typing import Final

from attrs import define, evolve, field

from jt709c_gateway.protocol.message import CONTENT, NO_KEY, Message

#: Contents kept of reports that were received after the last claim; a message may have several reports.
MAX_HEARD: Final = 256


def _keys_of(message: Message, fingerprint: str) -> list[str]:
    """The key of the content of each event of a message."""
    keys = message.keys_of_several() or [fingerprint] * len(message.events)
    return [key[:CONTENT] for key in keys]


def _without(message: Message, is_known: Callable[[str], bool]) -> Message:
    """The message without the events whose content is known."""
    if (fingerprint := message.fingerprint) is None:
        return message
    keys = _keys_of(message, fingerprint)
    events = [event for event, key in zip(message.events, keys, strict=True) if not is_known(key)]
    return message if len(events) == len(message.events) else evolve(message, events=events)


def without_committed(message: Message, news: Message, fingerprints: Set[str]) -> Message | None:
    """`news` of a message without the reports that Redis has; None when Redis has the whole message.

    `fingerprints` are those of the device's last reports in Redis.
    """
    if message.fingerprint in fingerprints:
        return None
    rest = _without(message, {one[:CONTENT] for one in fingerprints}.__contains__)
    both = [event for event in news.events if any(event is one for one in rest.events)]
    return evolve(news, events=both)


@define(eq=False)
class HeardReports:
    """Keeps the reports of one device that have come.

    A lock may send a report again under another serial, or once more from its memory. Taken for a second
    movement, it would confirm a command that moved nothing.
    """

    #: Fingerprints and contents of the reports in Redis at the last claim.
    _committed: Set[str] = field(default=frozenset(), repr=False)
    _contents: Set[str] = field(default=frozenset(), repr=False)
    #: Content and fingerprint of each report received here.
    _heard: deque[tuple[str, str]] = field(factory=lambda: deque(maxlen=MAX_HEARD), repr=False)

    def claimed(self, fingerprints: Set[str]) -> None:
        """Note the fingerprints that a claim has found in Redis."""
        self._committed, self._contents = fingerprints, {one[:CONTENT] for one in fingerprints}

    def hear(self, message: Message) -> Message | None:
        """Note a message; returns it without the reports that have come before, None if it has itself."""
        if (fingerprint := message.fingerprint) is None:
            return message
        if fingerprint in self._committed or any(one == fingerprint for _, one in self._heard):
            return None
        news = _without(message, self._is_known)
        keys = {fingerprint[:CONTENT], *_keys_of(message, fingerprint)}
        self._heard.extend((key, fingerprint) for key in keys)
        return news

    def forget(self, fingerprint: str) -> None:
        """Accept a message again: Redis has not stored the one with this fingerprint."""
        kept = [one for one in self._heard if one[1] != fingerprint]
        self._heard.clear()
        self._heard.extend(kept)

    def _is_known(self, content: str) -> bool:
        if content == NO_KEY:
            return False
        return content in self._contents or any(one == content for one, _ in self._heard)
