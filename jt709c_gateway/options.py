"""Command line and configuration file: one table of options, each checked while it is read.

A value that is wrong is named together with what is right, whether it comes from the command line or from
the file; the command line wins.
"""

import os
import re
import socket
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attrs import evolve, field, frozen
from twisted.internet.endpoints import serverFromString
from twisted.python import usage

from jt709c_gateway.commands.order_keys import DEFAULT_WINDOW, OrderKey, OrderKeysError, load_order_keys
from jt709c_gateway.commands.profiles.loading import DIALECTS
from jt709c_gateway.gateway.device_list import DeviceList, read_device_list
from jt709c_gateway.redis.address import EmbeddedAddress, parse_redis_address
from jt709c_gateway.redis.cluster import has_hash_tag
from jt709c_gateway.redis.durability import Durability
from jt709c_gateway.redis.keys import DEFAULT_PREFIX
from jt709c_gateway.transport.shared import SHARED_ENDPOINTS

PASSWORD_VARIABLE: Final = "JT709C_REDIS_PASSWORD"
#: Which locks are admitted.
ADMIT_ANY: Final = "any"
ADMIT_FILE: Final = "file"
ADMIT_REDIS: Final = "redis"
#: In place of a dialect: of none of them.
NO_DIALECT: Final = "none"
MAX_WORKERS: Final = 64


def seconds(text: str) -> float:
    """A duration above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ValueError("expected a number of seconds above 0")
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError("expected a whole number from 1")
    return int(text)


def worker_count(text: str) -> int:
    """A number of processes."""
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"expected a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def age(text: str) -> float:
    """A duration from 0, in seconds; 0 is for ever."""
    return 0.0 if text.strip() in ("0", "0.0") else seconds(text)


def rate(text: str) -> float:
    """Frames a second; 0 for any number."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ValueError("expected a number of frames a second, or 0 for no limit")
    return value


def admit(text: str) -> str:
    """Which locks are admitted."""
    if text not in (ADMIT_ANY, ADMIT_FILE, ADMIT_REDIS):
        raise ValueError(f"expected {ADMIT_ANY}, {ADMIT_FILE} or {ADMIT_REDIS}")
    return text


def name(text: str) -> str:
    """A gateway's name, which is part of keys and event ids."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("expected 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def prefix(text: str) -> str:
    """What every key starts with; a hash tag such as {jt709c} is fine."""
    if not re.fullmatch(r"[A-Za-z0-9._{}:-]{1,64}", text):
        raise ValueError("expected 1 to 64 letters, digits, '.', '_', ':', '{', '}' or '-'")
    return text


def endpoint(text: str) -> str:
    """A Twisted server endpoint."""
    from twisted.internet import reactor

    try:
        serverFromString(reactor, text)  # type: ignore[no-untyped-call]
        found = re.match(r"(?:tcp6?|ssl):(?:port=)?(-?\d+)(?::|$)", text)
        if found and not 0 <= int(found[1]) <= 65535:
            raise ValueError("a port is at most 65535")
    except Exception as error:
        raise ValueError(
            f"expected a server endpoint such as tcp:8888 or tcp:8888:interface=127.0.0.1 ({error})"
        ) from None
    return text


@frozen
class UdpPort:
    """A UDP port and the interface to bind, `""` for all."""

    port: int
    interface: str = ""


def udp_port(text: str) -> UdpPort:
    """`8888` or `8888:interface=127.0.0.1`."""
    found = re.fullmatch(r"([0-9]{1,5})(?::interface=([0-9A-Za-z.:_-]+))?", text)
    if not found or int(found[1]) > 65535:
        raise ValueError("expected a port such as 8888 or 8888:interface=127.0.0.1")
    return UdpPort(int(found[1]), (found[2] or "").replace("\\:", ":"))


def existing_file(text: str) -> Path:
    """A file that can be read."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("expected a file that can be read")
    return path


def device_list(text: str) -> DeviceList:
    """A file with one device id or IMEI a line, read and checked."""
    return read_device_list(existing_file(text))


def existing_directory(text: str) -> Path:
    """A directory that can be read."""
    path = Path(text)
    if not text or not path.is_dir():
        raise ValueError("expected a directory")
    return path


def directory(text: str) -> Path:
    """A directory, which is made when it is needed."""
    if not text:
        raise ValueError("expected a directory")
    return Path(text)


def redis_url(text: str) -> str:
    """An address of Redis, checked; kept as text until the password is known."""
    parse_redis_address(text)
    return text


def dialect(text: str) -> str:
    """A dialect that locks speak, or none."""
    if text not in (*DIALECTS, NO_DIALECT):
        raise ValueError(f"expected one of {', '.join(DIALECTS)}, or {NO_DIALECT}")
    return text


@frozen
class Option:
    """One option: `parse` turns its text into a value or raises ValueError saying what is right."""

    name: str
    parse: Callable[[str], Any] | None
    default: Any
    help: str
    repeatable: bool = False
    #: Not to be repeated in an error message.
    secret: bool = field(default=False)

    @property
    def key(self) -> str:
        """Its name as an attribute of `Settings`."""
        return self.name.replace("-", "_")


OPTIONS: Final = (
    Option(
        "redis",
        redis_url,
        "redis://127.0.0.1:6379",
        "Where Redis is: redis://[user[:password]@]host[:port][/db], rediss://…, unix:///path, "
        "redis+sentinel://host1,host2/name, redis+cluster://host1,host2 (both with rediss+ for TLS), or "
        "embedded[:PORT] for a server of its own [default: redis://127.0.0.1:6379]",
        secret=True,
    ),
    Option(
        "redis-password-file",
        existing_file,
        None,
        f"File with the password for Redis (or set {PASSWORD_VARIABLE})",
    ),
    Option("redis-ca", existing_file, None, "PEM file of the authority that signed Redis's certificate"),
    Option("redis-cert", existing_file, None, "PEM file with our certificate for Redis"),
    Option("redis-key", existing_file, None, "PEM file with the key of that certificate"),
    Option("redis-timeout", seconds, 10.0, "Seconds that Redis may take for a reply [default: 10]"),
    Option(
        "durability",
        Durability.parse,
        Durability(),
        "What a report has to survive before it is answered, and an order before it is written: server (what "
        "the server's own settings give), fsync (a crash of its host), or replicas:N (its loss) "
        "[default: server]",
    ),
    Option(
        "durability-timeout",
        seconds,
        Durability().timeout,
        "Seconds that Redis may take for that before it is asked again [default: 5]",
    ),
    Option(
        "listen",
        endpoint,
        ("tcp:8888",),
        "Endpoint for locks over TCP, repeatable [default: tcp:8888]",
        repeatable=True,
    ),
    Option(
        "udp",
        udp_port,
        (UdpPort(8888),),
        "Port for locks over UDP, as 8888 or 8888:interface=127.0.0.1, repeatable [default: 8888]",
        repeatable=True,
    ),
    Option("no-tcp", None, False, "Listen to no locks over TCP"),
    Option("no-udp", None, False, "Listen to no locks over UDP"),
    Option(
        "http",
        endpoint,
        None,
        "Endpoint for /metrics, /healthz and /readyz, such as tcp:8089:interface=127.0.0.1",
    ),
    Option(
        "data-dir",
        directory,
        Path("jt709c-data"),
        "Directory of the embedded server's data [default: jt709c-data]",
    ),
    Option("prefix", prefix, DEFAULT_PREFIX, "What keys and channels start with [default: jt709c]"),
    Option("gateway", name, None, "Name of this gateway [default: host-pid]"),
    Option(
        "admit",
        admit,
        None,
        "Which locks are heard: any, file (those in --devices, which alone says so too) or redis (those in "
        "the set <prefix>:allowed)",
    ),
    Option(
        "devices",
        device_list,
        None,
        "File of the locks that are heard, a device id or IMEI a line; read again when it changes",
    ),
    Option(
        "workers",
        worker_count,
        1,
        "Processes that share the ports, each a gateway called NAME-1, NAME-2, …; all limits are each one's "
        "[default: 1]",
    ),
    Option("idle-timeout", seconds, 900.0, "Seconds of silence that end a session [default: 900]"),
    Option(
        "first-frame-timeout",
        seconds,
        60.0,
        "Seconds a connection has for its first valid frame [default: 60]",
    ),
    Option("max-connections", count, 50_000, "Connections in all [default: 50000]"),
    Option(
        "max-connections-per-address",
        count,
        5_000,
        "Connections per address; mobile networks hide many locks behind one [default: 5000]",
    ),
    Option("max-sessions", count, 100_000, "Locks at a time [default: 100000]"),
    Option("max-malformed", count, 20, "Malformed frames in a row that end a connection [default: 20]"),
    Option(
        "max-rate",
        rate,
        500.0,
        "Frames a second of one lock, ten seconds' worth at once; 0 for any number [default: 500]",
    ),
    Option(
        "max-unacked", count, 20_000, "Frames that may wait for Redis before reading stops [default: 20000]"
    ),
    Option("events-max", count, 100_000, "Length of the stream of events, about [default: 100000]"),
    Option(
        "events-max-age", age, 0.0, "Seconds after which events leave the stream; 0 for never [default: 0]"
    ),
    Option("history-max", count, 1_000, "Length of each lock's audit trail, about [default: 1000]"),
    Option("malformed-max", count, 1_000, "Length of the stream of malformed input [default: 1000]"),
    Option("devices-max", count, 200_000, "Locks whose last state is kept [default: 200000]"),
    Option("profiles", existing_directory, None, "Directory of order profiles that override ours"),
    Option(
        "static-password-file",
        existing_file,
        None,
        "File with the locks' static password, for unlock orders that bring none",
    ),
    Option(
        "order-keys",
        existing_file,
        None,
        "TOML file of keys; every order then has to be signed with one of them",
    ),
    Option(
        "order-window",
        seconds,
        DEFAULT_WINDOW,
        "Seconds that may pass from signing an order to taking it in [default: 300]",
    ),
    Option("allow-raw", None, False, "Allow orders of raw bytes"),
    Option(
        "confirm-timeout",
        seconds,
        120.0,
        "Seconds in which a lock has to be seen moving after it said yes [default: 120]",
    ),
    Option(
        "ask",
        dialect,
        ("jt701",),
        "Dialect of locks that are asked for IMEI and firmware, at most once a day; repeatable, "
        "none for no lock [default: jt701]",
        repeatable=True,
    ),
    Option(
        "udp-window",
        seconds,
        30.0,
        "Seconds after a datagram in which an order may follow to its address [default: 30]",
    ),
    Option(
        "gateway-ttl",
        seconds,
        15.0,
        "Seconds after which a silent gateway counts as dead and its orders are adopted [default: 15]",
    ),
    Option(
        "shutdown-timeout",
        seconds,
        10.0,
        "Seconds that what is under way has to finish when stopping [default: 10]",
    ),
)

_BY_NAME: Final = {option.name: option for option in OPTIONS}


class Options(usage.Options):
    """Options of ``twistd jt709c-gateway``; `settings` has every value by its key afterwards."""

    synopsis = "[options]"
    longdesc = "Gateway between Jointech JT709C smart locks and Redis."

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[str, Any] = {}
        self._config: Path | None = None
        self.settings: dict[str, Any] = {}

    def opt_config(self, path: str) -> None:
        """TOML file with any of these options, by the same names; the command line wins."""
        try:
            self._config = existing_file(path)
        except ValueError as error:
            raise usage.UsageError(f"--config {path!r}: {error}") from None

    def parseArgs(self, *arguments: str) -> None:
        """There are options only."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r}: expected options only, each beginning with --")

    def parseOptions(self, options: Any = None) -> None:
        """Parse; a mistake ends the program with one line instead of a page of usage."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(f"jt709c-gateway: {error}") from None

    def postOptions(self) -> None:
        """Put together defaults, the file, and the command line."""
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
        values["order_keys"] = _order_keys(values["order_keys"])
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
        if values["redis"].partition(":")[0].strip().endswith("+cluster") and not has_hash_tag(
            values["prefix"]
        ):
            raise usage.UsageError(
                f"--prefix: {values['prefix']!r} would spread the keys over the cluster's slots; "
                "expected a hash tag, such as {jt709c}"
            )
        values["ask"] = _dialects(values["ask"])
        if values["workers"] > 1:
            _check_workers(values)
        durability = evolve(values["durability"], timeout=values["durability_timeout"])
        if durability.replicas and isinstance(parse_redis_address(values["redis"]), EmbeddedAddress):
            raise usage.UsageError(
                f"--durability replicas:{durability.replicas} needs a Redis with replicas, and the embedded "
                "server has none; it syncs each write to its disk as it is"
            )
        values["durability"] = durability
        self.settings = values

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


def _check_workers(values: dict[str, Any]) -> None:
    workers = values["workers"]
    if sys.platform != "linux":
        raise usage.UsageError(f"--workers {workers}: expected 1; only Linux spreads locks over processes")
    for text in () if values["no_tcp"] else values["listen"]:
        if text.partition(":")[0] not in SHARED_ENDPOINTS:
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


def _order_keys(path: Path | None) -> dict[str, OrderKey] | None:
    try:
        return None if path is None else load_order_keys(path)
    except OrderKeysError as error:
        raise usage.UsageError(f"--order-keys {error}") from None


def read_password(path: Path) -> str:
    """The password in the first line of a file; ValueError, which shows no part of it, when there is none."""
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        line = ""
    if not line:
        raise ValueError(f"{str(path)!r}: expected a text file with a password in its first line")
    return line


def _secret(values: dict[str, Any], option: str) -> str | None:
    path = values[_BY_NAME[option].key]
    try:
        return None if path is None else read_password(path)
    except ValueError as error:
        raise usage.UsageError(f"--{option} {error}") from None


def read_config(path: Path) -> dict[str, Any]:
    """Values from a TOML file; usage.UsageError names the file, the key and what is right."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise usage.UsageError(f"{path}: not a TOML file: {error}") from None
    values: dict[str, Any] = {}
    for key, value in content.items():
        option = _BY_NAME.get(key.replace("_", "-"))
        if option is None:
            raise usage.UsageError(f"{path}: {key}: no such option; see twistd jt709c-gateway --help")
        if option.key in values:
            raise usage.UsageError(f"{path}: {key}: expected each option once, spelled with - or with _")
        values[option.key] = _from_toml(option, value, f"{path}: {key}")
    return values


def _from_toml(option: Option, value: Any, where: str) -> Any:
    if option.parse is None:
        if not isinstance(value, bool):
            raise usage.UsageError(f"{where} {value!r}: expected true or false")
        return value
    if option.repeatable and isinstance(value, list):
        return tuple(_checked(option, str(item), where) for item in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise usage.UsageError(f"{where}: expected a text or a number, not {type(value).__name__}")
    checked = _checked(option, str(value), where)
    return (checked,) if option.repeatable else checked


def _add(option: Option) -> None:
    """Give Options the method from which usage.Options learns of one option."""
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
