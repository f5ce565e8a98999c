"""`jt709c simulate`: virtual locks against a real gateway."""

import sys
from typing import Any

import click

from jt709c_gateway.cli.common import UserError


@click.command()
@click.option("--locks", default=1, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@click.option("--tcp", metavar="HOST:PORT", help="Connect over TCP.  [default: 127.0.0.1:8888]")
@click.option("--udp", metavar="HOST:PORT", help="Send datagrams instead.")
@click.option("--interval", default=30.0, show_default=True, metavar="S", help="Seconds between reports.")
@click.option(
    "--heartbeat", default=60.0, show_default=True, metavar="S", help="Seconds between heartbeats; 0 is none."
)
@click.option(
    "--duration", type=click.FloatRange(min=0, min_open=True), metavar="S", help="End after so long."
)
@click.option(
    "--grace", default=10.0, show_default=True, metavar="S", help="Seconds to wait for answers at the end."
)
@click.option(
    "--first-id", default="794308010001", show_default=True, metavar="ID", help="Of the first lock."
)
@click.option(
    "--route", metavar="FILE", help="CSV of latitude,longitude to travel along; else a built-in one."
)
@click.option("--refuse", is_flag=True, help="Refuse every order.")
@click.option("--mute", is_flag=True, help="Answer no order.")
@click.option("--no-evidence", is_flag=True, help="Say yes to orders, but never move.")
@click.option("--sleep", metavar="AWAKE:ASLEEP", help="Seconds to be connected and then not, in turn.")
@click.option(
    "--speed-factor", default=1.0, show_default=True, metavar="N", help="Travel so many times faster."
)
@click.option(
    "--card-every",
    default=20,
    show_default=True,
    metavar="N",
    help="A card opens a lock every N reports; 0 is never.",
)
@click.option("--password", default="888888", show_default=True, help="The locks' static password.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other journeys.")
def simulate(
    locks: int, tcp: str | None, udp: str | None, duration: float | None, grace: float, **behaviour: Any
) -> None:
    """Simulate locks that speak jt709: positions, lock events, heartbeats, and answers to orders.

    Ends after --duration or when interrupted, with a summary; the exit status is 1 when reports stayed
    unanswered.
    """
    from jt709c_gateway.cli import simulation
    from jt709c_gateway.cli.running import run

    if tcp and udp:
        raise UserError("give --tcp or --udp, not both")
    target = simulation.read_target("udp" if udp else "tcp", udp or tcp or "127.0.0.1:8888")
    fleet = simulation.make_locks(locks, **behaviour)
    sys.exit(run(lambda reactor: simulation.simulate(reactor, fleet, target, duration, grace)))
