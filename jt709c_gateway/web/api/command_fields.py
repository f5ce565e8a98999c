"""The fields that a command has in the body of a request, for one lock or for many."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jt709c_gateway.commands.conditions import MAX_POSITION_AGE, MAX_SPEED_KMH, WhenNotAllowed
from jt709c_gateway.commands.model import MAX_TIMEOUT, MAX_TTL, MIN_TIMEOUT


class CommandFields(msgspec.Struct, kw_only=True):
    """Parameters, times and conditions of a command (docs/commands.rst)."""

    params: dict[str, Any] | None = None
    ttl: Annotated[float, Meta(gt=0, le=MAX_TTL)] | None = None
    timeout: Annotated[float, Meta(ge=MIN_TIMEOUT, le=MAX_TIMEOUT)] | None = None
    only_within: dict[str, Any] | UnsetType = UNSET
    max_speed_kmh: Annotated[float, Meta(ge=0, le=MAX_SPEED_KMH)] | UnsetType = UNSET
    not_before: str | float | UnsetType = UNSET
    not_after: str | float | UnsetType = UNSET
    position_max_age: Annotated[float, Meta(ge=1, le=MAX_POSITION_AGE)] | UnsetType = UNSET
    when_not_allowed: WhenNotAllowed | UnsetType = UNSET
