"""Writes a profile from a captured sentence, without passwords."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.learn.sentences_seen import Form, SeenSentence
from jt709c_gateway.commands.profiles import Profile, ProfileError, load_profiles
from jt709c_gateway.commands.profiles.params import Param, fits_sentence
from jt709c_gateway.commands.profiles.spec import CommandDefinition

#: Lengths of literal arguments that may be passwords.
_SUSPICIOUS: Final = 4


@frozen
class ProfileDraft:
    """What to write: the head of the profile, and the command of the sentence.

    `places` maps positions among the arguments, from 1, to names of parameters.
    """

    command: str
    name: str
    source: str
    match: Mapping[str, Sequence[str]]
    places: Mapping[int, str]
    secrets: Sequence[str]


def template(one: SeenSentence, definition: CommandDefinition, base: Form, wanted: ProfileDraft) -> str:
    """Turn the sentence into a template with parameters; raise UserError if a password may remain in it.

    What `places` names comes first, then the passwords that were given, then what the profile's own form has
    at the same place; and where that has another number of arguments, what looks like its password.
    """
    params = definition.params if definition.base is None else definition.base.params
    theirs = base.text.split(",")[1 if one.number is None else 2 :]
    secret = [name for name in _in_order(theirs, params) if params[name].secret]
    found: list[str] = []
    for place, argument in enumerate(one.arguments, 1):
        found.append(_piece(place, argument, one, params, theirs, secret, wanted))
    for place in wanted.places:
        if not 1 <= place <= len(one.arguments):
            raise UserError(f"--argument {place}: the sentence has {len(one.arguments)} arguments")
    used = {piece[1:-1] for piece in found if piece.startswith("{")}
    if missing := [name for name in secret if name not in used]:
        right = f"--argument PLACE={missing[0]}, or the password in --password-file"
        raise UserError(f"no argument of the sentence is {missing[0]}; expected {right}")
    number = [] if one.number is None else [str(one.number)]
    return ",".join([one.word, *number, *found])


def _in_order(theirs: Sequence[str], params: Mapping[str, Param]) -> list[str]:
    return [piece[1:-1] for piece in theirs if piece.startswith("{") and piece[1:-1] in params]


def _piece(
    place: int,
    argument: str,
    one: SeenSentence,
    params: Mapping[str, Param],
    theirs: Sequence[str],
    secret: Sequence[str],
    wanted: ProfileDraft,
) -> str:
    if name := wanted.places.get(place):
        if name not in params:
            raise UserError(
                f"--argument {place}: no parameter of {wanted.command}; expected {', '.join(params)}"
            )
        return f"{{{name}}}"
    if argument in wanted.secrets and secret:
        return f"{{{secret[min(wanted.secrets.index(argument), len(secret) - 1)]}}}"
    fitting = [name for name in secret if params[name].shortest <= len(argument) <= params[name].longest]
    if len(theirs) == len(one.arguments) and theirs[place - 1].startswith("{"):
        name = theirs[place - 1][1:-1]
        if name in fitting or name not in secret:
            return theirs[place - 1]
    if len(theirs) != len(one.arguments) and fitting and len(argument) >= _SUSPICIOUS:
        before = sum(len(other) >= _SUSPICIOUS for other in one.arguments[: place - 1])
        return f"{{{secret[min(before, len(secret) - 1)]}}}"
    if len(argument) >= _SUSPICIOUS or not fits_sentence(argument) or set("{}") & set(argument):
        right = f"--argument {place}=PARAMETER, one of {', '.join(params) or 'none'}"
        problem = f"argument {place}, of {len(argument)} characters, may be a password and is not written"
        raise UserError(f"{problem}; expected {right}")
    return argument


def document(text: str, form: Form, profile: Profile, wanted: ProfileDraft) -> str:
    """Format the profile as TOML."""
    key = "sentence" if form.key[1] is not None else "pnn"
    lines = [
        "# Written by jt709c profiles learn from a captured sentence. Reply and evidence are those of the",
        "# profile that it extends: compare them with what the lock answered, with one lock on the table.",
        f"name = {_quoted(wanted.name)}",
        f"extends = {_quoted(profile.name)}",
        f"dialect = {_quoted(profile.dialect)}",
        f"source = {_quoted(wanted.source)}",
    ]
    if wanted.match:
        lines += ["", "[match]"]
        lines += [f"{name} = [{', '.join(map(_quoted, values))}]" for name, values in wanted.match.items()]
    definition = profile.commands[wanted.command]
    lines += [
        "",
        f"[commands.{wanted.command}]",
        'provenance = "documented"',
        f"source = {_quoted(wanted.source)}",
        f"template = {{ {key} = {_quoted(text)} }}",
    ]
    if definition.variants:
        lines.append("# Other forms were not captured, and would not be documented.")
        lines.append("variants = []")
    used = {piece[1:-1] for piece in text.split(",") if piece.startswith("{")}
    for name in definition.params:
        if name not in used:
            lines += ["", f"[commands.{wanted.command}.params.{name}]", "disabled = true"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Format a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def write(text: str, path: Path, *, force: bool) -> None:
    """Write the profile if the gateway's loader accepts it; raise UserError otherwise."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".learn-") as folder:
            draft = Path(folder) / path.name
            draft.write_text(text)
            load_profiles(files=[draft])
            if force:
                os.replace(draft, path)
            else:
                os.link(draft, path)
    except ProfileError as error:
        raise UserError(f"the profile would be no good: {error.path}: {error.problem}") from None
    except FileExistsError:
        raise UserError(f"{path} is there already; expected another file, or --force") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
