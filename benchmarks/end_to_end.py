"""From the lock's socket to Redis and back: what a frame costs the gateway, and how long its answer takes.

Starts the gateway as it runs by default with its embedded server (which syncs its append-only file before
each reply), and in turn the floor, if asked; puts the load generator, a process of its own, in front of it;
and holds the number of events in Redis against the number of frames answered.
"""

import argparse
import pstats
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from common import (
    HERE,
    BenchmarkError,
    Child,
    Daemon,
    above_zero,
    allow_connections,
    busy_seconds,
    cpu_seconds,
    free_ports,
    fsync_us,
    positive,
    report,
    run,
)

_SHOWN = 30
_COLUMNS = ("frames/s", "per CPU s", "busy", "µs/frame", "p50 ms", "p99 ms", "max ms", "Valkey µs", "others")


class Target:
    """Something to put load on: the gateway, or the floor, which has no Redis."""

    def __init__(self, name: str, port: int, pids: list[int], daemon: Daemon | None) -> None:
        self.name, self.port, self.pids, self.daemon = name, port, pids, daemon

    def cost(self) -> tuple[float, float, float, int]:
        """CPU seconds of the server, its Valkey and the whole machine so far; events published so far."""
        server, machine = sum(cpu_seconds(pid) for pid in self.pids), busy_seconds()
        if self.daemon is None:
            return server, 0.0, machine, 0
        return server, cpu_seconds(self.daemon.valkey_pid), machine, self.daemon.redis.published()


@contextmanager
def _gateway(options: argparse.Namespace, workers: int, profile: Path | None) -> Iterator[Target]:
    settings = ["--max-connections-per-address", "50000", "--workers", str(workers)]
    settings += ["--max-rate", "0", "--max-share", "0"]
    with Daemon(options.data_dir, settings, profile) as daemon:
        name = "gateway" if workers == 1 else f"{workers} workers"
        yield Target(name, daemon.port, daemon.pids, daemon)


@contextmanager
def _floor() -> Iterator[Target]:
    (port,) = free_ports(1)
    with Child([sys.executable, HERE / "floor.py", "--port", str(port)], pipes=True) as child:
        child.hear()
        yield Target("floor", port, [child.pid], None)


def _loads(options: argparse.Namespace) -> dict[str, list[str]]:
    """The generator's arguments for each load, by the load's name."""
    loads = {f"{count} in flight": ["--in-flight", str(count)] for count in options.in_flight}
    for rate in options.rate:
        loads[f"{rate:,.0f} frames/s"] = ["--rate", str(rate)]
    if options.together:
        loads = {name: [*load, "--together"] for name, load in loads.items()}
    return loads


def measure(target: Target, load: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """One load on one target."""
    command = [sys.executable, str(HERE / "generator.py"), "--told", "--port", str(target.port)]
    command += ["--locks", str(options.locks), "--seconds", str(options.seconds), *load]
    with Child(command, pipes=True) as generator:
        generator.hear()
        before = target.cost()
        generator.say("go")
        result = generator.hear()
        after = target.cost()
        generator.say("enough")
        generator.process.wait(30)
    server, valkey, machine, published = (end - start for start, end in zip(before, after, strict=True))
    answered = result["answered"]
    if target.daemon is not None and published != answered:
        raise BenchmarkError(f"{answered} frames were answered, but {published} events published")
    if server <= 0:
        raise BenchmarkError("too short to measure; give more --seconds")
    result["frames_per_cpu_second"] = round(answered / server)
    result["us_per_frame"] = round(server / answered * 1e6, 1)
    result["busy"] = round(server / result["seconds"], 3)
    result["valkey_us_per_frame"] = round(valkey / answered * 1e6, 1)
    generated = result.pop("generator_cpu")
    result["valkey_busy"] = round(valkey / result["seconds"], 3)
    result["generator_busy"] = round(generated / result["seconds"], 3)
    # Cores that others took meanwhile. Where it is much, latencies say more about them than about us.
    result["others_busy"] = round(max(0.0, machine - server - valkey - generated) / result["seconds"], 3)
    return result


def _row(name: str, result: dict[str, Any]) -> str:
    latency = result["latency_ms"]
    values = (
        f"{result['frames_per_second']:,}",
        f"{result['frames_per_cpu_second']:,}",
        f"{result['busy']:.0%}",
        f"{result['us_per_frame']:.1f}",
        f"{latency['p50']:.2f}",
        f"{latency['p99']:.2f}",
        f"{latency['max']:.1f}",
        f"{result['valkey_us_per_frame']:.1f}",
        f"{result['others_busy']:.0%}",
    )
    return f"{name:<28}" + "".join(f"{value:>11}" for value in values)


def middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number."""
    found: dict[str, Any] = {}
    for key, value in results[0].items():
        values = [result[key] for result in results]
        found[key] = middle(values) if isinstance(value, dict) else median(values)
    return found


def _round(options: argparse.Namespace, profile: Path | None) -> Iterator[tuple[str, Target, dict[str, Any]]]:
    """Every load once, on the gateway with each number of workers; on the floor in turn with the first."""
    for index, workers in enumerate(options.workers):
        with _gateway(options, workers, profile) as gateway:
            for name, load in _loads(options).items():
                yield name, gateway, measure(gateway, load, options)
                if options.floor and not index:
                    with _floor() as floor:
                        yield name, floor, measure(floor, load, options)


def _profiled(options: argparse.Namespace) -> None:
    """The same under cProfile: only where the time goes counts then, not how much of it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "statistics"
        for name, _, result in _round(options, path):
            print(_row(f"gateway, {name}", result), flush=True)
        pstats.Stats(str(path)).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)


def _summary(name: str, both: dict[str, dict[str, Any]]) -> None:
    for target, result in both.items():
        print(_row(f"{target}, {name}", result))
    if "gateway" in both and "floor" in both:
        ratio = both["gateway"]["frames_per_cpu_second"] / both["floor"]["frames_per_cpu_second"]
        print(f"{'':<28}gateway / floor, frames per CPU second: {ratio:.2f}")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--locks", type=positive, default=1000, help="locks connected [%(default)s]")
    parser.add_argument("--seconds", type=above_zero, default=4.0, help="length of each load [%(default)s]")
    parser.add_argument(
        "--rounds", type=positive, default=1, help="of which the median is given [%(default)s]"
    )
    parser.add_argument(
        "--in-flight", type=positive, nargs="*", default=[1, 8], help="closed loops, by frames per lock [1 8]"
    )
    parser.add_argument(
        "--rate",
        type=above_zero,
        nargs="*",
        default=[333, 1000, 10_000],
        help="open loops, by frames/s in all [333 1000 10000]",
    )
    parser.add_argument(
        "--together", action="store_true", help="send the frames that a lock has to send in one call"
    )
    parser.add_argument(
        "--workers", type=positive, nargs="+", default=[1], help="processes, one number after the other [1]"
    )
    parser.add_argument(
        "--floor", action="store_true", help="measure the floor too, in turn with the gateway"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="on which disk the gateway's data are [the system's choice]"
    )
    parser.add_argument(
        "--profile", action="store_true", help="run the gateway under cProfile, and show that"
    )
    options = parser.parse_args()
    if options.profile and options.workers != [1]:
        parser.error("--profile: expected no --workers, since only the one process would be seen")
    allow_connections(options.locks)
    print(f"{'':<28}" + "".join(f"{column:>11}" for column in _COLUMNS), flush=True)
    if options.profile:
        _profiled(options)
        return
    valkey = None
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(1, options.rounds + 1):
        for name, target, result in _round(options, None):
            if target.daemon is not None:
                valkey = target.daemon.valkey
            found.setdefault(name, {}).setdefault(target.name, []).append(result)
            if options.rounds > 1:
                print(_row(f"{number}: {target.name}, {name}", result), flush=True)
    if options.rounds > 1:
        print("medians")
    results = {
        name: {target: middle(runs) for target, runs in targets.items()} for name, targets in found.items()
    }
    for name, both in results.items():
        _summary(name, both)
    disk = options.data_dir or Path(tempfile.gettempdir())
    report("end_to_end", options, {**results, "fsync_us": fsync_us(disk)}, valkey=valkey)


if __name__ == "__main__":
    run(main)
