"""Valkey servers for the benchmarks that don't use the gateway's embedded one."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blocking_redis import Redis
from common import LOOPBACK, BenchmarkError, free_ports
from processes import Child

from jt709c_gateway.redis.embedded.server_process import server_binary

_PATIENCE = 20.0


@contextmanager
def server(scratch: Path | None, appendfsync: str | None, *options: str) -> Iterator[int]:
    """Run a server that syncs its log as `appendfsync` says, or that has no log; yield its port."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="jt709c-benchmark-", dir=scratch) as directory:
        command = [server_binary(), "--port", str(port), "--bind", LOOPBACK, "--save", "", "--dir", directory]
        if appendfsync is not None:
            command += ["--appendonly", "yes", "--appendfsync", appendfsync]
        with Child([*command, *options, "--logfile", str(Path(directory) / "log")]):
            until(lambda: Redis(port).close() is None)
            yield port


def until(done: Callable[[], object]) -> None:
    """Wait until `done` is true; BenchmarkError when a server isn't ready in time."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if done():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise BenchmarkError(f"a server of the benchmark is not ready after {_PATIENCE:.0f} s")
