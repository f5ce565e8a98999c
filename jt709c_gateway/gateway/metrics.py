"""The gateway's counters in Prometheus's format, read at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from jt709c_gateway import __version__
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.signing import RefusalReason
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.redis.durability import Shortfall
from jt709c_gateway.redis.fleet_stats import FleetCounts

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_SIZE = (1, 2, 5, 10, 20, 50, 100, 200)
#: Changes of a session and outcomes of an identity query.
_CHANGES: Final = ("online", "offline", "replaced")
_OUTCOMES: Final = ("asked", "answered", "unanswered", "dropped")


class GatewayCollector(Collector):
    """Turns the counters of a gateway and the counts of the `fleet` into metric families."""

    def __init__(
        self,
        gateway: Gateway,
        connected: Callable[[], bool],
        fleet: Callable[[], FleetCounts | None],
        skew: Callable[[], float | None] = lambda: None,
        rights_missing: Callable[[], int] = lambda: 0,
        partitions_away: Callable[[], list[int]] = list,
    ) -> None:
        self._gateway = gateway
        self._connected = connected
        self._fleet = fleet
        self._skew = skew
        self._rights_missing = rights_missing
        self._partitions_away = partitions_away

    def collect(self) -> Iterator[Any]:
        """Yield all families, in the order of docs/metrics.rst."""
        build = GaugeMetricFamily(
            "jt709c_build_info", "Version of the gateway.", labels=["version", "gateway"]
        )
        build.add_metric([__version__, self._gateway.name], 1)
        yield build
        frames = CounterMetricFamily(
            "jt709c_frames",
            "Frames decoded, by dialect and by the kind of their first event.",
            labels=["dialect", "kind"],
        )
        for (dialect, kind), value in self._gateway.counters.frames.items():
            frames.add_metric([dialect, kind], value)
        yield frames
        yield from self._labelled()
        yield from self._counts()
        yield from self._commits()
        yield from self._levels()
        yield GaugeMetricFamily(
            "jt709c_redis_rights_missing",
            "Commands that the gateway's user in Redis lacks a right for.",
            value=self._rights_missing(),
        )
        if (skew := self._skew()) is not None:
            yield GaugeMetricFamily(
                "jt709c_clock_offset_seconds",
                "Seconds by which this host's clock is ahead of Redis's.",
                value=skew,
            )
        if (fleet := self._fleet()) is not None:
            yield from _of_the_fleet(fleet, self._gateway.wall().timestamp())

    def _labelled(self) -> Iterator[Any]:
        counters = self._gateway.counters
        shortfalls = self._gateway.committer.statistics.shortfalls
        table: tuple[tuple[str, str, str, Counter[Any], Iterable[str]], ...] = (
            ("malformed", "Input that could not be read, by reason.", "reason", counters.malformed, ()),
            (
                "dropped",
                "Connections and datagrams rejected or closed, by reason.",
                "reason",
                counters.dropped,
                (),
            ),
            ("commands", "States that commands have reached.", "state", counters.commands, CommandState),
            (
                "commands_refused",
                "Commands not signed, not well signed, or replayed, by reason.",
                "reason",
                counters.refused,
                RefusalReason,
            ),
            (
                "questions",
                "Queries of the gateway to locks, by outcome.",
                "outcome",
                counters.questions,
                _OUTCOMES,
            ),
            (
                "session_changes",
                "Changes of sessions: online, offline, replaced.",
                "change",
                counters.sessions,
                _CHANGES,
            ),
            (
                "commit_waits_failed",
                "Times that written records were not durable in time, by reason.",
                "reason",
                shortfalls,
                Shortfall,
            ),
        )
        for name, text, label, values, known in table:
            family = CounterMetricFamily(f"jt709c_{name}", text, labels=[label])
            # Export every known label value from the start: Prometheus sees no increase from absent to 1.
            for key in dict.fromkeys([*known, *values]):
                family.add_metric([str(key)], values[key])
            yield family

    def _counts(self) -> Iterator[Any]:
        counters = self._gateway.counters
        for name, text, count in (
            (
                "wrong_passwords",
                "Times a lock refused a command because of its password.",
                counters.wrong_passwords,
            ),
            (
                "locked_out_commands",
                "Commands not sent because of wrong passwords in a row (clear_lockout).",
                counters.locked_out,
            ),
            (
                "unlogged_commands",
                "Errors about commands left out of the log, which takes 20 a minute.",
                counters.unlogged_commands,
            ),
            ("intake_errors", "Times that Redis refused to give out commands.", counters.intake_errors),
            ("answers", "Answers written to locks after their commit.", counters.answers),
            ("skipped_bytes", "Bytes received that belonged to no frame.", counters.skipped_bytes),
            ("pauses", "Times reading stopped because too many frames waited for Redis.", counters.pauses),
            (
                "rate_pauses",
                "Times a connection was throttled because its lock exceeded --max-rate or --max-share.",
                counters.rate_pauses,
            ),
            (
                "contested_takeovers",
                "Times a new connection had to wait because its lock's sessions ended each other too fast.",
                counters.contested,
            ),
            (
                "parts_dropped",
                "Parts of split messages dropped because the message was never whole, or for lack of memory.",
                self._gateway.parts.dropped,
            ),
            (
                "new_devices_held",
                "Times an unknown device had to wait because of --max-new-devices.",
                self._gateway.session_admission.new_device_limiter.delayed,
            ),
            ("redis_losses", "Times Redis was found to have lost committed data.", counters.losses),
        ):
            yield CounterMetricFamily(f"jt709c_{name}", text, value=count)

    def _commits(self) -> Iterator[Any]:
        statistics = self._gateway.committer.statistics
        for name, text, count in (
            ("commits", "Batches committed to Redis.", statistics.batches),
            ("records", "Records committed to Redis.", statistics.records),
            (
                "duplicates",
                "Repeated reports that were answered and not published again.",
                statistics.duplicates,
            ),
            ("failed_records", "Records that Redis refused.", statistics.failed_records),
            (
                "late_records",
                "Steps of commands that came too late: another gateway has the command, or it has ended.",
                statistics.late,
            ),
            (
                "stale_records",
                "Messages of an older session of a lock, dropped unanswered.",
                statistics.stale,
            ),
            ("commit_retries", "Batches that had to be sent again.", statistics.retries),
        ):
            yield CounterMetricFamily(f"jt709c_{name}", text, value=count)

    def _levels(self) -> Iterator[Any]:
        gateway, committer = self._gateway, self._gateway.committer
        for name, text, level in (
            ("sessions", "Locks connected.", len(gateway.sessions)),
            ("links", "Open connections and datagram addresses.", len(gateway.connections)),
            ("unacked", "Records waiting to be committed.", committer.unacked),
            ("unacked_max", "Records that may wait before reading stops.", committer.max_unacked),
            (
                "parts_bytes",
                "Bytes of memory in parts of split messages that are not whole yet.",
                gateway.parts.size,
            ),
            ("redis_up", "Whether Redis can be used.", int(self._connected())),
            (
                "partitions_away",
                "Partitions of the fleet that can't be used.",
                len(self._partitions_away()),
            ),
        ):
            yield GaugeMetricFamily(f"jt709c_{name}", text, value=level)


def _of_the_fleet(fleet: FleetCounts, now: float) -> Iterator[Any]:
    """Yield the counts of the fleet. All gateways on one Redis export the same values."""
    yield GaugeMetricFamily("jt709c_fleet_locks", "Locks known to Redis.", value=fleet.locks)
    seen = GaugeMetricFamily(
        "jt709c_fleet_locks_seen", "Of those, locks heard within a span.", labels=["within"]
    )
    for span, value in fleet.seen.items():
        seen.add_metric([span], value)
    yield seen
    let_go = CounterMetricFamily(
        "jt709c_fleet_let_go",
        "Last states (devices) and audit trails (histories) removed at their limits.",
        labels=["what"],
    )
    for what, value in fleet.let_go.items():
        let_go.add_metric([what], value)
    yield let_go
    commands = GaugeMetricFamily(
        "jt709c_fleet_commands",
        "Commands that have not ended, by stage: untaken, waiting for their lock, under way.",
        labels=["stage"],
    )
    commands.add_metric(["untaken"], fleet.untaken)
    commands.add_metric(["waiting"], fleet.waiting)
    commands.add_metric(["under_way"], fleet.under_way)
    yield commands
    if fleet.oldest is not None:
        yield GaugeMetricFamily(
            "jt709c_fleet_oldest_command_seconds",
            "Age of the command that waits longest.",
            value=max(0.0, now - fleet.oldest),
        )


class CommitMetrics:
    """Histograms of the duration of commits and of their records."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "jt709c_commit_seconds",
            "Seconds from a batch to Redis's answer.",
            buckets=_LATENCY,
            registry=registry,
        )
        self._records = Histogram(
            "jt709c_commit_records", "Records in a batch.", buckets=_SIZE, registry=registry
        )

    def observe(self, seconds: float, size: int) -> None:
        """Record one batch."""
        self._seconds.observe(seconds)
        self._records.observe(size)
