"""An order as it waits in Redis, and in the hands of a gateway (DESIGN.md §4).

It carries the secrets, since it has yet to be written to a lock. A signed one carries the text that was
signed, and nothing else of the order itself: what is written to the lock is read out of that text again.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import msgspec

from jt709c_gateway.commands.model import (
    ORDER_ID,
    Command,
    InvalidCommand,
    Wire,
    make_command,
    read_object,
    read_signed,
    typed,
)
from jt709c_gateway.commands.sublocks import SUBLOCK_ID, redirect_to_master

_DEVICE: Final = re.compile(r"[0-9]{1,20}")
_UNSIGNED: Final = attrs.filters.exclude("signature")


class _Plain(Wire, forbid_unknown_fields=True, kw_only=True):
    created_at: int | float


class _Signed(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """``id`` and ``device``, the one that gets it, are for Redis's scripts and for those who look.

    ``sublock_parameter`` is as in :class:`~jt709c_gateway.commands.signing.Signature`.
    """

    id: str
    device: str
    key: str
    mac: str
    order: str
    sublock_parameter: str | None = None


def to_waiting(order: Command) -> bytes:
    """An order for a Redis list."""
    signature = order.signature
    if signature is None:
        return msgspec.json.encode(attrs.asdict(order, recurse=False, filter=_UNSIGNED))
    return msgspec.json.encode(
        _Signed(
            order.id,
            order.device,
            signature.key,
            signature.mac,
            signature.text,
            signature.sublock_parameter,
        )
    )


def from_waiting(raw: bytes) -> Command:
    """Read what :func:`to_waiting` wrote; raise :class:`InvalidOrder` for anything else.

    A signature is not checked here, and ``device`` is a claim: whoever writes to a lock checks both.
    """
    fields = read_object(raw)
    if "mac" not in fields:
        plain = typed(fields, _Plain)
        return make_command(plain, float(plain.created_at))
    kept = typed(fields, _Signed)
    order = read_signed(kept.key, kept.mac, kept.order)
    if kept.id != order.id:
        raise InvalidCommand("id", "is not the one that was signed", "the id in the signed text").about(order)
    if not _DEVICE.fullmatch(kept.device):
        raise InvalidCommand("device", "is no device id", "text of 1 to 20 digits").about(order)
    if kept.sublock_parameter is not None and len(order.device) == SUBLOCK_ID:
        return redirect_to_master(order, kept.device, kept.sublock_parameter)
    return attrs.evolve(order, device=kept.device)


def waiting_id(raw: bytes) -> str | None:
    """The id under which an order waits that can't be read otherwise."""
    try:
        found: dict[str, Any] = read_object(raw)
    except InvalidCommand:
        return None
    order_id = found.get("id")
    return order_id if isinstance(order_id, str) and ORDER_ID.fullmatch(order_id) else None
