"""`jt709c track`: shows the last positions of a lock."""

from collections.abc import Sequence
from typing import Final

import click
import msgspec

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import IntegerRange, check_device, local_option, output_options, redis_options
from jt709c_gateway.cli.redis_client import RedisOptions, query
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.table import Column, known, print_records
from jt709c_gateway.cli.time_format import date_and_time, parse, read_since
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys


class Point(msgspec.Struct):
    """A position: degrees, km/h, and degrees from north. `time` is by the lock's clock, in UTC."""

    time: str
    latitude: float
    longitude: float
    speed_kmh: float | None
    course_deg: float | None


_POINT: Final = msgspec.json.Decoder(tuple[str, float, float, float | None, float | None])


@click.command()
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only positions since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601, in UTC unless --local).",
)
@click.option("--limit", type=IntegerRange(1), metavar="N", help="Show at most N positions, the newest.")
@local_option
@output_options
def track(
    device: str,
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    limit: int | None,
    local: bool,
    output: str,
) -> None:
    """Show the last positions of the lock DEVICE, oldest first, by the time of the lock's clock.

    The gateway keeps --track-max of them, of live reports at most one in 10 seconds.

    \b
    Examples:
        jt709c track 794308010679 --limit 10
        jt709c track 794308010679 --since 1d -o csv
    """
    begin = read_since(since, local)
    keys = Keys(prefix)
    found = query(redis, prefix, "read a track", lambda connection: _find(connection, keys, device))
    points = [point for point in found if begin is None or _epoch(point) >= begin]
    if limit is not None:
        points = points[-limit:]
    print_records(points, _columns(local), Point.__struct_fields__, output)
    if not points:
        notice("no positions since then are known" if found else f"no positions of {device} are known")


async def _find(connection: RedisConnection, keys: Keys, name: str) -> list[Point]:
    named = await resolve(connection, keys, name)
    raw: Sequence[bytes] = await connection.call("LRANGE", keys.track(named.device), 0, -1)
    if not raw and not await has_reported(connection, keys, named.device):
        raise UserError(f"{name}: such a device is unknown with the prefix {keys.prefix}")
    points = []
    for entry in raw:
        try:
            points.append(Point(*_POINT.decode(entry)))
        except (msgspec.MsgspecError, RecursionError):
            notice("an entry of the track is not a position")
    # Reports from a lock's memory arrive after newer ones.
    return sorted(points, key=_epoch)


def _epoch(point: Point) -> float:
    moment = parse(point.time)
    return 0.0 if moment is None else moment.timestamp()


def _columns(local: bool) -> list[Column]:
    return [
        Column("time", lambda point: known(date_and_time(parse(point.time), local))),
        Column("latitude", lambda point: known(f"{point.latitude:.6f}")),
        Column("longitude", lambda point: known(f"{point.longitude:.6f}")),
        Column("km/h", lambda point: known(point.speed_kmh)),
        Column("course", lambda point: known(point.course_deg)),
    ]
