"""Giving an order from the status page."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import txredisapi
from attrs import define, evolve, field
from twisted.logger import Logger

from jt709c_gateway.commands.catalogue import LOCAL_ORDERS
from jt709c_gateway.commands.model import Command, InvalidCommand, Wire, new_command_id, parse_command
from jt709c_gateway.commands.order_keys import CommandRefused, SigningKey, SigningKeys
from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.commands.sending import to_wire
from jt709c_gateway.commands.sublocks import check_known, check_type, parameter, redirect_to_master
from jt709c_gateway.commands.value_description import unknown_names
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.web.api.commands import CommandsApi
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.redis_client import WebRedis
from jt709c_gateway.web.repeating import Repeats
from jt709c_gateway.web.router import BASE

#: What an order from the page may say; the rest is not its to say.
FIELDS: Final = ("device", "command", "id", "params", "ttl", "timeout")
REQUESTED_WITH: Final = "jt709c"


@define(eq=False)
class CommandRequests:
    """The handler. `enabled` as the operator has it; `key` is what orders are signed with, if they are.

    `now()` is the time of the gateways in epoch seconds.
    """

    log = Logger()

    redis: WebRedis = field(repr=False)
    store: CommandStore
    book: CommandsApi
    profiles: ProfileRegistry
    enabled: bool
    key: SigningKey | None
    now: Callable[[], float]
    _repeats: Repeats = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._repeats = Repeats(self.store, self.profiles)

    async def issue(self, call: ApiRequest) -> Response:
        """POST /orders: check an order as far as that can be done, and push it to the intake list.

        One whose id is known is told as it stands instead. One that was pushed but has no record yet is
        pushed again: of one id, intake takes in only the first.
        """
        call.only()
        if not self.enabled or call.user is None:
            raise ApiError(403, "orders can't be given here: expected --web-orders, and users in --web-users")
        check_same_site(call.request)
        body = call.object()
        order = self._read(body, call.user)
        has_own_id = body.get("id") is not None
        record = await self.book.find(order.id) if has_own_id else None
        if record is not None:
            await self._repeats.check(order, record)
            self.log.info(
                "order {id} given again by web:{user}: it is {state} already",
                id=order.id,
                user=call.user,
                state=record["state"],
            )
            return _located(json_response({"id": order.id, "order": record}), order.id)
        try:
            await self._check(order)
        except InvalidCommand as error:
            raise _complaint(error) from None
        wire = self._signed(order)
        if has_own_id:
            self._repeats.note(order)
        try:
            await self.redis.call("RPUSH", self.redis.keys.commands, wire)
        except txredisapi.ConnectionError:
            problem = f"Redis went away: order {order.id} may have been given"
            right = f"a look at {BASE}/orders/{order.id} before it is given again, or the same id"
            raise ApiError(503, f"{problem}; expected {right}") from None
        self.log.info(
            "order {id} given by web:{user}: {command} for {device}",
            id=order.id,
            user=call.user,
            command=order.command,
            device=order.device,
        )
        return _located(json_response({"id": order.id}, 202), order.id)

    def _read(self, body: Mapping[str, Any], user: str) -> Command:
        for name in Wire.__struct_fields__:
            if name in body and name not in FIELDS:
                raise ApiError(400, f"{name} can't be given here: expected {', '.join(FIELDS)}", name)
        if unknown := unknown_names(body, FIELDS, "field"):
            raise ApiError(400, f"unknown {unknown}: expected {', '.join(FIELDS)}")
        named = {"id": new_command_id()} if body.get("id") is None else {}
        raw = msgspec.json.encode({**body, **named, "issued_by": f"web:{user}"})
        try:
            return parse_command(raw, self.now())
        except InvalidCommand as error:
            raise _complaint(error) from None

    async def _check(self, order: Command) -> None:
        """Raise :class:`InvalidOrder` for what the gateway would call so, as far as it is known here."""
        known = await self.store.look_up(order.device)
        check_known(order, is_sublock=known.peripheral is not None)
        profile = self.profiles.pick(known.device, known.dialect, known.firmware)
        if order.command in LOCAL_ORDERS:
            self.profiles.validate_loosely(order)
            return
        if known.peripheral is not None:
            order = redirect_to_master(order, known.device, parameter(profile))
            check_type(order, known.peripheral, known.peripheral_type)
        if profile is None:
            self.profiles.validate_loosely(order)
        else:
            self.profiles.validate(order, profile)

    def _signed(self, order: Command) -> bytes:
        now = self.now()
        wire = to_wire(order, self.key, now)
        if self.key is None:
            return wire
        try:
            SigningKeys({self.key.id: self.key}).check_new(parse_command(wire, now), now)
        except CommandRefused as error:
            raise ApiError(403, str(error), error.field) from None
        except InvalidCommand as error:
            # Signed, it may be too long.
            raise _complaint(error) from None
        return wire


def _located(answer: Response, order_id: str) -> Response:
    return evolve(answer, headers={"location": f"{BASE}/orders/{order_id}"})


def _complaint(error: InvalidCommand) -> ApiError:
    return ApiError(400, str(error), error.field)


def check_same_site(request: Any) -> None:
    """Refuse what a page of somebody else's can have a browser send, with the password it remembers.

    A header that forms can't set, and none of those that tell of another origin.
    """
    if request.getHeader(b"x-requested-with") != REQUESTED_WITH.encode():
        raise ApiError(403, f"x-requested-with: expected {REQUESTED_WITH}", "x-requested-with")
    host = request.getHeader(b"host") or b""
    origins = request.requestHeaders.getRawHeaders(b"origin", [])
    if not all(_same_host(origin, host) for origin in origins):
        raise ApiError(403, "origin: expected a call from the status page itself", "origin")
    if request.getHeader(b"sec-fetch-site") not in (None, b"same-origin", b"none"):
        raise ApiError(403, "sec-fetch-site: expected a call from the status page itself", "sec-fetch-site")


def _same_host(origin: bytes, host: bytes) -> bool:
    # Not the scheme, which a proxy in front of us may have changed.
    try:
        return urlsplit(origin.decode()).netloc.lower() == host.decode().lower() != ""
    except ValueError:
        return False
