"""The `jt709c` program. Imports only light modules, so that `--help` is fast."""

import os
import sys
from typing import Any

import click

from jt709c_gateway import __version__
from jt709c_gateway.cli.catalogue import catalogue
from jt709c_gateway.cli.completion import completion
from jt709c_gateway.cli.decode import decode
from jt709c_gateway.cli.devices import devices
from jt709c_gateway.cli.explain import explain
from jt709c_gateway.cli.history import history
from jt709c_gateway.cli.profiles import profiles
from jt709c_gateway.cli.replay import replay
from jt709c_gateway.cli.send import send
from jt709c_gateway.cli.simulate import simulate
from jt709c_gateway.cli.watch import watch

#: Exit statuses by the shells' custom: 128 and the signal's number.
_INTERRUPTED = 130
_BROKEN_PIPE = 141


class _Commands(click.Group):
    """Catches a broken pipe before click reports it as a failure."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the subcommand; return the status of a broken pipe."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _BROKEN_PIPE


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
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


for _command in (
    catalogue,
    completion,
    decode,
    devices,
    explain,
    history,
    profiles,
    replay,
    send,
    simulate,
    watch,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit with its status; a user error is one line, never a traceback."""
    try:
        status = cli.main(prog_name="jt709c", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
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
        click.echo(f"jt709c: {error.format_message()}", err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    main()
