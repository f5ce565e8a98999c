"""Reads the roles in the user file: `#role NAME ROLE`, which `htpasswd` takes for a comment and keeps.

A dispatcher's line may go on with `commands=unlock,seal`, `group=Trucks` and `group="Depot 2"`, repeatable.
`*` as the name stands for all users without a line of their own.
"""

import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Final

from attrs import evolve, frozen

from jt709c_gateway.commands.catalogue import canonical
from jt709c_gateway.web.roles import Grant, Role

#: The name in the line of all users that have none of their own.
EVERYBODY_ELSE: Final = "*"
#: `htpasswd` cuts longer lines, and takes what it cuts off for a user.
MAX_LINE: Final = 255
MAX_GROUP: Final = 64
_COMMAND: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# With blanks too: a line that is meant as a role and passes as a comment would give its user every right.
_ROLE: Final = re.compile(r"#\s*role\b(.*)", re.IGNORECASE)
_FORM: Final = "#role NAME viewer, dispatcher or admin"


@frozen
class RoleLine:
    """A line of the file: its number, the name of the user, and what it grants."""

    number: int
    name: str
    grant: Grant


def parse_role_line(line: str, number: int) -> RoleLine | None:
    """Parse a line that grants a role; None for another line, ValueError for a mistake in one."""
    found = _ROLE.fullmatch(line)
    if found is None:
        return None
    if len(line.encode()) > MAX_LINE:
        raise ValueError(
            f"has {len(line.encode())} bytes; expected at most {MAX_LINE}, beyond which htpasswd cuts it: "
            "write several lines for the user"
        )
    try:
        words = shlex.split(found[1])
    except ValueError:
        raise ValueError('a quotation mark without its other; expected group="Depot 2"') from None
    if len(words) < 2:
        raise ValueError(f"expected {_FORM}")
    name, role, *limits = words
    if role not in tuple(Role):
        raise ValueError(f"{role[:64]!r} is no role; expected {', '.join(Role)}")
    if limits and role != Role.DISPATCHER:
        raise ValueError(f"{role} has no limits; expected commands and groups of a {Role.DISPATCHER} only")
    commands: set[str] = set()
    groups: set[str] = set()
    for limit in limits:
        key, _, value = limit.partition("=")
        if key == "commands":
            commands.update(map(_command, value.split(",")))
        elif key == "group":
            groups.add(_group(value))
        else:
            raise ValueError(f"{limit[:64]!r} has no meaning here; expected commands=… or group=…")
    return RoleLine(number, name, Grant(Role(role), frozenset(commands), frozenset(groups)))


def _command(text: str) -> str:
    if not _COMMAND.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is no command; expected names as in commands=unlock,seal")
    return canonical(text)


def _group(text: str) -> str:
    # As in labels.
    text = unicodedata.normalize("NFC", text.strip())
    if not 1 <= len(text) <= MAX_GROUP or not text.isprintable():
        raise ValueError(f"a group of {len(text)} characters; expected 1 to {MAX_GROUP}, all printable")
    return text


def grants(lines: Iterable[RoleLine]) -> dict[str, Grant]:
    """Join the lines of each user; ValueError if they name different roles.

    The commands and groups of a dispatcher's lines add up.
    """
    found: dict[str, Grant] = {}
    for line in lines:
        before = found.setdefault(line.name, line.grant)
        if before.role is not line.grant.role:
            raise ValueError(
                f"line {line.number}: {line.name} is a {before.role} already; expected one role for each user"
            )
        found[line.name] = evolve(
            before,
            commands=before.commands | line.grant.commands,
            groups=before.groups | line.grant.groups,
        )
    return found
