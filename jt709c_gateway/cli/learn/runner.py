"""Runs `jt709c profiles learn`: reads a capture, shows its sentences, and writes a profile. Sends nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from attrs import frozen

from jt709c_gateway.cli.command_arguments import read_secret_lines
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.learn import capture, profile_writer
from jt709c_gateway.cli.learn.sentences_seen import Conversation, Form, compared, forms
from jt709c_gateway.cli.replay.steps import CaptureError
from jt709c_gateway.commands.profiles import Profile, load_profiles
from jt709c_gateway.commands.value_description import described, unknown_name

_PLACE = re.compile(r"([1-9][0-9]?)=([a-z][a-z0-9_]*)")


@frozen
class Request:
    """The arguments of `jt709c profiles learn`."""

    sources: Sequence[str]
    dialect: str
    command: str | None
    sentence: int | None
    name: str | None
    source: str | None
    match: Mapping[str, Sequence[str]]
    arguments: Sequence[str]
    password_file: str | None
    output: str | None
    force: bool


def learn(request: Request) -> None:
    """Compare the capture with the profile, or write a profile if `output` is given."""
    profile = load_profiles(allow_raw=True).profiles[request.dialect]
    secrets = (
        [] if request.password_file is None else read_secret_lines("--password-file", request.password_file)
    )
    talk = Conversation.of([one for source in request.sources or ("-",) for one in _captured(source)])
    if not talk.said:
        raise UserError("no sentence was found; expected a capture, a log, or sentences such as (P01)")
    known = list(forms(profile))
    if request.output is None:
        _show(talk, known, secrets)
        return
    _write(request, profile, known, talk, secrets)


def _captured(source: str) -> list[capture.Captured]:
    """Read the sentences of a file, of standard input, or of the argument itself."""
    if source.startswith("("):
        return capture.read(source.encode("latin-1", "replace"), "the sentence")
    try:
        with click.open_file(source, "rb") as file:
            data: bytes = file.read(capture.LONGEST + 1)
    except OSError as error:
        raise UserError(f"cannot read the capture: {error.strerror}") from None
    if len(data) > capture.LONGEST:
        raise UserError(f"the capture is longer than {capture.LONGEST} bytes; give a part of it")
    try:
        return capture.read(data, "standard input" if source == "-" else source)
    except CaptureError as error:
        raise UserError(str(error)) from None


def _show(talk: Conversation, known: Sequence[Form], secrets: Sequence[str]) -> None:
    for index, one in enumerate(talk.said):
        is_answer = talk.is_answer(index)
        click.echo(f"{index + 1}. {'answer' if is_answer else 'command'}  {plain(one.shown(secrets))}")
        if not is_answer:
            for line in compared(one, known):
                click.echo(f"     {plain(line)}")
    sys.stdout.flush()


def _write(
    request: Request, profile: Profile, known: Sequence[Form], talk: Conversation, secrets: Sequence[str]
) -> None:
    command, form = _command(request, known)
    if not request.name or not request.source:
        raise UserError("a profile needs --name and --source (where the sentence is from)")
    commands = [index for index in range(len(talk.said)) if not talk.is_answer(index)]
    if request.sentence is None and len(commands) != 1:
        raise UserError(
            f"{len(commands)} commands were captured; expected --sentence with the number of one of them"
        )
    at = commands[0] if request.sentence is None else request.sentence - 1
    if not 0 <= at < len(talk.said):
        raise UserError(f"--sentence {at + 1}: expected a number from 1 to {len(talk.said)}")
    one = talk.said[at]
    if (one.number is None) != (form.key[1] is None):
        raise UserError(f"sentence {at + 1} has not the form of {request.dialect} commands")
    wanted = profile_writer.ProfileDraft(
        command, request.name, request.source, request.match, _places(request.arguments), secrets
    )
    text = profile_writer.template(one, profile.commands[command], form, wanted)
    profile_writer.write(
        profile_writer.document(text, form, profile, wanted), Path(request.output or ""), force=request.force
    )
    click.echo(f"{command}: {text}; was {form.text}")
    click.echo(f"written to {plain(request.output)}; test it with an unused lock before you rely on it")


def _command(request: Request, known: Sequence[Form]) -> tuple[str, Form]:
    """Return the name of the command and its unconditional form, one sentence; raise UserError."""
    able = {form.command: form for form in known if not form.condition and not form.is_of_several}
    if request.command not in able:
        given = "missing" if request.command is None else unknown_name(request.command, able)
        raise UserError(f"--command: {given}; expected one of {', '.join(sorted(able))}")
    return request.command, able[request.command]


def _places(arguments: Sequence[str]) -> dict[int, str]:
    places = {}
    for text in arguments:
        match = _PLACE.fullmatch(text)
        if match is None:
            raise UserError(f"--argument: {described(text)}; expected PLACE=PARAMETER, such as 2=password")
        places[int(match[1])] = match[2]
    return places
