"""`jt709c malformed`: shows input that the gateways could not read."""

from typing import Final

import click

from jt709c_gateway.cli.options import IntegerRange, local_option, output_options, redis_options
from jt709c_gateway.cli.redis_client import RedisOptions, query
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.table import Cell, Column, known, print_records
from jt709c_gateway.cli.time_format import date_and_time, parse, read_since
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys

_FIELDS: Final = ("time", "peer", "reason", "raw")
#: Bytes of the input that are shown without -o wide.
_BYTES_SHOWN: Final = 24
#: Columns of the terminal that they get at least.
_RAW_WIDTH: Final = 16


@click.command()
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only input since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601, in UTC unless --local).",
)
@click.option("--reason", "reasons", multiple=True, metavar="REASON", help="Only this reason; repeatable.")
@click.option(
    "--limit",
    type=IntegerRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most N entries, the newest.",
)
@local_option
@output_options
def malformed(
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    reasons: tuple[str, ...],
    limit: int,
    local: bool,
    output: str,
) -> None:
    """Show input that the gateways could not read, and frames of locks that they do not admit, oldest first.

    The reason not_admitted marks a frame of a lock that is not admitted. jt709c explain shows what a frame
    contains and where it is broken. Reading this needs the rights of jt709c-reader or jt709c-operator.

    \b
    Examples:
        jt709c malformed --since 1d
        jt709c malformed --reason not_admitted -o csv
        jt709c malformed --json | jq -r .raw | jt709c explain -
    """
    begin = read_since(since, local)

    async def question(connection: RedisConnection) -> list[dict[str, str]]:
        oldest = "-" if begin is None else str(max(0, int(begin * 1000)))
        entries = await connection.call("XREVRANGE", Keys(prefix).malformed, "+", oldest)
        return [_record(fields) for _, fields in entries]

    found = query(redis, prefix, "read malformed input", question)
    chosen = [one for one in found if not reasons or one.get("reason") in reasons][:limit][::-1]
    print_records(chosen, _columns(local), _FIELDS, output)
    if not chosen:
        notice("no such input is known")


def _record(fields: list[bytes]) -> dict[str, str]:
    texts = [field.decode("utf-8", "replace") for field in fields]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _columns(local: bool) -> list[Column]:
    def raw(record: dict[str, str]) -> Cell:
        text = record.get("raw", "")
        return known(text[: 2 * _BYTES_SHOWN] + "…" * (len(text) > 2 * _BYTES_SHOWN))

    return [
        Column("time", lambda record: known(date_and_time(parse(record.get("time")), local))),
        Column("peer", lambda record: known(record.get("peer")), rank=1),
        Column("reason", lambda record: known(record.get("reason"), "bold red")),
        Column("raw, whole", lambda record: known(record.get("raw")), wide=True),
        Column("raw", raw, least=_RAW_WIDTH),
    ]
