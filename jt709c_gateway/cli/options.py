"""Options and parameter types that several subcommands share."""

import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.output import Output
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.commands.model import BATCH_ID, EXPECTED
from jt709c_gateway.commands.value_description import described
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis.partitions import MAX_PARTITIONS

_ID: Final = re.compile(r"[0-9]{1,20}|[0-9A-Fa-f]{10}")
_RIGHT_ID: Final = "up to 20 digits, or the ten hex digits of a sub-lock"
#: The longest name of a lock, in characters.
_NAME: Final = 64

_Command = TypeVar("_Command", bound=Callable[..., Any])


def redis_options(command: _Command) -> Callable[..., Any]:
    """Add `--prefix`, and the options of Redis, which the command gets as one argument `redis`."""
    numbered = click.option(
        "--partitions",
        type=IntegerRange(1, MAX_PARTITIONS),
        metavar="N",
        envvar="JT709C_PARTITIONS",
        show_envvar=True,
        help="Partitions of the gateways' keys; by default as many as partition 0 says.",
    )
    return _with_redis(command, (numbered,))


def server_options(command: _Command) -> Callable[..., Any]:
    """Add the same without `--partitions`."""
    return _with_redis(command, ())


def _with_redis(command: _Command, more: Sequence[Any]) -> Callable[..., Any]:
    @wraps(command)
    def with_redis(**given: Any) -> Any:
        redis = RedisOptions(**{name: given.pop(name) for name in RedisOptions._fields if name in given})
        return command(redis=redis, **given)

    decorated: Callable[..., Any] = with_redis
    for option in (
        click.option(
            "--prefix", default="jt709c", show_default=True, help="Prefix of all keys and channels."
        ),
        *more,
        _file("key", "PEM file with the key of the client certificate."),
        _file("cert", "PEM file with the client certificate for Redis."),
        _file("ca", "PEM file with trusted certificates for rediss://; by default those of the system."),
        _file("password-file", "File whose first line is the Redis password."),
        click.option(
            "--redis",
            "redis_url",
            metavar="URL",
            envvar="JT709C_REDIS",
            default="redis://127.0.0.1:6379",
            show_default=True,
            show_envvar=True,
            help="URL of Redis, or of several servers with blanks between them; the password may also be in "
            "JT709C_REDIS_PASSWORD.",
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


class Number(click.types.FloatParamType):
    """A number above or from a limit, up to `most`; errors name `unit` and the limits.

    They do not repeat what is no number, which may be a misplaced password.
    """

    name = "float"

    def __init__(
        self,
        unit: str = "a number",
        *,
        above: float | None = None,
        least: float = -math.inf,
        most: float = math.inf,
    ) -> None:
        self._above = -math.inf if above is None else above
        self._least, self._most = least, most
        limits = [f" above {above:g}"] if above is not None else []
        if math.isfinite(least):
            limits.append(f" from {least:g}")
        if math.isfinite(most):
            limits.append(f" to {most:g}")
        self._expected = unit + "".join(limits)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the value; fail with click's error if it is no such number."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{described(value)}; expected {self._expected}", param, ctx)
        if not (math.isfinite(number) and self._above < number and self._least <= number <= self._most):
            self.fail(f"{value}; expected {self._expected}", param, ctx)
        return number


SECONDS = Number("seconds", above=0)
SECONDS_OR_NONE = Number("seconds", least=0)


class IntegerRange(click.IntRange):
    """An integer within limits; errors say which."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value; fail with click's error if it is no such integer."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            limits = "" if self.min is None else f" from {self.min}"
            limits += "" if self.max is None else f" to {self.max}"
            self.fail(f"{value!r}; expected an integer{limits}", param, ctx)


def output_options(command: _Command) -> Callable[..., Any]:
    """Add `-o/--output` and its short form `--json`; the command gets one argument `output`."""

    @wraps(command)
    def with_output(**given: Any) -> Any:
        output = given.pop("output")
        return command(output=str(Output.JSON) if given.pop("as_json") else output, **given)

    decorated: Callable[..., Any] = with_output
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The same as -o json."),
        click.option(
            "-o",
            "--output",
            type=click.Choice([str(output) for output in Output]),
            default=str(Output.TABLE),
            show_default=True,
            help="Form of the output; wide has all columns, json one object per line, unknown values null.",
        ),
    ):
        decorated = option(decorated)
    return decorated


#: Adds `--group`, repeatable, the groups of locks to show.
group_option: Final = click.option(
    "--group", "groups", multiple=True, metavar="NAME", help="Only locks of this group; repeatable."
)

#: Adds `--local/--utc`, the zone of printed times and of times without one in `--since`.
local_option: Final = click.option(
    "--local/--utc",
    "local",
    default=False,
    envvar="JT709C_LOCAL",
    show_envvar=True,
    help="Show times in the local zone, or in UTC (the default).",
)


def is_id(text: str) -> bool:
    """Return whether a text is a device id, an IMEI or a sub-lock id, and not a name."""
    return _ID.fullmatch(text) is not None


def check_device(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Check a device id, an IMEI, a sub-lock id, or the name or plate of a lock, for click."""
    if value is None or is_id(value):
        return value
    # A number that is no id is a mistake, and no name that somebody has given.
    if value.strip().isdecimal() or not 1 <= len(value) <= _NAME or not value.isprintable():
        raise click.BadParameter(
            f"{described(value)} is not a device id, IMEI or name; expected {_RIGHT_ID}, or a name"
        )
    return value


def check_devices(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> tuple[str, ...]:
    """Check several devices, for click."""
    for value in values:
        check_device(context, parameter, value)
    return tuple(values)


def check_device_ids(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Check several device ids, IMEIs or sub-lock ids, for click; names are refused."""
    for value in values:
        if not is_id(value):
            raise click.BadParameter(f"{described(value)} is not a device id or IMEI; expected {_RIGHT_ID}")
    return tuple(values)


def check_batch(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Check the id of a batch, for click."""
    if value is not None and BATCH_ID.fullmatch(value) is None:
        raise click.BadParameter(f"is {described(value)}; expected {EXPECTED['batch']}")
    return value


def read_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Check kinds of events; raise UserError."""
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kind: {kind!r} is not a kind of event; expected one of {', '.join(KINDS)}")
    return tuple(kinds)
