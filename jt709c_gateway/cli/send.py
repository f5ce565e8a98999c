"""`jt709c send`: a command for a lock."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.common import SECONDS, RedisOptions, check_device, redis_options


@click.command(short_help="Queue a command, and follow it to its end.")
@click.argument("command", shell_complete=completion_values.commands)
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=completion_values.params)
@redis_options
@click.option(
    "--password-file",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Read the passwords the command needs from here, one a line; - is standard input.",
)
@click.option("--ttl", type=SECONDS, metavar="S", help="Seconds it may wait for a sleeping lock.")
@click.option("--timeout", type=SECONDS, metavar="S", help="Seconds to wait for the lock's answer.")
@click.option(
    "--reply-to", metavar="NAME", help="Also push outcomes to <prefix>:reply:NAME; auto makes a name."
)
@click.option("--id", "command_id", metavar="ID", help="The command's id, made up if not given.")
@click.option("--issued-by", metavar="WHO", help="For the audit trail; user@host if not given.")
@click.option(
    "--key-file",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Sign the command with a key of this file (as the gateway's --command-keys).",
)
@click.option("--key-id", metavar="ID", help="Which key of the file; of a single one the id may be left out.")
@click.option("--wait", is_flag=True, help="Follow the command to its end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def send(
    command: str,
    device: str,
    params: tuple[str, ...],
    redis: RedisOptions,
    prefix: str,
    password_file: str | None,
    key_file: str | None,
    key_id: str | None,
    wait: bool,
    as_json: bool,
    **fields: object,
) -> None:
    """Queue a command: COMMAND for the lock DEVICE, which may be a device id, an IMEI or a sub-lock's id.

    A value is read as the command's profile says; NAME:=JSON gives it as JSON. A password is asked for, or
    read from --password-file (of two, the present one first); on the command line it is refused, since
    others see it there. What else is secret comes out of a file, as in apn_password=@FILE.

    \b
    With --wait the command is followed to its end; the exit status says which:
        0    done or confirmed
        1    rejected, failed, invalid or cancelled
        3    uncertain, unconfirmed, timed_out, expired, or nothing more heard
        2    a mistake in the command line, or Redis out of reach
        130  interrupted; the command goes on
    Without --wait, 0 says that the command is queued.

    \b
    Examples:
        jt709c send unlock 794308010679 --wait
        jt709c send unlock 794308010679 --wait --password-file /run/secrets/lock
        jt709c send locate 867284063211238 --ttl 86400 --issued-by "night shift"
        jt709c send set_intervals 8000010001 awake=60 asleep=120
        jt709c send cancel 794308010679 id=7f3c
    """
    from jt709c_gateway.cli import command_arguments
    from jt709c_gateway.cli.command_progress import Push, queue
    from jt709c_gateway.cli.redis_client import reach
    from jt709c_gateway.cli.runner import run

    link = reach(redis)
    key = command_arguments.read_key(key_id, key_file)
    given = command_arguments.read_params(command, params)
    command_arguments.add_passwords(command, given, password_file)
    made = command_arguments.make(command, device, given, fields)
    push = Push(link, prefix, made, wait, as_json, key)
    sys.exit(run(lambda reactor: queue(reactor, push), push.first.notice))
