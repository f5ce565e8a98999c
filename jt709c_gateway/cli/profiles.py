"""`jt709c profiles`: profiles of one's own."""

import click

from jt709c_gateway.cli import completing


@click.group()
def profiles() -> None:
    """Look after profiles, which say what locks understand."""


@profiles.command(short_help="Say what is wrong in profiles.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completing.files)
def check(files: tuple[str, ...]) -> None:
    """Check profiles as a gateway would that is given just these FILEs beside its own.

    The exit status is 1 where they can't be used; one line then says what is wrong.

    \b
    Examples:
        jt709c profiles check /etc/jt709c/profiles/fleet.toml
    """
    from jt709c_gateway.cli import listing

    for line in listing.check(files):
        click.echo(line)
