"""Reads, writes and prints labels for `jt709c label`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import msgspec

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.device_lookup import resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, away_text
from jt709c_gateway.cli.labels import full_name, labels_in
from jt709c_gateway.cli.table import Column, known
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.label_file import (
    COLUMNS,
    LabelFileError,
    LabelRow,
    read_csv,
    read_objects,
    resolved,
    write_csv,
)
from jt709c_gateway.redis.label_search import LabelSearch
from jt709c_gateway.redis.labels import LABEL_FIELDS, Label, LabelError, read_label

#: The longest file, in bytes; a row of 10,000 has some hundred.
_LONGEST: Final = 64 << 20


def check_fields(given: Mapping[str, str]) -> dict[str, str]:
    """Check fields of a label from options; raise UserError."""
    try:
        label = read_label(given)
    except LabelError as error:
        raise UserError(f"--{error.field}: {error}") from None
    return {name: getattr(label, name) or "" for name in given}


async def change(fleet: Fleet, name: str, fields: Mapping[str, str]) -> tuple[str, Label | None]:
    """Write fields of a label; return device and new label."""
    device = (await resolve(fleet, name)).device
    labels = labels_in(await fleet.of(device))
    await labels.change({device: fields})
    return device, (await labels.read([device]))[0]


async def read_one(fleet: Fleet, name: str) -> tuple[str, Label | None]:
    """Return device and label."""
    device = (await resolve(fleet, name)).device
    return device, (await labels_in(await fleet.of(device)).read([device]))[0]


async def remove_labels(fleet: Fleet, names: Sequence[str]) -> list[str]:
    """Remove labels; return a line for each."""
    lines = []
    for device in [(await resolve(fleet, name)).device for name in names]:
        labels = labels_in(await fleet.of(device))
        before = (await labels.read([device]))[0]
        await labels.remove(device)
        known_as = f"the label of {full_name(device, before)} is removed"
        lines.append(known_as if before is not None else f"{device} has no label")
    return lines


def print_label(device: str, label: Label | None, as_json: bool) -> None:
    """Print one label."""
    if as_json:
        click.echo(to_json(_record(device, label or Label())))
        return
    click.echo(device if label is not None else f"{device} has no label")
    for name in LABEL_FIELDS:
        if label is not None and (text := getattr(label, name)):
            click.echo(f"    {name:<8}{plain(text)}")


def label_records(labels: Mapping[str, Label], wanted: LabelSearch) -> list[dict[str, Any]]:
    """Return the labels that are searched for, by group and name."""
    found = [(device, label) for device, label in labels.items() if wanted.fits(label, device)]
    found.sort(key=lambda one: (one[1].group or "", one[1].name or "", len(one[0]), one[0]))
    return [_record(device, label) for device, label in found]


def _record(device: str, label: Label) -> dict[str, Any]:
    return {"device": device, **{name: getattr(label, name) or None for name in LABEL_FIELDS}}


def label_columns() -> list[Column]:
    """Make the columns of `jt709c label list`."""

    def column(name: str) -> Column:
        return Column(name, lambda record: known(record[name], "bold" if name == "name" else ""))

    return [column(name) for name in ("name", "device", "group", "plate", "note")]


def print_all(labels: Mapping[str, Label], as_json: bool) -> None:
    """Print labels in a form that `read_file` takes."""
    if as_json:
        given = [{"device": device, **msgspec.to_builtins(label)} for device, label in labels.items()]
        click.echo(to_json(sorted(given, key=lambda one: (len(one["device"]), one["device"]))))
    else:
        click.echo(write_csv(labels), nl=False)


def read_file(name: str, data: bytes) -> list[LabelRow]:
    """Read the rows of a file, JSON when it begins like it; raise UserError."""
    if len(data) > _LONGEST:
        raise UserError(f"{name}: expected at most {_LONGEST >> 20} MB")
    try:
        if data.lstrip().startswith((b"[", b"{")):
            rows = read_objects(msgspec.json.decode(data, type=list[dict[str, Any]]))
        else:
            rows = read_csv(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UserError(f"{name}: expected a JSON array of objects with {', '.join(COLUMNS)}") from None
    except LabelFileError as error:
        raise UserError(f"{name}: {error}") from None
    if not rows:
        raise UserError(f"{name} has no rows; expected a line with the names of columns, and others")
    return rows


async def write_rows(fleet: Fleet, name: str, rows: Sequence[LabelRow]) -> int:
    """Write the rows of a file; return how many labels have changed. Raise UserError, and write nothing."""
    if len(await fleet.present()) < len(fleet.parts):
        raise UserError(f"nothing is written: {away_text(fleet.away)}")
    devices = await _devices(fleet, [row.device for row in rows])
    try:
        changes = resolved(rows, devices)
    except LabelFileError as error:
        raise UserError(f"{name}: {error}") from None
    parts: defaultdict[int, dict[str, dict[str, str]]] = defaultdict(dict)
    for device, fields in changes.items():
        parts[fleet.layout.number_of(device)][device] = fields
    return sum([len(await labels_in(fleet.parts[number]).change(some)) for number, some in parts.items()])


async def _devices(fleet: Fleet, names: Sequence[str]) -> list[str]:
    """Return the devices of names, some of which are IMEIs."""
    parts: defaultdict[int, list[str]] = defaultdict(list)
    for one in dict.fromkeys(names):
        parts[fleet.layout.number_of(one)].append(one)
    found: dict[str, str] = {}
    for number, some in parts.items():
        found.update(zip(some, await labels_in(fleet.parts[number]).devices_of(some), strict=True))
    return [found[one] for one in names]
