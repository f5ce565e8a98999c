"""The forms of output."""

from enum import StrEnum


class Output(StrEnum):
    """The forms of output (`-o`)."""

    TABLE = "table"
    WIDE = "wide"
    CSV = "csv"
    JSON = "json"
