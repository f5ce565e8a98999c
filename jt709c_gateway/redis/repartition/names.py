"""What becomes of each key of the contract when the number of partitions changes."""

from collections.abc import Iterator
from enum import Enum, auto
from inspect import signature
from typing import Final

from attrs import frozen

from jt709c_gateway.redis.keys import Keys

_VARIABLE: Final = "\0"


class Fate(Enum):
    """What becomes of a key."""

    WHOLE = auto()
    """Copied unchanged to the partition of its name."""
    OWNED = auto()
    """Copied unchanged to the partition of the device in its field `device`."""
    SPLIT = auto()
    """Divided by the device of each element."""
    STREAM = auto()
    """Divided by the device of each entry, in order."""
    LIST = auto()
    """Appended to that of the partition that takes over what belongs to no device."""
    COMMON = auto()
    """Made anew for each partition from all of them."""
    PASSED_ON = auto()
    """Entries that are passed on after all else; more may be pushed meanwhile."""
    DROPPED = auto()
    """Of use to a running gateway only."""
    OURS = auto()
    """Written by the move itself."""


#: By the name in `Keys`.
FATES: Final = {
    **dict.fromkeys(("device", "label", "history", "track", "recent", "session"), Fate.WHOLE),
    **dict.fromkeys(("secret", "peripherals", "waiting", "unsettled", "reply", "batch"), Fate.WHOLE),
    **dict.fromkeys(("command", "peripheral"), Fate.OWNED),
    **dict.fromkeys(("devices", "histories", "deadlines", "recent_commands", "imei"), Fate.SPLIT),
    **dict.fromkeys(("allowed", "labels", "online_at", "under_way"), Fate.SPLIT),
    **dict.fromkeys(("events", "malformed"), Fate.STREAM),
    "invalid": Fate.LIST,
    **dict.fromkeys(("epoch", "gateways", "let_go", "area", "areas"), Fate.COMMON),
    **dict.fromkeys(("commands", "intake", "transfers"), Fate.PASSED_ON),
    **dict.fromkeys(("spared", "commit_marker", "route", "transfer_lease", "gateway"), Fate.DROPPED),
    "label_changes": Fate.DROPPED,
    "batch_lease": Fate.DROPPED,
    "partitions": Fate.OURS,
}
#: The type of the keys that are divided.
TYPES: Final = {
    **dict.fromkeys(("devices", "histories", "deadlines", "recent_commands"), "zset"),
    **dict.fromkeys(("allowed", "labels", "online_at"), "set"),
    **dict.fromkeys(("imei", "under_way"), "hash"),
}


@frozen
class Name:
    """A key of the contract.

    `kind` is its name in `Keys`, `of` the variable part, and `text` all that follows the prefix and colon.
    """

    kind: str
    of: bytes
    text: bytes

    @property
    def fate(self) -> Fate:
        """What becomes of the key."""
        return FATES[self.kind]

    @property
    def owner(self) -> str:
        """The variable part as text, to find its partition."""
        return self.of.decode("utf-8", "replace")


def _families() -> Iterator[tuple[str, bytes, bool]]:
    """Yield the name in `Keys`, the constant beginning without the first colon, and whether more follows."""
    keys = Keys("")
    for kind in FATES:
        found = getattr(keys, kind)
        variable = not isinstance(found, str)
        text = found(*[_VARIABLE for _ in signature(found).parameters]) if variable else found
        yield kind, text.partition(_VARIABLE)[0][1:].encode(), variable


_FIXED: Final = {text: kind for kind, text, variable in _families() if not variable}
#: The longest first: some begin like others.
_BEGINNINGS: Final = sorted(
    ((text, kind) for kind, text, variable in _families() if variable),
    key=lambda one: len(one[0]),
    reverse=True,
)


def parse_name(text: bytes) -> Name | None:
    """Return the key whose name is `text` behind the prefix and its colon; None when it is none of ours."""
    fixed = _FIXED.get(text)
    if fixed is not None:
        return Name(fixed, b"", text)
    for beginning, kind in _BEGINNINGS:
        if text.startswith(beginning) and len(text) > len(beginning):
            return Name(kind, text[len(beginning) :], text)
    return None


def fixed_text(kind: str) -> bytes:
    """Return what follows the prefix and its colon in the name of a key without a variable part."""
    return next(text for text, one in _FIXED.items() if one == kind)


def begins(kind: str) -> bytes:
    """Return what the names of a kind begin with, behind the prefix and its colon."""
    return next(text for text, one in _BEGINNINGS if one == kind)
