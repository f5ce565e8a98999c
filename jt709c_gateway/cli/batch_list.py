"""Reads the locks that a command is for, and asks before it goes to many."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.model import DEVICE_NAME
from jt709c_gateway.commands.value_description import described

#: Locks of one batch: as many commands as are listed.
MAX_LOCKS: Final = 10_000
#: Locks that are named of each kind.
_NAMED: Final = 5


def read_names(path: str) -> list[str]:
    """Read names of locks from a file, one on each line; `-` is standard input. Raise UserError."""
    try:
        if path == "-":
            lines = sys.stdin.readlines()
        else:
            with open(path, encoding="utf-8") as file:
                lines = file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"--devices: can't read {path}: {reason}") from None
    return _names(lines)


def _names(lines: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    again: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = re.sub(r"#.*", "", line).strip().upper()
        if not name:
            continue
        if not DEVICE_NAME.fullmatch(name):
            right = "a device id or an IMEI of up to 20 digits, or the ten hex digits of a sub-lock"
            raise UserError(f"--devices: line {number} is {described(name)}; expected {right}")
        (again if name in found else found)[name] = None
    if again:
        notice(f"named more than once, and taken once: {some(list(again))}")
    if not 0 < len(found) <= MAX_LOCKS:
        raise UserError(f"--devices: {len(found)} locks; expected 1 to {MAX_LOCKS}, one on each line")
    return list(found)


def some(names: Sequence[str]) -> str:
    """Name the first of several locks."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def ask(command: str, count: int, odd: Mapping[str, Sequence[str]], yes: bool) -> None:
    """Say how many locks get a command and which are odd, by what they are; exit unless the user agrees."""
    for what, names in odd.items():
        if names:
            notice(f"{len(names)} {what}: {some(names)}")
    locks = "1 lock" if count == 1 else f"{count} locks"
    if yes:
        return
    if not sys.stderr.isatty():
        raise UserError(f"{command} for {locks} needs an answer: give --yes, or a terminal")
    click.echo(f"{command} for {locks}? [y/N] ", nl=False, err=True)
    try:
        # Standard input may be the list of locks.
        with open("/dev/tty", encoding="utf-8") as terminal:
            answer = terminal.readline()
    except OSError:
        raise UserError("there is no terminal to answer at: give --yes") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("nothing was sent")
