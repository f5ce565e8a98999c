"""`jt709c area`: defines the areas that the conditions of commands name."""

import json
from collections.abc import Awaitable, Callable, Mapping

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.condition_options import AREA_FORMS, parse_place
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.commands.areas import (
    AREA_NAME,
    MAX_AREAS,
    NAME_EXPECTED,
    InvalidArea,
    area_fields,
    read_area,
)
from jt709c_gateway.commands.geometry import Area


def _check_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not AREA_NAME.fullmatch(value):
        raise click.BadParameter(f"{value[:64]!r}: expected {NAME_EXPECTED}")
    return value


_NAME = click.argument("name", callback=_check_name)


@click.group()
def area() -> None:
    """Define named areas: circles and polygons that commands may be bound to (jt709c send --only-within
    area:NAME). An area counts at once, also for commands that wait. With partitions, each of them gets it.

    Defining and removing needs the rights of jt709c-operator, as does showing.

    \b
    Examples:
        jt709c area set depot-2 circle:51.5,-0.12,200
        jt709c area import depots.geojson
        jt709c area list
    """


@area.command("set")
@_NAME
@click.argument("place")
@redis_options
def set_area(name: str, place: str, redis: RedisOptions, prefix: str) -> None:
    """Define the area NAME, in place of one of this name.

    PLACE is circle:LAT,LON,METRES, or polygon:LAT,LON;LAT,LON;… (quote it in a shell), in degrees.

    \b
    Examples:
        jt709c area set depot-2 circle:51.5,-0.12,200
        jt709c area set yard 'polygon:51.5,-0.12;51.6,-0.12;51.6,-0.11'
    """
    try:
        found = read_area(parse_place(place))
    except InvalidArea as error:
        raise UserError(f"PLACE: {error}") from None
    except ValueError:
        raise UserError(f"PLACE: {place[:48]}: expected {AREA_FORMS}") from None
    _write(redis, prefix, {name: found})
    click.echo(f"area {name} is defined")


@area.command("import")
@click.argument("file", shell_complete=completion_values.files)
@redis_options
@click.option("--name", callback=_check_name, metavar="NAME", help="Name of the only polygon in the file.")
def import_areas(file: str, redis: RedisOptions, prefix: str, name: str | None) -> None:
    """Define areas from GeoJSON: a Polygon, a Feature with one, or a FeatureCollection.

    FILE is - for standard input. Each feature has its name in properties.name; with a mistake in any of them,
    none is defined.

    \b
    Examples:
        jt709c area import depots.geojson
        jt709c area import yard.geojson --name yard
    """
    from jt709c_gateway.commands.geojson import MAX_BYTES, read_geojson

    try:
        with click.open_file(file, "rb") as opened:
            found = read_geojson(opened.read(MAX_BYTES + 1), name)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except InvalidArea as error:
        raise UserError(f"{file}: {error}") from None
    _write(redis, prefix, found)
    click.echo(f"{len(found)} areas are defined: {', '.join(found)}")


@area.command("list")
@redis_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_areas(redis: RedisOptions, prefix: str, as_json: bool) -> None:
    """List the names of all areas.

    \b
    Examples:
        jt709c area list --json
    """
    from jt709c_gateway.cli.fleet import Fleet
    from jt709c_gateway.cli.query import query
    from jt709c_gateway.redis.areas import Areas

    async def question(fleet: Fleet) -> list[str]:
        part = (await fleet.present())[0]
        return await Areas(part, part.keys).names()

    names = query(redis, prefix, "read areas", question, "jt709c-operator")
    click.echo(json.dumps(names) if as_json else "\n".join(names) or "no areas are defined")


@area.command("show")
@_NAME
@redis_options
def show_area(name: str, redis: RedisOptions, prefix: str) -> None:
    """Print the area NAME as JSON, as commands may have it.

    \b
    Examples:
        jt709c area show depot-2
    """
    from jt709c_gateway.cli.fleet import Fleet
    from jt709c_gateway.cli.query import query
    from jt709c_gateway.redis.areas import Areas, AreaUnusable

    async def question(fleet: Fleet) -> Area:
        part = (await fleet.present())[0]
        try:
            return await Areas(part, part.keys).read(name)
        except AreaUnusable as error:
            raise UserError(f"{error}; jt709c area list shows which are") from None

    found = query(redis, prefix, "read areas", question, "jt709c-operator")
    click.echo(json.dumps(area_fields(found)))


@area.command("remove")
@_NAME
@redis_options
def remove_area(name: str, redis: RedisOptions, prefix: str) -> None:
    """Remove the area NAME. Commands that wait for it end as rejected.

    \b
    Examples:
        jt709c area remove depot-2
    """
    from jt709c_gateway.redis.areas import Areas

    async def remove(all_of_them: list[Areas]) -> bool:
        return any([await one.remove(name) for one in all_of_them])

    if not _change(redis, prefix, remove):
        raise UserError(f"area {name} is not defined; jt709c area list shows which are")
    click.echo(f"area {name} is removed")


def _write(redis: RedisOptions, prefix: str, areas: Mapping[str, Area]) -> None:
    from jt709c_gateway.redis.areas import Areas

    async def write(all_of_them: list[Areas]) -> bool:
        for one in all_of_them:
            if not await one.has_room(set(areas)):
                raise UserError(f"there would be more than {MAX_AREAS} areas; remove some")
        for one in all_of_them:
            for name, found in areas.items():
                await one.write(name, found)
        return True

    _change(redis, prefix, write)


def _change(redis: RedisOptions, prefix: str, change: Callable[..., Awaitable[bool]]) -> bool:
    """Change the areas of all partitions, or of none when one is away."""
    from jt709c_gateway.cli.fleet import Fleet, away_text
    from jt709c_gateway.cli.query import query
    from jt709c_gateway.redis.areas import Areas

    async def question(fleet: Fleet) -> bool:
        parts = await fleet.present()
        if fleet.away:
            raise UserError(f"{away_text(fleet.away)}; nothing was changed")
        return await change([Areas(part, part.keys) for part in parts])

    return query(redis, prefix, "change areas", question, "jt709c-operator")
