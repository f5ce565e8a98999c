"""Labels in bulk, from a file or a request: all rows are checked before any is written (docs/cli.rst)."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from jt709c_gateway.commands.value_description import described, unknown_names
from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.redis.labels import LABEL_FIELDS, Label, LabelError, read_label

COLUMNS: Final = ("device", *LABEL_FIELDS)
_NAMES: Final = ", ".join(COLUMNS)
#: Spreadsheets write one of these between the columns, by the language of their user.
_SEPARATORS: Final = (",", ";", "\t")
_DEVICE: Final = re.compile(r"[0-9]{1,20}")
_RIGHT_DEVICE: Final = "expected a device id or an IMEI, 1 to 20 digits"

Fields = dict[str, str]
"""The fields of a label that are given, checked; an empty text removes a field."""


class LabelFileError(ValueError):
    """A file that can't be taken; the text names line and column."""


@frozen
class LabelRow:
    """One row: `where` says which, as in `line 7`; `device` is a device id or an IMEI."""

    where: str
    device: str
    fields: Fields


def read_csv(data: bytes) -> list[LabelRow]:
    """Read CSV in UTF-8, with a line of column names; raise LabelFileError for anything wrong in it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LabelFileError(f"line {line}: this is not UTF-8 text; expected CSV saved as UTF-8") from None
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[str, dict[str, Any]]] = []
    try:
        columns = _columns(next(reader, []))
        for cells in reader:
            where = f"line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise LabelFileError(f"{where} has {len(cells)} columns: expected {len(columns)}")
            rows.append((where, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise LabelFileError(f"line {reader.line_num}: {error}; expected CSV") from None
    return _checked(rows)


def read_objects(objects: Sequence[Mapping[str, Any]]) -> list[LabelRow]:
    """Read the objects of a JSON array, whose rows count from 1; raise LabelFileError."""
    for place, one in enumerate(objects, 1):
        if unknown := unknown_names(one, COLUMNS, "field"):
            raise LabelFileError(f"row {place}: unknown {unknown}: expected {_NAMES}")
    return _checked((f"row {place}", one) for place, one in enumerate(objects, 1))


def write_csv(labels: Mapping[str, Label]) -> str:
    """Write labels as CSV that `read_csv` takes, by device."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for device in sorted(labels, key=lambda one: (len(one), one)):
        writer.writerow((device, *labels[device].values()))
    return out.getvalue()


def resolved(rows: Sequence[LabelRow], devices: Sequence[str]) -> dict[str, Fields]:
    """Return the fields of each device; `devices` are those of the rows, with IMEIs resolved.

    Raises LabelFileError when two rows are of the same device.
    """
    seen: dict[str, str] = {}
    for row, device in zip(rows, devices, strict=True):
        if device in seen:
            raise LabelFileError(f"{row.where}, column device: {device} is in {seen[device]} already")
        seen[device] = row.where
    return {device: row.fields for row, device in zip(rows, devices, strict=True)}


def _columns(cells: Sequence[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    if unknown := unknown_names(columns, COLUMNS, "column"):
        raise LabelFileError(f"line 1: unknown {unknown}: expected {_NAMES}")
    for name in columns:
        if columns.count(name) > 1:
            raise LabelFileError(f"line 1: the column {name} is there {columns.count(name)} times")
    if "device" not in columns or len(columns) == 1:
        raise LabelFileError(f"line 1: expected the column device and some of {', '.join(LABEL_FIELDS)}")
    return columns


def _checked(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[LabelRow]:
    found = []
    for where, given in rows:
        name = given.get("device")
        text = name.strip() if isinstance(name, str) else ""
        if not _DEVICE.fullmatch(text):
            raise LabelFileError(f"{where}, column device: {described(name)}: {_RIGHT_DEVICE}")
        try:
            label = read_label({field: value for field, value in given.items() if field != "device"})
        except LabelError as error:
            raise LabelFileError(f"{where}, column {error.field}: {error}") from None
        fields = {field: getattr(label, field) or "" for field in LABEL_FIELDS if field in given}
        found.append(LabelRow(where, canonical(text), fields))
    return found
