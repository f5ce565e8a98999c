"""From the lock's socket to Redis and back: what a frame costs the gateway, and how long its answer takes.

Starts the gateway as it runs by default with its embedded server (which syncs its append-only file before
each reply), and in turn what it is compared with; puts load on each with the generator, a process of its own;
and holds the number of events in Redis against the number of frames answered.
"""

import argparse
import pstats
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from common import HERE, BenchmarkError, above_zero, allow_connections, fsync_us, positive, report, run
from processes import Child
from targets import Starter, Target, gateway, starters

_SHOWN = 30
_COLUMNS = ("frames/s", "per CPU s", "busy", "µs/frame", "p50 ms", "p99 ms", "max ms", "Valkey µs", "others")
#: Results that are compared between targets, by the names under which they are shown.
_COMPARED = {
    "µs/frame": ("us_per_frame",),
    "Valkey µs": ("valkey_us_per_frame",),
    "frames/s": ("frames_per_second",),
    "p50 ms": ("latency_ms", "p50"),
    "p99 ms": ("latency_ms", "p99"),
}
#: What each load gave in each round, by load and target.
Found = dict[str, dict[str, list[dict[str, Any]]]]


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
    command = [sys.executable, str(HERE / "generator.py"), "--wait", "--port", str(target.port)]
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
    if target.redis is not None and published != answered:
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
        f"{result['frames_per_second']:,.0f}",
        f"{result['frames_per_cpu_second']:,.0f}",
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


def _profiled(options: argparse.Namespace) -> None:
    """The same under cProfile: only where the time goes counts then, not how much of it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "statistics"
        with gateway(options, options.option, profile=path) as target:
            for name, load in _loads(options).items():
                print(_row(f"gateway, {name}", measure(target, load, options)), flush=True)
        pstats.Stats(str(path)).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)


def _rounds(options: argparse.Namespace, targets: dict[str, Starter]) -> tuple[Found, str | None]:
    """Put every load on every target in turn, every other round backwards; return Valkey's version too."""
    found: Found = {name: {target: [] for target in targets} for name in _loads(options)}
    valkey = None
    for number in range(1, options.rounds + 1):
        for name, load in _loads(options).items():
            for target_name in list(targets)[:: 1 if number % 2 else -1]:
                with targets[target_name]() as target:
                    result = measure(target, load, options)
                valkey = valkey or target.valkey
                found[name][target_name].append(result)
                if options.rounds > 1:
                    print(_row(f"{number}: {target_name}, {name}", result), flush=True)
    return found, valkey


def _spread(values: list[float]) -> list[float]:
    """Median, least and greatest."""
    return [round(value, 3) for value in (median(values), min(values), max(values))]


def _value(result: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = result
    for key in path:
        value = value[key]
    return float(value)


def spreads(found: Found) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Median, least and greatest of the compared results, by load and target."""
    return {
        load: {
            target: {name: _spread([_value(one, path) for one in runs]) for name, path in _COMPARED.items()}
            for target, runs in targets.items()
        }
        for load, targets in found.items()
    }


def ratios(found: Found) -> dict[str, dict[str, dict[str, list[float]]]]:
    """This gateway's results divided by each other target's of the same round: median, least, greatest."""
    return {
        load: {target: _paired(runs, others) for target, others in targets.items() if others is not runs}
        for load, targets in found.items()
        for runs in [next(iter(targets.values()))]
    }


def _paired(runs: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, path in _COMPARED.items():
        pairs = [(_value(one, path), _value(other, path)) for one, other in zip(runs, others, strict=True)]
        if all(other for _, other in pairs):
            found[name] = _spread([one / other for one, other in pairs])
    return found


def _show_spreads(title: str, table: dict[str, dict[str, dict[str, list[float]]]], digits: int) -> None:
    print(f"\n{title}\n{'':<28}" + "".join(f"{name:>28}" for name in _COMPARED))
    for load, targets in table.items():
        for target, values in targets.items():
            shown = [
                "{:,.{n}f} ({:,.{n}f} to {:,.{n}f})".format(*values[name], n=digits)
                if name in values
                else "-"
                for name in _COMPARED
            ]
            print(f"{f'{target}, {load}':<28}" + "".join(f"{text:>28}" for text in shown))


def _show(found: Found, rounds: int) -> None:
    if rounds > 1:
        print("medians")
    for load, targets in found.items():
        both = {target: middle(runs) for target, runs in targets.items()}
        for target, result in both.items():
            print(_row(f"{target}, {load}", result))
        if "gateway" in both and "floor" in both:
            ratio = both["gateway"]["frames_per_cpu_second"] / both["floor"]["frames_per_cpu_second"]
            print(f"{'':<28}gateway / floor, frames per CPU second: {ratio:.2f}")
    if rounds > 1:
        _show_spreads("median (least to greatest)", spreads(found), 1)
    if any(len(targets) > 1 for targets in found.values()):
        _show_spreads("this gateway / the other, of the same round", ratios(found), 2)


def _parser() -> argparse.ArgumentParser:
    """Make the parser of this benchmark's arguments."""
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
    parser.add_argument("--naive", action="store_true", help="measure naive.py too, in turn with the gateway")
    parser.add_argument("--against", metavar="COMMIT", help="measure this commit too, in turn with ours")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        help="option of our gateway, such as --option=--commit-window=0, repeatable",
    )
    parser.add_argument(
        "--against-option", action="append", default=[], help="option of the other commit's, repeatable"
    )
    parser.add_argument(
        "--plain", action="store_true", help="use servers without persistence instead of the embedded one"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="on which disk the gateway's data are [the system's choice]"
    )
    parser.add_argument(
        "--profile", action="store_true", help="run the gateway under cProfile, and show that"
    )
    return parser


def main() -> None:
    """Measure what was asked for."""
    parser = _parser()
    options = parser.parse_args()
    if options.profile and options.workers != [1]:
        parser.error("--profile: expected no --workers, since only the one process would be seen")
    allow_connections(options.locks)
    print(f"{'':<28}" + "".join(f"{column:>11}" for column in _COLUMNS), flush=True)
    if options.profile:
        _profiled(options)
        return
    with starters(options) as targets:
        found, valkey = _rounds(options, targets)
    _show(found, options.rounds)
    results: dict[str, Any] = {
        load: {target: middle(runs) for target, runs in targets.items()} for load, targets in found.items()
    }
    results |= {"spreads": spreads(found), "ratios": ratios(found)}
    disk = options.data_dir or Path(tempfile.gettempdir())
    report("end_to_end", options, {**results, "fsync_us": fsync_us(disk)}, valkey=valkey)


if __name__ == "__main__":
    run(main)
