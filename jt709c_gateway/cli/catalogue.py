"""`jt709c catalogue`: which commands there are."""

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
    help="Profiles of your own, as the gateway is given them.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, with the source of each form."
)
def catalogue(commands: tuple[str, ...], directory: str | None, as_json: bool) -> None:
    """Show commands with their parameters, the dialects that have them, and their provenance:
    documented, standard (of JT/T 808, nobody has shown a unit obeying) or assumed.

    All of them, or only each ORDER. An asterisk marks a parameter that has to be given.

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
        raise UserError(f"{unknown[0]!r} is no command; expected one of {', '.join(found)}")
    chosen = [entry for name, entry in found.items() if not commands or name in commands]
    if as_json:
        sys.stdout.write(catalogue_table.to_json(chosen))
    else:
        catalogue_table.show(chosen)
    sys.stdout.flush()
