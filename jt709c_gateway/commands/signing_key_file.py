"""Loads the file of signing keys (docs/commands.rst, "Signed commands").

The file is TOML. Each key id has a secret, or a table with the secret and the permissions::

    backoffice = "6c1f…"                    # 32 hex digits or more, or base64

    [night-shift]
    secret = "q83v…"
    commands = ["unlock", "seal", "cancel"]
    devices = ["794308010679"]              # as commands name them
    prefixes = ["79430802"]
    not_before = 2026-12-01T00:00:00Z
    not_after = 2027-01-01T00:00:00Z
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from jt709c_gateway.commands.catalogue import canonical
from jt709c_gateway.commands.model import quote
from jt709c_gateway.commands.profiles import ProfileError
from jt709c_gateway.commands.profiles.toml_table import TomlTable
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.protocol.device_id import canonical_name

MIN_SECRET: Final = 16

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DEVICE: Final = re.compile(r"[0-9]{1,20}|[0-9A-Fa-f]{10}")
_PREFIX: Final = re.compile(r"[0-9A-Fa-f]{1,20}")
#: A secret of only such digits is hex, even if it could be base64 too.
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
_SECRET: Final = f"a secret of at least {MIN_SECRET} bytes in hex or base64"


class SigningKeysError(ValueError):
    """The key file is invalid. The message is one line with file, key and expected value, and no secret."""


def load_signing_keys(path: Path) -> dict[str, SigningKey]:
    """Load the keys of a file, by id; raise :class:`SigningKeysError`."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _OTHERS:
                problem = (
                    f"others can read or write it; expected a file that is closed to them: chmod o= {path}"
                )
                raise SigningKeysError(f"{path}: {problem}")
            data = tomllib.loads(file.read().decode())
    except OSError as error:
        raise SigningKeysError(f"{path}: {error.strerror}; expected a file that can be read") from None
    except UnicodeDecodeError:
        raise SigningKeysError(f"{path}: not UTF-8; expected TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise SigningKeysError(f"{path}: {error}; expected TOML") from None
    try:
        return _distinct(_keys(TomlTable(str(path), "", data)))
    except ProfileError as error:
        raise SigningKeysError(str(error)) from None


def _keys(table: TomlTable) -> Iterator[tuple[TomlTable, SigningKey]]:
    if not table.names():
        raise table.error("", f"holds no key; expected key = {_SECRET}")
    for name in table.names():
        if not _ID.fullmatch(name):
            raise table.error("", "a key's id is wrong; expected 1 to 64 letters, digits, '-' or '_'")
        value = table.raw(name)
        if not isinstance(value, str | dict):
            raise table.error(name, f"expected {_SECRET}, or a table")
        one = table.replaced({name: {"secret": value} if isinstance(value, str) else value})
        yield one.table_or_empty(name), _key(name, one.table_or_empty(name))


def _key(name: str, table: TomlTable) -> SigningKey:
    devices, prefixes = _matching(table, "devices", _DEVICE), _matching(table, "prefixes", _PREFIX)
    commands = _matching(table, "commands", _NAME)
    key = SigningKey(
        name,
        _secret(table),
        None if commands is None else frozenset(map(canonical, commands)),
        None
        if devices is None and prefixes is None
        else frozenset(map(canonical_name, map(str.upper, devices or ()))),
        tuple(map(str.upper, prefixes or ())),
        _time(table, "not_before"),
        _time(table, "not_after"),
    )
    table.finish()
    return key


def _secret(table: TomlTable) -> bytes:
    value = table.raw("secret")
    text = value.strip() if isinstance(value, str) else ""
    try:
        secret = bytes.fromhex(text) if _HEX.fullmatch(text) else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) < MIN_SECRET:
        found = f"is {len(secret)} bytes" if secret else "missing or not readable"
        raise table.error("secret", f"{found}; expected {_SECRET}")
    return secret


def _matching(table: TomlTable, key: str, pattern: re.Pattern[str]) -> tuple[str, ...] | None:
    if key not in table:
        return None
    values = table.texts(key)
    for value in values:
        if not pattern.fullmatch(value):
            raise table.error(
                key, f"{quote(value)} is none of them; expected a list of {key} as commands have them"
            )
    return values


def _time(table: TomlTable, key: str) -> float | None:
    value = table.raw(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise table.error(key, f"is {value}; expected a time with its offset, such as 2026-12-01T00:00:00Z")
    return value.timestamp()


def _distinct(keys: Iterator[tuple[TomlTable, SigningKey]]) -> dict[str, SigningKey]:
    """Map the keys by id; reject a secret that two keys share."""
    found: dict[str, SigningKey] = {}
    owners: dict[bytes, str] = {}
    for table, key in keys:
        owner = owners.setdefault(key.secret, key.id)
        if owner != key.id:
            raise table.error("secret", f"is that of {owner} too; expected each key to have its own")
        found[key.id] = key
    return found
