"""Parses commands of the intake list and checks the fields that all commands have (docs/commands.rst).

The profiles check the name and the parameters (:mod:`jt709c_gateway.commands.profiles`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar
from uuid import uuid4

import attrs
import msgspec

from jt709c_gateway.commands import conditions
from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE, canonical
from jt709c_gateway.commands.masking import MASK, masked, secrets
from jt709c_gateway.commands.signature import MAC_DIGITS, Signature
from jt709c_gateway.commands.value_description import described, kind_of, unknown_name, unknown_names

MAX_COMMAND_BYTES: Final = 16 * 1024
DEFAULT_TTL: Final = 300.0
MAX_TTL: Final = 7 * 24 * 3600.0
DEFAULT_TIMEOUT: Final = 30.0
MIN_TIMEOUT: Final = 1.0
MAX_TIMEOUT: Final = 3600.0
#: The latest accepted time in seconds since 1970, in the year 5138.
_MAX_TIME: Final = 1e11
_MAX_DEPTH: Final = 8
_CUT: Final = 48

COMMAND_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEVICE_NAME = re.compile(r"[0-9]{1,20}|[0-9A-Fa-f]{10}")
#: Shorter than the id of a command, so that one can be made of it and a device.
BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
COMMAND_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAC = re.compile(rf"[0-9A-Fa-f]{{{MAC_DIGITS}}}")
REPLY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ERROR_PATH = re.compile(r"`\$\.([a-z_]+)")
_MISSING = re.compile(r"missing required field `([a-z_]+)`")

#: What is expected of each field, for errors and descriptions.
EXPECTED: Final[Mapping[str, str]] = {
    "id": "1 to 64 letters, digits, '-' or '_'",
    "device": "a device id or an IMEI, text of 1 to 20 digits, or a sub-lock's id, ten hex digits",
    "command": "the name of a command: text of lower-case letters, digits and '_'",
    "params": f"an object nested at most {_MAX_DEPTH} deep, with integers of at most 64 bits",
    "ttl": f"seconds above 0 and at most {MAX_TTL:.0f} (7 days)",
    "timeout": f"seconds from {MIN_TIMEOUT:.0f} to {MAX_TIMEOUT:.0f}",
    "reply_to": "1 to 64 letters, digits, '-', '_' or '.'",
    "issued_by": "1 to 128 printable characters",
    "batch": "the id of a batch: 1 to 40 letters, digits, '-' or '_'",
    "created_at": "seconds since 1970",
    "issued_at": "seconds since 1970 at which it was signed",
    "key": "the id of a key: 1 to 64 letters, digits, '-' or '_'",
    "mac": f"an HMAC-SHA256 of the text in order, as {MAC_DIGITS} hex digits",
    "order": "the command's JSON as text",
    "sublock_parameter": "the name of a parameter",
    **conditions.EXPECTED,
}

#: The names in errors of a whole entry and of the signed text in it.
ENTRY: Final = "entry"
SIGNED_TEXT: Final = "order"


class CommandState(StrEnum):
    """The states of a command, as Redis and the events have them (docs/commands.rst, "States")."""

    QUEUED = "queued"
    WAITING = "waiting"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    CONFIRMED = "confirmed"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"
    TIMED_OUT = "timed_out"
    UNCERTAIN = "uncertain"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALID = "invalid"


ENDED: Final = frozenset(CommandState) - {
    CommandState.QUEUED,
    CommandState.WAITING,
    CommandState.SENT,
    CommandState.ACKNOWLEDGED,
}
"""Final states; evidence may still turn `unconfirmed` and `uncertain` into `confirmed`."""


class InvalidCommand(ValueError):
    """A command is malformed or can't be carried out.

    The text is ``field: problem; expected …`` and holds no secret. ``command_id``, ``device``, ``command``,
    ``reply_to``, ``issued_by``, ``batch`` and ``key`` (the id of the claimed signing key) are the readable
    fields of the command, so that its sender can be notified.
    """

    def __init__(
        self,
        field: str,
        problem: str,
        expected: str,
        *,
        command_id: str | None = None,
        device: str | None = None,
        command: str | None = None,
        reply_to: str | None = None,
        issued_by: str | None = None,
        batch: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(f"{field}: {problem}; expected {expected}")
        self.field = field
        self.problem = problem
        self.expected = expected
        self.command_id = command_id
        self.device = device
        self.command = command
        self.reply_to = reply_to
        self.issued_by = issued_by
        self.batch = batch
        self.key = key

    def about(self, command: Command) -> InvalidCommand:
        """The same error with the fields of ``command``."""
        return InvalidCommand(
            self.field,
            self.problem,
            self.expected,
            command_id=command.id,
            device=command.device,
            command=command.name,
            reply_to=command.reply_to,
            issued_by=command.issued_by,
            batch=command.batch,
            key=None if command.signature is None else command.signature.key,
        )


def quote(value: object, *, secret: bool = False) -> str:
    """Format ``value`` as JSON for an error about a configuration file; mask secrets, truncate long text."""
    if secret:
        return MASK
    text = json.dumps(value, default=repr)
    return text if len(text) <= _CUT else f"{text[:_CUT]}… ({len(text)} characters)"


def truncate(text: str, limit: int = _CUT) -> str:
    """Escape unprintable characters of ``text`` and truncate it to ``limit`` characters."""
    clean = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return clean if len(clean) <= limit else clean[:limit] + "…"


def new_command_id() -> str:
    """Generate an id for a command without one."""
    return uuid4().hex


class Wire(conditions.ConditionFields, forbid_unknown_fields=True):
    """The JSON fields of an unsigned command."""

    device: str
    command: str
    id: str | None = None
    params: dict[str, Any] | None = None
    ttl: int | float | None = None
    timeout: int | float | None = None
    reply_to: str | None = None
    issued_by: str | None = None
    batch: str | None = None


class _Signed(Wire, forbid_unknown_fields=True, kw_only=True):
    """The JSON fields of the signed text."""

    id: str
    issued_at: int | float


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON fields of a signed entry: the id of the key, the HMAC, and the signed text."""

    key: str
    mac: str
    order: str


_ENVELOPE: Final = frozenset(Envelope.__struct_fields__)


@attrs.frozen
class Command:
    """A command whose common fields are checked; the profile checks its parameters.

    ``device`` is a device id, an IMEI or the id of a sub-lock, as the sender wrote it, until the gateway
    replaces it by the id of the receiving device. ``ttl`` and ``timeout`` are in seconds. ``created_at`` is
    in seconds since 1970: the time of signing, or of arrival if the command is unsigned.
    """

    id: str
    device: str
    name: str
    params: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    ttl: float = DEFAULT_TTL
    timeout: float = DEFAULT_TIMEOUT
    reply_to: str | None = None
    issued_by: str | None = None
    batch: str | None = None
    created_at: float = 0.0
    signature: Signature | None = None
    conditions: conditions.Conditions | None = None

    def public_params(self, secret_names: frozenset[str] | None) -> dict[str, Any]:
        """The parameters with ``******`` for each secret.

        A name such as ``parameters.0012`` means one key within a parameter. ``None`` masks all values.
        """
        return {name: masked(name, value, secret_names) for name, value in self.params.items()}

    def secret_values(self, secret_names: frozenset[str] | None) -> frozenset[str]:
        """The values of the secret parameters as text, to mask them in what a lock echoes."""
        found: set[str] = set()
        for name, value in self.params.items():
            found.update(secrets(name, value, secret_names))
        return frozenset(found)


def parse_command(raw: bytes, now: float, *, new_id: Callable[[], str] = new_command_id) -> Command:
    """Parse an entry of the intake list, signed or not; does not verify the signature.

    ``now`` becomes the ``created_at`` of an unsigned command. Raises :class:`InvalidCommand`, which has the
    readable fields of the command.
    """
    if len(raw) > MAX_COMMAND_BYTES:
        raise InvalidCommand(ENTRY, f"{len(raw)} bytes", f"at most {MAX_COMMAND_BYTES} bytes")
    fields = read_object(raw)
    if not fields.keys().isdisjoint(_ENVELOPE):
        return _parse_signed(fields)
    try:
        return make_command(typed(fields, Wire), float(now), new_id=new_id)
    except InvalidCommand as error:
        raise _with_readable_fields(error, fields) from None


def _parse_signed(fields: dict[str, Any]) -> Command:
    inner, key = fields, fields.get("key")
    try:
        envelope = typed(fields, Envelope)
        inner = read_object(envelope.order.encode(), SIGNED_TEXT)
        return read_signed(envelope.key, envelope.mac, envelope.order)
    except InvalidCommand as error:
        if not isinstance(key, str) or not COMMAND_ID.fullmatch(key):
            key = None
        raise _with_readable_fields(error, inner, key) from None


def read_signed(key: str, mac: str, text: str) -> Command:
    """Parse a signed text; raise :class:`InvalidCommand`. Does not verify the signature."""
    for field, value, pattern in (("key", key, COMMAND_ID), ("mac", mac, _MAC)):
        if not pattern.fullmatch(value):
            raise InvalidCommand(field, f"is {described(value)}", EXPECTED[field])
    wire = typed(read_object(text.encode(), SIGNED_TEXT), _Signed, SIGNED_TEXT)
    if not 0 < wire.issued_at < _MAX_TIME:
        raise InvalidCommand("issued_at", f"is {described(wire.issued_at)}", EXPECTED["issued_at"])
    command = make_command(wire, float(wire.issued_at))
    return attrs.evolve(command, signature=Signature(key, mac, text, command.device, command.name))


def read_object(raw: bytes, field: str = ENTRY) -> dict[str, Any]:
    """Parse a JSON object; raise :class:`InvalidCommand` about ``field``."""
    try:
        fields = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise InvalidCommand(field, f"not UTF-8 at byte {error.start}", "a JSON object in UTF-8") from None
    except RecursionError:
        raise InvalidCommand(field, "nested too deep", "a JSON object") from None
    except msgspec.MsgspecError as error:
        raise InvalidCommand(field, f"not JSON ({error})", "a JSON object") from None
    if not isinstance(fields, dict):
        raise InvalidCommand(field, f"is {kind_of(fields)}", "a JSON object")
    return fields


_AnyWire = TypeVar("_AnyWire", bound=msgspec.Struct)


def typed(fields: dict[str, Any], wire: type[_AnyWire], field: str = ENTRY) -> _AnyWire:
    """Convert ``fields`` to ``wire``, which must know all of them; raise :class:`InvalidCommand`."""
    known = wire.__struct_fields__
    if unknown := unknown_names(fields, known, "field"):
        raise InvalidCommand(field, f"unknown {unknown}", "only " + ", ".join(sorted(known)))
    try:
        return msgspec.convert(fields, wire, strict=True)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error), fields) from None


def _mistyped(message: str, fields: dict[str, Any]) -> InvalidCommand:
    """Convert an error of msgspec to one that names the field, its type and the expected type."""
    missing = _MISSING.search(message)
    if missing is not None:
        return InvalidCommand(missing[1], "missing", EXPECTED[missing[1]])
    found = _ERROR_PATH.search(message)
    if found is None or found[1] not in fields:
        return InvalidCommand(ENTRY, "has a field of the wrong kind", "the fields of a command")
    field = found[1]
    return InvalidCommand(field, f"is {described(fields[field])}", EXPECTED[field])


def make_command(wire: Wire, created_at: float, *, new_id: Callable[[], str] = new_command_id) -> Command:
    """Check the values of typed fields and build the command; raise :class:`InvalidCommand`."""
    # Converted to float after the range check: a huge integer has no float.
    ttl = DEFAULT_TTL if wire.ttl is None else wire.ttl
    timeout = DEFAULT_TIMEOUT if wire.timeout is None else wire.timeout
    params = {name: value for name, value in (wire.params or {}).items() if value is not None}
    for field, good in (
        ("id", wire.id is None or COMMAND_ID.fullmatch(wire.id)),
        ("device", DEVICE_NAME.fullmatch(wire.device)),
        ("command", COMMAND_NAME.fullmatch(wire.command)),
        ("ttl", 0 < ttl <= MAX_TTL),
        ("timeout", MIN_TIMEOUT <= timeout <= MAX_TIMEOUT),
        ("reply_to", wire.reply_to is None or REPLY_NAME.fullmatch(wire.reply_to)),
        ("issued_by", wire.issued_by is None or _printable(wire.issued_by)),
        ("batch", wire.batch is None or BATCH_ID.fullmatch(wire.batch)),
    ):
        if not good:
            value = getattr(wire, field)
            names = [*CATALOGUE, *ALIASES]
            seen = unknown_name(value, names) if field == "command" else described(value)
            raise InvalidCommand(field, f"is {seen}", EXPECTED[field])
    if not _bounded(params, _MAX_DEPTH):
        raise InvalidCommand("params", "nested too deep, or an integer too large", EXPECTED["params"])
    return Command(
        id=wire.id or new_id(),
        # Sub-locks' ids are written with capitals.
        device=wire.device.upper(),
        name=canonical(wire.command),
        params=params,
        ttl=float(ttl),
        timeout=float(timeout),
        reply_to=wire.reply_to,
        issued_by=wire.issued_by,
        batch=wire.batch,
        created_at=created_at,
        conditions=_conditions(wire),
    )


def _conditions(wire: Wire) -> conditions.Conditions | None:
    try:
        return wire.conditions()
    except conditions.InvalidCondition as error:
        raise InvalidCommand(error.field, error.problem, error.expected) from None


def _printable(text: str) -> bool:
    return 0 < len(text) <= 128 and text.isprintable()


def _bounded(value: object, depth: int) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, dict):
        return depth > 0 and all(_bounded(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_bounded(item, depth - 1) for item in value)
    return True


def _with_readable_fields(
    error: InvalidCommand, fields: Mapping[str, Any], key: str | None = None
) -> InvalidCommand:
    def readable(field: str, pattern: re.Pattern[str]) -> str | None:
        value = fields.get(field)
        return value if isinstance(value, str) and pattern.fullmatch(value) else None

    command, device = readable("command", COMMAND_NAME), readable("device", DEVICE_NAME)
    who = fields.get("issued_by")
    return InvalidCommand(
        error.field,
        error.problem,
        error.expected,
        command_id=readable("id", COMMAND_ID),
        device=None if device is None else device.upper(),
        command=None if command is None else canonical(command),
        reply_to=readable("reply_to", REPLY_NAME),
        issued_by=who if isinstance(who, str) and _printable(who) else None,
        batch=readable("batch", BATCH_ID),
        key=key,
    )
