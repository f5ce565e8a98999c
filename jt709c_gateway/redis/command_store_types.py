"""What the store of commands is given and gives: the shapes of calls to `CommandStore`."""

from collections.abc import Mapping
from enum import IntEnum

from attrs import define, field, frozen

Record = Mapping[str, str]


class Acceptance(IntEnum):
    """What became of a command that was to be taken in."""

    QUEUED = 1
    WAITING = 2
    KNOWN = 0
    FULL = -1
    NOT_OURS = -2
    """Its entry was adopted by another gateway, which deals with it."""
    RENAMED = -3
    """The name stands for another device since it was looked up: to be looked up again."""


class NotOurs(Exception):
    """A script refused, since this gateway counts as dead, or the lock has a newer session (`moved`)."""

    def __init__(self, moved: bool) -> None:
        super().__init__("the lock has a newer session" if moved else "this gateway counts as dead")
        self.moved = moved


@frozen
class SessionClaim:
    """The session for which commands are claimed: its token, and whether its lock has just come.

    `stored` is false while the session is on its way to Redis.
    """

    token: str
    arrived: bool
    stored: bool


@frozen
class InHand:
    """A command as it lies in a gateway's hands, and the token of its claim."""

    command: bytes = field(repr=False)
    token: int


@frozen
class Ownership:
    """Whose a command is: the run of a gateway, or "" when it is nobody's, and the token of that claim."""

    holder: str
    token: int
    attempts: int
    state: str


@define
class Events:
    """What to announce of a command that is taken in, as JSON, and how long the streams may become."""

    queued: str
    waiting: str
    failed: str
    max_events: int
    max_history: int


@define
class Claim:
    """What a look into a lock's queue gave. `command` is None when nothing was taken."""

    command: bytes | None = field(repr=False)
    record: Record = field(repr=False)
    serial: int
    dialect: str | None
    firmware: str | None
    wrong_passwords: int
    dynamic_password: str | None = field(repr=False)
    unsettled: list[Record] = field(repr=False)
    waiting: int
    #: Ids of the unsettled ones that came into this gateway's hands together with the lock.
    along: frozenset[str] = frozenset()
    lock_state: str | None = None
    #: (id, epoch seconds, lock state) of the sub-locks that the commands are for.
    sublocks: list[tuple[str, float, str]] = field(factory=list, repr=False)
    #: Fingerprints of reports that had been committed before.
    recent: frozenset[str] = field(default=frozenset(), repr=False)
    #: Seconds that the lock's clock was ahead of ours when it was last heard.
    clock_skew: float | None = None


@define
class Known:
    """What is known of a device: its id and how it speaks.

    `alias` is the device that the name looked up is the IMEI of, None where it is none. `peripheral` is the
    name when it is the id of a sub-lock or sensor, of this type; `device` is then its master.
    """

    device: str
    dialect: str | None
    firmware: str | None
    alias: str | None = None
    peripheral: str | None = None
    peripheral_type: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether such a device, or a sub-lock of this id, has been heard."""
        return any((self.dialect, self.firmware, self.alias, self.peripheral))


@define
class Unasked:
    """What is known of a device that may be asked what it is; None is what isn't."""

    imei: str | None
    firmware: str | None
    dialect: str | None
