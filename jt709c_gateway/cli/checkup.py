"""Looks at ports, pages and Redis for `jt709c doctor`."""

import itertools
import re
import socket
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import click
import msgspec
import txredisapi
from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import defer

from jt709c_gateway.cli.checkup_partitions import if_permitted, read_partitions
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.device_lookup import resolve
from jt709c_gateway.cli.diagnosis import Device, Facts, Finding
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part, entry_order, merged
from jt709c_gateway.cli.malformed_table import Entry
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer, Malformed

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


async def read_facts(fleet: Fleet, name: str | None, facts: Facts) -> Facts:
    """Complete the facts with what Redis has, about one device too if there is a name."""
    there = await fleet.present()
    gateways = await if_permitted(_gateways(fleet))
    divided, others = (False, []) if gateways else await _other_prefixes(fleet)
    reasons: Counter[str] = Counter()
    peers: dict[str, None] = {}
    turned_away: set[str] = set()
    since = f"{int(time.time() * 1000) - _HOUR_MS}-0"

    def malformed(part: Part) -> "defer.Deferred[list[Entry]]":
        return part.call("XREVRANGE", part.keys.malformed, "+", since, "COUNT", _ENTRIES)

    newest = merged(await fleet.each(malformed), lambda one: entry_order(one[0]), falling=True)
    for _, flat in itertools.islice(newest, _ENTRIES):
        entry = {key.decode(): value.decode("utf-8", "replace") for key, value in _pairs(flat)}
        reasons[entry.get("reason", "")] += 1
        if entry.get("reason") == "not_admitted":
            turned_away |= _devices_in(entry.get("raw", ""))
        else:
            peers.setdefault(entry.get("peer", "").rpartition(":")[0])
    return evolve(
        facts,
        gateways=gateways,
        other_prefixes=others,
        is_divided=divided,
        partitions=await read_partitions(fleet, there),
        malformed=reasons,
        peers=list(peers)[:_SHOWN],
        devices=sum(await fleet.each(lambda part: part.call("ZCARD", part.keys.devices))),
        device=None if name is None else await _device(fleet, name, turned_away),
    )


async def _gateways(fleet: Fleet) -> list[str]:
    """Return the names of the living gateways."""

    async def living(part: Part) -> list[str]:
        names = [one.decode() for one in await part.call("SMEMBERS", part.keys.gateways)]
        return [one for one in names if await part.call("EXISTS", part.keys.gateway(one))]

    return sorted({name for names in await fleet.each(living) for name in names})


async def _allowed(part: Part, device: str) -> bool | None:
    """Return whether the set of admitted devices has the device; None without such a set."""
    if not await part.call("EXISTS", part.keys.allowed):
        return None
    return bool(await part.call("SISMEMBER", part.keys.allowed, device))


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


async def _other_prefixes(fleet: Fleet) -> tuple[bool, list[str]]:
    """Return whether our prefix is divided, and other prefixes with gateways.

    That is as far as this Redis user may look and a short scan of one server finds them.
    """
    found = set()
    part, cursor = (await fleet.present())[0], b"0"
    try:
        for _ in range(_SCANS):
            cursor, names = await part.call("SCAN", cursor, "MATCH", "*:gateways", "COUNT", 1000)
            found |= {name.decode("utf-8", "replace").removesuffix(":gateways") for name in names}
            if cursor == b"0":
                break
    except txredisapi.ResponseError:
        return False, []
    prefixes = {re.sub(r":\{\d+\}$", "", one) for one in found - {one.keys.prefix for one in fleet.parts}}
    return fleet.layout.count == 1 and fleet.prefix in prefixes, sorted(prefixes - {fleet.prefix})


async def _device(fleet: Fleet, name: str, turned_away: set[str]) -> Device:
    device = (await resolve(fleet, name)).device
    part = await fleet.of(device)
    keys = part.keys
    seen = await part.call("ZSCORE", keys.devices, device)
    allowed = await if_permitted(_allowed(part, device))
    known = Device(device, allowed=allowed, turned_away=device in turned_away)
    if seen is None:
        others = await _latest(fleet)
        end = device[-_SAME_DIGITS:]
        similar = [one for one in others if one.endswith(end)][:_SHOWN]
        return evolve(known, similar=similar, last_heard=others[:_SHOWN])
    skew = await part.call("HGET", keys.device(device), "clock_skew_s")
    gateway, transport, peer = await part.call("HMGET", keys.session(device), "gateway", "transport", "peer")
    session = None if gateway is None else f"{_text(gateway)} over {_text(transport)} from {_text(peer)}"
    return evolve(
        known,
        silent=time.time() - float(seen),
        session=session,
        clock_skew=None if skew is None else float(skew),
    )


async def _latest(fleet: Fleet) -> list[str]:
    """Return all devices, heard last first."""

    async def read(part: Part) -> list[tuple[float, bytes]]:
        flat = await part.call("ZREVRANGE", part.keys.devices, 0, -1, "WITHSCORES")
        return [(float(seen), name) for name, seen in zip(flat[::2], flat[1::2], strict=True)]

    return [name.decode() for _, name in merged(await fleet.each(read), lambda one: one, falling=True)]


def _text(value: bytes | None) -> str:
    return "?" if value is None else value.decode("utf-8", "replace")
