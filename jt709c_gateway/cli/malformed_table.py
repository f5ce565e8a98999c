"""The records of malformed input, and their columns."""

from collections.abc import Sequence
from typing import Final

from jt709c_gateway.cli.fleet import entry_order, merged
from jt709c_gateway.cli.table import Cell, Column, known
from jt709c_gateway.cli.time_format import date_and_time, parse

FIELDS: Final = ("time", "peer", "reason", "raw")


#: Bytes of the input that are shown without -o wide.
_BYTES_SHOWN: Final = 24


#: Columns of the terminal that they get at least.
_RAW_WIDTH: Final = 16


#: An entry of a stream of malformed input.
Entry = tuple[bytes, list[bytes]]


def newest_first(parts: Sequence[Sequence[Entry]]) -> list[dict[str, str]]:
    """Read the entries of all partitions, each with the newest first, in the order of a single stream."""
    return [read_record(fields) for _, fields in merged(parts, lambda one: entry_order(one[0]), falling=True)]


def read_record(fields: list[bytes]) -> dict[str, str]:
    """Read an entry of the stream of malformed input."""
    texts = [field.decode("utf-8", "replace") for field in fields]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def malformed_columns(local: bool) -> list[Column]:
    """The columns of `jt709c malformed`."""

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
