"""`jt709c replay`: replays a capture to a gateway."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import IntegerRange, Number
from jt709c_gateway.cli.replay.steps import LeftOut


def _read_speed(_: click.Context, __: click.Parameter, value: str) -> float | None:
    """Parse a number, or `max` as None."""
    if value == "max":
        return None
    try:
        speed = float(value)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        right = "a number above 0, such as 10 or 0.5, or max"
        raise click.BadParameter(f"{value!r} is not a speed; expected {right}")
    return speed


@click.command()
@click.argument("file", metavar="FILE", shell_complete=completion_values.files)
@click.option(
    "--to", default="127.0.0.1:8888", show_default=True, metavar="HOST:PORT", help="Address of the gateway."
)
@click.option(
    "--tcp/--udp",
    "over_tcp",
    default=None,
    help="Transport of all connections.  [default: as captured, else TCP]",
)
@click.option(
    "--speed",
    callback=_read_speed,
    default="1",
    show_default=True,
    metavar="N|max",
    help="Replay N times faster; max is as fast as the gateway answers.",
)
@click.option(
    "--port",
    "ports",
    type=IntegerRange(1, 65535),
    multiple=True,
    default=[8888],
    show_default=True,
    metavar="N",
    help="Port of the gateway in a pcap file; repeatable.",
)
@click.option(
    "--connections",
    type=IntegerRange(1, 20_000),
    default=500,
    show_default=True,
    metavar="N",
    help="Maximum open connections; for another one, the longest idle one is closed.",
)
@click.option(
    "--grace",
    type=Number("seconds", least=0, most=3600),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for an answer.",
)
def replay(
    file: str,
    to: str,
    over_tcp: bool | None,
    speed: float | None,
    ports: tuple[int, ...],
    connections: int,
    grace: float,
) -> None:
    """Replay a capture to a gateway: the bytes that locks sent, at the captured speed.

    FILE is a pcap or pcapng file (tcpdump, tshark, Wireshark), or text; - is standard input, which is read
    to its end. Each captured connection becomes one connection. Bytes sent to --port are replayed, the
    captured answers are not.

    A line of text is [TIME] [CONNECTION:] HEX, or JSON as decode --jsonl, watch --json and history --json
    print it. TIME is RFC 3339, epoch seconds with a fraction, or +1.5 for seconds after the line before:

    \b
        2026-11-22T10:15:00.250Z lock1: (8000620011,@JT)
        +5 lock1: 28383030303632303031312c5032322c3229
        # a comment

    A gateway that already has the same reports answers them, but does not publish them again.

    The exit status is 1 if a connection was refused, or bytes were not sent or not answered.

    \b
    Examples:
        jt709c replay monday.pcap --to 127.0.0.1:8888
        jt709c replay monday.pcap --speed 10 --port 9999 --udp
        jt709c replay frames.txt --speed max
        jt709c history 794308010679 --json | jt709c replay - --to localhost:8888
    """
    from jt709c_gateway.cli.replay.player import Pace
    from jt709c_gateway.cli.replay.run import opened, play
    from jt709c_gateway.cli.runner import run
    from jt709c_gateway.cli.target_address import read_target

    if file == "-" and sys.stdin.isatty():
        raise UserError("FILE: give a file; standard input is a terminal")
    transport = None if over_tcp is None else "tcp" if over_tcp else "udp"
    target = read_target(transport or "tcp", to, "--to")
    pace = Pace(speed, transport, connections, grace)
    left_out = LeftOut()
    with opened(file, frozenset(ports), left_out) as steps:
        status = run(lambda reactor: play(reactor, target, pace, steps, left_out, file))
    sys.exit(status)
