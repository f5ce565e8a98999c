"""Reads the user file as `htpasswd -B` writes it: `name:$2y$…` (bcrypt) per line, `#` for comments.

Comments that begin with `#role` are roles (`role_lines`).
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from jt709c_gateway.web.role_lines import EVERYBODY_ELSE, RoleLine, grants, parse_role_line
from jt709c_gateway.web.roles import WITHOUT_A_LINE, User

#: Maximum bytes of the file.
MAX_BYTES: Final = 1 << 20
#: Maximum cost (rounds as a power of two): above it, a check takes longer than a second.
MAX_COST: Final = 14
_NAME: Final = re.compile(r"[^\s:]{1,64}")
_BCRYPT: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")

#: Identifies a version of a file: inode, bytes, nanoseconds of the last change.
Signature = tuple[int, int, int]


class UsersError(ValueError):
    """The user file is invalid. The message has the line and the expected value, but no hash."""


@frozen
class UserFile:
    """The content of a user file: users by name."""

    path: Path
    users: Mapping[str, User] = field(repr=False)
    role_lines: Sequence[RoleLine]
    signature: Signature | None

    def doubts(self, commands: Collection[str]) -> list[str]:
        """Say what in the roles grants nothing, with its line: users and commands that there aren't."""
        found = []
        for line in self.role_lines:
            if line.name not in self.users and line.name != EVERYBODY_ELSE:
                found.append(f"line {line.number}: there is no user {line.name}; the role grants nothing")
            for name in sorted(line.grant.commands.difference(commands)):
                found.append(f"line {line.number}: {name} is a command of no profile; nobody can give it")
        return found

    def without_a_line(self) -> list[str]:
        """The users that have the role of no line."""
        named = {line.name for line in self.role_lines}
        return [] if EVERYBODY_ELSE in named else [name for name in self.users if name not in named]


def signature_of(path: Path) -> Signature | None:
    """The current version of a file; None if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_users(path: Path) -> UserFile:
    """Read a user file; raise :class:`UsersError` if it is invalid."""
    signature = signature_of(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UsersError(f"is longer than {MAX_BYTES} bytes; expected a line for each user")
        lines = text.decode().splitlines()
    except OSError as error:
        raise UsersError(f"{error.strerror}; expected a file that can be read") from None
    except UnicodeDecodeError:
        raise UsersError("not UTF-8; expected lines as htpasswd -B makes them") from None
    return _parse(path, lines, signature)


def _parse(path: Path, lines: Sequence[str], signature: Signature | None) -> UserFile:
    hashes: dict[str, bytes] = {}
    roles: list[RoleLine] = []
    for number, text in enumerate(lines, 1):
        line = text.strip()
        if line.startswith("#"):
            try:
                role = parse_role_line(line, number)
            except ValueError as error:
                raise UsersError(f"line {number}: {error}") from None
            if role is not None:
                _check_place(role, hashes)
                roles.append(role)
        elif line:
            name, hashed = _entry(line, number)
            if name in hashes:
                raise UsersError(f"line {number}: {name} is listed twice; expected each user once")
            hashes[name] = hashed
    if not hashes:
        raise UsersError("holds no user; expected lines as htpasswd -B makes them")
    try:
        granted = grants(roles)
    except ValueError as error:
        raise UsersError(error) from None
    default = granted.get(EVERYBODY_ELSE, WITHOUT_A_LINE)
    users = {name: User(name, granted.get(name, default), hashed) for name, hashed in hashes.items()}
    return UserFile(path, users, roles, signature)


def _check_place(role: RoleLine, before: Collection[str]) -> None:
    """Refuse a role below its user: while a file is being written, its first part may be read."""
    if role.name == EVERYBODY_ELSE and before:
        raise UsersError(f"line {role.number}: a role for all users; expected it above the first user")
    if role.name in before:
        raise UsersError(f"line {role.number}: a role below its user {role.name}; expected it above")


def _entry(line: str, number: int) -> tuple[str, bytes]:
    name, colon, hashed = line.partition(":")
    if not colon or not _NAME.fullmatch(name) or not name.isprintable():
        right = "name:hash, the name of 1 to 64 characters without blanks"
        raise UsersError(f"line {number}: expected {right}")
    found = _BCRYPT.fullmatch(hashed)
    if found is None and _BCRYPT.match(hashed):
        right = f"a line #role {name} … above it, since htpasswd drops further fields"
        raise UsersError(f"line {number}: there is more behind the hash of {name}; expected {right}")
    if found is None:
        right = "bcrypt, as htpasswd -B makes it"
        raise UsersError(f"line {number}: the hash of {name} is of another kind; expected {right}")
    if not 4 <= int(found[1]) <= MAX_COST:
        problem = f"the hash of {name} has cost {int(found[1])}"
        raise UsersError(f"line {number}: {problem}; expected 4 to {MAX_COST}")
    return name, hashed.encode()
