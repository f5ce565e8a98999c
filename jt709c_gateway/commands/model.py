"""One order as it comes from Redis: reading it, checking it, storing it (DESIGN.md §4).

Whether its name and its parameters mean anything to a lock is the profiles' business
(:mod:`jt709c_gateway.commands.profiles`); here only the frame common to all orders is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar
from uuid import uuid4

import attrs
import msgspec

from jt709c_gateway.commands.catalogue import canonical

MASK: Final = "******"
MAX_ORDER_BYTES: Final = 16 * 1024
DEFAULT_TTL: Final = 300.0
MAX_TTL: Final = 7 * 24 * 3600.0
DEFAULT_TIMEOUT: Final = 30.0
MIN_TIMEOUT: Final = 1.0
MAX_TIMEOUT: Final = 3600.0
_MAX_DEPTH: Final = 8
_CUT: Final = 48

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DEVICE = re.compile(r"[0-9]{1,20}|[0-9A-Fa-f]{10}")
_COMMAND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REPLY_TO = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ERROR_PATH = re.compile(r"`\$\.([a-z_]+)")
_MISSING = re.compile(r"missing required field `([a-z_]+)`")

_EXPECTED: Final[Mapping[str, str]] = {
    "id": "1 to 64 letters, digits, '-' or '_'",
    "device": "a device id or an IMEI, text of 1 to 20 digits, or a sub-lock's id, ten hex digits",
    "command": "the name of an order: text of lower-case letters, digits and '_'",
    "params": f"an object nested at most {_MAX_DEPTH} deep, with integers of at most 64 bits",
    "ttl": f"seconds above 0 and at most {MAX_TTL:.0f} (7 days)",
    "timeout": f"seconds from {MIN_TIMEOUT:.0f} to {MAX_TIMEOUT:.0f}",
    "reply_to": "1 to 64 letters, digits, '-', '_' or '.'",
    "issued_by": "1 to 128 printable characters",
    "created_at": "seconds since 1970",
}


class OrderState(StrEnum):
    """Where an order stands; the values are what Redis shows (DESIGN.md §4)."""

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


ENDED: Final = frozenset(OrderState) - {
    OrderState.QUEUED,
    OrderState.WAITING,
    OrderState.SENT,
    OrderState.ACKNOWLEDGED,
}
"""States in which nothing more is done; evidence may still make `unconfirmed` and `uncertain` `confirmed`."""


class InvalidOrder(ValueError):
    """An order that can't be carried out as it is written.

    The text is ``field: problem; expected …`` and holds no secret. ``order_id``, ``device``, ``command``
    and ``reply_to`` are what could be read of the order, so that its sender can be told.
    """

    def __init__(
        self,
        field: str,
        problem: str,
        expected: str,
        *,
        order_id: str | None = None,
        device: str | None = None,
        command: str | None = None,
        reply_to: str | None = None,
    ) -> None:
        super().__init__(f"{field}: {problem}; expected {expected}")
        self.field = field
        self.problem = problem
        self.expected = expected
        self.order_id = order_id
        self.device = device
        self.command = command
        self.reply_to = reply_to

    def about(self, order: Order) -> InvalidOrder:
        """The same complaint, naming the order it is about."""
        return InvalidOrder(
            self.field,
            self.problem,
            self.expected,
            order_id=order.id,
            device=order.device,
            command=order.command,
            reply_to=order.reply_to,
        )


def shown(value: object, *, secret: bool = False) -> str:
    """``value`` as JSON for a message: secrets masked, long values cut."""
    if secret:
        return MASK
    text = json.dumps(value, default=repr)
    return text if len(text) <= _CUT else f"{text[:_CUT]}… ({len(text)} characters)"


def cut(text: str, limit: int = _CUT) -> str:
    """``text`` for a message: what can't be printed escaped, at most ``limit`` characters of it."""
    clean = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return clean if len(clean) <= limit else clean[:limit] + "…"


def new_order_id() -> str:
    """An id for an order that came without one."""
    return uuid4().hex


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    device: str
    command: str
    id: str | None = None
    params: dict[str, Any] | None = None
    ttl: int | float | None = None
    timeout: int | float | None = None
    reply_to: str | None = None
    issued_by: str | None = None


class _Stored(_Wire, forbid_unknown_fields=True, kw_only=True):
    created_at: int | float


@attrs.frozen
class Order:
    """An order, checked but for its parameters.

    ``device`` is what the sender wrote, a device id, an IMEI or a sub-lock's id, until the gateway has put in
    the id of the device that gets the order. ``ttl`` and ``timeout`` are seconds, ``created_at`` is seconds
    since 1970.
    """

    id: str
    device: str
    command: str
    params: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    ttl: float = DEFAULT_TTL
    timeout: float = DEFAULT_TIMEOUT
    reply_to: str | None = None
    issued_by: str | None = None
    created_at: float = 0.0

    def to_json(self) -> bytes:
        """The order for a Redis list. It carries the secrets, since it has yet to be written to a lock."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, raw: bytes) -> Order:
        """Read what :meth:`to_json` wrote; raise :class:`InvalidOrder` for anything else."""
        stored = _typed(_object(raw), _Stored)
        return _order(stored, new_order_id, float(stored.created_at))

    def public_params(self, secret_names: frozenset[str] | None) -> dict[str, Any]:
        """The parameters with ``******`` for each secret.

        A name like ``parameters.0012`` means one key within a parameter. ``None`` says that nobody knows
        which are secret, and hides all values.
        """
        return {name: _masked(name, value, secret_names) for name, value in self.params.items()}

    def secret_values(self, secret_names: frozenset[str] | None) -> frozenset[str]:
        """The secrets themselves as text, for taking them out of what a lock echoes."""
        found: set[str] = set()
        for name, value in self.params.items():
            found.update(_secrets(name, value, secret_names))
        return frozenset(found)


def parse_order(raw: bytes, now: float, *, new_id: Callable[[], str] = new_order_id) -> Order:
    """Read an order from the intake list (DESIGN.md §4); ``now`` becomes its ``created_at``.

    Raises :class:`InvalidOrder`, which carries the order's id, device and `reply_to` where those are
    readable.
    """
    if len(raw) > MAX_ORDER_BYTES:
        raise InvalidOrder("order", f"{len(raw)} bytes", f"at most {MAX_ORDER_BYTES} bytes")
    fields = _object(raw)
    try:
        return _order(_typed(fields, _Wire), new_id, float(now))
    except InvalidOrder as error:
        raise _salvaged(error, fields) from None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise InvalidOrder("order", f"not UTF-8 at byte {error.start}", "a JSON object in UTF-8") from None
    except RecursionError:
        raise InvalidOrder("order", "nested too deep", "a JSON object") from None
    except msgspec.MsgspecError as error:
        raise InvalidOrder("order", f"not JSON ({error})", "a JSON object") from None
    if not isinstance(fields, dict):
        raise InvalidOrder("order", f"is {kind_of(fields)}", "a JSON object")
    return fields


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


_AnyWire = TypeVar("_AnyWire", bound=_Wire)


def _typed(fields: dict[str, Any], wire: type[_AnyWire]) -> _AnyWire:
    known = wire.__struct_fields__
    unknown = sorted(set(fields) - set(known))
    if unknown:
        names = ", ".join(shown(name) for name in unknown[:5])
        raise InvalidOrder("order", f"unknown field {names}", "only " + ", ".join(sorted(known)))
    try:
        return msgspec.convert(fields, wire, strict=True)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error), fields) from None


def _mistyped(message: str, fields: dict[str, Any]) -> InvalidOrder:
    """Put msgspec's complaint into our words; it names the field, we add the value and what is right."""
    missing = _MISSING.search(message)
    if missing is not None:
        return InvalidOrder(missing[1], "missing", _EXPECTED[missing[1]])
    found = _ERROR_PATH.search(message)
    if found is None:
        return InvalidOrder("order", message, "the fields of an order")
    field = found[1]
    # A password may stand where the object should be, so parameters are not quoted.
    problem = f"is {kind_of(fields[field])}" if field == "params" else f"is {shown(fields[field])}"
    return InvalidOrder(field, problem, _EXPECTED[field])


def _order(wire: _Wire, new_id: Callable[[], str], created_at: float) -> Order:
    ttl = DEFAULT_TTL if wire.ttl is None else float(wire.ttl)
    timeout = DEFAULT_TIMEOUT if wire.timeout is None else float(wire.timeout)
    params = {name: value for name, value in (wire.params or {}).items() if value is not None}
    for field, good in (
        ("id", wire.id is None or _ID.fullmatch(wire.id)),
        ("device", _DEVICE.fullmatch(wire.device)),
        ("command", _COMMAND.fullmatch(wire.command)),
        ("ttl", 0 < ttl <= MAX_TTL),
        ("timeout", MIN_TIMEOUT <= timeout <= MAX_TIMEOUT),
        ("reply_to", wire.reply_to is None or _REPLY_TO.fullmatch(wire.reply_to)),
        ("issued_by", wire.issued_by is None or _printable(wire.issued_by)),
    ):
        if not good:
            raise InvalidOrder(field, f"is {shown(getattr(wire, field))}", _EXPECTED[field])
    if not _bounded(params, _MAX_DEPTH):
        raise InvalidOrder("params", "nested too deep, or an integer too large", _EXPECTED["params"])
    return Order(
        id=wire.id or new_id(),
        # Sub-locks' ids are written with capitals.
        device=wire.device.upper(),
        command=canonical(wire.command),
        params=params,
        ttl=ttl,
        timeout=timeout,
        reply_to=wire.reply_to,
        issued_by=wire.issued_by,
        created_at=created_at,
    )


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


def _salvaged(error: InvalidOrder, fields: Mapping[str, Any]) -> InvalidOrder:
    def readable(field: str, pattern: re.Pattern[str]) -> str | None:
        value = fields.get(field)
        return value if isinstance(value, str) and pattern.fullmatch(value) else None

    command, device = readable("command", _COMMAND), readable("device", _DEVICE)
    return InvalidOrder(
        error.field,
        error.problem,
        error.expected,
        order_id=readable("id", _ID),
        device=None if device is None else device.upper(),
        command=None if command is None else canonical(command),
        reply_to=readable("reply_to", _REPLY_TO),
    )


def item_key(key: str) -> str:
    """One spelling for the ids of JT/T 808 parameters: ``0x0012``, ``0012`` and ``12`` are the same."""
    return key.lower().removeprefix("0x").lstrip("0")


def _is_secret(path: str, names: frozenset[str]) -> bool:
    # The net under the profiles: a name that says what it is stays hidden, whoever forgot to mark it.
    return path in names or "passw" in path or "secret" in path


def _secret_items(name: str, names: frozenset[str]) -> frozenset[str]:
    prefix = f"{name}."
    return frozenset(item_key(other.removeprefix(prefix)) for other in names if other.startswith(prefix))


def _masked(name: str, value: object, names: frozenset[str] | None) -> object:
    if names is None or _is_secret(name, names):
        return MASK
    items = _secret_items(name, names)
    if items and isinstance(value, dict):
        return {key: MASK if item_key(key) in items else item for key, item in value.items()}
    return value


def _secrets(name: str, value: object, names: frozenset[str] | None) -> Iterator[str]:
    if names is None or _is_secret(name, names):
        yield from _leaves(value)
        return
    items = _secret_items(name, names)
    if items and isinstance(value, dict):
        for key, item in value.items():
            if item_key(key) in items:
                yield from _leaves(item)


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
