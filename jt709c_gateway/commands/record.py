"""What is known of one command at one lock: the data that the life cycle changes and Redis keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import Command, CommandState
from jt709c_gateway.commands.profiles.spec import CommandSpec
from jt709c_gateway.commands.stored import from_hash, iso

DEFAULT_CONFIRM_TIMEOUT: Final = 120.0

_Self = TypeVar("_Self", bound="CommandRecord")


@attrs.frozen
class Limits:
    """Bounds that the gateway sets; ``ttl`` and ``timeout`` are the command's own.

    ``confirm_timeout`` is in seconds. ``repeats``, writes of a non-physical command, is the profile's where
    ``None``.
    """

    confirm_timeout: float = DEFAULT_CONFIRM_TIMEOUT
    repeats: int | None = None


@attrs.define
class CommandRecord:
    """A command and what has become of it. All times are seconds since 1970.

    ``spec`` may be ``None`` while the lock's profile isn't known (:meth:`assign` sets it); ``secret_names``
    then says what to mask, and without it all parameters are masked. ``writing_at`` is when the bytes may
    first have been out; a non-physical command that is to be written again has none. ``key`` is the id of the
    key that it is signed with. ``peripheral`` is the sub-lock that it is for, ``None`` for the device itself.
    """

    command: Command
    spec: CommandSpec | None = None
    limits: Limits = attrs.field(factory=Limits)
    secret_names: frozenset[str] | None = None
    key: str | None = attrs.field(default=None, init=False)
    peripheral: str | None = attrs.field(default=None, init=False)
    profile: str | None = attrs.field(default=None, init=False)
    physical: bool | None = attrs.field(default=None, init=False)
    assumed: bool | None = attrs.field(default=None, init=False)
    provenance: str | None = attrs.field(default=None, init=False)
    state: CommandState = attrs.field(default=CommandState.QUEUED, init=False)
    attempts: int = attrs.field(default=0, init=False)
    serials: list[int] = attrs.field(factory=list, init=False)
    writing_at: float | None = attrs.field(default=None, init=False)
    sent_at: float | None = attrs.field(default=None, init=False)
    acknowledged_at: float | None = attrs.field(default=None, init=False)
    confirmed_at: float | None = attrs.field(default=None, init=False)
    ended_at: float | None = attrs.field(default=None, init=False)
    reason: str | None = attrs.field(default=None, init=False)
    answer: dict[str, Any] | None = attrs.field(default=None, init=False)
    evidence: dict[str, Any] | None = attrs.field(default=None, init=False)
    _hidden: set[str] = attrs.field(factory=set, init=False, repr=False)
    _handed_over: bool = attrs.field(default=False, init=False, repr=False)
    _masked: bool = attrs.field(default=False, init=False, repr=False)
    _resend_at: float | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.command.signature is not None:
            self.key = self.command.signature.key
        if self.spec is not None:
            self.assign(self.spec)

    def assign(self, spec: CommandSpec) -> None:
        """Say which form of the command the lock gets; what was written as physical stays physical."""
        self.spec = spec
        self.secret_names = spec.secret_names | (self.secret_names or frozenset())
        self.profile, self.assumed, self.provenance = spec.profile, spec.assumed, str(spec.provenance)
        self.peripheral = spec.peripheral_of(self.command.params)
        self.physical = spec.physical or (self.attempts > 0 and self.physical is True)

    def hide(self, secrets: Iterable[str]) -> None:
        """Keep further secrets, such as a password the gateway supplied, out of the record."""
        self._hidden.update(secrets)

    def clean(self, value: Any) -> Any:
        """``value`` with ``******`` for each secret in its text: a lock may echo what it was sent."""
        secrets = self._hidden | self.command.secret_values(self.secret_names)
        return _scrubbed(
            value, sorted((one for one in secrets if one and one != MASK), key=len, reverse=True)
        )

    def _public_params(self) -> dict[str, Any]:
        if self.secret_names is None and not self._masked:
            # No profile has such a command, so its parameters' names mean nothing either.
            return {f"parameter {place}": MASK for place, _ in enumerate(self.command.params, 1)}
        return self.command.public_params(self.secret_names)

    def public(self) -> dict[str, Any]:
        """The record for the ``command`` event: JSON-able, times in ISO 8601, secrets masked."""
        command = self.command
        return {
            "id": command.id,
            "command": command.name,
            "device": command.device,
            "peripheral": self.peripheral,
            "state": str(self.state),
            "params": self._public_params(),
            "issued_by": command.issued_by,
            "key": self.key,
            "physical": self.physical,
            "assumed": self.assumed,
            "provenance": self.provenance,
            "created_at": iso(command.created_at),
            "sent_at": iso(self.sent_at),
            "acknowledged_at": iso(self.acknowledged_at),
            "confirmed_at": iso(self.confirmed_at),
            "ended_at": iso(self.ended_at),
            "attempts": self.attempts,
            "serial": self.serials[-1] if self.serials else None,
            "reason": self.reason,
            "answer": self.answer,
            "profile": self.profile,
            "evidence": self.evidence,
        }

    def stored(self) -> dict[str, Any]:
        """:meth:`public` and what :meth:`restore` needs besides."""
        return {
            **self.public(),
            "ttl": self.command.ttl,
            "timeout": self.command.timeout,
            "reply_to": self.command.reply_to,
            "writing_at": iso(self.writing_at),
            "serials": list(self.serials),
        }

    @classmethod
    def restore(
        cls: type[_Self],
        fields: Mapping[str, str],
        spec: CommandSpec | None,
        limits: Limits | None = None,
        *,
        command: Command | None = None,
        secret_names: frozenset[str] | None = None,
    ) -> _Self:
        """Take up a command from its hash, for late evidence to confirm, or to recover it after a crash.

        ``spec`` is the one its profile has for it (``ProfileSet.spec_of``). ``command`` comes from a Redis
        list; without it the parameters are masked, and the command can't be written any more. The device is
        the hash's: a command that waited under an IMEI has gone on to its lock since. Raises
        :class:`ValueError` for a hash that can't be read.
        """
        record = from_hash(fields)
        if (
            type(record["attempts"]) is not int
            or record["attempts"] < 0
            or not isinstance(record["serials"], list | None)
        ):
            raise ValueError("the record of a command has no attempts or strange serials")
        taken = _stored_command(record) if command is None else command
        if record["device"] not in (None, taken.device):
            taken = attrs.evolve(taken, device=record["device"])
        run = cls(taken, spec, limits or Limits(), secret_names)
        run._masked = command is None
        if command is None:
            run.key = record["key"]
        run.state = CommandState(record["state"])
        run.serials = record["serials"] or []
        run.attempts = record["attempts"]
        for name in (*_TIMES, "reason", "answer", "evidence"):
            setattr(run, name, record[name])
        if spec is None:
            for name in _FROM_SPEC:
                setattr(run, name, record[name])
        elif record["physical"] and run.attempts:
            # What was written as a physical command stays one, whatever a new profile makes of it.
            run.physical = True
        run._handed_over = run.state is CommandState.SENT and (run.sent_at or 0) >= (run.writing_at or 0)
        return run


_TIMES: Final = ("writing_at", "sent_at", "acknowledged_at", "confirmed_at", "ended_at")
_FROM_SPEC: Final = ("peripheral", "profile", "physical", "assumed", "provenance")


def _stored_command(record: Mapping[str, Any]) -> Command:
    for name in ("id", "device", "command", "params", "ttl", "timeout", "created_at"):
        if record[name] is None:
            raise ValueError(f"the record of a command has no {name}")
    return Command(
        id=record["id"],
        device=record["device"],
        name=record["command"],
        params=record["params"],
        ttl=float(record["ttl"]),
        timeout=float(record["timeout"]),
        reply_to=record["reply_to"],
        issued_by=record["issued_by"],
        created_at=record["created_at"],
    )


def _scrubbed(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {key: _scrubbed(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(item, secrets) for item in value]
    return value
