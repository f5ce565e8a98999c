"""What the gateway counts, as plain numbers: an increment is all that the hot path can afford."""

from collections import Counter

from attrs import define, field


@define
class Counters:
    """Totals since the start. Keys are metric labels."""

    #: (dialect, kind of the first event)
    frames: Counter[tuple[str, str]] = field(factory=Counter)
    malformed: Counter[str] = field(factory=Counter)
    #: Connections and datagrams turned away or closed by us, by reason.
    dropped: Counter[str] = field(factory=Counter)
    commands: Counter[str] = field(factory=Counter)
    #: Commands that whoever gave them may not give, by reason.
    refused: Counter[str] = field(factory=Counter)
    sessions: Counter[str] = field(factory=Counter)
    #: What the gateway itself has asked locks, by what came of it.
    questions: Counter[str] = field(factory=Counter)
    #: Times that a lock refused a command because of its password.
    wrong_passwords: int = 0
    #: Commands that were not sent to a lock after too many of those in a row.
    locked_out: int = 0
    #: Complaints about commands for which there was no room in the log.
    unlogged_commands: int = 0
    #: Times that Redis refused to give out commands: a list of another type, a missing right.
    intake_errors: int = 0
    #: Takeovers that had to wait since a lock's newest sessions ended each other too fast.
    contested: int = 0
    skipped_bytes: int = 0
    answers: int = 0
    pauses: int = 0
    #: Times that Redis was found to have lost what it had been given.
    losses: int = 0
    #: Times reading of a connection stopped because its lock sent more than it may.
    rate_pauses: int = 0
