"""What several commands share: errors, and the options that lead to Redis."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class UserError(click.ClickException):
    """Something the user can put right; shown as one line."""

    exit_code = 2


def redis_options(command: _Command) -> _Command:
    """Add `--redis`, `--redis-ca` and `--prefix`."""
    for option in (
        click.option(
            "--prefix", default="jt709c", show_default=True, help="What all keys and channels begin with."
        ),
        click.option(
            "--redis-ca",
            metavar="FILE",
            envvar="JT709C_REDIS_CA",
            help="Certificates (PEM) to trust with rediss://; the platform's if not given.",
        ),
        click.option(
            "--redis",
            "redis_url",
            metavar="URL",
            envvar="JT709C_REDIS",
            default="redis://127.0.0.1:6379",
            show_default=True,
            show_envvar=True,
            help="Where Redis is; its password may also be in JT709C_REDIS_PASSWORD.",
        ),
    ):
        command = option(command)
    return command


def check_device(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A device id, an IMEI or a sub-lock's id, for click."""
    if value is not None and re.fullmatch(r"[0-9]{1,20}|[0-9A-Fa-f]{10}", value) is None:
        right = "up to 20 digits, or the ten hex digits of a sub-lock"
        raise click.BadParameter(f"{value!r} is no device id or IMEI; expected {right}")
    return value
