"""Roles: what each user may do on the status page (docs/web.rst, "Roles")."""

from enum import Enum, StrEnum, auto
from typing import Final

from attrs import field, frozen

from jt709c_gateway.commands.sublocks import SUBLOCK_COMMANDS


class Role(StrEnum):
    """The role of a user. Each may do what those before it may."""

    VIEWER = "viewer"
    DISPATCHER = "dispatcher"
    ADMIN = "admin"


class Right(Enum):
    """What a request needs: to read, to give commands, or to change what all users share."""

    READ = auto()
    COMMAND = auto()
    ADMIN = auto()


@frozen
class Grant:
    """A role with its limits: an empty set of commands or groups sets none.

    `commands` are canonical names, `groups` those of locks' labels; only dispatchers have either.
    """

    role: Role = Role.ADMIN
    commands: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    @property
    def is_limited(self) -> bool:
        """Whether it has some commands or groups only."""
        return bool(self.commands or self.groups)

    def covers(self, command: str) -> bool:
        """Whether it includes a command, by its canonical name."""
        return self.role is not Role.VIEWER and (not self.commands or command in self.commands)

    def covers_carried_out(self, command: str, peripheral: str | None) -> bool:
        """Like `covers`, for the name in a record: a master has another command for its sub-lock."""
        given = [name for name, carried_out in SUBLOCK_COMMANDS.items() if carried_out == command]
        return self.covers(command) or (peripheral is not None and any(self.covers(one) for one in given))

    def __str__(self) -> str:
        commands = f" of {', '.join(sorted(self.commands))}" if self.commands else ""
        groups = f" in {', '.join(sorted(self.groups))}" if self.groups else ""
        return f"{self.role}{commands}{groups}"


#: What a user has without a line of his own, and without one for all.
WITHOUT_A_LINE: Final = Grant()


@frozen
class User:
    """An authenticated user. A change of any of this ends his live events."""

    name: str
    grant: Grant = WITHOUT_A_LINE
    #: The hash of his password.
    hash: bytes = field(default=b"", repr=False)

    @property
    def role(self) -> Role:
        """His role."""
        return self.grant.role

    @property
    def commands(self) -> frozenset[str]:
        """The commands that he may give, if these are limited; else empty."""
        return self.grant.commands

    @property
    def groups(self) -> frozenset[str]:
        """The groups of the locks that he may give commands to, if these are limited; else empty."""
        return self.grant.groups

    def __str__(self) -> str:
        return self.name


def refusal(user: User | None, right: Right, writable: bool) -> str | None:
    """Say in one line why a request is refused that needs a right; None if it is allowed.

    `user` is None without a file of users. `writable` is --web-commands.
    """
    if right is Right.READ:
        return None
    if not writable or user is None:
        what = "commands can't be given" if right is Right.COMMAND else "nothing can be changed"
        return f"{what} here: expected --web-commands, and users in --web-users"
    if right is Right.ADMIN and user.role is not Role.ADMIN:
        return f"{user.name} is a {user.role}: expected the role {Role.ADMIN} in --web-users to change this"
    if user.role is Role.VIEWER:
        right_role = f"the role {Role.DISPATCHER} or {Role.ADMIN} in --web-users to give commands"
        return f"{user.name} is a {user.role}, who only looks: expected {right_role}"
    return None
