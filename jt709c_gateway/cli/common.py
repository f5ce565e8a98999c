"""What several commands share: errors, and the options that lead to Redis."""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from jt709c_gateway.cli import completion_values

_Command = TypeVar("_Command", bound=Callable[..., Any])


class UserError(click.ClickException):
    """Something the user can put right; shown as one line."""

    exit_code = 2


class RedisOptions(NamedTuple):
    """What the options say of the way to Redis; `redis_link.reach` makes a `Link` of it."""

    redis_url: str
    redis_password_file: str | None = None
    redis_ca: str | None = None
    redis_cert: str | None = None
    redis_key: str | None = None


def redis_options(command: _Command) -> Callable[..., Any]:
    """Add `--redis` and its company, which come as one argument, `redis`, and `--prefix`."""

    @wraps(command)
    def with_redis(**given: Any) -> Any:
        redis = RedisOptions(**{name: given.pop(name) for name in RedisOptions._fields})
        return command(redis=redis, **given)

    decorated: Callable[..., Any] = with_redis
    for option in (
        click.option(
            "--prefix", default="jt709c", show_default=True, help="What all keys and channels begin with."
        ),
        _file("key", "PEM file with the key of that certificate."),
        _file("cert", "PEM file with our certificate, where Redis asks for one."),
        _file("ca", "Certificates (PEM) to trust with rediss://; the platform's if not given."),
        _file("password-file", "File with the password for Redis in its first line."),
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
        decorated = option(decorated)
    return decorated


def _file(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    variable = f"JT709C_REDIS_{name.upper().replace('-', '_')}"
    return click.option(
        f"--redis-{name}",
        metavar="FILE",
        envvar=variable,
        show_envvar=True,
        shell_complete=completion_values.files,
        help=text,
    )


class _Seconds(click.types.FloatParamType):
    """A number of seconds; what is none isn't repeated, since it may be a password out of place."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; click's error for what is no number."""
        try:
            return float(value)
        except ValueError:
            from jt709c_gateway.commands.value_description import described

            self.fail(f"{described(value)} is no number of seconds", param, ctx)


SECONDS = _Seconds()


def check_device(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A device id, an IMEI or a sub-lock's id, for click."""
    if value is not None and re.fullmatch(r"[0-9]{1,20}|[0-9A-Fa-f]{10}", value) is None:
        from jt709c_gateway.commands.value_description import described

        right = "up to 20 digits, or the ten hex digits of a sub-lock"
        raise click.BadParameter(f"{described(value)} is no device id or IMEI; expected {right}")
    return value


def check_devices(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> tuple[str, ...]:
    """Several of them."""
    for value in values:
        check_device(context, parameter, value)
    return tuple(values)


def read_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Kinds of events; UserError for what is none."""
    from jt709c_gateway.protocol.events import KINDS

    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kind: {kind!r} is no kind of event; expected one of {', '.join(KINDS)}")
    return tuple(kinds)
