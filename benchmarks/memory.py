"""What an idle connection costs the gateway's process in memory, just open and after a first frame.

And what a lock and an event cost in Valkey.
"""

import argparse
import time
from pathlib import Path

from blocking_redis import Redis
from common import above_zero, allow_connections, positive, report, run
from gateway_process import Daemon
from generator import Generator
from processes import resident_bytes

_WARM_LOCKS = 50
_WARM_FRAMES = 8
_KIB = 1024
_MIB = 1024 * 1024
_STREAM = "jt709c:events"
#: All entries of a stream are looked at, rather than five.
_ALL = 0


def kept(redis: Redis) -> tuple[int, int, int]:
    """Bytes that Valkey has in use without the stream of events; those of the stream; its entries."""
    stream = int(redis.call("MEMORY", "USAGE", _STREAM, "SAMPLES", _ALL) or 0)
    used = int(redis.info("memory")["used_memory_dataset"])
    return used - stream, stream, int(redis.call("XLEN", _STREAM))


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
        redis = daemon.client()
        others, _, _ = kept(redis)
        fleet = Generator(daemon.port, options.locks)
        try:
            connected = look()
            fleet.introduce()
            heard = look()
            others_after, stream, entries = kept(redis)
        finally:
            redis.close()
            fleet.close()
        valkey = daemon.valkey
    results = {
        "base_mib": round(base / _MIB, 1),
        "connected_mib": round(connected / _MIB, 1),
        "heard_mib": round(heard / _MIB, 1),
        "kib_per_open_connection": round((connected - base) / options.locks / _KIB, 2),
        "kib_per_lock_heard": round((heard - base) / options.locks / _KIB, 2),
        "valkey_kib_per_lock": round((others_after - others) / options.locks / _KIB, 2),
        "valkey_kib_per_event": round(stream / entries / _KIB, 2),
    }
    print(f"warmed up, no connections   {results['base_mib']:>8} MiB")
    print(f"{options.locks:>6} connections open     {results['connected_mib']:>8} MiB", end="")
    print(f"   {results['kib_per_open_connection']:.2f} KiB each")
    print(f"{'':>6} after a frame of each {results['heard_mib']:>7} MiB", end="")
    print(f"   {results['kib_per_lock_heard']:.2f} KiB each")
    print(f"in Valkey {results['valkey_kib_per_lock']:.2f} KiB a lock", end="")
    print(f" and {results['valkey_kib_per_event']:.2f} KiB an event in the stream")
    report("memory", options, results, valkey=valkey)


if __name__ == "__main__":
    run(main)
