"""The record of one command at one lock, which the life cycle changes and Redis stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from jt709c_gateway.commands.conditions import from_fields
from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import Command, CommandState
from jt709c_gateway.commands.profiles.spec import CommandSpec
from jt709c_gateway.commands.serialization import from_hash
from jt709c_gateway.util.timestamps import iso

DEFAULT_CONFIRM_TIMEOUT: Final = 120.0

_Self = TypeVar("_Self", bound="CommandRecord")


@attrs.frozen
class Limits:
    """Limits that the gateway sets, besides the ``ttl`` and ``timeout`` of each command.

    ``confirm_timeout`` is in seconds. ``repeats`` is the number of writes of a non-physical command; ``None``
    means that of the profile.
    """

    confirm_timeout: float = DEFAULT_CONFIRM_TIMEOUT
    repeats: int | None = None


@attrs.define
class CommandRecord:
    """A command with its state, its times and the lock's answer. All times are seconds since 1970.

    ``spec`` is ``None`` while the profile of the lock isn't known (:meth:`assign` sets it); ``secret_names``
    then says which parameters to mask, and ``None`` masks all of them. ``writing_at`` is the time from which
    the bytes may have been sent; it is ``None`` if a non-physical command is to be written again. ``key`` is
    the id of the signing key. ``peripheral`` is the sub-lock addressed, ``None`` for the device itself.
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
        """Set the form of the command; a command that was written as physical stays physical."""
        self.spec = spec
        self.secret_names = spec.secret_names | (self.secret_names or frozenset())
        self.profile, self.assumed, self.provenance = spec.profile, spec.assumed, str(spec.provenance)
        self.peripheral = spec.peripheral_of(self.command.params)
        self.physical = spec.physical or (self.attempts > 0 and self.physical is True)

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask further secrets in the record, such as a password that the gateway supplied."""
        self._hidden.update(secrets)

    def clean(self, value: Any) -> Any:
        """Replace each secret in ``value`` by ``******``: a lock may echo what it received."""
        secrets = self._hidden | self.command.secret_values(self.secret_names)
        return _without_secrets(
            value, sorted((one for one in secrets if one and one != MASK), key=len, reverse=True)
        )

    def _public_params(self) -> dict[str, Any]:
        if self.secret_names is None and not self._masked:
            # No profile has such a command, so even a name may be a secret.
            return {f"parameter {place}": MASK for place, _ in enumerate(self.command.params, 1)}
        return self.command.public_params(self.secret_names)

    def public(self) -> dict[str, Any]:
        """The fields of the ``command`` event: times in ISO 8601, secrets masked."""
        command = self.command
        return {
            "id": command.id,
            "command": command.name,
            "device": command.device,
            "peripheral": self.peripheral,
            "state": str(self.state),
            "params": self._public_params(),
            "conditions": None if command.conditions is None else command.conditions.fields(),
            "issued_by": command.issued_by,
            "batch": command.batch,
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
        """The fields of the hash: :meth:`public`, and the fields that only :meth:`restore` needs."""
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
        """Restore a command from its hash, to recover it after a crash or to confirm it by late evidence.

        ``spec`` is that of its profile (``ProfileRegistry.spec_of``). ``command`` comes from a queue; without
        it the parameters stay masked, and the command can't be written any more. The device of the hash
        counts: a command addressed to an IMEI may have moved to its lock since. Raises :class:`ValueError`
        if the hash is malformed.
        """
        record = from_hash(fields)
        if (
            type(record["attempts"]) is not int
            or record["attempts"] < 0
            or not isinstance(record["serials"], list | None)
        ):
            raise ValueError("the record of a command has no valid attempts or serials")
        restored = _stored_command(record) if command is None else command
        if record["device"] not in (None, restored.device):
            restored = attrs.evolve(restored, device=record["device"])
        run = cls(restored, spec, limits or Limits(), secret_names)
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
            # A command written as physical stays physical, even if a new profile says otherwise.
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
        batch=record["batch"],
        created_at=record["created_at"],
        conditions=None if record["conditions"] is None else from_fields(record["conditions"]),
    )


def _without_secrets(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {key: _without_secrets(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item, secrets) for item in value]
    return value
