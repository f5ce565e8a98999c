"""`jt709c simulate`: connects virtual locks to a gateway."""

import sys
from typing import Any

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import SECONDS, SECONDS_OR_NONE, IntegerRange, Number
from jt709c_gateway.protocol.dialects import DIALECTS
from jt709c_gateway.simulator.options import MOST_SUBLOCKS


@click.command()
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(DIALECTS),
    help="Dialect; if repeated, the locks use them in turn.  [default: jt709, or one that has each --alarm]",
)
@click.option("--locks", default=1, show_default=True, type=IntegerRange(1, 100_000), help="Number of locks.")
@click.option("--tcp", metavar="HOST:PORT", help="Connect over TCP.  [default: 127.0.0.1:8888]")
@click.option("--udp", metavar="HOST:PORT", help="Send datagrams over UDP.")
@click.option(
    "--interval", type=SECONDS, default=30.0, show_default=True, metavar="S", help="Seconds between reports."
)
@click.option(
    "--heartbeat",
    type=SECONDS_OR_NONE,
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds between heartbeats; 0 is none.",
)
@click.option("--duration", type=SECONDS, metavar="S", help="Stop after S seconds.")
@click.option(
    "--grace",
    type=SECONDS_OR_NONE,
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for answers at the end.",
)
@click.option(
    "--first-id",
    metavar="ID",
    help="Id of the first lock.  [default: 794308010001; jt705: 856009010001; jt701: 8000010001]",
)
@click.option(
    "--route",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="CSV file of latitude,longitude to travel along; a built-in route by default.",
)
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    metavar="NAME",
    shell_complete=completion_values.alarms,
    help="Raise this alarm with the second report, and clear it with the seventh; repeatable.",
)
@click.option("--refuse", is_flag=True, help="Refuse every command.")
@click.option("--mute", is_flag=True, help="Answer no command.")
@click.option("--no-evidence", is_flag=True, help="Accept commands, but never move.")
@click.option(
    "--sublocks",
    type=IntegerRange(0, MOST_SUBLOCKS),
    default=0,
    show_default=True,
    metavar="N",
    help="Sub-locks behind each jt701 master, at most 66. Every fourth is a JT126 sensor.",
)
@click.option(
    "--relock",
    type=SECONDS_OR_NONE,
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds until an opened jt701 or sub-lock locks by itself; 0 is never.",
)
@click.option("--sleep", metavar="AWAKE:ASLEEP", help="Seconds connected and disconnected, in turn.")
@click.option(
    "--speed-factor",
    type=Number(least=0),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Travel N times faster.",
)
@click.option(
    "--card-every",
    type=IntegerRange(0),
    default=20,
    show_default=True,
    metavar="N",
    help="A card opens a lock every N reports; 0 is never.",
)
@click.option("--password", default="888888", show_default=True, help="The locks' static password.")
@click.option(
    "--seed", type=IntegerRange(), default=0, show_default=True, help="Seed of the random journeys."
)
def simulate(
    locks: int, tcp: str | None, udp: str | None, duration: float | None, grace: float, **behaviour: Any
) -> None:
    """Simulate locks: positions, lock events, heartbeats, and answers to commands.

    The sub-locks of the master 8000010001 are 0001000101, 0001000102 and so on: the last eight digits of
    its id and a two-digit number. A sub-lock that a command unlocks reports it some seconds later, and locks
    again after --relock.

    Stops after --duration or when interrupted, with a summary; the exit status is 1 if reports stayed
    unanswered.

    \b
    Examples:
        jt709c simulate --locks 3
        jt709c simulate --udp 127.0.0.1:8888 --duration 60 --refuse
        jt709c simulate --alarm rope_cut
        jt709c simulate --locks 30 --dialect jt709 --dialect jt701 --sublocks 5
    """
    from jt709c_gateway.cli.runner import run
    from jt709c_gateway.cli.simulation import make_locks, run_fleet
    from jt709c_gateway.cli.target_address import read_target

    if tcp and udp:
        raise UserError("give --tcp or --udp, not both")
    target = read_target("udp" if udp else "tcp", udp or tcp or "127.0.0.1:8888")
    fleet = make_locks(locks, **behaviour)
    sys.exit(run(lambda reactor: run_fleet(reactor, fleet, target, duration, grace)))
