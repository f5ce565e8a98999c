"""Counters of the gateway, as plain numbers: the hot path can afford no more than an increment."""

from collections import Counter

from attrs import define, field


@define
class Counters:
    """Totals since the start. Keys are metric labels."""

    #: (dialect, kind of the first event)
    frames: Counter[tuple[str, str]] = field(factory=Counter)
    malformed: Counter[str] = field(factory=Counter)
    #: Connections and datagrams rejected or closed by the gateway, by reason.
    dropped: Counter[str] = field(factory=Counter)
    commands: Counter[str] = field(factory=Counter)
    #: Commands refused for lack of authorization, by reason.
    refused: Counter[str] = field(factory=Counter)
    sessions: Counter[str] = field(factory=Counter)
    #: Queries of the gateway itself, by result.
    questions: Counter[str] = field(factory=Counter)
    #: Commands that a device refused because of their password.
    wrong_passwords: int = 0
    #: Commands not sent after too many consecutive wrong passwords.
    locked_out: int = 0
    #: Rejected commands that the log limit left unlogged.
    unlogged_commands: int = 0
    #: Times that Redis refused to return commands: a list of another type, a missing right.
    intake_errors: int = 0
    #: Takeovers delayed because a device's sessions replaced each other too often.
    contested: int = 0
    skipped_bytes: int = 0
    answers: int = 0
    pauses: int = 0
    #: Detected losses of data in Redis.
    losses: int = 0
    #: Times that reading a connection was paused because its device exceeded its limit.
    rate_pauses: int = 0
