"""`jt709c profiles`: profiles of one's own."""

from typing import Any

import click

from jt709c_gateway.cli import completion_values


@click.group()
def profiles() -> None:
    """Look after profiles, which say what locks understand."""


@profiles.command(short_help="Say what is wrong in profiles.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion_values.files)
def check(files: tuple[str, ...]) -> None:
    """Check profiles as a gateway would that is given just these FILEs beside its own.

    The exit status is 1 where they can't be used; one line then says what is wrong.

    \b
    Examples:
        jt709c profiles check /etc/jt709c/profiles/fleet.toml
    """
    from jt709c_gateway.cli import catalogue_table

    for line in catalogue_table.check(files):
        click.echo(line)


@profiles.command(short_help="Learn a unit's sentences from a capture.")
@click.argument("sources", nargs=-1, metavar="[CAPTURE]...", shell_complete=completion_values.files)
@click.option(
    "--dialect",
    type=click.Choice(["jt709", "jt705", "jt701"]),
    default="jt709",
    show_default=True,
    help="The dialect of the lock.",
)
@click.option(
    "-o", "--output", metavar="FILE", shell_complete=completion_values.files, help="Write a profile here."
)
@click.option("--command", metavar="COMMAND", help="The command that the sentence is.")
@click.option("--sentence", type=int, metavar="N", help="Which sentence, as they are numbered when shown.")
@click.option("--name", metavar="NAME", help="The profile's name.")
@click.option("--source", metavar="TEXT", help="Where the sentence is from: unit, firmware, app, date.")
@click.option("--device", "devices", multiple=True, metavar="ID", help="For this lock; may be repeated.")
@click.option("--prefix", "prefixes", multiple=True, metavar="ID", help="For locks whose id begins so.")
@click.option("--firmware", multiple=True, metavar="PATTERN", help='For locks of a firmware, as "JT709C_2*".')
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="PLACE=PARAMETER",
    help="Which parameter an argument of the sentence is, as in 2=password.",
)
@click.option(
    "--password-file",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="The passwords in the capture, one a line; they are shown and written nowhere.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def learn(
    sources: tuple[str, ...],
    devices: tuple[str, ...],
    prefixes: tuple[str, ...],
    firmware: tuple[str, ...],
    **given: Any,
) -> None:
    """Show the sentences in a CAPTURE beside the profile's, and write a profile with one of them.

    A CAPTURE is a Bluetooth HCI log (btsnoop), a pcap or pcapng file with Bluetooth or a serial line, a log
    as text or hex, or a sentence; without one they are read from standard input. Nothing is sent to a lock.

    Passwords become parameters: they are shown and written nowhere.

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
