"""Parses the command line and the configuration file with one table of options.

The error for a wrong value, from the command line or the file, names the value and the expected form. The
command line takes precedence.
"""

import os
import re
import socket
import sys
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import twisted
from attrs import evolve
from twisted.python import usage

from jt709c_gateway import __version__
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.commands.signing_key_file import SigningKeysError, load_signing_keys
from jt709c_gateway.config.options import OPTIONS, Option
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.config.values import (
    ADMIT_ANY,
    ADMIT_FILE,
    NO_DIALECT,
    SHARDED,
    existing_file,
    name,
)
from jt709c_gateway.redis.address import EmbeddedAddress, parse_redis_addresses
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE, read_password
from jt709c_gateway.redis.endpoints import has_hash_tag
from jt709c_gateway.transport.proxy_protocol import split_proxied
from jt709c_gateway.transport.shared_ports import SHARED_ENDPOINTS
from jt709c_gateway.web.htpasswd import UserFile

_BY_NAME: Final = {option.name: option for option in OPTIONS}


class Options(usage.Options):
    """Options of ``twistd jt709c-gateway``; `settings` has all values after parsing."""

    synopsis = "[options]"
    longdesc = "Gateway between Jointech JT709C smart locks and Redis."

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[str, Any] = {}
        self._config: Path | None = None
        self.settings: Settings

    def opt_config(self, path: str) -> None:
        """TOML file with any of these options, by the same names; the command line wins."""
        try:
            self._config = existing_file(path)
        except ValueError as error:
            raise usage.UsageError(f"--config {path!r}: {error}") from None

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"jt709c-gateway {__version__} (Twisted {twisted.__version__})\n")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Refuse positional arguments."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r}: expected options only, each beginning with --")

    def parseOptions(self, options: Any = None) -> None:
        """Parse the command line; a mistake exits with one line instead of the usage text."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(f"jt709c-gateway: {error}") from None

    def postOptions(self) -> None:
        """Combine defaults, the file, and the command line."""
        values = {option.key: option.default for option in OPTIONS}
        if self._config is not None:
            values.update(read_config(self._config))
        values.update(self._given)
        if values["gateway"] is None:
            host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:48] or "gateway"
            values["gateway"] = f"{host}-{os.getpid()}"
        values["redis_password"] = (
            _secret(values, "redis-password-file") or os.environ.get(PASSWORD_VARIABLE) or None
        )
        values["static_password"] = _secret(values, "static-password-file")
        values["command_keys"] = _command_keys(values["command_keys"])
        if values["admit"] is None:
            values["admit"] = ADMIT_ANY if values["devices"] is None else ADMIT_FILE
        if values["admit"] == ADMIT_FILE and values["devices"] is None:
            raise usage.UsageError("--admit 'file': expected --devices with the file")
        if values["admit"] != ADMIT_FILE and values["devices"] is not None:
            raise usage.UsageError(f"--admit {values['admit']!r}: --devices goes with --admit file only")
        if (values["redis_cert"] is None) != (values["redis_key"] is None):
            raise usage.UsageError("--redis-cert and --redis-key go together: give both or none")
        certificates = [name for name in ("redis_ca", "redis_cert", "redis_key") if values[name] is not None]
        if certificates and not values["redis"].strip().startswith("rediss"):
            raise usage.UsageError(
                f"--{certificates[0].replace('_', '-')} goes with an address that begins with rediss://, "
                "rediss+sentinel:// or rediss+cluster://"
            )
        addresses = parse_redis_addresses(values["redis"])
        embedded = isinstance(addresses[0], EmbeddedAddress)
        _check_partitions(values, len(addresses))
        if values["embedded_open"] and not embedded:
            raise usage.UsageError("--embedded-open: expected --redis embedded, whose server it is about")
        values["ask"] = _dialects(values["ask"])
        _check_web(values)
        if values["workers"] > 1:
            _check_workers(values)
        durability = evolve(values["durability"], timeout=values["durability_timeout"])
        if durability.replicas and embedded:
            raise usage.UsageError(
                f"--durability replicas:{durability.replicas} needs a Redis with replicas, and the embedded "
                "server has none; it syncs each write to its disk as it is"
            )
        values["durability"] = durability
        self.settings = Settings(**values)

    def preset(self, texts: Mapping[str, str | None]) -> None:
        """Set options, by name, that the command line doesn't have; None sets a flag."""
        for wanted, text in texts.items():
            option = _BY_NAME[wanted]
            if option.key in self._given:
                continue
            if text is None:
                self._given[option.key] = True
            else:
                self._set(option, text)

    def _set(self, option: Option, text: str) -> None:
        value = _checked(option, text, f"--{option.name}")
        if option.repeatable:
            self._given[option.key] = (*self._given.get(option.key, ()), value)
        else:
            self._given[option.key] = value


def _dialects(given: tuple[str, ...]) -> frozenset[str]:
    if NO_DIALECT in given and len(set(given)) > 1:
        others = ", ".join(sorted(set(given) - {NO_DIALECT}))
        raise usage.UsageError(f"--ask {NO_DIALECT}: expected it alone, not together with {others}")
    return frozenset(given) - {NO_DIALECT}


def _check_partitions(values: dict[str, Any], servers: int) -> None:
    prefix, partitions = values["prefix"], values["partitions"]
    if partitions == 1:
        if values["redis"].partition(":")[0].strip().endswith("+cluster") and not has_hash_tag(prefix):
            raise usage.UsageError(
                f"--prefix: {prefix!r} would spread the keys over the cluster's slots; "
                "expected a hash tag, such as {jt709c}, or --partitions"
            )
        if values["pubsub"] == SHARDED:
            raise usage.UsageError(f"--pubsub {SHARDED}: expected --partitions with more than 1")
    elif "{" in prefix:
        raise usage.UsageError(
            f"--prefix: {prefix!r} would keep all {partitions} partitions in one slot; expected one without "
            "a hash tag, since each partition adds its own"
        )
    if servers > partitions:
        raise usage.UsageError(
            f"--redis: {servers} servers share the partitions; expected --partitions {servers} or more"
        )


def _check_web(values: dict[str, Any]) -> None:
    if values["web_commands"] and not isinstance(values["web_users"], UserFile):
        raise usage.UsageError(
            "--web-commands: expected --web-users with a file, so that each command has somebody who gave it"
        )
    keys, chosen = values["command_keys"], values["web_command_key"]
    if chosen is not None and chosen not in (keys or {}):
        right = "expected --command-keys" if keys is None else f"expected one of {', '.join(sorted(keys))}"
        raise usage.UsageError(f"--web-command-key {chosen!r}: {right}")
    if values["web_commands"] and keys is not None and chosen is None:
        raise usage.UsageError(
            "--web-commands: this gateway takes signed commands only; expected --web-command-key with one of "
            + ", ".join(sorted(keys))
        )
    if values["web_commands"] and not values["http"]:
        raise usage.UsageError("--web-commands: expected --http with the endpoint of the status page")


def _check_workers(values: dict[str, Any]) -> None:
    workers = values["workers"]
    if sys.platform != "linux":
        raise usage.UsageError(f"--workers {workers}: expected 1; only Linux spreads locks over processes")
    for text in () if values["no_tcp"] else values["listen"]:
        if split_proxied(text)[0].partition(":")[0] not in SHARED_ENDPOINTS:
            raise usage.UsageError(
                f"--listen {text!r}: expected an endpoint that {workers} workers can share, tcp:… or tcp6:…"
            )
    try:
        name(f"{values['gateway']}-{workers}")
    except ValueError:
        raise usage.UsageError(
            f"--gateway {values['gateway']!r}: expected a shorter name, as each of {workers} workers adds "
            "its number"
        ) from None


def _checked(option: Option, text: str, where: str) -> Any:
    assert option.parse is not None
    try:
        return option.parse(text)
    except ValueError as error:
        shown = "" if option.secret else f" {text!r}"
        raise usage.UsageError(f"{where}{shown}: {error}") from None


def _command_keys(path: Path | None) -> dict[str, SigningKey] | None:
    try:
        return None if path is None else load_signing_keys(path)
    except SigningKeysError as error:
        raise usage.UsageError(f"--command-keys {error}") from None


def _secret(values: dict[str, Any], option: str) -> str | None:
    path = values[_BY_NAME[option].key]
    try:
        return None if path is None else read_password(path)
    except ValueError as error:
        raise usage.UsageError(f"--{option} {error}") from None


def read_config(path: Path) -> dict[str, Any]:
    """Read values from a TOML file; usage.UsageError names the file, the key and the expected form."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise usage.UsageError(f"{path}: not a TOML file: {error}") from None
    values: dict[str, Any] = {}
    for key, value in content.items():
        option = _BY_NAME.get(key.replace("_", "-"))
        if option is None:
            raise usage.UsageError(f"{path}: {_unknown_key(key, value)}")
        if option.key in values:
            raise usage.UsageError(f"{path}: {key}: expected each option once, spelled with - or with _")
        values[option.key] = _from_toml(option, value, f"{path}: {key}")
    return values


def _unknown_key(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"[{key}]: a table; expected the options at the top level of the file"
    near = get_close_matches(key.lower().replace("_", "-"), list(_BY_NAME), 1)
    return f"{key}: no such option; " + (f"did you mean {near[0]}?" if near else "--help lists the options")


def _toml_type(value: Any) -> str:
    """Name the type of a value in the words of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table; options stand at the top level of the file"
    return "a list" if isinstance(value, list) else "a date or a time"


def _from_toml(option: Option, value: Any, where: str) -> Any:
    if option.parse is None:
        if not isinstance(value, bool):
            raise usage.UsageError(f"{where} {value!r}: expected true or false")
        return value
    if option.repeatable and isinstance(value, list):
        return tuple(_checked(option, str(item), where) for item in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise usage.UsageError(f"{where}: expected a text or a number, not {_toml_type(value)}")
    checked = _checked(option, str(value), where)
    return (checked,) if option.repeatable else checked


def _add(option: Option) -> None:
    """Add the method to Options by which usage.Options finds an option."""
    if option.parse is None:

        def flag(self: Options) -> None:
            self._given[option.key] = True

        flag.__doc__ = option.help
        setattr(Options, f"opt_{option.key}", flag)
    else:

        def parameter(self: Options, value: str) -> None:
            self._set(option, value)

        parameter.__doc__ = option.help
        setattr(Options, f"opt_{option.key}", parameter)


for _option in OPTIONS:
    _add(_option)
