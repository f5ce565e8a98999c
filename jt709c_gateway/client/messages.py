"""What goes through Redis, as values: events, commands to send, and their outcomes. No network."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from attrs import field, frozen

from jt709c_gateway.commands.conditions import from_fields
from jt709c_gateway.commands.event_data import DATA
from jt709c_gateway.commands.model import ENDED, SIGNED_TEXT, CommandState
from jt709c_gateway.commands.signature import mac
from jt709c_gateway.commands.signing import SigningKey

#: Defaults of a command (docs/commands.rst), and of --confirm-timeout, in seconds.
TTL: Final = 300.0
TIMEOUT: Final = 30.0
CONFIRM_TIMEOUT: Final = 120.0
#: Seconds for the ways through Redis and the gateway.
_MARGIN: Final = 30.0
#: States after which a physical command may have taken effect all the same.
_UNKNOWN: Final = frozenset({CommandState.UNCONFIRMED, CommandState.UNCERTAIN, CommandState.TIMED_OUT})


class Event(msgspec.Struct, frozen=True):
    """An event; the fields are those of docs/redis.rst, and `data` is by kind.

    Fields that a later gateway adds are in `data`, or are left out.
    `id` is the same when an event comes again.
    """

    id: str
    kind: str
    device: str
    received_at: str
    data: dict[str, Any]
    gateway: str
    imei: str | None = None
    dialect: str | None = None
    serial: int | None = None
    stored: bool = False
    clock_skew_s: float | None = None
    transport: str | None = None
    peer: str | None = None
    raw: str | None = None
    raw_masked: bool = False
    repeats: int | None = None
    v: int = 1

    def typed(self) -> Any:
        """Return `data` as an object of the type of its kind, None for an unknown kind.

        Raises msgspec.ValidationError if a field is missing or has another type.
        """
        wanted = DATA.get(self.kind)
        return None if wanted is None else msgspec.convert(self.data, wanted)


_decode_event: Final = msgspec.json.Decoder(Event).decode


def read_event(text: str | bytes) -> Event:
    """Parse an event; raise msgspec.ValidationError for other data."""
    return _decode_event(text)


@frozen
class SentCommand:
    """A command that was pushed. Keep `id`: with it the outcome can be asked for later, by any process."""

    id: str
    device: str
    command: str
    #: Seconds within which it must have ended.
    patience: float = field(default=TTL + TIMEOUT + CONFIRM_TIMEOUT + _MARGIN)


@frozen
class Outcome:
    """How a command ended."""

    id: str
    state: CommandState
    reason: str | None
    #: All that the gateway says about it (docs/commands.rst).
    record: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether it is known that the command took effect: `confirmed`, or `done` if it moves nothing."""
        return self.state in (CommandState.CONFIRMED, CommandState.DONE)

    @property
    def is_unknown(self) -> bool:
        """Whether it may have taken effect without proof: look before you command again."""
        return self.state in _UNKNOWN


class OutcomePending(Exception):
    """The command has not ended in time; `state` is its state, None when no gateway has taken it in."""

    def __init__(self, command_id: str, state: str | None) -> None:
        super().__init__(f"command {command_id} is {state or 'not taken in by any gateway'}")
        self.state = state


def new_command(
    device: str,
    command: str,
    params: Mapping[str, Any] | None,
    *,
    command_id: str | None,
    ttl: float,
    timeout: float,
    issued_by: str | None,
    batch: str | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> tuple[SentCommand, dict[str, Any]]:
    """A command with an id, which is also the name of its list of replies, and its fields for Redis.

    Raises InvalidCondition, a ValueError, for a condition that no gateway would take.
    """
    if conditions is not None:
        from_fields(conditions)
    sent = SentCommand(
        command_id or uuid.uuid4().hex, device, command, ttl + timeout + CONFIRM_TIMEOUT + _MARGIN
    )
    fields: dict[str, Any] = {
        "id": sent.id,
        "device": device,
        "command": command,
        "params": dict(params or {}),
        "ttl": ttl,
        "timeout": timeout,
        "reply_to": sent.id,
    }
    if issued_by is not None:
        fields["issued_by"] = issued_by
    if batch is not None:
        fields["batch"] = batch
    return sent, {**fields, **(conditions or {})}


def encode_command(fields: Mapping[str, Any], key: SigningKey | None, now: float) -> bytes:
    """The entry for `jt709c:commands`, signed if there is a key; `now` is in seconds since 1970."""
    if key is None:
        return msgspec.json.encode(fields)
    text = msgspec.json.encode({**fields, "issued_at": now}).decode()
    return msgspec.json.encode({"key": key.id, "mac": mac(key.secret, text), SIGNED_TEXT: text})


def outcome_from_reply(text: str | bytes) -> Outcome | None:
    """The outcome in an entry of a reply list; None when the command has not ended with it."""
    return _outcome(msgspec.json.decode(text))


def outcome_from_record(record: Mapping[str, str]) -> Outcome | None:
    """The outcome in the hash of a command; None when there is none yet."""
    return _outcome(record) if record else None


def _outcome(record: Mapping[str, Any]) -> Outcome | None:
    state = CommandState(record["state"])
    if state not in ENDED:
        return None
    return Outcome(str(record["id"]), state, record.get("reason") or None, record)
