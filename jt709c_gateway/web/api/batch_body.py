"""Reads the body of a request that gives a batch."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import Meta

from jt709c_gateway.commands.model import (
    BATCH_ID,
    DEVICE_NAME,
    EXPECTED,
    new_command_id,
)
from jt709c_gateway.commands.value_description import described, unknown_names
from jt709c_gateway.redis.labels import LABEL_LIMITS
from jt709c_gateway.web.api.command_fields import CommandFields
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.query import DEVICE_PATTERN

#: Locks of one batch.
MAX_LOCKS: Final = 1000


class NewBatch(CommandFields, kw_only=True):
    """A command to give to several locks: to `devices`, or to all that have `group` in their label.

    `devices` are device ids, IMEIs or sub-locks' ids. `id` is an id of the client's own, new for each batch;
    without one the gateway makes it. The other fields are those of a command.
    """

    command: str
    devices: (
        Annotated[
            list[Annotated[str, Meta(pattern=DEVICE_PATTERN)]], Meta(min_length=1, max_length=MAX_LOCKS)
        ]
        | None
    ) = None
    group: Annotated[str, Meta(min_length=1, max_length=LABEL_LIMITS["group"])] | None = None
    id: Annotated[str, Meta(pattern=f"^{BATCH_ID.pattern}$")] | None = None


#: The fields that a batch may have.
FIELDS: Final = ("command", "devices", "group", "id", *CommandFields.__struct_fields__)
#: Those that are no fields of its commands.
OF_BATCH: Final = frozenset({"id", "devices", "group"})


def read_batch_id(body: Mapping[str, Any]) -> str:
    """Return the id of a batch, a new one if it has none; raise :class:`ApiError`."""
    if unknown := unknown_names(body, FIELDS, "field"):
        raise ApiError(400, f"unknown {unknown}: expected {', '.join(FIELDS)}")
    batch_id = body.get("id")
    if batch_id is None:
        return new_command_id()
    if not isinstance(batch_id, str) or not BATCH_ID.fullmatch(batch_id):
        raise ApiError(400, f"id is {described(batch_id)}: expected {EXPECTED['batch']}", "id")
    return batch_id


def read_devices(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the locks in a body; raise :class:`ApiError`."""
    names = body.get("devices")
    if not isinstance(names, list) or not 0 < len(names) <= MAX_LOCKS:
        found = f"has {len(names)} entries" if isinstance(names, list) else f"is {described(names)}"
        raise ApiError(400, f"devices {found}: expected a list of 1 to {MAX_LOCKS} locks", "devices")
    for place, name in enumerate(names, 1):
        if not isinstance(name, str) or not DEVICE_NAME.fullmatch(name):
            problem = f"devices: entry {place} is {described(name)}"
            raise ApiError(400, f"{problem}: expected {EXPECTED['device']}", "devices")
    return [name.upper() for name in names]


def read_group(body: Mapping[str, Any]) -> str | None:
    """Return the group that a body asks for; raise :class:`ApiError`."""
    group = body.get("group")
    if (group is None) == (body.get("devices") is None):
        raise ApiError(400, "devices: expected either devices or a group", "devices")
    if group is not None and (not isinstance(group, str) or not group):
        raise ApiError(400, f"group is {described(group)}: expected the name of a group", "group")
    return group


def asked_for(body: Mapping[str, Any]) -> str:
    """Identify the locks that a body asks for."""
    group = read_group(body)
    if group is not None:
        return f"group {group}"
    return hashlib.sha256(",".join(sorted(set(read_devices(body)))).encode()).hexdigest()
