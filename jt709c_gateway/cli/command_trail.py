"""Reads one command with its events, and prints it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import txredisapi

from jt709c_gateway.cli.command_query import full_ids, read
from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, away_text
from jt709c_gateway.cli.labels import full_name
from jt709c_gateway.cli.time_format import date_and_time, parse
from jt709c_gateway.cli.timeline import INDENT, Timeline
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.labels import Label

#: Fields of the record that the timeline shows anyway.
_SHOWN_BELOW = frozenset(["id", "state", "sent_at", "acknowledged_at", "confirmed_at"])


async def find_commands(fleet: Fleet, beginning: str) -> list[dict[str, Any]]:
    """Read the command whose id begins like this; raise UserError unless there is one.

    Devices in different partitions may have commands of one id; then all are returned.
    """
    found = await full_ids(fleet, beginning)
    ids = list(dict.fromkeys(command_id for _, command_id in found))
    if len(ids) > 1:
        raise UserError(f"the ids of {len(ids)} commands begin with {beginning}, as {ids[0]} and {ids[1]}")
    records = await read(fleet, found)
    if not records:
        more = f"; {away_text(fleet.away)}" if fleet.away else ""
        raise UserError(f"{beginning}: no such command is known; they are kept for 7 days{more}")
    return records


async def read_events(fleet: Fleet, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the events of the command in the audit trail of its device."""
    if not record["device"]:
        return []
    part = await fleet.of(record["device"])
    try:
        entries = await part.call("XRANGE", part.keys.history(record["device"]), "-", "+")
    except txredisapi.ResponseError:
        return []
    events = []
    for _, fields in entries:
        texts = dict(zip(fields[::2], fields[1::2], strict=False))
        try:
            event = msgspec.json.decode(texts.get(b"event", b""), type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            continue
        data = event.get("data")
        if isinstance(data, dict) and record["id"] in (data.get("id"), data.get("command_id")):
            events.append(event)
    return events


def print_command(
    record: Mapping[str, Any], events: list[dict[str, Any]], local: bool, label: Label | None
) -> None:
    """Print the record of a command, with the name of its lock, and its events."""
    out = console()
    out.print(f"command {plain(record['id'])}: {plain(record['state'])}", style="bold", soft_wrap=True)
    for name, value in record.items():
        if value is None or value == {} or (events and name in _SHOWN_BELOW):
            continue
        if name.endswith("_at"):
            value = date_and_time(parse(value), local, milliseconds=True)
        text = value if isinstance(value, str) else to_json(value).decode()
        if name == "device":
            text = full_name(text, label)
        out.print(f"    {name:<16}{plain(text)}", soft_wrap=True)
    timeline = Timeline(local)
    for event in events:
        print_line(out, timeline.line(event), INDENT)
