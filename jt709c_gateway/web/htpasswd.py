"""Reads the user file as `htpasswd -B` writes it: `name:$2y$…` (bcrypt) per line, `#` for comments."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen

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
    """The content of a user file: hashes by user name."""

    path: Path
    hashes: Mapping[str, bytes] = field(repr=False)
    signature: Signature | None


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
    hashes: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, hashed = _entry(line.strip(), number)
            if name in hashes:
                raise UsersError(f"line {number}: {name} is listed twice; expected each user once")
            hashes[name] = hashed
    if not hashes:
        raise UsersError("holds no user; expected lines as htpasswd -B makes them")
    return UserFile(path, hashes, signature)


def _entry(line: str, number: int) -> tuple[str, bytes]:
    name, colon, hashed = line.partition(":")
    if not colon or not _NAME.fullmatch(name) or not name.isprintable():
        right = "name:hash, the name of 1 to 64 characters without blanks"
        raise UsersError(f"line {number}: expected {right}")
    found = _BCRYPT.fullmatch(hashed)
    if found is None:
        right = "bcrypt, as htpasswd -B makes it"
        raise UsersError(f"line {number}: the hash of {name} is of another kind; expected {right}")
    if not 4 <= int(found[1]) <= MAX_COST:
        problem = f"the hash of {name} has cost {int(found[1])}"
        raise UsersError(f"line {number}: {problem}; expected 4 to {MAX_COST}")
    return name, hashed.encode()
