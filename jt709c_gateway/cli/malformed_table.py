"""The records of malformed input, and their columns."""

from typing import Final

from jt709c_gateway.cli.table import Cell, Column, known
from jt709c_gateway.cli.time_format import date_and_time, parse

FIELDS: Final = ("time", "peer", "reason", "raw")


#: Bytes of the input that are shown without -o wide.
_BYTES_SHOWN: Final = 24


#: Columns of the terminal that they get at least.
_RAW_WIDTH: Final = 16


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
