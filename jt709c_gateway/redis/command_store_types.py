"""Types of the arguments and results of `CommandStore`."""

from collections.abc import Mapping
from enum import IntEnum

from attrs import define, field, frozen

Record = Mapping[str, str]


class Acceptance(IntEnum):
    """The result of accepting a command."""

    QUEUED = 1
    WAITING = 2
    KNOWN = 0
    FULL = -1
    NOT_OURS = -2
    """Another gateway adopted the entry and handles it."""
    RENAMED = -3
    """The name now stands for another device than when it was looked up: look it up again."""


class NotOurs(Exception):
    """A script refused: this gateway counts as dead, or the lock has a newer session (`moved`)."""

    def __init__(self, moved: bool) -> None:
        super().__init__("the lock has a newer session" if moved else "this gateway counts as dead")
        self.moved = moved


@frozen
class SessionClaim:
    """The session for which commands are claimed: its token, and whether its lock has just connected.

    `stored` is false while the session is on its way to Redis.
    """

    token: str
    arrived: bool
    stored: bool


@frozen
class InHand:
    """A command that a gateway holds, and the token of its claim."""

    command: bytes = field(repr=False)
    token: int


@frozen
class Ownership:
    """The holder of a command, which is the run of a gateway or "" for none, and the token of its claim."""

    holder: str
    token: int
    attempts: int
    state: str


@define
class Events:
    """The events of an accepted command, as JSON, and the maximum lengths of the streams."""

    queued: str
    waiting: str
    failed: str
    max_events: int
    max_history: int


@define
class Claim:
    """The result of a claim from a lock's queue. `command` is None when none was claimed."""

    command: bytes | None = field(repr=False)
    record: Record = field(repr=False)
    serial: int
    dialect: str | None
    firmware: str | None
    wrong_passwords: int
    dynamic_password: str | None = field(repr=False)
    unsettled: list[Record] = field(repr=False)
    waiting: int
    #: Ids of the unsettled commands that moved to this gateway together with the lock.
    along: frozenset[str] = frozenset()
    lock_state: str | None = None
    #: (id, epoch seconds, lock state) of the sub-locks that the commands address.
    sublocks: list[tuple[str, float, str]] = field(factory=list, repr=False)
    #: Fingerprints of reports that were committed before.
    recent: frozenset[str] = field(default=frozenset(), repr=False)
    #: Seconds by which the lock's clock was ahead of ours when the lock was last heard.
    clock_skew: float | None = None


@define
class Known:
    """The result of looking up a device: its id, dialect and other known values.

    `alias` is the device whose IMEI the name is, None when it is no IMEI. `peripheral` is the name when it is
    the id of a sub-lock or sensor, with its type; `device` is then its master.
    """

    device: str
    dialect: str | None
    firmware: str | None
    alias: str | None = None
    peripheral: str | None = None
    peripheral_type: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether the device, or the sub-lock, has been heard."""
        return any((self.dialect, self.firmware, self.alias, self.peripheral))


@define
class Unasked:
    """The known identity of a device that may be queried now; None for unknown values."""

    imei: str | None
    firmware: str | None
    dialect: str | None
