"""Builds a command from a command line (docs/commands.rst)."""

import getpass
import json
import re
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

import click

from jt709c_gateway.cli.condition_options import CONDITION_OPTIONS, condition_fields
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE, canonical
from jt709c_gateway.commands.masking import item_key
from jt709c_gateway.commands.model import Command, InvalidCommand, new_command_id, parse_command
from jt709c_gateway.commands.profiles import Profile, ProfileError, ProfileRegistry, load_profiles
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.profiles.registry import LOCAL_PARAMS
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.commands.signing_key_file import SigningKeysError, load_signing_keys
from jt709c_gateway.commands.value_description import described, unknown_name

_ASSIGNMENT = re.compile(r"([a-z][a-z0-9_]*)(:?=)(.*)", re.DOTALL)
_TEXT: Final = frozenset(
    [ParamKind.TEXT, ParamKind.FREE_TEXT, ParamKind.CHOICE, ParamKind.HEX, ParamKind.SENTENCE]
)
_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
#: Raw bytes, which may contain a password.
_RAW: Final = frozenset([ParamKind.HEX, ParamKind.SENTENCE])
#: Options of `send` by the field of the command that they set.
_OPTIONS: Final = {
    "id": "--id",
    "ttl": "--ttl",
    "timeout": "--timeout",
    "reply_to": "--reply-to",
    "issued_by": "--issued-by",
    **CONDITION_OPTIONS,
}
_ON_COMMAND_LINE: Final = (
    "{name} doesn't belong on a command line, where ps and the shell's history show it; {instead}"
)
#: The maximum length of a name that is compared with known ones.
_LONGEST_NAME: Final = 64
#: How similar two names are of which one is probably a misspelling of the other.
_SIMILAR: Final = 0.75
#: The maximum length of a file with a secret, in characters.
_LONGEST_FILE: Final = 1 << 20
#: Passwords in the order of prompts: the current one before the new one.
_PASSWORDS: Final = ("password", "old", "new")


@cache
def _loaded(directory: str | None) -> ProfileRegistry:
    """Load the shipped profiles and those of a directory; raise UserError."""
    try:
        own = None if directory is None else Path(directory)
        return load_profiles(own, allow_raw=True)
    except ProfileError as error:
        raise UserError(f"--profiles: {plain(error)}") from None


def _profiles(directory: str | None) -> Mapping[str, Profile]:
    return _loaded(directory).profiles


@cache
def known_params(command: str, directory: str | None = None) -> Mapping[str, tuple[Param, ...]]:
    """Return the parameters of all forms of a command in the profiles, by name.

    `directory` has profiles of the operator, in addition to the shipped ones.
    """
    local = LOCAL_PARAMS.get(canonical(command), {})
    found: dict[str, list[Param]] = {name: [param] for name, param in local.items()}
    for profile in _profiles(directory).values():
        definition = profile.commands.get(canonical(command))
        if definition is None:
            continue
        forms = [definition.params, *(variant.spec.params for variant in definition.variants)]
        for params in forms:
            for name, param in params.items():
                found.setdefault(name, []).append(param)
    return {name: tuple(params) for name, params in found.items()}


def check_command(command: str, directory: str | None = None) -> None:
    """Raise UserError for a misspelled command; print a note for one that only an own profile can define."""
    own = [name for profile in _profiles(directory).values() for name in profile.commands]
    known = dict.fromkeys([*CATALOGUE, *ALIASES, *own])
    if command in known:
        return
    near = _nearest(command.lower(), known)
    if near is not None:
        hint = "" if directory is not None else " (a command of your own profile needs --profiles DIR)"
        raise UserError(f"there is no such command; did you mean {near}?{hint}")
    named = unknown_name(command, known)
    if directory is not None:
        raise UserError(f"there is no such command ({named}); jt709c catalogue lists them")
    notice(f"note: the command, {named}, is not in the catalogue; only your own profile can define it")


def read_params(command: str, assignments: Sequence[str], directory: str | None = None) -> dict[str, Any]:
    """Parse `name=value` and `name:=json`.

    Raises UserError, also for a secret on the command line and for a parameter that the command does not
    have. A secret may be read from a file: `name=@file`, `name=@-` for standard input.
    """
    params: dict[str, Any] = {}
    for number, assignment in enumerate(assignments, 1):
        match = _ASSIGNMENT.fullmatch(assignment)
        if match is None:
            # Not quoted: it may be a misplaced password.
            raise UserError("a parameter is written as name=value, or name:=json")
        name, sign, text = match.groups()
        _check_name(command, number, name, directory)
        if name in params:
            raise UserError(f"{_named(command, name, directory)} is given twice")
        named, forms = _named(command, name, directory), known_params(command, directory).get(name, ())
        from_file = text.startswith("@") and _may_be_secret(name, forms)
        if from_file:
            text = _read_secret(named, text[1:])
        elif is_secret(name, forms):
            raise UserError(_ON_COMMAND_LINE.format(name=named, instead=_instead(named)))
        params[name] = value = _json(named, text) if sign == ":=" else _value(name, text, forms)
        if not from_file:
            _check_items(name, value, forms)
    return params


def _check_name(command: str, number: int, name: str, directory: str | None) -> None:
    """Raise UserError for a parameter that no profile knows; its name may be a misplaced password."""
    known = known_params(command, directory)
    if name in known or canonical(command) not in CATALOGUE:
        return
    near = _nearest(name, known)
    text = f"{command} has no such parameter (number {number} of them); "
    text += f"did you mean {near}" if near is not None else f"expected {', '.join(known) or 'none'}"
    if _named_secret(name) or any(is_secret(one, forms) for one, forms in known.items()):
        text += "; if it held a password, your shell's history has it now"
    if directory is None:
        text += " (a parameter of your own profile needs --profiles DIR)"
    raise UserError(text)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant."""
    near = get_close_matches(name, list(known), 1, _SIMILAR) if len(name) <= _LONGEST_NAME else []
    return near[0] if near else None


def _named(command: str, name: str, directory: str | None) -> str:
    """Return the name of a parameter for a message; an unknown one may be a misplaced password."""
    return name if known_params(command, directory).get(name) else "NAME"


def _may_be_secret(name: str, forms: Sequence[Param]) -> bool:
    """Return whether the parameter is a secret or may contain one."""
    return _named_secret(name) or any(param.secret or param.secret_items for param in forms)


def _named_secret(name: str) -> bool:
    # The words by which the gateway masks unmarked parameters.
    return "passw" in name or "secret" in name


def is_secret(name: str, forms: Sequence[Param]) -> bool:
    """Return whether the whole parameter is a secret; raw bytes are masked, but need not be one."""
    return _named_secret(name) or any(param.secret and param.kind not in _RAW for param in forms)


def values(forms: Sequence[Param]) -> list[str]:
    """Return the possible values of a parameter, if they are few."""
    words: dict[str, None] = {}
    for param in forms:
        words |= dict.fromkeys(("true", "false") if param.kind is ParamKind.BOOLEAN else param.choices)
    return list(words)


def _instead(name: str) -> str:
    if name in _PASSWORDS:
        return "omit it to be prompted, or use --password-file FILE (- is standard input)"
    return f"use {name}=@FILE (@- is standard input)"


def _check_items(name: str, value: Any, forms: Sequence[Param]) -> None:
    """Raise UserError for a secret within a value on the command line."""
    secret = {item for param in forms for item in map(item_key, param.secret_items)}
    found = [key for key in value if item_key(key) in secret] if isinstance(value, dict) else []
    if found:
        raise UserError(
            _ON_COMMAND_LINE.format(name=f"{name}: what is in {found[0]}", instead=_instead(name))
        )


def _read_secret(name: str, path: str) -> str:
    """Read a secret from a file, without its line end; raise UserError if unreadable or empty."""
    text = "\n".join(read_secret_lines(f"{name}=@", path))
    if not text:
        raise UserError(f"{name}=@: {path} is empty")
    return text


def read_secret_lines(option: str, path: str) -> list[str]:
    """Read the nonempty lines of a file; `-` is standard input."""
    try:
        with click.open_file(path, "r", "utf-8") as file:
            return [line for line in file.read(_LONGEST_FILE).splitlines() if line]
    except OSError as error:
        raise UserError(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{option}: {path} is not text in UTF-8") from None


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise UserError(f"{name}: what follows := is not JSON") from None


def _value(name: str, text: str, forms: Sequence[Param]) -> Any:
    if not forms:
        return text if _named_secret(name) else _guess(text)
    return _typed(forms[0], name, text)


def _guess(text: str) -> Any:
    """Parse the value of an unknown parameter: JSON if possible, otherwise text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _typed(param: Param, name: str, text: str) -> Any:
    if param.kind in _TEXT:
        return text
    if param.kind is ParamKind.LIST and param.items is not None and text[:1] != "[":
        return [_typed(param.items, name, item.strip()) for item in text.split(",")]
    if param.kind is ParamKind.BOOLEAN:
        if text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
    else:
        try:
            return json.loads(text)
        except ValueError:
            pass
    shown = "" if param.secret or param.secret_items else f"is {described(text)}; "
    raise UserError(f"{name}: {shown}expected {param.expected()}")


def add_passwords(
    command: str, params: dict[str, Any], path: str | None, directory: str | None = None
) -> None:
    """Add the missing passwords of a command from a file or a prompt.

    A password that the gateway can supply may stay empty, and is not prompted for without a terminal.
    """
    known = known_params(command, directory)
    missing = [name for name in _PASSWORDS if name not in params and _needs_password(name, params, known)]
    if path is not None:
        params.update(zip(missing, _read_passwords(path, missing, command), strict=False))
        return
    for name in missing:
        optional = any(param.supplied_by for param in known[name])
        if not sys.stdin.isatty():
            if optional:
                continue
            raise UserError(f"{command} needs {name}; give --password-file without a terminal")
        hint = " (empty: the one the gateway has)" if optional else ""
        value = click.prompt(
            f"{name}{hint}", default="" if optional else None, hide_input=True, show_default=False, err=True
        )
        if value:
            params[name] = value


def _needs_password(name: str, params: Mapping[str, Any], known: Mapping[str, tuple[Param, ...]]) -> bool:
    # The gateway supplies a dynamic password, which the lock reported.
    dynamic = params.get("method") == "dynamic"
    return any(param.secret for param in known.get(name, ())) and not dynamic


def _read_passwords(path: str, names: Sequence[str], command: str) -> list[str]:
    lines = read_secret_lines("--password-file", path)
    if len(lines) != len(names):
        where = "standard input" if path == "-" else path
        wanted = f"{len(names)}: {', '.join(names)}" if names else "none"
        raise UserError(f"--password-file: {where} has {len(lines)} lines; {command} takes {wanted}")
    return lines


def make(command: str, device: str, params: Mapping[str, Any], fields: Mapping[str, Any]) -> Command:
    """Build a command and check it as far as possible without the lock; raise UserError.

    `fields` are `command_id`, `ttl`, `timeout`, `reply_to`, `issued_by`, conditions; None if not given.
    """
    command_id = fields["command_id"] or new_command_id()
    reply_to = fields["reply_to"]
    wire = {
        "id": command_id,
        "device": device,
        "command": command,
        "params": params or None,
        "ttl": fields["ttl"],
        "timeout": fields["timeout"],
        "reply_to": command_id if reply_to == "auto" else reply_to,
        "issued_by": fields["issued_by"] or _sender(),
    }
    wire |= condition_fields(fields)
    given = {name: value for name, value in wire.items() if value is not None}
    try:
        return parse_command(json.dumps(given).encode(), 0.0)
    except InvalidCommand as error:
        where = _OPTIONS.get(error.field, error.field)
        raise UserError(f"{where}: {error.problem}; expected {error.expected}") from None


def check_complete(command: Command, directory: str | None = None) -> None:
    """Raise UserError if a parameter is missing that each profile with this command requires."""
    try:
        _loaded(directory).validate_loosely(command)
    except InvalidCommand as error:
        if error.problem == "missing":
            hint = "" if directory is not None else " (your own profile needs --profiles DIR)"
            name = error.field.removeprefix("params.")
            raise UserError(f"{name}: missing; expected {error.expected}{hint}") from None


def moves(command: Command, directory: str | None = None) -> bool:
    """Return whether any form of a command moves the lock, or may."""
    found = [
        profile.commands[command.name]
        for profile in _profiles(directory).values()
        if command.name in profile.commands
    ]
    specs = [spec for one in found for spec in (one.base, *(variant.spec for variant in one.variants))]
    return any(spec.physical for spec in specs if spec is not None)


def read_key(key_id: str | None, path: str | None) -> SigningKey | None:
    """Load the signing key, None without --key-file; raise UserError for an invalid file or id."""
    if path is None:
        if key_id is not None:
            raise UserError("--key-id goes with --key-file; give both")
        return None
    try:
        keys = load_signing_keys(Path(path))
    except SigningKeysError as error:
        raise UserError(f"--key-file {error}") from None
    if key_id is None and len(keys) == 1:
        return next(iter(keys.values()))
    if key_id not in keys:
        missing = (
            "--key-id is missing" if key_id is None else f"--key-id is {described(key_id)}, and not in {path}"
        )
        raise UserError(f"{missing}; expected one of {', '.join(sorted(keys))}")
    return keys[key_id]


def _sender() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:128]
