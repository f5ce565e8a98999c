"""Looks at ports, pages and Redis for `jt709c doctor`."""

import socket
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import click
import msgspec
import txredisapi
from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.device_lookup import resolve
from jt709c_gateway.cli.diagnosis import Device, Facts, Finding
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer, Malformed
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys

_Answer = TypeVar("_Answer")


#: Seconds for a connection or a page.
_PATIENCE: Final = 3.0


_HOUR_MS: Final = 3_600_000


#: Entries of the stream of malformed input, and steps of a scan for other prefixes, that are read at most.
_ENTRIES: Final = 1000


_SCANS: Final = 50


#: Digits in which two ids must agree at their ends to be called similar; and how many are shown.
_SAME_DIGITS: Final = 6


_SHOWN: Final = 5


class _Readiness(msgspec.Struct):
    """What is read of /readyz: of a gateway, or of each of its workers."""

    redis: bool | None = None
    workers: dict[str, "_Readiness"] = {}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings with their advice; problems are marked."""
    for finding in findings:
        click.echo(f"{'!' if finding.is_problem else ' '} {plain(finding.text)}")
        if finding.advice is not None:
            click.echo(f"    {plain(finding.advice)}")


def try_to_connect(host: str, port: int) -> str | None:
    """Try a TCP connection; return why it fails, or None."""
    try:
        with socket.create_connection((host, port), _PATIENCE):
            return None
    except TimeoutError:
        return "no answer: packets are dropped on the way"
    except OSError as error:
        return error.strerror or str(error)


def check_url(url: str) -> None:
    """Check the URL of `--http`; raise UserError."""
    if not url.startswith(("http://", "https://")):
        raise UserError(f"--http: {url!r} is not a URL, such as http://127.0.0.1:8089")


def is_connected(url: str) -> bool | None:
    """Return whether a gateway or one of its workers is connected to Redis; None if /readyz is not there."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/readyz", timeout=_PATIENCE) as page:
            body = page.read()
    except urllib.error.HTTPError as error:
        # 503 has the same content.
        body = error.read()
    except (OSError, ValueError):
        return None
    try:
        state = msgspec.json.decode(body, type=_Readiness)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    known = [one.redis for one in (state, *state.workers.values()) if one.redis is not None]
    return any(known) if known else None


def read_metrics(url: str) -> dict[tuple[str, str], float] | None:
    """Return the samples of /metrics, added up by name and value of the first label; None if unavailable."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/metrics", timeout=_PATIENCE) as page:
            text = page.read().decode()
        found: defaultdict[tuple[str, str], float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # The workers' label names the process, and the sums are wanted.
                labels = [value for name, value in sample.labels.items() if name != "worker"]
                found[sample.name, labels[0] if labels else ""] += sample.value
    except (OSError, ValueError):
        return None
    return dict(found)


async def read_facts(connection: RedisConnection, keys: Keys, name: str | None, facts: Facts) -> Facts:
    """Complete the facts with what Redis has, about one device too if there is a name."""
    gateways = await _if_permitted(_gateways(connection, keys))
    reasons: Counter[str] = Counter()
    peers: dict[str, None] = {}
    turned_away: set[str] = set()
    since = f"{int(time.time() * 1000) - _HOUR_MS}-0"
    for _, flat in await connection.call("XREVRANGE", keys.malformed, "+", since, "COUNT", _ENTRIES):
        entry = {key.decode(): value.decode("utf-8", "replace") for key, value in _pairs(flat)}
        reasons[entry.get("reason", "")] += 1
        if entry.get("reason") == "not_admitted":
            turned_away |= _devices_in(entry.get("raw", ""))
        else:
            peers.setdefault(entry.get("peer", "").rpartition(":")[0])
    return evolve(
        facts,
        gateways=gateways,
        other_prefixes=() if gateways else await _other_prefixes(connection, keys),
        malformed=reasons,
        peers=list(peers)[:_SHOWN],
        devices=int(await connection.call("ZCARD", keys.devices)),
        device=None if name is None else await _device(connection, keys, name, turned_away),
    )


async def _if_permitted(answer: Awaitable[_Answer]) -> _Answer | None:
    """Return the answer; None if the Redis user has no right to it."""
    try:
        return await answer
    except txredisapi.ResponseError as error:
        if not str(error).lstrip("-").startswith("NOPERM"):
            raise
        return None


async def _gateways(connection: RedisConnection, keys: Keys) -> list[str]:
    """Return the names of the living gateways."""
    names = [one.decode() for one in await connection.call("SMEMBERS", keys.gateways)]
    return [one for one in sorted(names) if await connection.call("EXISTS", keys.gateway(one))]


async def _allowed(connection: RedisConnection, keys: Keys, device: str) -> bool | None:
    """Return whether the set of admitted devices has the device; None without such a set."""
    if not await connection.call("EXISTS", keys.allowed):
        return None
    return bool(await connection.call("SISMEMBER", keys.allowed, device))


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _devices_in(raw: str) -> set[str]:
    """Return the ids in a frame of the stream of malformed input."""
    found = set()
    with suppress(ValueError):
        for frame in Framer().feed(bytes.fromhex(raw)):
            message = Decoder().decode(frame, 0.0)
            if message is not None and not isinstance(message, Malformed) and message.device is not None:
                found.add(message.device)
    return found


async def _other_prefixes(connection: RedisConnection, keys: Keys) -> list[str]:
    """Return other prefixes with gateways, as far as this Redis user may look and a short scan finds them."""
    found = set()
    cursor = b"0"
    try:
        for _ in range(_SCANS):
            cursor, names = await connection.call("SCAN", cursor, "MATCH", "*:gateways", "COUNT", 1000)
            found |= {name.decode("utf-8", "replace").removesuffix(":gateways") for name in names}
            if cursor == b"0":
                break
    except txredisapi.ResponseError:
        return []
    return sorted(found - {keys.prefix})


async def _device(connection: RedisConnection, keys: Keys, name: str, turned_away: set[str]) -> Device:
    device = (await resolve(connection, keys, name)).device
    seen = await connection.call("ZSCORE", keys.devices, device)
    allowed = await _if_permitted(_allowed(connection, keys, device))
    known = Device(device, allowed=allowed, turned_away=device in turned_away)
    if seen is None:
        others = [one.decode() for one in await connection.call("ZREVRANGE", keys.devices, 0, -1)]
        end = device[-_SAME_DIGITS:]
        similar = [one for one in others if one.endswith(end)][:_SHOWN]
        return evolve(known, similar=similar, last_heard=others[:_SHOWN])
    skew = await connection.call("HGET", keys.device(device), "clock_skew_s")
    gateway, transport, peer = await connection.call(
        "HMGET", keys.session(device), "gateway", "transport", "peer"
    )
    session = None if gateway is None else f"{_text(gateway)} over {_text(transport)} from {_text(peer)}"
    return evolve(
        known,
        silent=time.time() - float(seen),
        session=session,
        clock_skew=None if skew is None else float(skew),
    )


def _text(value: bytes | None) -> str:
    return "?" if value is None else value.decode("utf-8", "replace")
