"""`jt709c profiles`: checks profiles and learns new ones."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.options import IntegerRange
from jt709c_gateway.commands.profiles import CommandSpec, Profile, ProfileError, load_profiles
from jt709c_gateway.commands.profiles.spec import CommandDefinition
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.protocol.dialects import DIALECTS, JT709


class ProfileMistake(click.ClickException):
    """A profile is invalid; shown as one line."""

    exit_code = 1


@click.group()
def profiles() -> None:
    """Check and learn profiles, which define the commands of locks."""


@profiles.command(short_help="Check profiles.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion_values.files)
def check(files: tuple[str, ...]) -> None:
    """Check FILEs like a gateway that loads them in addition to the shipped profiles.

    If they are invalid, the exit status is 1 and one line has the error.

    \b
    Examples:
        jt709c profiles check /etc/jt709c/profiles/fleet.toml
    """
    for line in check_profiles(files):
        click.echo(line)


@profiles.command(short_help="Learn a unit's sentences from a capture.")
@click.argument("sources", nargs=-1, metavar="[CAPTURE]...", shell_complete=completion_values.files)
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    default=JT709,
    show_default=True,
    help="The dialect of the lock.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Write a profile to this file.",
)
@click.option("--command", metavar="COMMAND", help="The command that the sentence carries.")
@click.option(
    "--sentence", type=IntegerRange(1), metavar="N", help="The number of the sentence in the output."
)
@click.option("--name", metavar="NAME", help="Name of the profile.")
@click.option("--source", metavar="TEXT", help="Source of the sentence: unit, firmware, app, date.")
@click.option("--device", "devices", multiple=True, metavar="ID", help="Match this lock; repeatable.")
@click.option(
    "--prefix",
    "prefixes",
    multiple=True,
    metavar="ID",
    help="Match locks whose id has this prefix; repeatable.",
)
@click.option("--firmware", multiple=True, metavar="PATTERN", help='Match locks by firmware, as "JT709C_2*".')
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="PLACE=PARAMETER",
    help="Map an argument of the sentence to a parameter, as in 2=password.",
)
@click.option(
    "--password-file",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="File with the passwords in the capture, one per line; they are never shown or written.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def learn(
    sources: tuple[str, ...],
    devices: tuple[str, ...],
    prefixes: tuple[str, ...],
    firmware: tuple[str, ...],
    **given: Any,
) -> None:
    """Compare the sentences in a CAPTURE with those of the profile, and write a profile with one of them.

    A CAPTURE is a Bluetooth HCI log (btsnoop), a pcap or pcapng file with Bluetooth or a serial line, a log
    as text or hex, or a sentence; without CAPTURE, standard input is read. Nothing is sent to a lock.

    Passwords become parameters and are never shown or written.

    \b
    Examples:
        jt709c profiles learn btsnoop_hci.log
        jt709c profiles learn log.txt --command unlock --sentence 3 -o depot.toml
    """
    from jt709c_gateway.cli.learn import runner

    match = {"devices": devices, "prefixes": prefixes, "firmware": firmware}
    runner.learn(
        runner.Request(sources, match={name: found for name, found in match.items() if found}, **given)
    )


def check_profiles(files: Sequence[str]) -> list[str]:
    """Check profiles together; return one line each, or raise :class:`ProfileMistake`."""
    try:
        shipped = load_profiles().profiles
        known = load_profiles(files=[Path(file) for file in files], allow_raw=True)
    except ProfileError as error:
        raise ProfileMistake(plain(error)) from None
    return [_summary(one, shipped) for one in known.profiles.values() if not one.shipped]


def _summary(profile: Profile, shipped: Mapping[str, Profile]) -> str:
    specs = [(name, spec) for name, one in profile.commands.items() for spec in _specs(one)]
    assumed, standard = (
        len({name for name, spec in specs if spec.provenance is one})
        for one in (Provenance.ASSUMED, Provenance.STANDARD)
    )
    locks = "some" if not profile.general else "all"
    line = f"{plain(profile.name)}: can be used, for {locks} {profile.dialect} locks"
    line += f"; commands: {len(profile.commands)}, wholly or partly assumed: {assumed}, standard: {standard}"
    return f"{line}; takes the shipped profile's place" if profile.name in shipped else line


def _specs(definition: CommandDefinition) -> Iterator[CommandSpec]:
    yield from (variant.spec for variant in definition.variants)
    if definition.base is not None:
        yield definition.base
