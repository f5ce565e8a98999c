"""Gateways in processes of their own, with their embedded server or another."""

import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from blocking_redis import Redis
from common import LOOPBACK, BenchmarkError, free_ports
from processes import Child, children

from jt709c_gateway.redis.embedded.access import PasswordFile


class GatewayProcess(Child):
    """The gateway as an operator runs it, on free ports, in a fresh directory.

    `redis` is the value of its option. `backlog` is its TCP endpoint's, where that is not to be the gateway's
    own. With `udp` it listens for datagrams, too, on the number of its TCP port. `python` is that of another
    installation, to be run instead of ours.
    """

    def __init__(
        self,
        redis: str,
        scratch: Path | None = None,
        options: Sequence[str] = (),
        profile: Path | None = None,
        *,
        udp: bool = False,
        backlog: int | None = None,
        python: Path | None = None,
    ):
        self._home = tempfile.TemporaryDirectory(prefix="jt709c-benchmark-", dir=scratch)
        self.home = Path(self._home.name)
        self.port, self.http = free_ports(2)
        twistd = Path(sys.executable).with_name("twistd")
        if not twistd.exists():
            raise BenchmarkError(
                "there is no twistd beside this Python; run it from where the gateway is installed"
            )
        # Another installation must not find our code by PYTHONPATH.
        command: list[str | Path] = [sys.executable, twistd] if python is None else [python, "-E", twistd]
        command += ["--nodaemon", "--pidfile=", f"--logfile={self.home / 'log'}"]
        if profile is not None:
            command += ["--savestats", "--profiler=cprofile", f"--profile={profile.resolve()}"]
        command += ["jt709c-gateway", "--redis", redis, "--data-dir", self.home / "data"]
        waiting = "" if backlog is None else f":backlog={backlog}"
        command += ["--listen", f"tcp:{self.port}:interface={LOOPBACK}{waiting}"]
        command += ["--udp", f"{self.port}:interface={LOOPBACK}"] if udp else ["--no-udp"]
        command += ["--http", f"tcp:{self.http}:interface={LOOPBACK}", *options]
        try:
            super().__init__(command, self.home)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BenchmarkError(f"the gateway did not start: {self._last_words()}")
            try:
                with urllib.request.urlopen(f"http://{LOOPBACK}:{self.http}/readyz", timeout=5) as page:
                    workers = json.load(page).get("workers", {})
                if all(state["ready"] for state in workers.values()):
                    return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise BenchmarkError(f"the gateway is not ready after 30 s: {self._last_words()}")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        words = self._last_words() if kind is not None and issubclass(kind, BenchmarkError) else ""
        self.stop()
        if words:
            print(f"the gateway's log ends: {words}", file=sys.stderr)

    def _last_words(self) -> str:
        try:
            lines = (self.home / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it wrote no log"

    def metric(self, sample: str) -> float:
        """One sample of /metrics by its name and labels; 0 when there is none yet."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.http}/metrics", timeout=10) as page:
            for line in page.read().decode().splitlines():
                if line.startswith(sample + " "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def stop(self) -> None:
        """End it, and remove what it wrote."""
        try:
            if hasattr(self, "process"):
                super().stop()
        finally:
            self._home.cleanup()


class Daemon(GatewayProcess):
    """A gateway with its embedded server, or with the one on loopback port `redis`."""

    def __init__(
        self,
        scratch: Path | None = None,
        options: Sequence[str] = (),
        profile: Path | None = None,
        redis: int | None = None,
        *,
        udp: bool = False,
        backlog: int | None = None,
        python: Path | None = None,
    ):
        self.redis_port = redis or free_ports(1)[0]
        address = f"embedded:{self.redis_port}" if redis is None else f"redis://{LOOPBACK}:{redis}"
        super().__init__(address, scratch, options, profile, udp=udp, backlog=backlog, python=python)
        try:
            self.redis = self.client()
        except BaseException:
            self.stop()
            raise
        server = self.redis.info("server")
        self.valkey_pid = int(server["process_id"])
        #: The gateway's process and, if it has any, its workers'.
        self.pids = [self.pid, *(pid for pid in children(self.pid) if pid != self.valkey_pid)]
        self.valkey = server.get("valkey_version", server["redis_version"])

    def client(self) -> Redis:
        """A connection to its server."""
        password = PasswordFile(self.home / "data").read()
        return Redis(self.redis_port, password)

    def stop(self) -> None:
        """End it and its Valkey, and remove what they wrote."""
        if hasattr(self, "redis"):
            self.redis.close()
        super().stop()
