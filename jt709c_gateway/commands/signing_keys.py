"""The signing keys of commands and their permissions (docs/commands.rst, "Signed commands").

The key file is TOML. Each key id has a secret, or a table with the secret and the permissions::

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
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import attrs

from jt709c_gateway.commands.catalogue import CATALOGUE, canonical
from jt709c_gateway.commands.model import Command, InvalidCommand, quote
from jt709c_gateway.commands.profiles import ProfileError
from jt709c_gateway.commands.profiles.toml_table import TomlTable
from jt709c_gateway.commands.sublocks import SUBLOCK_ID
from jt709c_gateway.commands.value_description import described, unknown_name
from jt709c_gateway.util.timestamps import iso

DEFAULT_WINDOW: Final = 300.0
#: Seconds that the clock of the signer may be ahead of the gateway's.
MAX_AHEAD: Final = 60.0
MIN_SECRET: Final = 16

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DEVICE: Final = re.compile(r"[0-9]{1,20}|[0-9A-Fa-f]{10}")
_PREFIX: Final = re.compile(r"[0-9A-Fa-f]{1,20}")
#: A secret of only such digits is hex, even if it could be base64 too.
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
_SECRET: Final = f"a secret of at least {MIN_SECRET} bytes in hex or base64"


class RefusalReason(StrEnum):
    """Why a command is refused; the values are labels of a metric."""

    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    WRONG_MAC = "wrong_mac"
    TOO_OLD = "too_old"
    FROM_THE_FUTURE = "from_the_future"
    KEY_NOT_VALID = "key_not_valid"
    NOT_PERMITTED = "not_permitted"
    OTHER_DEVICE = "other_device"
    """The queue entry is for a device that the command was not signed for."""
    UNREADABLE = "unreadable"
    """The queue entry is not a command."""
    REPLAYED = "replayed"
    """This process has already written the command to a lock."""
    FULL = "full"
    """The memory of written commands is full, so replays can no longer be detected."""


class CommandRefused(InvalidCommand):
    """The sender is not permitted to give the command."""

    def __init__(self, why: RefusalReason, command: Command, field: str, problem: str, expected: str) -> None:
        about = InvalidCommand(field, problem, expected).about(command)
        super().__init__(
            field,
            problem,
            expected,
            command_id=about.command_id,
            device=about.device,
            command=about.command,
            reply_to=about.reply_to,
            issued_by=about.issued_by,
            key=about.key,
        )
        self.why = why


@attrs.frozen
class SigningKey:
    """A secret and the permissions of its owner; ``None`` is no limit. Times are seconds since 1970.

    ``devices`` are device ids as commands have them, ``prefixes`` their beginnings.
    """

    id: str
    secret: bytes = attrs.field(repr=False)
    commands: frozenset[str] | None = None
    devices: frozenset[str] | None = None
    prefixes: tuple[str, ...] = ()
    not_before: float | None = None
    not_after: float | None = None

    def is_for(self, name: str) -> bool:
        """Whether the key permits commands to a device."""
        return self.devices is None or name in self.devices or name.startswith(self.prefixes)


@attrs.frozen
class SigningKeys:
    """Verifies signatures and permissions; if ``keys`` is ``None``, a signature is optional and not verified.

    ``window`` is the maximum age in seconds of a signed command at intake. ``issued_at`` may never be in the
    future.
    """

    keys: Mapping[str, SigningKey] | None = attrs.field(default=None, repr=False)
    window: float = DEFAULT_WINDOW

    def limits_devices(self, command: Command) -> bool:
        """Whether the key of the command is limited to some devices."""
        key = None if command.signature is None else (self.keys or {}).get(command.signature.key)
        return key is not None and key.devices is not None

    def check_new(self, command: Command, now: float) -> None:
        """Check a command at intake; raise :class:`CommandRefused`."""
        self.check(command, now)
        if command.signature is not None and now - command.created_at > self.window:
            problem = f"it was signed {now - command.created_at:.0f} s ago"
            right = f"a command that is taken in within {self.window:g} s"
            raise CommandRefused(RefusalReason.TOO_OLD, command, "issued_at", problem, right)

    def check(self, command: Command, now: float) -> None:
        """Check a command that may have waited in a queue: all but its age; raise :class:`CommandRefused`.

        The command must have been parsed from the text of its signature.
        """
        if self.keys is not None:
            self._check_key(command, now, self.keys)
        if command.signature is not None and command.created_at - now > MAX_AHEAD:
            problem = f"is {command.created_at - now:.0f} s ahead of the gateway's clock"
            raise CommandRefused(
                RefusalReason.FROM_THE_FUTURE,
                command,
                "issued_at",
                problem,
                f"at most {MAX_AHEAD:.0f} s ahead",
            )

    def _check_key(self, command: Command, now: float, keys: Mapping[str, SigningKey]) -> None:
        signature = command.signature
        if signature is None:
            right = "key, mac and command, since this gateway takes signed commands only"
            raise CommandRefused(RefusalReason.UNSIGNED, command, "key", "missing", right)
        key = keys.get(signature.key)
        if key is None:
            problem = f"is {described(signature.key)}, and not known"
            raise CommandRefused(
                RefusalReason.UNKNOWN_KEY, command, "key", problem, "the id of a key that the gateway has"
            )
        if not signature.matches(key.secret):
            right = f"the HMAC-SHA256 of the text in order, with the secret of {key.id}"
            raise CommandRefused(RefusalReason.WRONG_MAC, command, "mac", "does not fit", right)
        _check_validity(command, key, now)
        name = signature.command
        if key.commands is not None and name not in key.commands:
            named = name if name in CATALOGUE else unknown_name(name, key.commands)
            right = ", ".join(sorted(key.commands)) or "another key, since this one may give no command"
            raise CommandRefused(
                RefusalReason.NOT_PERMITTED,
                command,
                "command",
                f"{named} is not permitted to key {key.id}",
                right,
            )
        if not key.is_for(_canonical_device(signature.device)):
            problem = f"is not permitted to key {key.id}"
            raise CommandRefused(
                RefusalReason.NOT_PERMITTED,
                command,
                "device",
                problem,
                "one of the devices in the key's list",
            )


def _canonical_device(name: str) -> str:
    """The canonical form of a device id: without leading zeros, but for sub-locks."""
    return name if len(name) == SUBLOCK_ID else name.lstrip("0") or "0"


def _check_validity(command: Command, key: SigningKey, now: float) -> None:
    if key.not_before is not None and now < key.not_before:
        problem, right = f"{key.id} is not valid yet", f"its use from {iso(key.not_before)} on"
    elif key.not_after is not None and now >= key.not_after:
        problem, right = f"{key.id} is no longer valid", f"its use before {iso(key.not_after)}"
    else:
        return
    raise CommandRefused(RefusalReason.KEY_NOT_VALID, command, "key", problem, right)


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
        else frozenset(map(_canonical_device, map(str.upper, devices or ()))),
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
