"""Accepts commands from the status page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import txredisapi
from attrs import define, evolve, field
from msgspec import Meta
from twisted.logger import Logger

from jt709c_gateway.commands.check import CheckedForDevice, check_command
from jt709c_gateway.commands.model import (
    Command,
    InvalidCommand,
    Wire,
    new_command_id,
    parse_command,
)
from jt709c_gateway.commands.profiles import CommandSpec, ProfileRegistry
from jt709c_gateway.commands.serialization import to_wire
from jt709c_gateway.commands.signing import CommandRefused, SigningKey, SigningKeys
from jt709c_gateway.commands.value_description import unknown_names
from jt709c_gateway.redis.areas import check_conditions
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.web.api.command_fields import CommandFields
from jt709c_gateway.web.api.commands import CommandRecord, CommandsApi
from jt709c_gateway.web.api.repeated_commands import Repeats
from jt709c_gateway.web.command_rights import CommandRights
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from jt709c_gateway.web.query import COMMAND_ID_PATTERN, Parameter
from jt709c_gateway.web.redis_client import numbers_away
from jt709c_gateway.web.roles import Right, User
from jt709c_gateway.web.router import BASE, Result, Route

REQUESTED_WITH: Final = "jt709c"
REQUESTED_WITH_HEADER: Final = Parameter(
    "x-requested-with",
    str,
    "Shows that the request comes from no form of another site.",
    {"const": REQUESTED_WITH},
    place="header",
    required=True,
)


class NewCommand(CommandFields, kw_only=True):
    """A command to give: `device` is a device id, an IMEI or a sub-lock's id.

    `id` is an id of the client's own, new for each command; without one the gateway makes it. `ttl` is the
    seconds that the command may wait for a lock that is away, `timeout` those to wait for the lock's answer.
    The other fields say where, how fast and when it may be written to the lock.
    """

    device: str
    command: str
    id: Annotated[str, Meta(pattern=COMMAND_ID_PATTERN)] | None = None


#: The fields that a command from the page may have.
FIELDS: Final = ("device", "command", "id", *CommandFields.__struct_fields__)


class Accepted(msgspec.Struct):
    """The id of a command that has been accepted."""

    id: str


class AcceptedBefore(Accepted):
    """A command that had been accepted before, and its present state."""

    command: CommandRecord


class MissingParam(msgspec.Struct):
    """A parameter that the command lacks and the lock needs; the gateway has no `supplied_by` (`from`)."""

    name: str
    supplied_by: str | None = msgspec.field(name="from")


class CheckResult(msgspec.Struct):
    """The result of a check that found no mistake; with something `missing` the command would still fail."""

    missing: list[MissingParam]


_RESULTS: Final = {
    200: Result(
        AcceptedBefore,
        "The command was given before, and this request did nothing: its present state.",
        ("location",),
    ),
    202: Result(
        Accepted,
        "The command is in the intake list; `/commands/{id}` has its state. With an `id` of the client's it "
        "may have been there before: it is executed once.",
        ("location",),
    ),
}


@define(eq=False)
class CommandRequests:
    """The handlers of POST /commands and its check. `key` signs commands.

    `has_static_password` says that the gateway has one for all locks. `now()` returns the time of the
    gateways in epoch seconds.
    """

    log = Logger()

    web: PartitionedWebRedis
    commands_api: CommandsApi
    rights: CommandRights
    profiles: ProfileRegistry
    key: SigningKey | None
    has_static_password: bool
    now: Callable[[], float]
    _repeats: Repeats = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._repeats = Repeats(self.web.queries, self.profiles)

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        checked = {200: Result(CheckResult)}
        body, right = NewCommand, Right.COMMAND
        return [
            Route(
                "POST",
                "/commands",
                self.issue,
                _RESULTS,
                (REQUESTED_WITH_HEADER,),
                body=body,
                errors=(409,),
                right=right,
            ),
            Route(
                "POST",
                "/commands/check",
                self.check,
                checked,
                (REQUESTED_WITH_HEADER,),
                body=body,
                right=right,
            ),
        ]

    async def check(self, request: ApiRequest) -> Response:
        """POST /commands/check: check a command without giving it.

        A mistake is a 400, as when it is given. `missing` lists what else the lock needs, such as a password.
        """
        user = self.admit(request)
        try:
            _, checked = await self.validate(user, self.read(request.json_object(), user))
        except InvalidCommand as error:
            raise api_error(error) from None
        missing = [] if checked.spec is None else await self.missing(checked.command, checked.spec)
        return json_response(CheckResult(missing))

    async def issue(self, request: ApiRequest) -> Response:
        """POST /commands: give a command.

        Only with `--web-commands`, and as a user. The command is checked as far as its lock is known;
        `issued_by` is `web:<user>`. Give it an `id`, and if the answer is lost or a 5xx, send the same again:
        a command is executed once for each id. Without an `id`, look up the command that the message of a 503
        names before you give it again.
        """
        # A command that was pushed but has no record yet is pushed again: intake accepts each id once.
        user = self.admit(request)
        body = request.json_object()
        command = self.read(body, user)
        has_own_id = body.get("id") is not None
        # A record in a partition that is away is of another lock: otherwise looking for the lock fails below.
        records = (await self.commands_api.find(command.id))[0] if has_own_id else []
        if records:
            record = await self._repeats.check(command, records)
            self.log.info(
                "command {id} repeated by web:{user}: it is already {state}",
                id=command.id,
                user=user.name,
                state=record.state,
            )
            return _with_location(json_response(AcceptedBefore(command.id, record)), command.id)
        try:
            known, _ = await self.validate(user, command)
        except InvalidCommand as error:
            raise api_error(error) from None
        if user.groups and known.peripheral is None:
            # Its IMEI may be another lock's when the command is carried out.
            command = evolve(command, device=known.device)
        wire = self.signed(command)
        if has_own_id:
            self._repeats.note(command)
        partition = self.web.of(known.device)
        try:
            await partition.redis.call("RPUSH", partition.keys.commands, wire)
        except txredisapi.ConnectionError as error:
            problem = f"the connection to Redis was lost: command {command.id} may have been given"
            right = f"a look at {BASE}/commands/{command.id} before it is given again, or the same id"
            away = numbers_away(error)
            raise ApiError(503, f"{problem}; expected {right}", partitions_away=away) from None
        self.log.info(
            "command {id} given by web:{user}: {command} for {device}",
            id=command.id,
            user=user.name,
            command=command.name,
            device=command.device,
        )
        return _with_location(json_response(Accepted(command.id), 202), command.id)

    def admit(self, request: ApiRequest) -> User:
        """Return the user; raise :class:`ApiError` if commands can't be given by this request."""
        check_same_site(request.twisted_request)
        # Without a user this route is refused.
        assert request.user is not None
        return request.user

    def read(self, body: Mapping[str, Any], user: User) -> Command:
        """Make the command of a request; raise :class:`ApiError` for a field that it can't have."""
        for name in Wire.__struct_fields__:
            if name in body and name not in FIELDS:
                raise ApiError(400, f"{name} can't be given here: expected {', '.join(FIELDS)}", name)
        if unknown := unknown_names(body, FIELDS, "field"):
            raise ApiError(400, f"unknown {unknown}: expected {', '.join(FIELDS)}")
        return self.parse(body, user)

    def parse(self, fields: Mapping[str, Any], user: User) -> Command:
        """Make a command of its fields, with an id if there is none; raise :class:`ApiError`."""
        named = {"id": new_command_id()} if fields.get("id") is None else {}
        raw = msgspec.json.encode({**fields, **named, "issued_by": f"web:{user.name}"})
        try:
            return parse_command(raw, self.now())
        except InvalidCommand as error:
            raise api_error(error) from None

    async def validate(self, user: User, command: Command) -> tuple[Known, CheckedForDevice]:
        """Raise :class:`ApiError` if a user may not give a command.

        Raise :class:`InvalidCommand` like the gateway, as far as the device is known.
        """
        known = await self.web.queries.look_up(command.device)
        return known, await self.validate_for(user, command, known)

    async def validate_for(self, user: User, command: Command, known: Known) -> CheckedForDevice:
        """The same for a device that was looked up."""
        await self.rights.check(user, command, known)
        there = self.web.of(known.device)
        checked = await check_command(command, known, self.profiles, there.store.peripheral_type)
        await check_conditions(there.redis, there.keys, command, self.now())
        return checked

    async def missing(self, command: Command, spec: CommandSpec) -> list[MissingParam]:
        """Find the parameters that neither the command nor the gateway has."""
        missing = spec.template.names - spec.check(command.params).keys()
        sources = {name: spec.params[name].supplied_by for name in sorted(missing)}
        has = {"static_password": self.has_static_password}
        if "dynamic_password" in sources.values():
            partition = self.web.of(command.device)
            key = partition.keys.secret(command.device)
            has["dynamic_password"] = bool(await partition.redis.call("EXISTS", key))
        return [MissingParam(name, source) for name, source in sources.items() if not has.get(source or "")]

    def signed(self, command: Command) -> bytes:
        """Serialize a command for the intake list, signed if there is a key; raise :class:`ApiError`."""
        now = self.now()
        wire = to_wire(command, self.key, now)
        if self.key is None:
            return wire
        try:
            SigningKeys({self.key.id: self.key}).check_new(parse_command(wire, now), now)
        except CommandRefused as error:
            raise ApiError(403, str(error), error.field) from None
        except InvalidCommand as error:
            # The signed form may be too long.
            raise api_error(error) from None
        return wire


def _with_location(answer: Response, command_id: str) -> Response:
    return evolve(answer, headers={"location": f"{BASE}/commands/{command_id}"})


def api_error(error: InvalidCommand) -> ApiError:
    """The same error as an answer 400."""
    return ApiError(400, str(error), error.field)


def check_same_site(request: Any) -> None:
    """Reject cross-site requests, which a browser would send with the stored password.

    Requires a header that forms can't set, and rejects headers of another origin.
    """
    if request.getHeader(b"x-requested-with") != REQUESTED_WITH.encode():
        raise ApiError(403, f"x-requested-with: expected {REQUESTED_WITH}", "x-requested-with")
    host = request.getHeader(b"host") or b""
    origins = request.requestHeaders.getRawHeaders(b"origin", [])
    if not all(_same_host(origin, host) for origin in origins):
        raise ApiError(403, "origin: expected a request from the status page itself", "origin")
    if request.getHeader(b"sec-fetch-site") not in (None, b"same-origin", b"none"):
        raise ApiError(
            403, "sec-fetch-site: expected a request from the status page itself", "sec-fetch-site"
        )


def _same_host(origin: bytes, host: bytes) -> bool:
    # Without the scheme, which a proxy may have changed.
    try:
        return urlsplit(origin.decode()).netloc.lower() == host.decode().lower() != ""
    except ValueError:
        return False
