"""Signing keys, and what each may sign (docs/commands.rst, "Signed commands")."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from jt709c_gateway.commands.catalogue import CATALOGUE
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.value_description import described, unknown_name
from jt709c_gateway.protocol.device_id import canonical_name
from jt709c_gateway.util.timestamps import iso

DEFAULT_WINDOW: Final = 300.0
#: Seconds that the clock of the signer may be ahead of the gateway's.
MAX_AHEAD: Final = 60.0


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
            batch=about.batch,
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

    def seal(self, command: Command) -> str | None:
        """Return what shows other gateways that one has taken in a signed command, within its window.

        Only a holder of the key can make it. None for an unsigned command. Empty where no signature is
        verified, which is valid for those who verify none either.
        """
        signature = command.signature
        if signature is None:
            return None
        key = (self.keys or {}).get(signature.key)
        if key is None:
            return ""
        return hmac.new(key.secret, b"taken in " + signature.mac.lower().encode(), "sha256").hexdigest()

    def check_new(self, command: Command, now: float, seal: str | None = None) -> None:
        """Check a command at intake, with its seal if it has one; raise :class:`CommandRefused`."""
        self.check(command, now)
        if seal is not None and hmac.compare_digest(seal.encode(), (self.seal(command) or "").encode()):
            return
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
        if not key.is_for(canonical_name(signature.device)):
            problem = f"is not permitted to key {key.id}"
            raise CommandRefused(
                RefusalReason.NOT_PERMITTED,
                command,
                "device",
                problem,
                "one of the devices in the key's list",
            )


def _check_validity(command: Command, key: SigningKey, now: float) -> None:
    if key.not_before is not None and now < key.not_before:
        problem, right = f"{key.id} is not valid yet", f"its use from {iso(key.not_before)} on"
    elif key.not_after is not None and now >= key.not_after:
        problem, right = f"{key.id} is no longer valid", f"its use before {iso(key.not_after)}"
    else:
        return
    raise CommandRefused(RefusalReason.KEY_NOT_VALID, command, "key", problem, right)
