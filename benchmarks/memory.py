"""What an idle connection costs the gateway's process in memory: just open, and after a first frame."""

import argparse
import time
from pathlib import Path

from common import Daemon, above_zero, allow_connections, positive, report, resident_bytes, run
from generator import Generator

_WARM_LOCKS = 50
_WARM_FRAMES = 8
_KIB = 1024
_MIB = 1024 * 1024


def main() -> None:
    """Start, warm up, connect, send a frame each, looking at the memory in between."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--locks", type=positive, default=2000, help="connections [%(default)s]")
    parser.add_argument("--seconds", type=above_zero, default=2.0, help="rest before a look [%(default)s]")
    parser.add_argument(
        "--data-dir", type=Path, help="on which disk the gateway's data are [the system's choice]"
    )
    options = parser.parse_args()
    allow_connections(options.locks)
    limits = [f"--max-connections-per-address={max(options.locks + 1000, 50_000)}"]
    with Daemon(options.data_dir, limits) as daemon:

        def look() -> int:
            time.sleep(options.seconds)
            return resident_bytes(daemon.pid)

        warm = Generator(daemon.port, _WARM_LOCKS)
        warm.closed_loop(_WARM_FRAMES, 0.5)
        warm.close()
        base = look()
        fleet = Generator(daemon.port, options.locks)
        try:
            connected = look()
            fleet.introduce()
            heard = look()
        finally:
            fleet.close()
        valkey = daemon.valkey
    results = {
        "base_mib": round(base / _MIB, 1),
        "connected_mib": round(connected / _MIB, 1),
        "heard_mib": round(heard / _MIB, 1),
        "kib_per_open_connection": round((connected - base) / options.locks / _KIB, 2),
        "kib_per_lock_heard": round((heard - base) / options.locks / _KIB, 2),
    }
    print(f"warmed up, no connections   {results['base_mib']:>8} MiB")
    print(f"{options.locks:>6} connections open     {results['connected_mib']:>8} MiB", end="")
    print(f"   {results['kib_per_open_connection']:.2f} KiB each")
    print(f"{'':>6} after a frame of each {results['heard_mib']:>7} MiB", end="")
    print(f"   {results['kib_per_lock_heard']:.2f} KiB each")
    report("memory", options, results, valkey=valkey)


if __name__ == "__main__":
    run(main)
