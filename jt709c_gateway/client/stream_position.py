"""Entries of the stream of events, and how many were cut off before a group had read them. No network."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from jt709c_gateway.client.messages import Event, read_event


@frozen
class Gap:
    """Events that this group will never get, since the stream was trimmed (`--events-max`).

    What they changed is still in the last known states, `jt709c:device:<device>`.
    """

    #: How many; at least one. On Redis before 7.2.6 and 7.4.1 it may be too high after an earlier gap.
    count: int
    #: The stream that was trimmed: each partition has its own.
    stream: str = ""


@frozen
class Delivery:
    """An entry of the stream with its event."""

    entry: str
    event: Event


def read_entries(
    entries: Iterable[tuple[str, Mapping[str, str] | None]], kinds: frozenset[str]
) -> tuple[list[Delivery], list[str], int]:
    """Sort entries into those to deliver, the ids of others to acknowledge, and how many were cut off.

    An entry that was delivered once, not acknowledged, and trimmed since then has no fields. `kinds` are the
    wanted ones, all if empty.
    """
    deliveries, others, lost = [], [], 0
    for entry, fields in entries:
        if not fields:
            lost += 1
            others.append(entry)
        elif kinds and fields["kind"] not in kinds:
            others.append(entry)
        else:
            deliveries.append(Delivery(entry, read_event(fields["event"])))
    return deliveries, others, lost


def trimmed_unread(stream: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], name: str) -> int:
    """How many entries were trimmed before the group had read them, by XINFO STREAM and XINFO GROUPS.

    They are those before the first that is left and behind the last that was delivered.
    """
    group = next((one for one in groups if one["name"] == name), None)
    first = stream.get("first-entry")
    if group is None or not first or _order(group["last-delivered-id"]) >= _order(first[0]):
        return 0
    missed: int = stream["entries-added"] - stream["length"] - (group.get("entries-read") or 0)
    return max(0, missed)


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)
