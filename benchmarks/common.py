"""What the benchmarks share: processes and their cost, Redis, the machine, the last line of JSON."""

import argparse
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from jt709c_gateway import __version__
from jt709c_gateway.redis.client_protocol import encode_command
from jt709c_gateway.redis.embedded.access import PasswordFile

LOOPBACK = "127.0.0.1"
HERE = Path(__file__).resolve().parent
_TICKS = os.sysconf("SC_CLK_TCK")
#: Kind of the clock of a process, by which the kernel makes a clock id from a process id.
_PROCESS_CLOCK = 2
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


def cpu_seconds(pid: int) -> float:
    """CPU time of a process in user and kernel mode, all threads, to the nanosecond (clock_getcpuclockid)."""
    try:
        return time.clock_gettime(~pid << 3 | _PROCESS_CLOCK)
    except OSError:
        raise BenchmarkError(f"process {pid} has ended") from None


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        raise BenchmarkError(f"process {pid} has ended") from None


def busy_seconds() -> float:
    """What all processes of the machine have used so far; in a virtual one, what it was denied as well."""
    fields = [
        int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
    ]
    user, nice, system, _idle, _waiting, *rest = fields
    return (user + nice + system + sum(rest)) / _TICKS


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use (VmRSS)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise BenchmarkError(f"process {pid} has ended")


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        raise BenchmarkError(f"process {pid} has ended") from None


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


class Redis:
    """One blocking connection to the embedded server; just enough to look and to push."""

    def __init__(self, port: int, password: str | None = None) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        if password is not None:
            self.call("AUTH", password)

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send one command; its reply, text as bytes."""
        self.send(*arguments)
        return self.reply()

    def send(self, *arguments: str | bytes | int) -> None:
        """Send one command whose reply is waited for later."""
        self._socket.sendall(encode_command(arguments))

    def reply(self) -> Any:
        """The next reply."""
        line = self._file.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            return self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise BenchmarkError(f"Redis says {line.decode('utf-8', 'replace').strip() or 'nothing any more'}")

    def info(self, section: str) -> dict[str, str]:
        """One section of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def published(self) -> int:
        """How many events the stream has ever been given."""
        if not self.call("EXISTS", "jt709c:events"):
            return 0
        flat = self.call("XINFO", "STREAM", "jt709c:events")
        return int(flat[flat.index(b"entries-added") + 1])

    def close(self) -> None:
        """Let go of the connection."""
        self._file.close()
        self._socket.close()


class Child:
    """A process of ours. It is ended when its block is left, however that happens."""

    def __init__(
        self, command: Sequence[str | Path], directory: Path | None = None, pipes: bool = False
    ) -> None:
        channel = subprocess.PIPE if pipes else subprocess.DEVNULL
        # In a session of its own: Ctrl-C is for us, and we end our children in order.
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=directory,
            stdin=channel,
            stdout=channel,
            stderr=None if pipes else subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end; insist after a while."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except BaseException:
                self.process.kill()
                self.process.wait()
                raise
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def say(self, text: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError("a process of the benchmark has ended") from None

    def hear(self) -> dict[str, Any]:
        """The line of JSON that it writes next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BenchmarkError("a process of the benchmark has ended")
        heard: dict[str, Any] = json.loads(line)
        return heard


class Daemon(Child):
    """The gateway as an operator runs it, on free ports, in a fresh directory.

    With its embedded server, or with the one on loopback port `redis`. `backlog` is its TCP endpoint's, where
    that is not to be the gateway's own. With `udp` it listens for datagrams,
    too, on the number of its TCP port. `python` is that of another installation, to be run instead of ours.
    """

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
        self._home = tempfile.TemporaryDirectory(prefix="jt709c-benchmark-", dir=scratch)
        self.home = Path(self._home.name)
        self.port, self.http, embedded = free_ports(3)
        self.redis_port = redis or embedded
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
        command += [
            "jt709c-gateway",
            "--redis",
            f"embedded:{self.redis_port}" if redis is None else f"redis://{LOOPBACK}:{redis}",
            "--data-dir",
            self.home / "data",
        ]
        waiting = "" if backlog is None else f":backlog={backlog}"
        command += ["--listen", f"tcp:{self.port}:interface={LOOPBACK}{waiting}"]
        command += ["--udp", f"{self.port}:interface={LOOPBACK}"] if udp else ["--no-udp"]
        command += ["--http", f"tcp:{self.http}:interface={LOOPBACK}", *options]
        try:
            super().__init__(command, self.home)
            self._wait_until_ready()
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
        """End it and its Valkey, and remove what they wrote."""
        if hasattr(self, "redis"):
            self.redis.close()
        try:
            if hasattr(self, "process"):
                super().stop()
        finally:
            self._home.cleanup()
