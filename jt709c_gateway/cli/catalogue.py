"""`jt709c catalogue`: shows the commands of the profiles."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import click
import msgspec
from rich.table import Table
from rich.text import Text

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.output import Output
from jt709c_gateway.cli.table import Cell, Column, known, print_records
from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE, LOCAL_COMMANDS, canonical
from jt709c_gateway.commands.conditions import EXPECTED
from jt709c_gateway.commands.profiles import CommandSpec, Profile, ProfileError, load_profiles
from jt709c_gateway.commands.profiles.params import Param
from jt709c_gateway.commands.profiles.registry import LOCAL_PARAMS
from jt709c_gateway.commands.profiles.spec import CommandDefinition
from jt709c_gateway.commands.provenance import Provenance, weakest
from jt709c_gateway.protocol.dialects import DIALECTS
from jt709c_gateway.protocol.json_text import escape_text

PARTLY: Final = "partly "
#: Columns of the terminal for the dialects.
_DIALECTS_WIDTH: Final = 12


@click.command()
@click.argument("commands", nargs=-1, metavar="[COMMAND]...", shell_complete=completion_values.commands)
@click.option(
    "--profiles",
    "directory",
    metavar="DIR",
    envvar="JT709C_PROFILES",
    show_envvar=True,
    shell_complete=completion_values.directories,
    help="Directory of your own profiles, as for the gateway.",
)
@click.option(
    "--dialect",
    "dialect",
    type=click.Choice(sorted(DIALECTS)),
    help="Only commands of locks that speak this dialect.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice([str(output) for output in Output]),
    default=str(Output.TABLE),
    show_default=True,
    help="Form of the output; wide and csv have a row for each form of a command, json is one document with "
    "the source of each form.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
def catalogue(
    commands: tuple[str, ...], directory: str | None, dialect: str | None, output: str, as_json: bool
) -> None:
    """Show what locks understand: commands with their aliases, dialects, parameters and provenance, which is
    documented, standard (from JT/T 808, not verified with a unit) or assumed.

    Without COMMAND, all commands are shown. An asterisk marks a required parameter. COMMAND may be an alias.

    Every command to a lock may have conditions: only_within, max_speed_kmh, not_before, not_after,
    position_max_age and when_not_allowed (jt709c send --help); JSON says what is right for each.

    \b
    Examples:
        jt709c catalogue
        jt709c catalogue unlock query
        jt709c catalogue --dialect jt701
        jt709c catalogue -o csv --dialect jt709
        jt709c catalogue --json --profiles /etc/jt709c/profiles
    """
    found = load_entries(directory, dialect)
    commands = tuple(map(canonical, commands))
    unknown = [name for name in commands if name not in found]
    if unknown:
        raise UserError(f"{unknown[0]!r} is not a command; expected one of {', '.join(found)}")
    chosen = [
        entry for name, entry in found.items() if name in commands or (not commands and entry.shown(dialect))
    ]
    if as_json or output == Output.JSON:
        sys.stdout.write(to_json(chosen))
    elif output == Output.TABLE:
        show(chosen)
    else:
        print_records(_rows_of_forms(chosen), _COLUMNS, FormRow.__struct_fields__, output)
    sys.stdout.flush()


@attrs.frozen
class Form:
    """A form of a command: its condition and its parameters."""

    condition: str
    spec: CommandSpec

    @property
    def params(self) -> dict[str, Param]:
        """The parameters that the form uses."""
        usable = self.spec.template.names | self.spec.selectors
        return {name: param for name, param in self.spec.params.items() if name in usable}


@attrs.frozen
class Holder:
    """The forms of a command in one profile."""

    profile: Profile
    forms: tuple[Form, ...]

    @property
    def standing(self) -> str:
        """The weakest provenance of the forms, and whether only some have it."""
        found = {form.spec.provenance for form in self.forms}
        return f"{PARTLY if len(found) > 1 else ''}{weakest(found)}"


@attrs.frozen
class Entry:
    """A command and the profiles that have it."""

    name: str
    description: str
    holders: tuple[Holder, ...]

    @property
    def local(self) -> bool:
        """Whether the gateway executes the command itself."""
        return self.name in LOCAL_COMMANDS

    def shown(self, dialect: str | None) -> bool:
        """Return whether the command belongs into a list of the commands of a dialect."""
        return dialect is None or self.local or bool(self.holders)


def load_entries(directory: str | None, dialect: str | None = None) -> dict[str, Entry]:
    """Load all commands by name, those of the catalogue first, with the profiles of a dialect.

    Raises UserError.
    """
    try:
        known = load_profiles(None if directory is None else Path(directory), allow_raw=True)
    except ProfileError as error:
        raise UserError(f"--profiles: {plain(error)}") from None
    profiles = sorted(known.profiles.values(), key=lambda one: one.name)
    names = dict.fromkeys([*CATALOGUE, *(name for one in profiles for name in sorted(one.commands))])
    chosen = [one for one in profiles if dialect in (None, one.dialect)]
    return {name: _entry(name, chosen) for name in names}


def _entry(name: str, profiles: Iterable[Profile]) -> Entry:
    able = [profile for profile in profiles if name in profile.commands]
    holders = tuple(Holder(profile, _forms(profile.commands[name])) for profile in able)
    lines = (form.spec.description for holder in holders for form in holder.forms)
    return Entry(name, CATALOGUE.get(name) or next(filter(None, lines), ""), holders)


def _forms(definition: CommandDefinition) -> tuple[Form, ...]:
    forms = [Form(variant.describe(), variant.spec) for variant in definition.variants]
    if definition.base is not None:
        forms.append(Form("otherwise" if forms else "", definition.base))
    return tuple(forms)


def aliases(name: str) -> list[str]:
    """Return the other names of a command."""
    return [alias for alias, command in ALIASES.items() if command == name]


def to_json(entries: Sequence[Entry]) -> str:
    """Format the commands as one JSON document."""
    found = [
        {
            "command": entry.name,
            "aliases": aliases(entry.name),
            "description": entry.description,
            "gateway": entry.local,
            "conditions": {} if entry.local else dict(EXPECTED),
            "params": [_param(param) for param in LOCAL_PARAMS.get(entry.name, {}).values()],
            "profiles": [_holder(holder) for holder in entry.holders],
        }
        for entry in entries
    ]
    return escape_text(json.dumps(found, indent=2, ensure_ascii=False)) + "\n"


def _holder(holder: Holder) -> dict[str, Any]:
    forms = [
        {
            "condition": form.condition or None,
            "assumed": form.spec.assumed,
            "provenance": str(form.spec.provenance),
            "physical": form.spec.physical,
            "source": form.spec.source,
            "peripheral": form.spec.peripheral,
            "delay": form.spec.evidence.delay.describe() if form.spec.evidence else None,
            "params": [_param(param) for param in form.params.values()],
        }
        for form in holder.forms
    ]
    profile = holder.profile
    return {
        "profile": profile.name,
        "dialect": profile.dialect,
        "standing": holder.standing,
        "forms": forms,
    }


class FormRow(msgspec.Struct):
    """A form of a command in a profile, for a wide table or CSV."""

    command: str
    aliases: list[str]
    dialect: str
    profile: str
    condition: str
    provenance: str
    params: list[str]
    description: str


def _cell(name: str, row: FormRow) -> Cell:
    value: str | list[str] = getattr(row, name)
    return known((value if isinstance(value, str) else " ".join(value)) or None)


_COLUMNS: Final = [Column(name, partial(_cell, name)) for name in FormRow.__struct_fields__]


def _rows_of_forms(entries: Sequence[Entry]) -> list[FormRow]:
    """Make a row for each form; a required parameter ends with an asterisk."""
    rows = []
    for entry in entries:
        forms: list[tuple[str, str, str, str, Mapping[str, Param]]] = [
            (holder.profile.dialect, holder.profile.name, form.condition, form.spec.provenance, form.params)
            for holder in entry.holders
            for form in holder.forms
        ] or [("", "", "", "", LOCAL_PARAMS.get(entry.name, {}))]
        for dialect, profile, condition, provenance, params in forms:
            names = [f"{name}{'*' if param.required else ''}" for name, param in params.items()]
            others = aliases(entry.name)
            row = (entry.name, others, dialect, profile, condition, str(provenance), names, entry.description)
            rows.append(FormRow(*row))
    return rows


def _param(param: Param) -> dict[str, Any]:
    return {
        "name": param.name,
        "type": str(param.kind),
        "required": param.required,
        "default": None if param.secret else param.default,
        "from": param.supplied_by,
        "secret": param.secret,
        "expected": param.expected(),
        "description": param.description,
    }


def show(entries: Sequence[Entry]) -> None:
    """Print each command with its description, and below it a row for each distinct form."""
    out = console()
    for entry in entries:
        heading = Text.assemble((plain(entry.name), "bold cyan"))
        for alias in aliases(entry.name):
            heading.append(f", {alias}", "cyan")
        heading.append(f"  {plain(entry.description)}")
        out.print(heading)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=2)
        table.add_column(min_width=_DIALECTS_WIDTH)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for params, dialects, standing in _rows(entry):
            style = "yellow" if standing.endswith(Provenance.ASSUMED) else ""
            table.add_row("", Text(dialects), Text(standing, style), Text(params))
        out.print(table)


def _rows(entry: Entry) -> list[tuple[str, str, str]]:
    """Return parameters, dialects and provenance of each row; equal profiles share one."""
    if entry.local:
        return [(_lines([("", LOCAL_PARAMS[entry.name])]), "all", "the gateway's own")]
    if not entry.holders:
        return [("", "none", "in no profile")]
    rows: dict[tuple[str, str], list[str]] = {}
    for holder in entry.holders:
        params = _lines([(form.condition, form.params) for form in holder.forms])
        rows.setdefault((params, holder.standing), []).append(_dialect(holder.profile))
    return [(params, ", ".join(names), standing) for (params, standing), names in rows.items()]


def _dialect(profile: Profile) -> str:
    """Return the dialect, with the name of the profile if it differs."""
    own = plain(profile.name)
    return profile.dialect if own == profile.dialect else f"{profile.dialect} ({own})"


def _lines(forms: Sequence[tuple[str, Mapping[str, Param]]]) -> str:
    """Format one line per parameter, with the condition if only some forms have it."""
    found: dict[str, list[str]] = {}
    for condition, params in forms:
        for param in params.values():
            found.setdefault(_line(param), []).append(condition)
    return "\n".join(
        line if len(conditions) == len(forms) else f"{line} [{'; '.join(map(plain, conditions))}]"
        for line, conditions in found.items()
    )


def _line(param: Param) -> str:
    notes = [plain(param.expected())]
    if param.secret or param.secret_items:
        notes.append("secret" if param.secret else "secret in part")
    if param.supplied_by is not None:
        notes.append(f"else the {param.supplied_by.replace('_', ' ')} the gateway has")
    if param.default is not None and not param.secret:
        notes.append(f"else {plain(json.dumps(param.default))}")
    return f"{param.name}{'*' if param.required else ''}: {'; '.join(notes)}"
