"""Making a command out of a command line (DESIGN.md §4)."""

import getpass
import json
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import click

from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.catalogue import CATALOGUE, canonical
from jt709c_gateway.commands.masking import item_key
from jt709c_gateway.commands.model import Command, InvalidCommand, new_command_id, parse_command
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.signing_keys import SigningKey, SigningKeysError, load_signing_keys
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
#: Whatever can be written to a lock, with or without a password.
_RAW: Final = frozenset([ParamKind.HEX, ParamKind.SENTENCE])
_SEEN: Final = "{name} doesn't belong on a command line, where ps and the shell's history show it; {instead}"
#: Characters of a file with a secret that are looked at.
_LONGEST_FILE: Final = 1 << 20
#: Passwords in the order in which they are asked for: the present one before the new one.
_PASSWORDS: Final = ("password", "old", "new")


@cache
def known_params(command: str) -> Mapping[str, tuple[Param, ...]]:
    """The parameters of a command in all its forms in the shipped profiles, by name."""
    found: dict[str, list[Param]] = {}
    for profile in load_profiles(allow_raw=True).profiles.values():
        definition = profile.commands.get(canonical(command))
        if definition is None:
            continue
        forms = [definition.params, *(variant.spec.params for variant in definition.variants)]
        for params in forms:
            for name, param in params.items():
                found.setdefault(name, []).append(param)
    return {name: tuple(params) for name, params in found.items()}


def read_params(command: str, assignments: Sequence[str]) -> dict[str, Any]:
    """`name=value` and `name:=json` to parameters; UserError for what is neither, and for a secret in them.

    A secret may come out of a file: `name=@file`, `name=@-` for standard input.
    """
    if canonical(command) not in CATALOGUE:
        named = unknown_name(command, CATALOGUE)
        notice(f"note: the command, {named}, is not in the catalogue; only a profile of your own can have it")
    params: dict[str, Any] = {}
    for assignment in assignments:
        match = _ASSIGNMENT.fullmatch(assignment)
        if match is None:
            # Not quoted: it may be a password that somebody put here.
            raise UserError("a parameter is written as name=value, or name:=json")
        name, sign, text = match.groups()
        if name in params:
            raise UserError(f"{_named(command, name)} is given twice")
        from_file = text.startswith("@") and _may_be_secret(command, name)
        if from_file:
            text = _read_secret(_named(command, name), text[1:])
        elif is_secret(name, known_params(command).get(name, ())):
            named = _named(command, name)
            raise UserError(_SEEN.format(name=named, instead=_instead(named)))
        params[name] = value = (
            _json(_named(command, name), text) if sign == ":=" else _value(command, name, text)
        )
        if not from_file:
            _check_items(command, name, value)
    return params


def _named(command: str, name: str) -> str:
    """The name of a parameter for a message: one that no profile has may be a password out of place."""
    return name if known_params(command).get(name) else "NAME"


def _may_be_secret(command: str, name: str) -> bool:
    """Whether it is one, as a whole or in part."""
    known = known_params(command).get(name, ())
    return _named_secret(name) or any(param.secret or param.secret_items for param in known)


def _named_secret(name: str) -> bool:
    # By the same words by which the gateway masks what no profile has marked.
    return "passw" in name or "secret" in name


def is_secret(name: str, forms: Sequence[Param]) -> bool:
    """Whether it is one as a whole. Raw bytes are masked since they may contain one, but need not."""
    return _named_secret(name) or any(param.secret and param.kind not in _RAW for param in forms)


def values(forms: Sequence[Param]) -> list[str]:
    """What a parameter may be, where that is one of a few words."""
    words: dict[str, None] = {}
    for param in forms:
        words |= dict.fromkeys(("true", "false") if param.kind is ParamKind.BOOLEAN else param.choices)
    return list(words)


def _instead(name: str) -> str:
    if name in _PASSWORDS:
        return "leave it out to be asked for it, or use --password-file FILE (- is standard input)"
    return f"use {name}=@FILE (@- is standard input)"


def _check_items(command: str, name: str, value: Any) -> None:
    """UserError where a secret stands inside what was given on the command line."""
    secret = {
        item for param in known_params(command).get(name, ()) for item in map(item_key, param.secret_items)
    }
    found = [key for key in value if item_key(key) in secret] if isinstance(value, dict) else []
    if found:
        raise UserError(_SEEN.format(name=f"{name}: what is in {found[0]}", instead=_instead(name)))


def _read_secret(name: str, path: str) -> str:
    """The text of a file without its line end; UserError when it can't be read or is empty."""
    text = "\n".join(read_secret_lines(f"{name}=@", path))
    if not text:
        raise UserError(f"{name}=@: {path} is empty")
    return text


def read_secret_lines(option: str, path: str) -> list[str]:
    """The lines of a file that are not empty; `-` is standard input."""
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


def _value(command: str, name: str, text: str) -> Any:
    known = known_params(command).get(name)
    if known is None:
        return text if _named_secret(name) else _guess(text)
    return _typed(known[0], name, text)


def _guess(text: str) -> Any:
    """No profile here knows the parameter: a number or a list is what looks like one."""
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


def add_passwords(command: str, params: dict[str, Any], path: str | None) -> None:
    """Put in the passwords that the command takes and wasn't given, from a file or from the keyboard.

    One that the gateway can put in itself may be left empty, and isn't asked for without a terminal.
    """
    missing = [name for name in _PASSWORDS if name not in params and _wanted(command, name, params)]
    if path is not None:
        params.update(zip(missing, _read_passwords(path, missing, command), strict=False))
        return
    for name in missing:
        optional = any(param.supplied_by for param in known_params(command)[name])
        if not sys.stdin.isatty():
            if optional:
                continue
            raise UserError(f"{command} needs {name}; give --password-file where nobody can be asked")
        hint = " (empty: the one the gateway has)" if optional else ""
        value = click.prompt(
            f"{name}{hint}", default="" if optional else None, hide_input=True, show_default=False, err=True
        )
        if value:
            params[name] = value


def _wanted(command: str, name: str, params: Mapping[str, Any]) -> bool:
    known = known_params(command).get(name, ())
    # A dynamic password is the gateway's to put in: the lock told it.
    dynamic = params.get("method") == "dynamic"
    return any(param.secret for param in known) and not dynamic


def _read_passwords(path: str, names: Sequence[str], command: str) -> list[str]:
    lines = read_secret_lines("--password-file", path)
    if len(lines) != len(names):
        where = "standard input" if path == "-" else path
        wanted = f"{len(names)}: {', '.join(names)}" if names else "none"
        raise UserError(f"--password-file: {where} has {len(lines)} lines; {command} takes {wanted}")
    return lines


def make(command: str, device: str, params: Mapping[str, Any], fields: Mapping[str, Any]) -> Command:
    """The command, checked as far as it can be without knowing the lock; UserError for what is wrong.

    `fields` are `command_id`, `ttl`, `timeout`, `reply_to` and `issued_by`, None for what wasn't given.
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
        "issued_by": fields["issued_by"] or _who(),
    }
    given = {name: value for name, value in wire.items() if value is not None}
    try:
        return parse_command(json.dumps(given).encode(), 0.0)
    except InvalidCommand as error:
        raise UserError(str(error)) from None


def read_key(key_id: str | None, path: str | None) -> SigningKey | None:
    """The key to sign with, None for none; UserError for a file or an id that can't be used."""
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


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:128]
