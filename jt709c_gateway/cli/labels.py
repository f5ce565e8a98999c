"""Labels of locks for subcommands: what a name stands for, and how locks are called."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Final

import txredisapi

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part, away_text
from jt709c_gateway.redis.label_search import LabelSearch
from jt709c_gateway.redis.labels import Label, Labels

#: Locks that are named in an error.
_SHOWN: Final = 5


def labels_in(part: Part) -> Labels:
    """Return what reads and writes the labels of a partition."""
    return Labels(part, part.keys)


async def all_labels(fleet: Fleet) -> dict[str, Label]:
    """Read all labels by their device; those of partitions that are away are missing."""
    found: dict[str, Label] = {}
    for some in await fleet.each(lambda part: labels_in(part).all()):
        found.update(some)
    return found


async def labels_of(fleet: Fleet, devices: Iterable[str]) -> dict[str, Label]:
    """Read the labels of devices, to show them; what can't be read now, or by this user, is missing."""
    parts: defaultdict[Part, list[str]] = defaultdict(list)
    for device in dict.fromkeys(devices):
        parts[fleet.parts[fleet.layout.number(device)]].append(device)
    found: dict[str, Label] = {}
    for part, some in parts.items():
        if part.number in fleet.away:
            continue
        try:
            labels = await labels_in(part).read(some)
        except txredisapi.RedisError:
            continue
        found.update((one, label) for one, label in zip(some, labels, strict=True) if label is not None)
    return found


async def readable_labels(fleet: Fleet) -> dict[str, Label]:
    """Read all labels, to show them; none for a user that may not read them."""
    try:
        return await all_labels(fleet)
    except txredisapi.ResponseError:
        return {}


async def devices_in(fleet: Fleet, groups: Collection[str]) -> frozenset[str] | None:
    """Return the devices of groups, in any case of letters; None when no groups are given."""
    if not groups:
        return None
    wanted = LabelSearch(groups)
    return frozenset(device for device, label in (await all_labels(fleet)).items() if wanted.fits(label))


def full_name(device: str, label: Label | None) -> str:
    """Return the name with the id behind it, or the id alone: `Truck 12 (794308010001)`."""
    return f"{plain(label.name)} ({device})" if label is not None and label.name else device


async def find_named(fleet: Fleet, text: str) -> str:
    """Return the id of the one lock that has this name or plate; raise UserError if there is not just one.

    Upper and lower case are the same.
    """
    labels = await all_labels(fleet)
    wanted = text.casefold()
    found = [
        device
        for device, label in labels.items()
        if wanted in ((label.name or "").casefold(), (label.plate or "").casefold())
    ]
    if fleet.away:
        raise UserError(f"another lock may have this name: {away_text(fleet.away)}; give an id")
    if len(found) > 1:
        named = [_candidate(device, labels[device]) for device in sorted(found)]
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        they = f"{', '.join(named[:_SHOWN])}{more}"
        raise UserError(f"{len(named)} locks have this name or plate: {they}; give the id of one")
    if not found:
        raise UserError(f"no lock has this name or plate{_near(text, labels)}; expected an id, or a name")
    return found[0]


def _candidate(device: str, label: Label) -> str:
    more = ", ".join(plain(one) for one in (label.plate, label.group) if one)
    return full_name(device, label) + (f" [{more}]" if more else "")


def _near(text: str, labels: Mapping[str, Label]) -> str:
    names = {name.casefold(): name for label in labels.values() for name in (label.name, label.plate) if name}
    near = get_close_matches(text.casefold(), names, 1)
    return f"; the most similar is {plain(names[near[0]])!r}" if near else ""
