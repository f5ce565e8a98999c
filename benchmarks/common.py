"""What all benchmarks share: arguments, limits, percentiles, the machine, the last line of JSON."""

import argparse
import json
import os
import platform
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jt709c_gateway import __version__

LOOPBACK = "127.0.0.1"
HERE = Path(__file__).resolve().parent
_FSYNC_TRIES = 50


class BenchmarkError(Exception):
    """Why a benchmark can't say anything, in one line."""


def run(main: Callable[[], None]) -> None:
    """Run a benchmark: errors are one line, and an end by signal still cleans up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except (BenchmarkError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1")
    return value


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return value


def machine() -> dict[str, Any]:
    """The processor, and how many of its cores may be used."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }


def versions(**more: str | None) -> dict[str, str]:
    """Of everything that has a say in the result."""
    found = {"python": platform.python_version(), "gateway": __version__}
    for package in ("twisted", "msgspec", "attrs"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found.update({name: text for name, text in more.items() if text is not None})
    return found


def report(name: str, parameters: argparse.Namespace, results: dict[str, Any], **more: str | None) -> None:
    """Print everything as one line of JSON."""
    shown = {key: str(value) if isinstance(value, Path) else value for key, value in vars(parameters).items()}
    line = {"benchmark": name, "machine": machine(), "versions": versions(**more)}
    print(json.dumps({**line, "parameters": shown, "results": results}), flush=True)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values lies (nearest rank)."""
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered)) - 1))]


def latencies_ms(values: Iterable[float]) -> dict[str, float]:
    """p50, p99 and worst of some seconds, in milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return {}
    shown = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: round(percentile(ordered, share) * 1000, 3) for name, share in shown.items()}


def allow_connections(count: int) -> None:
    """Raise the limit of open files, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 200
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise BenchmarkError(f"{count} connections need {wanted} open files; the limit is {hard}")
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody has now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def fsync_us(directory: Path) -> float:
    """What syncing a small append costs where the data are, median µs."""
    data, taken = b"x" * 4096, []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(_FSYNC_TRIES):
            file.write(data)
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return round(sorted(taken)[len(taken) // 2] * 1e6, 1)
