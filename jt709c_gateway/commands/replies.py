"""Matches the answers of locks to commands and interprets them (docs/protocol.rst §2, §4).

Grouped sentences and JT/T 808 answers repeat the serial of the command. ``Pnn`` sentences have no serial and
match by their word, which is unambiguous because a lock has one command in flight at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

import attrs

from jt709c_gateway.commands.masking import MASK, item_key
from jt709c_gateway.commands.model import truncate

LAST: Final = -1
"""The position of the last argument of an answer."""

TERMINAL_RESULTS: Final[Mapping[int, str]] = {
    1: "the lock could not do it",
    2: "the lock found the message wrong",
    3: "the lock does not support it",
}
"""The errors among the results of 0x0001 (docs/protocol.rst §1)."""


@attrs.frozen
class SentenceReply:
    """A grouped sentence: ``(device,1,serial,GROUP,number,parameters…)`` (docs/protocol.rst §2.1)."""

    serial: int | None
    group: str
    number: int | None
    parameters: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class PnnReply:
    """A ``Pnn`` sentence: ``(device,word,arguments…)`` (docs/protocol.rst §2.2)."""

    word: str
    arguments: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class TerminalReply:
    """A general answer, 0x0001: a result, with serial and id of the message (docs/protocol.rst §1)."""

    serial: int
    message_id: int
    result: int


@attrs.frozen
class DataReply:
    """An answer with data: 0x0104, 0x0201, or 0x0107, which has no serial (``None``).

    ``message_id`` is that of the answer. ``data`` is JSON-serializable; the parameters of 0x0104 have their
    ids in hex as keys, so that the secret ones can be masked.
    """

    serial: int | None
    message_id: int
    data: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


Reply: TypeAlias = SentenceReply | PnnReply | TerminalReply | DataReply


@attrs.frozen
class Answer:
    """The meaning of a reply for its command; secrets are masked.

    ``understood`` is false if the profile does not know the result; such an answer neither accepts nor
    refuses. ``final`` is false if the requested data is still to come.
    """

    accepted: bool
    reason: str | None = None
    wrong_password: bool = False
    arguments: tuple[str, ...] = ()
    data: Mapping[str, Any] | None = None
    understood: bool = True
    final: bool = True


class ReplyKind(StrEnum):
    """The type of the reply that a command expects."""

    SENTENCE = "sentence"
    PNN = "pnn"
    TERMINAL = "terminal"
    ANY = "any"
    NONE = "none"


@attrs.frozen
class ReplyRule:
    """The expected reply to a command, from the ``reply`` table of a profile.

    ``starts`` are the first arguments of the reply. ``result`` is the position, from 0 or :data:`LAST`, of
    the argument that holds the outcome; without it every matching reply accepts. ``data`` is the id of the
    JT/T 808 message with the requested data. ``secret_arguments`` (positions) and ``secret_items`` (ids) are
    masked.
    """

    kind: ReplyKind
    group: str = ""
    number: int | None = None
    word: str = ""
    message_id: int | None = None
    data: int | None = None
    starts: tuple[str, ...] = ()
    result: int | None = None
    accepted: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    wrong_password: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = attrs.field(factory=dict)
    secret_arguments: frozenset[int] = frozenset()
    secret_items: frozenset[str] = frozenset()


def match(rule: ReplyRule, serial: int | None, reply: Reply) -> Answer | None:
    """Interpret ``reply`` as the answer to a command with ``serial``; ``None`` if it does not match.

    If the command requests data, a 0x0001 "done" is an answer that isn't final: the data follow.
    """
    if rule.kind is ReplyKind.NONE:
        return None
    if rule.kind is ReplyKind.ANY:
        return _any(reply)
    if isinstance(reply, SentenceReply):
        return _sentence(rule, serial, reply)
    if isinstance(reply, PnnReply):
        matches = rule.kind is ReplyKind.PNN and reply.word == rule.word
        return _outcome(rule, reply.arguments) if matches else None
    if rule.kind is not ReplyKind.TERMINAL:
        return None
    if isinstance(reply, TerminalReply):
        matches = reply.serial == serial and reply.message_id == rule.message_id
        return _result(reply.result, final=rule.data is None) if matches else None
    matches = reply.message_id == rule.data and reply.serial in (serial, None)
    return Answer(True, data=_mask_items(reply.data, rule.secret_items)) if matches else None


def _sentence(rule: ReplyRule, serial: int | None, reply: SentenceReply) -> Answer | None:
    if rule.kind is not ReplyKind.SENTENCE or reply.serial is None:
        return None
    if (reply.serial, reply.group, reply.number) != (serial, rule.group, rule.number):
        return None
    return _outcome(rule, reply.parameters)


def _outcome(rule: ReplyRule, arguments: tuple[str, ...]) -> Answer | None:
    if arguments[: len(rule.starts)] != rule.starts:
        return None
    # An empty one is none: dynamic passwords are off, or the access point needs no password.
    public = tuple(
        MASK if argument and position in rule.secret_arguments else argument
        for position, argument in enumerate(arguments)
    )
    if rule.result is None:
        return Answer(True, arguments=public)
    if rule.result >= len(arguments) or not arguments:
        return Answer(False, "the lock's answer holds no result", arguments=public, understood=False)
    value = arguments[rule.result]
    if value in rule.accepted:
        return Answer(True, arguments=public)
    wrong_password = value in rule.wrong_password
    if wrong_password or value in rule.refused:
        plain = "wrong password" if wrong_password else f"the lock answered {truncate(value)}"
        return Answer(False, rule.reasons.get(value, plain), wrong_password, public)
    reason = f"the lock answered {truncate(value)}, which the profile does not know"
    return Answer(False, reason, arguments=public, understood=False)


def _result(result: int, *, final: bool) -> Answer:
    if result == 0:
        return Answer(True, arguments=("0",), final=final)
    known = TERMINAL_RESULTS.get(result)
    reason = known or f"the lock answered {result}, which the standard does not know"
    return Answer(False, reason, arguments=(str(result),), understood=known is not None)


def _any(reply: Reply) -> Answer:
    # No arguments: no rule says which are secret. The event of the reply itself shows them, masked.
    return _result(reply.result, final=True) if isinstance(reply, TerminalReply) else Answer(True)


def _mask_items(data: Mapping[str, Any], secret: frozenset[str]) -> dict[str, Any]:
    hidden = {item_key(item) for item in secret}
    return {
        key: MASK
        if item_key(key) in hidden
        else _mask_items(value, secret)
        if isinstance(value, Mapping)
        else value
        for key, value in data.items()
    }
