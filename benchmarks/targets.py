"""What `end_to_end.py` puts load on: gateways, the floor, and the naive server."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from blocking_redis import Redis
from checkout import checked_out, name_of
from common import HERE, free_ports
from gateway_process import Daemon
from processes import Child, busy_seconds, cpu_seconds
from servers import server


class Target:
    """A server to put load on. The floor has no Redis."""

    def __init__(self, port: int, pids: Sequence[int], redis: Redis | None = None) -> None:
        self.port, self.pids, self.redis = port, pids, redis
        self.valkey, self._valkey_pid = None, 0
        if redis is not None:
            found = redis.info("server")
            self.valkey, self._valkey_pid = found.get("valkey_version"), int(found["process_id"])

    def cost(self) -> tuple[float, float, float, int]:
        """CPU seconds of the server, its Valkey and the whole machine so far; events published so far."""
        used, machine = sum(cpu_seconds(pid) for pid in self.pids), busy_seconds()
        if self.redis is None:
            return used, 0.0, machine, 0
        return used, cpu_seconds(self._valkey_pid), machine, self.redis.published()


#: Starts a target, and ends it with its block.
Starter = Callable[[], AbstractContextManager[Target]]


@contextmanager
def gateway(
    options: argparse.Namespace,
    more: Sequence[str] = (),
    workers: int = 1,
    profile: Path | None = None,
    python: Path | None = None,
) -> Iterator[Target]:
    """Run a gateway without limits for a lock, with the options `more`."""
    settings = ["--max-connections-per-address", "50000", "--workers", str(workers)]
    settings += ["--max-rate", "0", "--max-share", "0", *more]
    with ExitStack() as stack:
        redis = stack.enter_context(server(options.data_dir, None)) if options.plain else None
        daemon = Daemon(options.data_dir, settings, profile, redis, python=python)
        stack.enter_context(daemon)
        yield Target(daemon.port, daemon.pids, daemon.redis)


@contextmanager
def floor() -> Iterator[Target]:
    """Run the floor."""
    (port,) = free_ports(1)
    with Child([sys.executable, HERE / "floor.py", "--port", str(port)], pipes=True) as child:
        child.hear()
        yield Target(port, [child.pid])


@contextmanager
def naive(options: argparse.Namespace) -> Iterator[Target]:
    """Run the naive server on a Valkey that syncs as the gateway's does."""
    (port,) = free_ports(1)
    command = [sys.executable, HERE / "naive.py", "--port", str(port)]
    with (
        server(options.data_dir, None if options.plain else "always") as valkey,
        Child([*command, "--redis", str(valkey)], pipes=True) as child,
    ):
        child.hear()
        redis = Redis(valkey)
        try:
            yield Target(port, [child.pid], redis)
        finally:
            redis.close()


@contextmanager
def starters(options: argparse.Namespace) -> Iterator[dict[str, Starter]]:
    """Everything that is to be measured, by its name; the first is this checkout's gateway."""
    found: dict[str, Starter] = {}
    for workers in options.workers:
        name = "gateway" if workers == 1 else f"{workers} workers"
        found[name] = partial(gateway, options, options.option, workers)
    with ExitStack() as stack:
        if options.against is not None:
            python = stack.enter_context(checked_out(options.against))
            found[name_of(options.against)] = partial(
                gateway, options, options.against_option, options.workers[0], python=python
            )
        if options.floor:
            found["floor"] = floor
        if options.naive:
            found["naive"] = partial(naive, options)
        yield found
