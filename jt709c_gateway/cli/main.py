"""The `jt709c` program. It imports only click; the module of a subcommand is imported when that runs."""

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from jt709c_gateway import __version__

#: Exit statuses by the shells' custom: 128 and the signal's number.
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141


class _Subcommand(NamedTuple):
    """The place of a subcommand, `module:function` in this package, and its line in `jt709c --help`."""

    place: str
    short_help: str


SUBCOMMANDS: Final = {
    "area": _Subcommand("area:area", "Define the areas that commands may be bound to."),
    "catalogue": _Subcommand("catalogue:catalogue", "Show what locks understand, with parameters."),
    "commands": _Subcommand("commands:commands", "List the latest commands and their states."),
    "completion": _Subcommand("completion:completion", "Print the completion script of a shell."),
    "decode": _Subcommand("decode:decode", "Decode frames into messages or events."),
    "devices": _Subcommand("devices:devices", "Show the fleet, with filters."),
    "doctor": _Subcommand("doctor:doctor", "Say what keeps a lock from appearing."),
    "explain": _Subcommand("explain:explain", "Explain frames byte by byte."),
    "forget": _Subcommand("forget:forget", "Delete the state of devices that are out of service."),
    "history": _Subcommand("history:history", "Show the audit trail of a lock."),
    "label": _Subcommand("label:label", "Give locks names, groups, plates and notes."),
    "malformed": _Subcommand("malformed:malformed", "Show input that could not be read."),
    "profiles": _Subcommand(
        "profiles:profiles", "Check and learn profiles, which define the commands of locks."
    ),
    "repartition": _Subcommand(
        "repartition:repartition", "Change the number of partitions of a stopped fleet."
    ),
    "replay": _Subcommand("replay.command:replay", "Replay a capture to a gateway."),
    "report": _Subcommand("report:report", "Show who opened and closed locks in a period."),
    "schema": _Subcommand("schema:schema", "Print schemas of events and commands for programs."),
    "send": _Subcommand("send:send", "Queue a command and wait for its outcome."),
    "show": _Subcommand("show:show", "Show one command."),
    "simulate": _Subcommand("simulate:simulate", "Simulate locks that report and execute commands."),
    "track": _Subcommand("track:track", "Show the last positions of a lock."),
    "watch": _Subcommand("watch:watch", "Show live events."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is used, and not for `--help` or its own completion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the subcommands."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand; None if there is none of this name."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, function = SUBCOMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(import_module(f"jt709c_gateway.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand of the arguments; of an unknown one, say which is meant."""
        name = args[0]
        if name not in SUBCOMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, SUBCOMMANDS, 1)
            advice = f"did you mean {near[0]}?" if near else "jt709c --help lists them"
            ctx.fail(f"there is no subcommand {name!r}; {advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.short_help) for name, one in SUBCOMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete options and names of subcommands without importing them."""
        names = [
            CompletionItem(name, help=one.short_help)
            for name, one in SUBCOMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the subcommand; return the status of a broken pipe, which click reports as a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _BROKEN_PIPE


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="jt709c")
def cli() -> None:
    """Tools for Jointech JT709C smart locks and their gateway.

    \b
    Examples:
        jt709c devices --with-alarms
        jt709c watch --kind lock --kind alarm
        jt709c send unlock 794308010679 --wait
        jt709c send --help
    """


def main() -> None:
    """Run the command line and exit with its status; a user error is one line, never a traceback."""
    try:
        status = cli.main(prog_name="jt709c", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = error.exit_code
    except click.NoSuchOption as error:
        if error.ctx is not None and error.ctx.parent is None:
            error = click.NoSuchOption(
                error.option_name,
                f"there is no option {error.option_name} here; give an option of a subcommand after its name,"
                f" as in jt709c devices {error.option_name}",
            )
        _print_error(error)
        status = error.exit_code
    except click.ClickException as error:
        _print_error(error)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except BrokenPipeError:
        status = _BROKEN_PIPE
    if status == _BROKEN_PIPE:
        # The reader has closed the pipe: discard what Python still flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status if isinstance(status, int) else 0)


def _print_error(error: click.ClickException) -> None:
    # One line, without the usage that click would put before it.
    try:
        click.echo(f"jt709c: {_text(error)}", err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _text(error: click.ClickException) -> str:
    """The error as a text; one of a value names its option or argument first."""
    param = error.param if isinstance(error, click.BadParameter) else None
    if param is None or isinstance(error, click.MissingParameter):
        return error.format_message()
    name = param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name.strip("[].")
    return f"{name}: {error.message}"


if __name__ == "__main__":
    main()
