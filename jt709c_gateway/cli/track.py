"""`jt709c track`: shows the last positions of a lock."""

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.options import IntegerRange, check_device, local_option, output_options, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.time_format import read_since


@click.command()
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only positions since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601, in UTC unless --local).",
)
@click.option("--limit", type=IntegerRange(1), metavar="N", help="Show at most N positions, the newest.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["gpx", "geojson"]),
    help="A file for maps, with all columns in UTC, in place of the form of -o.",
)
@local_option
@output_options
def track(
    device: str,
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    limit: int | None,
    file_format: str | None,
    local: bool,
    output: str,
) -> None:
    """Show the last positions of the lock DEVICE, oldest first, by the time of the lock's clock.

    The gateway keeps --track-max of them, of live reports at most one in 10 seconds.

    \b
    Examples:
        jt709c track 794308010679 --limit 10
        jt709c track 794308010679 --since 1d -o csv
        jt709c track 794308010679 --format gpx > track.gpx
    """
    from jt709c_gateway.cli.query import query
    from jt709c_gateway.cli.runner import notice
    from jt709c_gateway.cli.table import print_records
    from jt709c_gateway.cli.track_query import Point, epoch, find_points, print_file, track_columns

    begin = read_since(since, local)
    found = query(redis, prefix, "read a track", lambda fleet: find_points(fleet, device))
    points = [point for point in found if begin is None or epoch(point) >= begin]
    if limit is not None:
        points = points[-limit:]
    if file_format is None:
        print_records(points, track_columns(local), Point.__struct_fields__, output)
    else:
        print_file(device, points, file_format)
    if not points:
        notice("no positions since then are known" if found else f"no positions of {device} are known")
