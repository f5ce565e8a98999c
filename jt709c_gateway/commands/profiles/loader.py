"""Loads a :class:`~jt709c_gateway.commands.profiles.spec.Profile` from TOML.

The head of ``jt709.toml`` describes the format. Everything is checked here, so that a mistake stops the start
of the gateway and not a command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve

from jt709c_gateway.commands.catalogue import ALIASES, LOCAL_COMMANDS
from jt709c_gateway.commands.evidence import DEFAULT_WITHIN, Delay, EvidenceRule
from jt709c_gateway.commands.model import InvalidCommand, quote
from jt709c_gateway.commands.profiles.param_loader import read_params
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.profiles.spec import (
    DEFAULT_REPEATS,
    CommandDefinition,
    CommandSpec,
    Profile,
    Variant,
)
from jt709c_gateway.commands.profiles.template_loader import read_template
from jt709c_gateway.commands.profiles.templates import (
    BinaryTemplate,
    PnnTemplate,
    RawTemplate,
    SentenceTemplate,
    Template,
)
from jt709c_gateway.commands.profiles.toml_table import TomlTable
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.commands.replies import LAST, ReplyKind, ReplyRule
from jt709c_gateway.protocol.dialects import DIALECTS

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_DELAY: Final = 3600.0
"""Seconds that a command may take before its evidence is awaited."""
_ACTIONS: Final = frozenset({"unlocked", "locked"})
_RIVALS: Final = {"provenance": "assumed", "assumed": "provenance"}
_METHODS: Final = frozenset(
    {"password", "dynamic_password", "card", "bluetooth", "lora", "automatic", "unknown"}
)


def read_profile(file: str, data: Mapping[str, Any], *, shipped: bool = False) -> Profile:
    """Build a profile from the TOML document ``data``.

    Raises :class:`~jt709c_gateway.commands.profiles.toml_table.ProfileError`, which names ``file``.
    """
    table = TomlTable(file, "", data)
    table.raw("extends")
    name, dialect = table.needed_text("name"), table.needed_text("dialect")
    if _PROFILE_NAME.fullmatch(name) is None:
        raise table.error("name", f"is {name!r}; expected up to 64 letters, digits, '.', '-' or '_'")
    if dialect not in DIALECTS:
        raise table.error("dialect", f"is {dialect!r}; expected one of {', '.join(DIALECTS)}")
    source = table.needed_text("source")
    match = table.table_or_empty("match")
    devices, prefixes, firmware = match.texts("devices"), match.texts("prefixes"), match.texts("firmware")
    match.finish()
    commands = {
        key: _command(key, command, name, source)
        for key, command in table.table_or_empty("commands").subtables()
        if not command.boolean("disabled")
    }
    table.finish()
    return Profile(name, dialect, source, commands, frozenset(devices), prefixes, firmware, shipped)


def _command(name: str, table: TomlTable, profile: str, source: str) -> CommandDefinition:
    if _NAME.fullmatch(name) is None or name in LOCAL_COMMANDS:
        raise table.error(
            "", "expected a name of lower-case letters, digits and '_' that the gateway doesn't use itself"
        )
    if name in ALIASES:
        raise table.error("", f"is an alias; expected {ALIASES[name]}")
    variants = table.tables("variants")
    params = read_params(table.table_or_empty("params"))
    whens = [_when(variant, params) for variant in variants]
    selectors = frozenset(name for when, _ in whens for name in when)
    base = None
    if "template" in table or not variants:
        base = _spec(name, table, profile, source, selectors, frozenset())
    forms = tuple(
        Variant(
            _spec(name, _merged(table, variant), profile, source, selectors, given),
            when,
            given,
        )
        for variant, (when, given) in zip(variants, whens, strict=True)
    )
    known = frozenset(params).union(*(form.spec.params for form in forms))
    base = base and evolve(base, known_params=known)
    forms = tuple(evolve(form, spec=evolve(form.spec, known_params=known)) for form in forms)
    _all_used(table, params, [form.spec for form in forms] + ([base] if base else []))
    return CommandDefinition(name, params, base, forms)


def _when(variant: TomlTable, params: Mapping[str, Param]) -> tuple[dict[str, object], frozenset[str]]:
    """A variant's condition: ``when = { method = "dynamic" }``, ``given = ["ids"]``, or both."""
    when = variant.table_or_empty("when")
    wanted: dict[str, object] = {}
    for key in when.names():
        if key not in params or params[key].secret:
            raise when.error(key, "expected a parameter of the command that isn't secret")
        try:
            wanted[key] = params[key].check(when.raw(key))
        except InvalidCommand as error:
            raise when.error(key, f"is {quote(when.raw(key))}; expected {error.expected}") from None
    given = frozenset(variant.texts("given"))
    if not wanted and not given:
        raise variant.error("when", "missing; expected when = { parameter = value } or given = [parameters]")
    return wanted, given


def _merged(table: TomlTable, variant: TomlTable) -> TomlTable:
    """A variant is the command's table with its own keys in place; its parameters are added by name."""
    own = {key: variant.raw(key) for key in variant.names() if key not in ("when", "given")}
    shared = without_rival({key: table.raw(key) for key in table.names() if key != "variants"}, own)
    added = variant.table_or_empty("params")
    params = {**(shared.get("params") or {}), **{name: added.raw(name) for name in added.names()}}
    return variant.replaced({**shared, **own, "params": params})


def _spec(
    name: str, table: TomlTable, profile: str, source: str, selectors: frozenset[str], given: frozenset[str]
) -> CommandSpec:
    table.raw("variants")
    params = read_params(table.table_or_empty("params"))
    template = read_template(table, params)
    for needed in sorted(template.names):
        if not (params[needed].always_there or needed in given):
            raise table.error(
                f"params.{needed}", "is in the template; expected required = true, a default, or from"
            )
    physical = table.boolean("physical", isinstance(template, RawTemplate))
    if isinstance(template, RawTemplate) and not physical:
        raise table.error("physical", "is false; raw bytes may open a lock; expected true")
    repeats = table.integer("repeats", 1, 10)
    if physical and repeats not in (None, 1):
        raise table.error(
            "repeats", f"is {repeats}; a physical command is written once; expected 1 or nothing"
        )
    spec = CommandSpec(
        name=name,
        profile=profile,
        template=template,
        reply=_reply(table.table_or_empty("reply"), template),
        description=table.text("description") or "",
        source=table.text("source") or source,
        physical=physical,
        provenance=_provenance(table),
        repeats=1 if physical else repeats or DEFAULT_REPEATS,
        evidence=_evidence(table, physical, params),
        params=params,
        selectors=selectors,
        peripheral=_peripheral(table, params),
    )
    table.raw("disabled")
    table.finish()
    return spec


def without_rival(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Remove ``provenance`` or ``assumed`` from ``base`` if ``own`` has the other one."""
    replaced = {rival for key, rival in _RIVALS.items() if key in own}
    return {key: value for key, value in base.items() if key not in replaced}


def _provenance(table: TomlTable) -> Provenance:
    """``provenance = "standard"``, or ``assumed = true`` or ``false`` in older profiles."""
    text, assumed = table.text("provenance"), table.boolean("assumed")
    if text is None:
        return Provenance.ASSUMED if assumed else Provenance.DOCUMENTED
    if text not in list(Provenance):
        raise table.error("provenance", f"is {quote(text)}; expected one of {', '.join(Provenance)}")
    provenance = Provenance(text)
    if "assumed" in table and assumed is not (provenance is Provenance.ASSUMED):
        raise table.error("assumed", f"contradicts provenance = {quote(text)}; expected one of the two keys")
    return provenance


def _all_used(table: TomlTable, params: Mapping[str, Param], specs: list[CommandSpec]) -> None:
    used = frozenset[str]().union(*(spec.template.names | spec.selectors for spec in specs))
    for name in params:
        if name not in used:
            raise table.error(f"params.{name}", "is in no template; expected a placeholder for it")


def _reply(table: TomlTable, template: Template) -> ReplyRule:
    kind = ReplyKind.NONE
    match template:
        case SentenceTemplate():
            kind = ReplyKind.SENTENCE
        case PnnTemplate():
            kind = ReplyKind.PNN
        case BinaryTemplate():
            kind = ReplyKind.TERMINAL
        case RawTemplate():
            kind = ReplyKind.ANY
    given = table.text("kind")
    if given not in (None, "any", "none"):
        raise table.error("kind", f"is {given!r}; expected any, none, or nothing (then the template tells)")
    rule = _reply_rule(table, ReplyKind(given) if given else kind, template)
    table.finish()
    _check_outcomes(table, rule)
    return rule


def _reply_rule(table: TomlTable, kind: ReplyKind, template: Template) -> ReplyRule:
    sentence = template if isinstance(template, SentenceTemplate) else None
    pnn = template if isinstance(template, PnnTemplate) else None
    binary = template if isinstance(template, BinaryTemplate) else None
    reasons = table.table_or_empty("reasons")
    return ReplyRule(
        kind=kind,
        group=(table.text("group") or sentence.group) if sentence else "",
        number=_first(table.integer("number", 0, 99999), sentence.number) if sentence else None,
        word=(table.text("word") or pnn.word) if pnn else "",
        message_id=binary.message_id if binary else None,
        data=table.integer("data", 1, 0xFFFF) if binary else None,
        starts=() if binary else table.texts("starts"),
        result=None if binary else table.integer("result", LAST, 99),
        accepted=frozenset() if binary else frozenset(table.texts("accepted")),
        refused=frozenset() if binary else frozenset(table.texts("refused")),
        wrong_password=frozenset() if binary else frozenset(table.texts("wrong_password")),
        reasons={key: reasons.needed_text(key) for key in reasons.names()},
        secret_arguments=frozenset(table.integers("secret_arguments")),
        secret_items=frozenset(table.texts("secret_items")),
    )


def _first(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _check_outcomes(table: TomlTable, rule: ReplyRule) -> None:
    refusals = rule.refused | rule.wrong_password
    if rule.result is None:
        if rule.accepted or refusals:
            raise table.error("result", "missing; expected the position, from 0, of the argument that tells")
        return
    if not rule.accepted:
        raise table.error("accepted", 'missing; expected the values that mean yes, such as ["1"]')
    both = sorted(rule.accepted & refusals)
    if both:
        raise table.error("accepted", f"{both[0]!r} is a yes and a refusal; expected one of the two")


def _peripheral(table: TomlTable, params: Mapping[str, Param]) -> str | None:
    """The parameter that names the sub-lock; it can't be secret, since the record of the command has it."""
    name = table.text("peripheral")
    if name is None:
        return None
    param = params.get(name)
    if param is None or param.kind is not ParamKind.TEXT or param.secret or not param.required:
        raise table.error(
            "peripheral", f"is {name!r}; expected a parameter of type text, required, and not secret"
        )
    return name


def _delay(table: TomlTable, params: Mapping[str, Param]) -> Delay:
    """``delay = 30`` or ``delay = { parameter = "minutes", seconds = 60 }``."""
    if not isinstance(table.raw("delay"), dict):
        delay = Delay(table.number("delay") or 0.0)
        if not 0 <= delay.seconds <= MAX_DELAY:
            raise table.error("delay", f"is {delay.seconds:g}; expected seconds from 0 to {MAX_DELAY:g}")
        return delay
    form = table.table_or_empty("delay")
    delay = Delay(form.number("seconds") or 0.0, form.needed_text("parameter"))
    form.finish()
    param = params.get(delay.parameter or "")
    numeric = param is not None and param.kind in (ParamKind.INTEGER, ParamKind.NUMBER)
    if param is None or not numeric or param.secret or not (param.required or param.default is not None):
        right = "a parameter that is a number, required or with a default, and not secret"
        raise form.error("parameter", f"is {delay.parameter!r}; expected {right}")
    if param.minimum < 0 or not 0 < delay.seconds * param.maximum <= MAX_DELAY:
        right = f"more than 0, and at most {MAX_DELAY:g} in all for any {param.name}"
        bounds = f"{param.minimum:g} to {param.maximum:g}"
        raise form.error("seconds", f"is {delay.seconds:g}; expected {right}, which is {bounds}")
    return delay


def _evidence(command: TomlTable, physical: bool, params: Mapping[str, Param]) -> EvidenceRule | None:
    table = command.table("evidence")
    if table is None:
        return None
    if not physical:
        raise table.error("", "confirms a physical command; expected physical = true, or no evidence")
    within = table.number("within")
    rule = EvidenceRule(
        lock_actions=_words(table, "lock_actions", _ACTIONS),
        methods=_words(table, "methods", _METHODS),
        lock_state=table.text("lock_state"),
        within=DEFAULT_WITHIN if within is None else within,
        delay=_delay(table, params),
    )
    table.finish()
    if rule.lock_state not in (None, "locked", "unlocked"):
        raise table.error("lock_state", f"is {rule.lock_state!r}; expected locked or unlocked")
    if rule.lock_actions and not rule.methods:
        raise table.error("methods", f"missing; expected some of {', '.join(sorted(_METHODS))}")
    if not rule.lock_actions and rule.lock_state is None:
        raise table.error("", "says nothing; expected lock_actions, lock_state or both")
    if rule.within <= 0:
        raise table.error("within", f"is {rule.within:g}; expected seconds above 0")
    return rule


def _words(table: TomlTable, key: str, known: frozenset[str]) -> frozenset[str]:
    words = frozenset(table.texts(key))
    strange = sorted(words - known)
    if strange:
        raise table.error(key, f"holds {strange[0]!r}; expected some of {', '.join(sorted(known))}")
    return words
