"""Serves the catalogue of commands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define

from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE, LOCAL_COMMANDS
from jt709c_gateway.commands.profiles import CommandSpec, Profile, ProfileRegistry
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.profiles.registry import LOCAL_PARAMS
from jt709c_gateway.commands.profiles.spec import CommandDefinition
from jt709c_gateway.commands.profiles.templates import RawTemplate
from jt709c_gateway.commands.provenance import weakest
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.web import query as read
from jt709c_gateway.web.http import ApiRequest, Response, json_response

_NUMBERS = frozenset({ParamKind.INTEGER, ParamKind.NUMBER})


@define(eq=False)
class CatalogueApi:
    """The handler of /catalogue; `raw` includes commands that send raw bytes."""

    profiles: ProfileRegistry
    store: CommandStore
    raw: bool

    async def catalogue(self, request: ApiRequest) -> Response:
        """GET /catalogue: the commands that a lock understands, or those of all profiles."""
        request.reject_unknown_params("device")
        name: str | None = request.param("device", read.device)
        profile: Profile | None = None
        if name is not None:
            known = await self.store.look_up(name)
            profile = self.profiles.pick(known.device, known.dialect, known.firmware)
        supported = list(self.profiles.profiles.values()) if profile is None else [profile]
        commands = [one for one in self._commands(supported) if one is not None]
        return json_response({"profile": None if profile is None else profile.name, "commands": commands})

    def _commands(self, profiles: Sequence[Profile]) -> Iterable[dict[str, Any] | None]:
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


Form = tuple[str, CommandSpec]
"""A form of a command: the condition of its use, and its spec."""


def _forms(definition: CommandDefinition) -> list[Form]:
    forms = [(variant.describe(), variant.spec) for variant in definition.variants]
    return [*forms, *([("", definition.base)] if definition.base is not None else [])]


def describe(name: str, forms: Sequence[Form], params: Mapping[str, Param] | None = None) -> dict[str, Any]:
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
    return {
        "name": name,
        "aliases": [alias for alias, of in ALIASES.items() if of == name],
        "physical": any(spec.physical for spec in specs),
        "assumed": any(spec.assumed for spec in specs),
        "provenance": str(weakest(spec.provenance for spec in specs)) if specs else None,
        "summary": CATALOGUE.get(name) or next((spec.description for spec in specs if spec.description), ""),
        "params": [_param(found, everywhere=len(found) == len(usable)) for found in merged.values()],
        "forms": [
            {
                "profile": spec.profile,
                "condition": condition or None,
                "physical": spec.physical,
                "assumed": spec.assumed,
                "provenance": str(spec.provenance),
                "params": sorted(_usable(spec)),
            }
            for condition, spec in forms
        ],
    }


def _usable(spec: CommandSpec) -> dict[str, Param]:
    names = spec.template.names | spec.selectors
    return {name: param for name, param in spec.params.items() if name in names}


def _param(found: Sequence[Param], *, everywhere: bool) -> dict[str, Any]:
    param = found[0]
    numeric = param.kind in _NUMBERS
    choices = dict.fromkeys(choice for one in found for choice in one.choices)
    secret = any(one.secret for one in found)
    return {
        "name": param.name,
        "type": str(param.kind),
        "required": everywhere and all(one.required for one in found),
        "secret": secret,
        "choices": list(choices) or None,
        "minimum": min(number for one in found for number in (one.minimum, *one.also)) if numeric else None,
        "maximum": max(number for one in found for number in (one.maximum, *one.also)) if numeric else None,
        "default": None if secret else param.default,
        "from": param.supplied_by,
        "expected": param.expected(),
        "summary": " ".join(dict.fromkeys(one.description for one in found if one.description)),
    }
