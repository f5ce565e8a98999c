"""The labels of devices in Redis: what people call them (docs/redis.rst, "State")."""

import unicodedata
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import define
from msgspec import UNSET, UnsetType
from twisted.internet import defer

from jt709c_gateway.commands.value_description import described, unknown_names
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import LABEL, Caller

#: The longest text of each field, in characters.
LABEL_LIMITS: Final = {"name": 64, "group": 64, "plate": 64, "note": 500}
#: Fields of `jt709c:label:<device>`, in the order that `label_of` expects.
LABEL_FIELDS: Final = tuple(LABEL_LIMITS)
_NAMES: Final = ", ".join(LABEL_FIELDS)
#: Labels in one call, which takes the server some milliseconds.
AT_ONCE: Final = 200
#: Changes that are kept for open pages, and for how many seconds after the last one.
_CHANGES: Final = 20_000
_KEPT: Final = 3600
#: Stands for a field that stays as it is; no label has a control character.
_KEEP: Final = "\0"
#: Unicode categories that a label may not have: control characters, surrogates, separators of lines.
_CONTROL: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: They change the direction of the text around them, such as that of an id behind a name.
_DIRECTIONS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """What people call a device; a field that is not set is absent."""

    name: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    plate: str | UnsetType = UNSET
    note: str | UnsetType = UNSET

    def values(self) -> tuple[str, ...]:
        """Return the text of each of `LABEL_FIELDS`; empty for one that is not set."""
        return tuple(getattr(self, name) or "" for name in LABEL_FIELDS)

    def __bool__(self) -> bool:
        """Whether any field is set."""
        return any(self.values())


class LabelError(ValueError):
    """A label that can't be taken; `field` is the field concerned, the text says what is right."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def read_label(fields: Mapping[str, object]) -> Label:
    """Check the fields of a label and return it; empty texts, and None, are not set.

    Blanks around a text are removed. Raises LabelError.
    """
    if unknown := unknown_names(fields, LABEL_FIELDS, "field"):
        raise LabelError(next(iter(fields.keys() - LABEL_LIMITS)), f"unknown {unknown}: expected {_NAMES}")
    return Label(**{name: text for name, value in fields.items() if (text := _checked(name, value))})


def _checked(name: str, value: object) -> str:
    limit = LABEL_LIMITS[name]
    right = f"expected at most {limit} characters on one line"
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LabelError(name, f"{name} is {described(value)}: {right}")
    text = unicodedata.normalize("NFC", value.strip())
    for at, character in enumerate(text, 1):
        if _is_control(character):
            raise LabelError(name, f"{name} has U+{ord(character):04X} as its character {at}: {right}")
    if len(text) > limit:
        raise LabelError(name, f"{name} has {len(text)} characters: {right}")
    return text


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL or character in _DIRECTIONS


def label_of(values: Sequence[bytes | str | None]) -> Label | None:
    """Make the label of the values of `LABEL_FIELDS`; None when none is set.

    Other services may have written what `read_label` would refuse: control characters become blanks, and what
    is too long is cut.
    """
    found = {
        name: text
        for name, value in zip(LABEL_FIELDS, values, strict=False)
        if value and (text := _tolerated(name, value))
    }
    return Label(**found) if found else None


def _tolerated(name: str, value: bytes | str) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    limit = LABEL_LIMITS[name]
    if len(text) <= limit and text.isprintable():
        return text
    return "".join(" " if _is_control(one) else one for one in text[:limit]).strip()


@define(eq=False)
class Labels:
    """Reads and writes the labels of the devices of one partition. Calls fail with txredisapi's errors."""

    caller: Caller
    keys: Keys

    async def read(self, devices: Sequence[str]) -> list[Label | None]:
        """Return the label of each device; None for a device without one."""
        found: list[Label | None] = []
        for some in _chunks(devices):
            asked = [self.caller.call("HMGET", self.keys.label(one), *LABEL_FIELDS) for one in some]
            found += [label_of(values) for values in await _all(asked)]
        return found

    async def labelled(self) -> list[str]:
        """Return the ids of all devices that have a label, in no order."""
        members = await self.caller.call("SMEMBERS", self.keys.labels)
        return [one.decode("utf-8", "replace") for one in members]

    async def all(self) -> dict[str, Label]:
        """Return all labels by their device."""
        devices = await self.labelled()
        labels = await self.read(devices)
        return {device: label for device, label in zip(devices, labels, strict=True) if label is not None}

    async def devices_of(self, names: Sequence[str]) -> list[str]:
        """Return the device of each name that is an IMEI in this partition; other names stay as they are."""
        found: list[str] = []
        for some in _chunks(names):
            replies = await self.caller.call("HMGET", self.keys.imei, *some)
            found += [
                name if device is None else device.decode("utf-8", "replace")
                for name, device in zip(some, replies, strict=True)
            ]
        return found

    async def write(self, labels: Mapping[str, Label]) -> list[str]:
        """Write labels in place of the earlier ones, and return the devices whose label has changed.

        An empty label is removed. Device ids are those of events, without leading zeros.
        """
        whole = {
            device: dict(zip(LABEL_FIELDS, label.values(), strict=True)) for device, label in labels.items()
        }
        return await self.change(whole)

    async def change(self, changes: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Write the given fields of labels; an empty text removes a field, others stay as they are.

        The texts have passed `read_label`. Returns the devices whose label has changed.
        """
        changed: list[str] = []
        for some in _chunks(list(changes)):
            texts: list[str] = []
            for device in some:
                texts += [device, *(changes[device].get(name, _KEEP) for name in LABEL_FIELDS)]
            told = await scripts.run(
                self.caller, LABEL, [self.keys.labels], [self.keys.prefix, _CHANGES, _KEPT, *texts]
            )
            changed += [device for device, differs in zip(some, told, strict=True) if differs]
        return changed

    async def remove(self, device: str) -> bool:
        """Remove the label of a device; return whether it had one."""
        return bool(await self.write({device: Label()}))


def _chunks(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    return (devices[start : start + AT_ONCE] for start in range(0, len(devices), AT_ONCE))


async def _all(asked: Sequence[Awaitable[Any]]) -> list[Any]:
    """Await all replies; raise the first error."""
    try:
        replies: list[Any] = await defer.gatherResults(asked, consumeErrors=True)  # type: ignore[arg-type]
    except defer.FirstError as error:
        failure: Any = error.subFailure
        raise failure.value from None
    return replies
