"""`jt709c catalogue`: shows the commands of the profiles."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.common import UserError


@click.command(short_help="Show commands with their parameters and provenance.")
@click.argument("commands", nargs=-1, metavar="[COMMAND]...", shell_complete=completion_values.commands)
@click.option(
    "--profiles",
    "directory",
    metavar="DIR",
    shell_complete=completion_values.directories,
    help="Directory of your own profiles, as for the gateway.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, with the source of each form."
)
def catalogue(commands: tuple[str, ...], directory: str | None, as_json: bool) -> None:
    """Show commands with their parameters, their dialects and their provenance: documented, standard
    (from JT/T 808, not verified with a unit) or assumed.

    Without COMMAND, all commands are shown. An asterisk marks a required parameter.

    \b
    Examples:
        jt709c catalogue
        jt709c catalogue unlock query
        jt709c catalogue --json --profiles /etc/jt709c/profiles
    """
    from jt709c_gateway.cli import catalogue_table

    found = catalogue_table.catalogue(directory)
    unknown = [name for name in commands if name not in found]
    if unknown:
        raise UserError(f"{unknown[0]!r} is not a command; expected one of {', '.join(found)}")
    chosen = [entry for name, entry in found.items() if not commands or name in commands]
    if as_json:
        sys.stdout.write(catalogue_table.to_json(chosen))
    else:
        catalogue_table.show(chosen)
    sys.stdout.flush()
