"""Serves the catalogue of commands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import define, evolve

from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE, LOCAL_COMMANDS
from jt709c_gateway.commands.conditions import EXPECTED
from jt709c_gateway.commands.profiles import CommandSpec, Profile, ProfileRegistry
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.profiles.registry import LOCAL_PARAMS
from jt709c_gateway.commands.profiles.spec import CommandDefinition
from jt709c_gateway.commands.profiles.templates import RawTemplate
from jt709c_gateway.commands.provenance import Provenance, weakest
from jt709c_gateway.commands.sublocks import SENSORS, SUBLOCK_UNLOCK
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.web import query as read
from jt709c_gateway.web.http import ApiRequest, Response, json_response
from jt709c_gateway.web.router import Result, Route

_NUMBERS = frozenset({ParamKind.INTEGER, ParamKind.NUMBER})
_DEVICE: Final = evolve(
    read.DEVICE, description="Only the commands of this lock (device id or IMEI) or sub-lock."
)


class CatalogueParam(msgspec.Struct):
    """A parameter of a command: `expected` says in words which values are right.

    `default` is the value that counts if none is given (None: there is none), `supplied_by` (`from`) says
    what the gateway supplies then. `minimum` and `maximum` are those of a number.
    """

    name: str
    type: ParamKind
    required: bool
    secret: bool
    choices: list[str] | None
    minimum: float | None
    maximum: float | None
    default: Any
    supplied_by: str | None = msgspec.field(name="from")
    expected: str
    summary: str


class CatalogueForm(msgspec.Struct):
    """A form of a command: `condition` says when it is used; None means otherwise."""

    profile: str
    condition: str | None
    physical: bool
    assumed: bool
    provenance: Provenance
    params: list[str]


class CatalogueCommand(msgspec.Struct):
    """A command with its parameters and forms. `physical`: it, or one of its forms, moves a lock.

    `provenance` is the weakest of its forms; None for a command that the gateway executes itself.
    """

    name: str
    aliases: list[str]
    physical: bool
    assumed: bool
    provenance: Provenance | None
    summary: str
    params: list[CatalogueParam]
    forms: list[CatalogueForm]


class Catalogue(msgspec.Struct):
    """The commands in the profile of a lock; `profile` is None for those of all profiles.

    `conditions` are those that each command may have which the gateway does not execute itself, with what is
    right for them.
    """

    profile: str | None
    commands: list[CatalogueCommand]
    conditions: dict[str, str]


@define(eq=False)
class CatalogueApi:
    """The handler of /catalogue; `raw` includes commands that send raw bytes."""

    profiles: ProfileRegistry
    queries: PartitionedQueries
    raw: bool

    def routes(self) -> Sequence[Route]:
        """The route to this handler."""
        return [Route("GET", "/catalogue", self.catalogue, {200: Result(Catalogue)}, (_DEVICE,))]

    async def catalogue(self, request: ApiRequest) -> Response:
        """GET /catalogue: the commands that a lock understands, or those of all profiles.

        Those of a sub-lock are what its master does for it.
        """
        name: str | None = request.param(_DEVICE)
        known = None if name is None else await self.queries.look_up(name)
        profile = None
        if known is not None:
            profile = self.profiles.pick(known.device, known.dialect, known.firmware)
        supported = list(self.profiles.profiles.values()) if profile is None else [profile]
        if known is not None and known.peripheral is not None:
            commands = list(_of_sublock(supported, known.peripheral_type))
        else:
            commands = [one for one in self._commands(supported) if one is not None]
        return json_response(Catalogue(None if profile is None else profile.name, commands, dict(EXPECTED)))

    def _commands(self, profiles: Sequence[Profile]) -> Iterable[CatalogueCommand | None]:
        names = dict.fromkeys([*CATALOGUE, *(name for one in profiles for name in sorted(one.commands))])
        for name in names:
            if name in LOCAL_COMMANDS:
                yield describe(name, [], LOCAL_PARAMS[name])
            else:
                found = [one.commands[name] for one in profiles if name in one.commands]
                forms = [form for one in found for form in _forms(one)]
                if not self.raw:
                    forms = [form for form in forms if not isinstance(form[1].template, RawTemplate)]
                yield describe(name, forms) if forms else None


def _of_sublock(profiles: Sequence[Profile], kind: str | None) -> Iterable[CatalogueCommand]:
    """The commands to a sub-lock, without the parameter that names it."""
    found = [one.commands[SUBLOCK_UNLOCK] for one in profiles if SUBLOCK_UNLOCK in one.commands]
    if found and kind not in SENSORS:
        unlock = describe("unlock", [form for one in found for form in _forms(one)])
        named = {one.peripheral for one in found}
        unlock.params = [one for one in unlock.params if one.name not in named]
        for form in unlock.forms:
            form.params = [name for name in form.params if name not in named]
        yield unlock


Form = tuple[str, CommandSpec]
"""A form of a command: the condition of its use, and its spec."""


def _forms(definition: CommandDefinition) -> list[Form]:
    forms = [(variant.describe(), variant.spec) for variant in definition.variants]
    return [*forms, *([("", definition.base)] if definition.base is not None else [])]


def describe(name: str, forms: Sequence[Form], params: Mapping[str, Param] | None = None) -> CatalogueCommand:
    """Describe a command with all its forms.

    A parameter is required if every form requires it. If forms differ, the first one describes the parameter,
    with the choices of all.
    """
    specs = [spec for _, spec in forms]
    usable = [_usable(spec) for spec in specs] or [dict(params or {})]
    merged: dict[str, list[Param]] = {}
    for one in usable:
        for param in one.values():
            merged.setdefault(param.name, []).append(param)
    return CatalogueCommand(
        name=name,
        aliases=[alias for alias, of in ALIASES.items() if of == name],
        physical=any(spec.physical for spec in specs),
        assumed=any(spec.assumed for spec in specs),
        provenance=weakest(spec.provenance for spec in specs) if specs else None,
        summary=CATALOGUE.get(name) or next((spec.description for spec in specs if spec.description), ""),
        params=[_param(found, everywhere=len(found) == len(usable)) for found in merged.values()],
        forms=[
            CatalogueForm(
                profile=spec.profile,
                condition=condition or None,
                physical=spec.physical,
                assumed=spec.assumed,
                provenance=spec.provenance,
                params=sorted(_usable(spec)),
            )
            for condition, spec in forms
        ],
    )


def _usable(spec: CommandSpec) -> dict[str, Param]:
    names = spec.template.names | spec.selectors
    return {name: param for name, param in spec.params.items() if name in names}


def _param(found: Sequence[Param], *, everywhere: bool) -> CatalogueParam:
    param = found[0]
    numeric = param.kind in _NUMBERS
    choices = dict.fromkeys(choice for one in found for choice in one.choices)
    secret = any(one.secret for one in found)
    return CatalogueParam(
        name=param.name,
        type=param.kind,
        required=everywhere and all(one.required for one in found),
        secret=secret,
        choices=list(choices) or None,
        minimum=min(number for one in found for number in (one.minimum, *one.also)) if numeric else None,
        maximum=max(number for one in found for number in (one.maximum, *one.also)) if numeric else None,
        default=None if secret else param.default,
        supplied_by=param.supplied_by,
        expected=param.expected(),
        summary=" ".join(dict.fromkeys(one.description for one in found if one.description)),
    )
