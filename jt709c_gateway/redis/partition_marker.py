"""The marker of a partition: into how many partitions the keys are divided, or where they are moved to."""

from typing import Final

import msgspec


class Moving(msgspec.Struct, frozen=True, tag="moving"):
    """The marker while `jt709c repartition` moves the keys."""

    before: int
    after: int


class Moved(msgspec.Struct, frozen=True, tag="moved", omit_defaults=True):
    """The marker that stays where keys were: their new number, prefix, and servers if they are others."""

    after: int
    prefix: str
    servers: str = ""


Marker = int | Moving | Moved
_DECODER: Final = msgspec.json.Decoder(Marker)


def read_marker(packed: bytes) -> Marker | None:
    """Read a marker; None for one that is malformed."""
    try:
        found: Marker = _DECODER.decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found


def moved_to(prefix: str, count: int) -> bytes:
    """Return the marker of a partition whose keys were moved to so many partitions under the same prefix."""
    return msgspec.json.encode(Moved(count, prefix))


class WrongPartitions(Exception):
    """The store is divided into another number of partitions; the text says what to do."""


def partition_count(count: int) -> str:
    """Return `1 partition` or `<count> partitions`."""
    return "1 partition" if count == 1 else f"{count} partitions"


def problem(prefix: str, key: str, found: Marker | None, expected: int) -> str:
    """Return in one line what is wrong with the marker `key`, and what to do."""
    of = f"the keys under the prefix {prefix}"
    match found:
        case None:
            return f"{key} can't be read: expected the number of partitions, and no other key of this name"
        case Moving(before, after):
            return (
                f"{of} are being moved from {before} to {partition_count(after)}: run jt709c repartition "
                f"--from {before} --to {after} until it ends, and go on then"
            )
        case Moved(after, new, ""):
            return f"{of} were moved to {partition_count(after)}: give --prefix {new} --partitions {after}"
        case Moved(after, new, servers):
            return (
                f"{of} were moved to other servers: give --redis {servers!r} --prefix {new} --partitions "
                f"{after}, or delete {key} to begin a new fleet here"
            )
        case int():
            return (
                f"{of} are in {partition_count(found)}, not {expected}: give --partitions {found}, or move "
                f"them with jt709c repartition --from {found} --to {expected}"
            )


def count_in(prefix: str, key: str, packed: bytes) -> int:
    """Return the number in the marker `key`; raise WrongPartitions when there is none that holds now.

    A partition that is no more says how many there are under the same prefix.
    """
    found = read_marker(packed)
    if isinstance(found, Moved) and found == Moved(found.after, prefix):
        return found.after
    if not isinstance(found, int):
        raise WrongPartitions(problem(prefix, key, found, 0))
    return found
