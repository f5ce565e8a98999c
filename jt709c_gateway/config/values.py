"""Parsers of option values: each converts text; its ValueError names the expected form."""

import os
import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.internet.endpoints import serverFromString

from jt709c_gateway.gateway.allowlist_file import Allowlist, read_allowlist
from jt709c_gateway.gateway.commands.address_proof import UdpCommands
from jt709c_gateway.protocol.dialects import DIALECTS
from jt709c_gateway.protocol.zones import ALL
from jt709c_gateway.redis.address import parse_redis_addresses
from jt709c_gateway.redis.partitions import MAX_PARTITIONS
from jt709c_gateway.transport.proxy_protocol import PROXIED, split_proxied
from jt709c_gateway.web.htpasswd import UserFile, UsersError, read_users
from jt709c_gateway.web.settings import EVERYBODY, Tiles

#: Values of ``--admit``.
#: Values of --pubsub.
CLASSIC: Final = "classic"
SHARDED: Final = "sharded"
ADMIT_ANY: Final = "any"
ADMIT_FILE: Final = "file"
ADMIT_REDIS: Final = "redis"
#: Stands for no dialect.
NO_DIALECT: Final = "none"
#: The serial that the answer to a sub-lock's report names.
SUBLOCK_SERIAL: Final = "sublock"
SENTENCE_SERIAL: Final = "sentence"
MAX_WORKERS: Final = 64
_LABELS: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_TILES: Final = re.compile(
    rf"(https?)://(\{{s\}}\.)?({_LABELS})(:[0-9]{{1,5}})?/([\w./{{}}?=&%~+,@-]*)", re.ASCII
)
_PLACES: Final = frozenset({"{z}", "{x}", "{y}"})


def seconds(text: str) -> float:
    """Parse a duration above 0, in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ValueError("expected a number of seconds above 0")
    return value


def milliseconds(text: str) -> float:
    """Parse milliseconds, from 0 to a second; return seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise ValueError("expected milliseconds, from 0 to 1000")
    return value / 1000


def count(text: str) -> int:
    """Parse a whole number from 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError("expected a whole number from 1")
    return int(text)


def length(text: str) -> int:
    """Parse a whole number from 0; 0 means none."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("expected a whole number from 0")
    return int(text)


def worker_count(text: str) -> int:
    """Parse a number of processes."""
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"expected a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def age(text: str) -> float:
    """Parse a duration from 0, in seconds; 0 means no limit."""
    return 0.0 if text.strip() in ("0", "0.0") else seconds(text)


def rate(text: str) -> float:
    """Parse events per second; 0 means no limit."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ValueError("expected a number of events a second, or 0 for no limit")
    return value


def percent(text: str) -> float:
    """Parse a percentage."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise ValueError("expected percent, from 0 to 100")
    return value


def admit(text: str) -> str:
    """Parse which locks are admitted."""
    if text not in (ADMIT_ANY, ADMIT_FILE, ADMIT_REDIS):
        raise ValueError(f"expected {ADMIT_ANY}, {ADMIT_FILE} or {ADMIT_REDIS}")
    return text


def name(text: str) -> str:
    """Parse a gateway's name, which is part of keys and event ids."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("expected 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def prefix(text: str) -> str:
    """Parse the prefix of all keys; a hash tag such as {jt709c} is allowed."""
    if not re.fullmatch(r"[A-Za-z0-9._{}:-]{1,64}", text):
        raise ValueError("expected 1 to 64 letters, digits, '.', '_', ':', '{', '}' or '-'")
    return text


def endpoint(text: str) -> str:
    """Parse a Twisted server endpoint."""
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


def lock_endpoint(text: str) -> str:
    """Parse a Twisted server endpoint, or haproxy:tcp:8888 for one behind a balancer with PROXY headers."""
    plain, proxied = split_proxied(text)
    if proxied and plain.startswith(PROXIED):
        raise ValueError(f"expected {PROXIED} once, as in {PROXIED}tcp:8888")
    endpoint(plain)
    return text


@frozen
class UdpPort:
    """A UDP port and the interface to bind, `""` for all."""

    port: int
    interface: str = ""

    def __str__(self) -> str:
        """The value of `--udp` for it."""
        return f"{self.port}:interface={self.interface}" if self.interface else str(self.port)


def udp_commands(text: str) -> UdpCommands:
    """Parse the policy for commands over UDP."""
    try:
        return UdpCommands(text)
    except ValueError:
        raise ValueError(f"expected one of {', '.join(UdpCommands)}") from None


def udp_port(text: str) -> UdpPort:
    """Parse `8888` or `8888:interface=127.0.0.1`."""
    found = re.fullmatch(r"([0-9]{1,5})(?::interface=([0-9A-Za-z.:_-]+))?", text)
    if not found or int(found[1]) > 65535:
        raise ValueError("expected a port such as 8888 or 8888:interface=127.0.0.1")
    return UdpPort(int(found[1]), (found[2] or "").replace("\\:", ":"))


def existing_file(text: str) -> Path:
    """Parse the path of a readable file."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("expected a file that can be read")
    return path


def device_list(text: str) -> Allowlist:
    """Parse the path of a file with one device id or IMEI per line; the file is checked."""
    return read_allowlist(existing_file(text))


def existing_directory(text: str) -> Path:
    """Parse the path of a readable directory."""
    path = Path(text)
    if not text or not path.is_dir():
        raise ValueError("expected a directory")
    return path


def directory(text: str) -> Path:
    """Parse the path of a directory, which is created when needed."""
    if not text:
        raise ValueError("expected a directory")
    return Path(text)


def redis_url(text: str) -> str:
    """Check an address of Redis; it stays text until the password is known."""
    parse_redis_addresses(text)
    return text


def partition_count(text: str) -> int:
    """Parse the number of partitions."""
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_PARTITIONS:
        raise ValueError(f"expected a number from 1 to {MAX_PARTITIONS}")
    return int(text)


def pubsub(text: str) -> str:
    """Parse where the events of several partitions are published."""
    if text not in (CLASSIC, SHARDED):
        raise ValueError(f"expected {CLASSIC} or {SHARDED}")
    return text


def utc8(text: str) -> str:
    """Parse the first digits of the ids of units that send UTC+8, or all."""
    digits = text.lstrip("0")
    if text != ALL and not re.fullmatch(r"[0-9A-F]{1,20}", digits):
        raise ValueError(f"expected the first digits of device ids, or {ALL}")
    return ALL if text == ALL else digits


def dialect(text: str) -> str:
    """Parse a dialect, or none."""
    if text not in (*DIALECTS, NO_DIALECT):
        raise ValueError(f"expected one of {', '.join(DIALECTS)}, or {NO_DIALECT}")
    return text


def sublock_answer(text: str) -> str:
    """Parse whose serial the answer to a sub-lock's report names."""
    if text not in (SUBLOCK_SERIAL, SENTENCE_SERIAL):
        raise ValueError(f"expected {SUBLOCK_SERIAL} or {SENTENCE_SERIAL}")
    return text


def web_users(text: str) -> UserFile | str:
    """Parse the path of a file of users, which is checked, or none."""
    if text == EVERYBODY:
        return text
    try:
        return read_users(existing_file(text))
    except UsersError as error:
        raise ValueError(error) from None


def key_id(text: str) -> str:
    """Parse the id of a signing key."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("expected the id of a key: 1 to 64 letters, digits, '-' or '_'")
    return text


def host_name(text: str) -> str:
    """Parse a host name or an IP address, without a port."""
    try:
        if ":" in text:
            return str(IPv6Address(text))
    except ValueError:
        text = ""
    if not re.fullmatch(_LABELS, text):
        raise ValueError("expected the name of a host, such as fleet.example.net, without a port")
    return text.lower()


def tiles(text: str) -> Tiles:
    """Parse a URL template of map tiles."""
    found = _TILES.fullmatch(text)
    if found is None or not set(re.findall(r"\{[a-z]\}", found[5])) >= _PLACES:
        raise ValueError("expected an address such as https://tiles.example.net/{z}/{x}/{y}.png")
    scheme, several, host, port, _ = found.groups()
    return Tiles(text, f"{scheme}://{'*.' if several else ''}{host}{port or ''}")


def attribution(text: str) -> str:
    """Parse a line of text for the map."""
    if not 1 <= len(text) <= 300 or not text.isprintable():
        raise ValueError("expected 1 to 300 printable characters")
    return text
