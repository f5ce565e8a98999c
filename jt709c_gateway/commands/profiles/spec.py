"""The commands of a profile, loaded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jt709c_gateway.commands.evidence import Delay, EvidenceRule
from jt709c_gateway.commands.model import Command, InvalidCommand, quote
from jt709c_gateway.commands.profiles.params import Param
from jt709c_gateway.commands.profiles.templates import Rendered, Template
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.commands.replies import ReplyRule
from jt709c_gateway.commands.value_description import unknown_names

DEFAULT_REPEATS = 3
#: Why nothing is supplied for a parameter, by what its `from` names.
_ABSENT = {
    "static_password": "the gateway has no static password (--static-password-file)",
    "dynamic_password": "the lock has reported no dynamic password",
}


def secret_names(params: Mapping[str, Param]) -> frozenset[str]:
    """Names of the secret parameters; ``parameters.0012`` for one item of a parameter."""
    whole = {name for name, param in params.items() if param.secret}
    items = {f"{name}.{item}" for name, param in params.items() for item in param.secret_items}
    return frozenset(whole | items)


def check_params(
    params: Mapping[str, Param],
    given: Mapping[str, object],
    usable: frozenset[str],
    known: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Check the parameters of a command; parameters that the gateway supplies may be missing.

    Raises :class:`InvalidCommand`, also for a parameter outside ``usable``: it would be
    omitted silently. The error quotes only names that are ``known``: other text may be secret.
    """
    some = ", ".join(sorted(usable)) or "no parameters"
    if unknown := unknown_names(given, params.keys() | usable | known, "parameter"):
        raise InvalidCommand("params", f"{unknown} has no meaning here", some)
    for name in given:
        if name not in usable:
            raise InvalidCommand(f"params.{name}", "has no meaning here", some)
    values = {}
    for name in sorted(usable):
        param, value = params[name], given.get(name, params[name].default)
        if value is not None:
            values[name] = param.check(value)
        elif param.required:
            raise InvalidCommand(f"params.{name}", "missing", param.expected())
    return values


@attrs.frozen
class CommandSpec:
    """One form of a command in a profile: its template, reply and evidence.

    ``physical`` commands are written once at most; others up to ``repeats`` times, each under a new serial.
    ``selectors`` are the parameters that chose this form. ``peripheral`` is the parameter that names the
    sub-lock it is for, ``known_params`` what the command takes in any of its forms.
    """

    name: str
    profile: str
    template: Template
    reply: ReplyRule
    description: str = ""
    source: str = ""
    physical: bool = False
    provenance: Provenance = Provenance.DOCUMENTED
    repeats: int = DEFAULT_REPEATS
    evidence: EvidenceRule | None = None
    params: Mapping[str, Param] = attrs.field(factory=dict)
    selectors: frozenset[str] = frozenset()
    peripheral: str | None = None
    known_params: frozenset[str] = frozenset()

    @property
    def assumed(self) -> bool:
        """Whether no public document has the form."""
        return self.provenance is Provenance.ASSUMED

    @property
    def secret_names(self) -> frozenset[str]:
        """The names of secret parameters."""
        return secret_names(self.params)

    @property
    def shows_password(self) -> bool:
        """Whether the command sends a password, whose failures the lock counts (docs/protocol.rst §4)."""
        return bool(self.reply.wrong_password)

    def peripheral_of(self, given: Mapping[str, object]) -> str | None:
        """The sub-lock addressed by the parameters; ``None`` for the device itself."""
        value = None if self.peripheral is None else given.get(self.peripheral)
        return value if isinstance(value, str) else None

    def delay(self, given: Mapping[str, object]) -> float:
        """Seconds that the lock may take before it moves; the maximum if the parameter is missing."""
        delay = Delay() if self.evidence is None else self.evidence.delay
        if delay.parameter is None:
            return delay.seconds
        param = self.params[delay.parameter]
        value = given.get(delay.parameter, param.default)
        times = value if isinstance(value, int | float) and not isinstance(value, bool) else param.maximum
        return delay.seconds * times

    def check(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The checked parameters; raise :class:`InvalidCommand`."""
        return check_params(self.params, given, self.template.names | self.selectors, self.known_params)

    def render(
        self, values: Mapping[str, Any], now: float, supplied: Mapping[str, str] | None = None
    ) -> Rendered:
        """Render checked ``values``.

        ``supplied`` holds what the gateway puts in for parameters left out, by the name in the profile's
        ``from``: ``static_password`` from the configuration, ``dynamic_password`` as the lock last reported
        it. ``now`` is in seconds since 1970. Raises :class:`InvalidCommand` where something is missing or
        does not fit.
        """
        filled = dict(values)
        for name in sorted(self.template.names - filled.keys()):
            param = self.params[name]
            value = (supplied or {}).get(param.supplied_by or "")
            if value is None:
                absent = _ABSENT.get(param.supplied_by or "", "the gateway supplies none")
                raise InvalidCommand(f"params.{name}", f"not given, and {absent}", param.expected())
            filled[name] = param.check(value)
        return self.template.render(self.params, filled, now)


@attrs.frozen
class Variant:
    """A form of a command.

    It is used when the parameters in ``when`` have those values and those in ``given`` are there.
    """

    spec: CommandSpec
    when: Mapping[str, object] = attrs.field(factory=dict)
    given: frozenset[str] = frozenset()

    def describe(self) -> str:
        """Describe the condition."""
        return " and ".join(
            [*(f"{name}={quote(value)}" for name, value in self.when.items()), *sorted(self.given)]
        )


@attrs.frozen
class CommandDefinition:
    """A command in a profile with all its forms; ``params`` are those that every form shares."""

    name: str
    params: Mapping[str, Param]
    base: CommandSpec | None
    variants: tuple[Variant, ...] = ()

    @property
    def secret_names(self) -> frozenset[str]:
        """Parameters that are secret in any form."""
        forms = [variant.spec for variant in self.variants]
        return secret_names(self.params).union(*(spec.secret_names for spec in forms))

    @property
    def peripheral(self) -> str | None:
        """The parameter that names a sub-lock, in the first form that has one."""
        forms = [*([self.base] if self.base else []), *(variant.spec for variant in self.variants)]
        return next((form.peripheral for form in forms if form.peripheral), None)

    def choose(self, given: Mapping[str, object]) -> CommandSpec:
        """Select the form for the parameters: the first matching variant, or the base. Values may be masked.

        Raises :class:`InvalidCommand` when none fits.
        """
        for name in sorted({name for variant in self.variants for name in variant.when}):
            if name in given:
                self.params[name].check(given[name])
        for variant in self.variants:
            if variant.given <= given.keys() and all(
                given.get(name, self.params[name].default) == value for name, value in variant.when.items()
            ):
                return variant.spec
        if self.base is None:
            self._check_selector(given)
            forms = "; or ".join(variant.describe() for variant in self.variants)
            raise InvalidCommand("params", f"fit no form of {self.name}", forms)
        return self.base

    def _check_selector(self, given: Mapping[str, object]) -> None:
        """Raise :class:`InvalidCommand` if the one parameter that every form is chosen by is missing."""
        selectors = {frozenset(variant.when) | variant.given for variant in self.variants}
        if len(selectors) != 1 or len(names := selectors.pop()) != 1:
            return
        (name,) = names
        if name not in given:
            raise InvalidCommand(f"params.{name}", "missing", self.params[name].expected())


@attrs.frozen
class Profile:
    """A profile: the commands of a family of locks, and the locks that it matches.

    ``prefixes`` are beginnings of device ids, ``firmware`` shell patterns for a firmware's name.
    """

    name: str
    dialect: str
    source: str
    commands: Mapping[str, CommandDefinition]
    devices: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    shipped: bool = False

    @property
    def general(self) -> bool:
        """Whether the profile matches every lock of its dialect."""
        return not (self.devices or self.prefixes or self.firmware)


@attrs.frozen
class CheckedCommand:
    """A command whose parameters are valid in the profile of its lock."""

    command: Command
    spec: CommandSpec
    values: Mapping[str, Any] = attrs.field(repr=False)

    def render(self, now: float, supplied: Mapping[str, str] | None = None) -> Rendered:
        """Render the command; see :meth:`CommandSpec.render`."""
        try:
            return self.spec.render(self.values, now, supplied)
        except InvalidCommand as error:
            raise error.about(self.command) from None
