"""All figures of docs/performance.rst and docs/deployment.rst in one run, as tables in reStructuredText.

Needs a quiet machine and, with the defaults, 25 minutes. The first table compares with another commit, with
the naive server and with the floor, all on servers without persistence. The others are of a gateway
as it runs by default, with its embedded server: the same loads, fleets, some minutes of 10,000 frames a
second, in which the server rewrites its log, and memory.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from common import HERE, BenchmarkError, positive, run

#: The commit before the benchmarks had one call a frame and before there was a commit window.
_BEFORE = "149bfb3"
#: Locks that report every 30 seconds, by the frames a second that they send.
_FLEETS = {"33": 1_000, "333": 10_000, "3333": 100_000}
_SERVED = ("gateway", "naive", "floor")
#: Seconds. At 10,000 frames a second the log grows by 20 MB a second, and is rewritten every 100 seconds.
_LONG = "240"
#: Locks whose memory is measured.
_LOCKS = "5000"


def _measured(script: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark, showing what it prints; what its last line says."""
    last = ""
    command = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                last = line
            else:
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise BenchmarkError(f"{script} failed")
    found: dict[str, Any] = json.loads(last)
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median (least to greatest)."""
    middle, least, most = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} ({least} to {most})"


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if not index else ' '} - {cell}".rstrip() for index, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def compared(results: dict[str, Any], before: str) -> Iterator[Sequence[str]]:
    """A row for each load and target: CPU time of the server and its Valkey, and latency of the answer."""
    spreads, ratios = results["spreads"], results["ratios"]
    for load, targets in spreads.items():
        for target in (before, *_SERVED):
            if target not in targets:
                continue
            ratio = ratios[load].get(before, {}) if target == "gateway" else {}
            row = [load, "before" if target == before else "now" if target == "gateway" else target]
            for name in ("µs/frame", "Valkey µs"):
                row.append(spread(targets[target][name]) if targets[target][name][0] else "none")
                row.append(spread(ratio[name], 2) if name in ratio else "")
            yield [*row, spread(targets[target]["p50 ms"]), spread(targets[target]["p99 ms"])]


def shipped(results: dict[str, Any]) -> Iterator[Sequence[str]]:
    """A row for each load: frames for a CPU second of gateway and floor, and latencies."""
    for load, targets in results["spreads"].items():
        row = [load]
        for target in ("gateway", "floor"):
            middle, least, most = targets[target]["µs/frame"]
            row.append(spread([1e6 / middle, 1e6 / most, 1e6 / least], 0))
        ours = targets["gateway"]
        yield [*row, *(spread(ours[name]) for name in ("frames/s", "Valkey µs", "p50 ms", "p99 ms"))]


def sized(results: dict[str, Any]) -> Iterator[Sequence[str]]:
    """A row for each size of a fleet."""
    for rate, locks in _FLEETS.items():
        load = f"{float(rate):,.0f} frames/s"
        one = results[load]["gateway"]
        costs = [f"{one['us_per_frame']:.0f} µs", f"{one['busy']:.1%}"]
        costs += [f"{one['valkey_us_per_frame']:.0f} µs", f"{one['valkey_busy']:.1%}"]
        latency = one["latency_ms"]
        yield [f"{locks:,}", load, *costs, f"{latency['p50']:.1f} ms", f"{latency['p99']:.1f} ms"]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--against", default=_BEFORE, help="the commit of 'before' [%(default)s]")
    parser.add_argument("--rounds", type=positive, default=5, help="paired rounds [%(default)s]")
    parser.add_argument("--seconds", type=positive, default=3, help="length of each load [%(default)s]")
    options = parser.parse_args()
    seconds = ("--seconds", str(options.seconds))
    paired = ("--plain", "--naive", "--floor", "--against", options.against, *seconds)
    first = _measured("end_to_end.py", *paired, "--rounds", str(options.rounds))
    default = _measured("end_to_end.py", "--floor", *seconds, "--rounds", "3")
    fleets = _measured("end_to_end.py", "--in-flight", "--rate", *_FLEETS, "--rounds", "3", "--seconds", "10")
    lasting = _measured("end_to_end.py", "--in-flight", "--rate", "10000", "--seconds", _LONG)
    memory = _measured("memory.py", "--locks", _LOCKS)["results"]
    (before,) = set(first["results"]["1 in flight"]) - set(_SERVED)
    machine, versions = first["machine"], first["versions"]
    print(f"{machine['cores']} cores of {machine['cpu']}, load {machine['load']}, {versions}\n")
    head = ("Load", "Server", "µs/frame", "now / before", "Valkey µs", "now / before", "p50 ms", "p99 ms")
    print(table(head, compared(first["results"], before)))
    head = ("Load", "Gateway, per CPU s", "Floor, per CPU s", "Frames/s", "Valkey µs", "p50 ms", "p99 ms")
    print(table(head, shipped({"spreads": default["results"]["spreads"]})))
    head = ("Locks", "Load", "Gateway", "of a core", "Valkey", "of a core", "p50", "p99")
    print(table(head, sized(fleets["results"])))
    latency = lasting["results"]["10,000 frames/s"]["gateway"]["latency_ms"]
    shown = ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items())
    print(f"{_LONG} s of 10,000 frames/s with the embedded server: {shown}\n")
    print(
        f"Memory: {memory['base_mib']} MiB, and for each of {_LOCKS} locks "
        f"{memory['kib_per_open_connection']} KiB connected, {memory['kib_per_lock_heard']} KiB heard",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
