"""What --durability costs: the same load with each choice, on servers of its own that sync as they say.

One server with a replica on this very machine, so that a replica's answer is as near as it can be.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blocking_redis import Redis
from common import LOOPBACK, above_zero, allow_connections, fsync_us, positive, report, run
from end_to_end import measure, middle
from gateway_process import Daemon
from servers import server, until
from targets import Target

#: --durability and the server's appendfsync. Not fsync with everysec: Valkey 9.1 doesn't wait then.
_CASES = (
    ("server", "everysec"),
    ("replicas:1", "everysec"),
    ("server", "always"),
    ("fsync", "always"),
)
_COLUMNS = ("frames/s", "p50 ms", "p99 ms", "max ms")


@contextmanager
def _pair(scratch: Path | None, appendfsync: str) -> Iterator[int]:
    """A primary whose replica is in step; its port."""
    with (
        server(scratch, appendfsync, "--repl-diskless-sync-delay", "0") as port,
        server(scratch, appendfsync, "--replicaof", LOOPBACK, str(port)),
    ):
        redis = Redis(port)
        until(lambda: redis.call("SET", "mark", "1") and redis.call("WAIT", "1", "100") == 1)
        redis.close()
        yield port


def _show(case: str, result: dict[str, Any]) -> None:
    latency = result["latency_ms"]
    shown = [f"{result['frames_per_second']:,.0f}", *[f"{latency[key]:.1f}" for key in ("p50", "p99", "max")]]
    print(f"{case:<46}" + "".join(f"{value:>11}" for value in shown), flush=True)


def main() -> None:
    """Measure each choice under each load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--locks", type=positive, default=1000, help="locks connected [%(default)s]")
    parser.add_argument("--seconds", type=above_zero, default=4.0, help="length of each load [%(default)s]")
    parser.add_argument("--in-flight", type=positive, default=8, help="frames per lock [%(default)s]")
    parser.add_argument("--rate", type=above_zero, default=2000.0, help="frames/s, open loop [%(default).0f]")
    parser.add_argument(
        "--rounds", type=positive, default=1, help="of which the median is given [%(default)s]"
    )
    parser.add_argument("--data-dir", type=Path, help="on which disk all data are [the system's choice]")
    options = parser.parse_args()
    allow_connections(options.locks)
    loads = {
        f"{options.in_flight} in flight": ["--in-flight", str(options.in_flight)],
        f"{options.rate:,.0f} frames/s": ["--rate", str(options.rate)],
    }
    print(f"{'':<46}" + "".join(f"{column:>11}" for column in _COLUMNS), flush=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for durability, appendfsync in _CASES * options.rounds:
        arguments = ["--max-connections-per-address", "50000", "--durability", durability]
        with (
            _pair(options.data_dir, appendfsync) as port,
            Daemon(options.data_dir, arguments, redis=port) as daemon,
        ):
            for name, load in loads.items():
                result = measure(Target(daemon.port, daemon.pids, daemon.redis), load, options)
                case = f"{durability}, appendfsync {appendfsync}, {name}"
                found.setdefault(case, []).append(result)
                _show(case, result)
            valkey = daemon.valkey
    results = {case: middle(runs) for case, runs in found.items()}
    if options.rounds > 1:
        print("medians")
        for case, result in results.items():
            _show(case, result)
    disk = options.data_dir or Path(tempfile.gettempdir())
    report("durability", options, {**results, "fsync_us": fsync_us(disk)}, valkey=valkey)


if __name__ == "__main__":
    run(main)
