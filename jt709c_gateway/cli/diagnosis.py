"""What `jt709c doctor` concludes from what it has found: pure functions, no network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import field, frozen

#: Seconds: a lock that was heard within these is there; a clock that is off by more is wrong.
RECENT: Final = 900.0
CLOCK_LIMIT: Final = 300.0
#: Seconds by which the clocks of servers may differ.
SERVER_CLOCK_LIMIT: Final = 2.0
#: Reasons in `jt709c_dropped_total` that are limits, with the option of each.
LIMITS: Final = {
    "max_connections": "--max-connections",
    "max_per_address": "--max-connections-per-address",
    "max_sessions": "--max-sessions",
    "evicted": "--devices-per-connection or --sessions-per-address",
    "max_addresses": "--max-sessions",
    "new_devices": "--max-new-devices",
    "rate": "--max-rate",
    "share": "--max-share",
    "unacked": "--max-unacked",
}

_PROXY_HEADER: Final = "proxy_header: the balancer sends no PROXY header, or one to a port without haproxy:"


@frozen
class Device:
    """The data of one device in Redis; None where it is unknown."""

    name: str
    #: Seconds since it was last heard; None when it never was.
    silent: float | None = None
    #: `gateway over transport from peer`, while it is online.
    session: str | None = None
    clock_skew: float | None = None
    #: Whether the set of admitted devices has it; None when there is no such set.
    allowed: bool | None = None
    #: Whether it is among the malformed input as not admitted.
    turned_away: bool = False
    #: Other ids with the same last digits, and the devices heard last.
    similar: Sequence[str] = ()
    last_heard: Sequence[str] = ()


@frozen
class PartitionFacts:
    """The number of partitions as doctor was told or found it, and what differs from it."""

    count: int
    #: Why partitions can't be reached, by their numbers.
    away: Mapping[int, str]
    #: How many there are according to partitions that say something else.
    other_counts: Mapping[int, int]
    #: Seconds by which the clock of a server is ahead of ours, by the number of one of its partitions.
    clocks: Mapping[int, float]


@frozen
class Facts:
    """What was found, in the order in which a report travels."""

    prefix: str
    #: Where locks should be able to connect, and the error when that was tried; None for no error.
    address: str
    refused: str | None
    #: Names of the living gateways, None when this Redis user may not look; and other prefixes with gateways.
    gateways: Sequence[str] | None
    other_prefixes: Sequence[str]
    #: Values of /metrics by name and label value; None when they were not to be had.
    metrics: Mapping[tuple[str, str], float] | None
    #: Whether the gateway's /readyz says that it is connected to Redis; None when it was not to be had.
    connected: bool | None
    #: Entries of the last hour in the stream of malformed input, by reason, and their last peers.
    malformed: Mapping[str, int]
    peers: Sequence[str]
    devices: int
    device: Device | None = None
    #: Whether gateways divide the keys under this prefix, and doctor does not.
    is_divided: bool = False
    partitions: PartitionFacts | None = None


@frozen
class Finding:
    """One step of the diagnosis: what was seen, and what to do if that is a problem."""

    text: str
    advice: str | None = field(default=None)

    @property
    def is_problem(self) -> bool:
        """Whether something has to be done."""
        return self.advice is not None


def diagnose(facts: Facts) -> list[Finding]:
    """Go through what can keep a lock from appearing, in order."""
    return [
        *_partitions(facts),
        *_gateways(facts),
        *_listening(facts),
        *_readiness(facts),
        *_connections(facts),
        *_malformed(facts),
        *_limits(facts),
        *_devices(facts),
    ]


def diagnose_without_redis(facts: Facts) -> list[Finding]:
    """Go through what can be seen without Redis."""
    return [*_listening(facts), *_readiness(facts), *_connections(facts)]


def _capture(facts: Facts) -> str:
    port = facts.address.rpartition(":")[2]
    return f"see its packets with: tcpdump -i any -n -A port {port}"


def _partitions(facts: Facts) -> Iterator[Finding]:
    found = facts.partitions
    if found is None:
        return
    for count in sorted(set(found.other_counts.values())):
        yield Finding(
            f"the keys under the prefix {facts.prefix} are in {_several(count)}, not {found.count}",
            f"give --partitions {count} here, and to any gateway that has another number",
        )
    if found.count == 1:
        return
    numbers = ", ".join(map(str, sorted(found.away)))
    if found.away:
        yield Finding(
            f"of {_several(found.count)}, these can't be reached: {numbers}: {found.away[min(found.away)]}",
            "their locks get no answers, and nothing below counts them; look at that server",
        )
    else:
        yield Finding(f"all of {_several(found.count)} can be reached")
    if found.clocks:
        ahead = max(found.clocks, key=lambda number: found.clocks[number])
        behind = min(found.clocks, key=lambda number: found.clocks[number])
        apart = found.clocks[ahead] - found.clocks[behind]
        if apart > SERVER_CLOCK_LIMIT:
            yield Finding(
                f"the clock of the server of partition {ahead} is {apart:.1f} s ahead of that of {behind}",
                "let the clocks of all servers follow NTP; times of commands and events depend on them",
            )


def _several(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


def _gateways(facts: Facts) -> Iterator[Finding]:
    if facts.gateways is None:
        yield Finding(
            f"this Redis user may not see which gateways live (it would need {facts.prefix}:gateway*)"
        )
    elif facts.gateways:
        yield Finding(f"gateways that live under the prefix {facts.prefix}: {', '.join(facts.gateways)}")
    elif facts.is_divided:
        yield Finding(
            f"no gateway lives under the prefix {facts.prefix} with a single partition",
            "gateways have several partitions here: call doctor with their --partitions",
        )
    elif facts.other_prefixes:
        yield Finding(
            f"no gateway lives under the prefix {facts.prefix}",
            f"gateways use {', '.join(facts.other_prefixes)} here: call doctor with --prefix",
        )
    else:
        yield Finding(
            f"no gateway lives under the prefix {facts.prefix}",
            "start it, or let it use this Redis (--redis, --prefix); its log says whether it is connected",
        )


def _listening(facts: Facts) -> Iterator[Finding]:
    if facts.refused is None:
        yield Finding(f"something listens on {facts.address}")
    else:
        yield Finding(
            f"no connection to {facts.address}: {facts.refused}",
            "the gateway's log says what it listens on; on another host, name it with --tcp HOST:PORT; then "
            "look at firewall and port forwarding, and try the same from outside",
        )


def _readiness(facts: Facts) -> Iterator[Finding]:
    if facts.connected is False:
        yield Finding(
            "the gateway at --http is not connected to Redis",
            "its log says why, and /readyz what it waits for; it may use another Redis than doctor (--redis)",
        )


def _connections(facts: Facts) -> Iterator[Finding]:
    metrics = facts.metrics
    if metrics is None:
        yield Finding("/metrics were not looked at: give --http URL of the gateway's status page to see more")
        return
    links, sessions = (int(metrics.get((f"jt709c_{name}", ""), 0)) for name in ("links", "sessions"))
    yield Finding(f"{links} connections, {sessions} locks connected")
    silent = int(metrics.get(("jt709c_dropped_total", "no_frame"), 0))
    if silent or links > sessions:
        yield Finding(
            f"{max(0, links - sessions)} connections without a lock now, {silent} ended without any frame",
            "health checks and port scans do this; a lock does it when it expects another protocol or TLS: "
            + _capture(facts),
        )


def _malformed(facts: Facts) -> Iterator[Finding]:
    unreadable = {reason: count for reason, count in facts.malformed.items() if reason != "not_admitted"}
    if unreadable:
        kinds = ", ".join(f"{reason} {count}" for reason, count in sorted(unreadable.items()))
        yield Finding(
            f"input that could not be read, in the last hour: {kinds}; from {', '.join(facts.peers)}",
            "jt709c malformed has the bytes; jt709c explain shows where one breaks"
            + ("; " + _PROXY_HEADER if "proxy_header" in unreadable else ""),
        )
    else:
        yield Finding("no unreadable input in the last hour")
    if turned_away := facts.malformed.get("not_admitted"):
        yield Finding(
            f"frames of locks that are not admitted, in the last hour: {turned_away}",
            f"add their ids to the file of --devices, or with --admit redis: SADD {facts.prefix}:allowed ID",
        )


def _limits(facts: Facts) -> Iterator[Finding]:
    for reason, option in LIMITS.items():
        count = int((facts.metrics or {}).get(("jt709c_dropped_total", reason), 0))
        if count:
            yield Finding(
                f"{count} times turned away at a limit ({reason})", f"raise {option}, if it is right"
            )


def _devices(facts: Facts) -> Iterator[Finding]:
    yield Finding(f"{facts.devices} locks have been heard under {facts.prefix}")
    device = facts.device
    if device is None:
        return
    if device.silent is None:
        yield from _never_heard(device, facts)
    else:
        yield from _heard(device)


def _never_heard(device: Device, facts: Facts) -> Iterator[Finding]:
    if device.turned_away or device.allowed is False:
        seen = "its frames come, and it is not admitted" if device.turned_away else "it is not admitted"
        yield Finding(
            f"{device.name} was never heard: {seen}",
            f"SADD {facts.prefix}:allowed {device.name} (--admit redis), or add it to the file of --devices",
        )
    elif device.similar:
        yield Finding(
            f"{device.name} was never heard, but {', '.join(device.similar)} ends in the same digits",
            "locks name themselves by the id in their frames, which may differ from the number on the case",
        )
    else:
        last = f"; heard last: {', '.join(device.last_heard)}" if device.last_heard else ""
        yield Finding(
            f"{device.name} was never heard{last}",
            "check SIM (data, credit), APN, server and port (docs/real-lock.rst), wake it, and "
            + _capture(facts),
        )


def _heard(device: Device) -> Iterator[Finding]:
    assert device.silent is not None
    if device.session is not None:
        yield Finding(f"{device.name} is connected: {device.session}")
    elif device.silent <= RECENT:
        yield Finding(f"{device.name} was heard {device.silent:.0f} s ago, and is not connected now")
    else:
        yield Finding(
            f"{device.name} was last heard {device.silent / 60:.0f} minutes ago",
            "locks sleep between reports, for up to a day; beyond that look at battery, network and SIM",
        )
    skew = device.clock_skew
    if skew is not None and abs(skew) > CLOCK_LIMIT:
        yield Finding(
            f"the clock of {device.name} is off by {skew:+.0f} s",
            "whole hours are a time zone: --utc8 is for units that show UTC+8; else let it set its clock",
        )
