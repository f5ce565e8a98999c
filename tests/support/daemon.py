"""The real daemon as a process, and locks that talk to it over real sockets. All calls block."""

import atexit
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.framing import BinaryFrame, Framer, SentenceFrame
from tests.support import LOOPBACK, PATIENCE, RedisClient, ValkeyServer, free_port, process_alive, wait_until
from tests.support.partitioned import partitions_at

#: Runs `twistd` independently of the path of its script. It ends with the test process.
_TWISTD = "import ctypes; ctypes.CDLL(None).prctl(1, 9); "
_TWISTD += "{prelude}; from twisted.scripts.twistd import run; run()"
_LISTENING = re.compile(r"listening for locks on |status page at ")
_WORKER_UP = re.compile(r"worker (\S+) is up \(pid (\d+)\)")
_EMBEDDED = re.compile(r"embedded Valkey \S+ at redis://127\.0\.0\.1:(\d+)")


def twistd_command(*arguments: str, prelude: str = "pass") -> list[str]:
    """Return the command line of twistd with these arguments; `prelude` is Python to run first."""
    return [sys.executable, "-c", _TWISTD.format(prelude=prelude), *arguments]


def twistd_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return its environment: this one without the passwords in it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("JT709C_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | (extra or {})


def run_twistd(
    *arguments: str,
    directory: str | os.PathLike[str],
    environment: dict[str, str] | None = None,
    prelude: str = "pass",
    timeout: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run twistd until it ends by itself; `stdout` and `stderr` have its output."""
    return subprocess.run(
        twistd_command(*arguments, prelude=prelude),
        cwd=directory,
        env=twistd_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Lock:
    """A TCP connection of a lock; `framer` divides the bytes from the gateway."""

    def __init__(
        self, port: int, timeout: float = PATIENCE, source: str | None = None, framer: Any = None
    ) -> None:
        self.socket = self._connected(port, timeout, source)
        self._timeout = timeout
        self._framer = framer or Framer()
        self._answers: list[bytes] = []
        #: Whether the gateway has closed the connection.
        self.ended = False

    def _connected(self, port: int, timeout: float, source: str | None) -> socket.socket:
        found = socket.create_connection((LOOPBACK, port), timeout, None if source is None else (source, 0))
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    def send(self, *frames: bytes) -> None:
        """Send frames in one go."""
        self.socket.sendall(b"".join(frames))

    def answers(self, count: int = 1, timeout: float | None = None) -> list[bytes]:
        """Wait for `count` answers, each a whole frame; AssertionError when they don't come in time."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        while len(self._answers) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                raise AssertionError(f"{len(self._answers)} of {count} answers came")
        found, self._answers = self._answers[:count], self._answers[count:]
        return found

    def ask(self, *frames: bytes, timeout: float | None = None) -> list[bytes]:
        """Send frames and wait for as many answers."""
        self.send(*frames)
        return self.answers(len(frames), timeout)

    def answers_within(self, seconds: float) -> list[bytes]:
        """Return all answers that come within so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.read(left):
            pass
        return self.taken()

    def taken(self) -> list[bytes]:
        """Return the answers that have been read and not been returned yet."""
        found, self._answers = self._answers, []
        return found

    def closed_within(self, seconds: float = PATIENCE) -> bool:
        """Whether the gateway closes the connection within so many seconds."""
        deadline = time.monotonic() + seconds
        while not self.ended and (left := deadline - time.monotonic()) > 0:
            self.read(left)
        return self.ended

    def read(self, seconds: float) -> bool:
        """Read once; False when nothing came within so many seconds, or the connection has `ended`."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        self.ended = not data
        frames = self._framer.feed(data)
        self._answers += [one.raw for one in frames if isinstance(one, BinaryFrame | SentenceFrame)]
        return bool(data)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DatagramLock(Lock):
    """A UDP address that talks to the daemon: each frame is a datagram."""

    def _connected(self, port: int, timeout: float, source: str | None) -> socket.socket:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.bind((LOOPBACK if source is None else source, 0))
        found.connect((LOOPBACK, port))
        return found

    def send(self, *frames: bytes) -> None:
        """Send frames, one after the other."""
        for frame in frames:
            self.socket.send(frame)


class Daemon:
    """``twistd -n jt709c-gateway`` with free ports on loopback, the same ones at each start.

    It ends with the test process. `redis` is the value of ``--redis``; `options` are added to the command
    line. `tcp`, `udp` and `http` choose the ports it listens on: `tcp_port`, `udp_port` and `http_port`. With
    `proxied` a PROXY header comes first on a TCP connection. `prelude` is Python that it runs first.
    `directory` is its working directory and has its data. JT709C_TEST_OPTIONS are added, too.
    """

    def __init__(
        self,
        *options: str,
        redis: str = "embedded",
        tcp: bool = True,
        udp: bool = True,
        http: bool = True,
        proxied: bool = False,
        environment: dict[str, str] | None = None,
        prelude: str = "pass",
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="jt709c-daemon-"))
        self.tcp_port, self.udp_port, self.http_port = free_port(), free_port(), free_port()
        self._options = options
        self._redis = redis
        self._before_endpoint = "haproxy:" if proxied else ""
        self._wanted = {"tcp": tcp, "udp": udp, "http": http}
        self._environment = environment
        self._prelude = prelude
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        atexit.register(self.discard)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def arguments(self) -> list[str]:
        """Its command line after `twistd`."""
        found = ["-n", "--pidfile=", "jt709c-gateway", "--redis", self._redis]
        if self._wanted["tcp"]:
            found += ["--listen", f"{self._before_endpoint}tcp:{self.tcp_port}:interface={LOOPBACK}"]
        else:
            found += ["--no-tcp"]
        if self._wanted["udp"]:
            found += ["--udp", f"{self.udp_port}:interface={LOOPBACK}"]
        else:
            found += ["--no-udp"]
        if self._wanted["http"]:
            found += ["--http", f"tcp:{self.http_port}:interface={LOOPBACK}"]
        if partitions := partitions_at(self._redis):
            found += ["--partitions", str(partitions)]
        return [*found, *shlex.split(os.environ.get("JT709C_TEST_OPTIONS", "")), *self._options]

    def start(self, ready: bool = True, timeout: float = PATIENCE) -> "Daemon":
        """Start it; wait until its ports are bound and, if `ready`, until it can commit."""
        path = self.directory / "log"
        self._log_start = path.stat().st_size if path.exists() else 0
        with path.open("ab") as log:
            self._process = subprocess.Popen(
                twistd_command(*self.arguments(), prelude=self._prelude),
                cwd=self.directory,
                env=twistd_environment(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._bound, timeout, "the daemon does not listen")
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until it can commit."""
        if self._wanted["http"]:
            wait_until(lambda: self.get("/readyz")[0] == 200, timeout, "the daemon is not ready")
        else:
            wait_until(lambda: "connected to Redis" in self.last_log(), timeout, "the daemon has no Redis")

    def _bound(self) -> bool:
        log = self.last_log()
        assert self.running, f"the daemon has ended:\n{log[-2000:]}"
        return len(_LISTENING.findall(log)) >= sum(self._wanted.values())

    def stop(self, timeout: float = PATIENCE) -> int:
        """Stop it with SIGTERM and return its exit status.

        After a graceful shutdown twistd ends by the signal that it got; this counts as 0.
        """
        assert self._process is not None
        if self.running:
            self._process.terminate()
        status = self._process.wait(timeout)
        in_order = status == -signal.SIGTERM and "Server Shut Down." in self.last_log()
        return 0 if in_order else status

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until it has ended by itself and return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        """Kill it with SIGKILL and wait until it has ended."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait(10)

    def pause(self) -> None:
        """Suspend it until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def discard(self) -> None:
        """Stop it and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.discard)

    def log(self) -> str:
        """Return its log of all starts."""
        return (self.directory / "log").read_text(errors="replace")

    def last_log(self) -> str:
        """Return its log since the last start."""
        with (self.directory / "log").open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def lock(self, timeout: float = PATIENCE, source: str | None = None, framer: Any = None) -> Lock:
        """Return a new connection to it; `source` is the loopback address of the lock."""
        return Lock(self.tcp_port, timeout, source, framer)

    def datagram_lock(self, timeout: float = PATIENCE) -> DatagramLock:
        """Return a new UDP address that talks to it."""
        return DatagramLock(self.udp_port, timeout)

    def datagrams(self, timeout: float = PATIENCE) -> socket.socket:
        """Return a new UDP socket that sends to it and receives from it."""
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.settimeout(timeout)
        found.connect((LOOPBACK, self.udp_port))
        return found

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, str]:
        """Return status and body of a page; status 0 when there is no answer."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.http_port}{path}", timeout=timeout) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by its name and labels, as written there."""
        found: dict[str, float] = {}
        for line in self.get("/metrics", PATIENCE)[1].splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    @property
    def embedded_port(self) -> int:
        """The port of its embedded server."""
        return int(_EMBEDDED.findall(self.last_log())[-1])

    @property
    def embedded_password(self) -> str | None:
        """The password of its embedded server, or None."""
        path = self.directory / "jt709c-data" / "redis-password"
        return path.read_text().strip() if path.exists() else None

    def embedded_client(self) -> RedisClient:
        """Return a new blocking client of its embedded server."""
        return RedisClient(self.embedded_port, password=self.embedded_password)

    def embedded_pid(self) -> int:
        """The process id of its embedded server."""
        with self.embedded_client() as client:
            facts = client.call("INFO", "server").decode()
        return int(re.findall(r"process_id:(\d+)", facts)[0])

    def worker_pids(self) -> dict[str, int]:
        """Return the process ids of its workers that have been up since the last start, by name."""
        return {name: int(pid) for name, pid in _WORKER_UP.findall(self.last_log())}

    def wait_workers(self, count: int, timeout: float = PATIENCE) -> dict[str, int]:
        """Wait until `count` workers can commit and return `worker_pids`."""

        def ready() -> bool:
            states = json.loads(self.get("/readyz")[1] or "{}").get("workers", {})
            return sum(state["ready"] for state in states.values()) == count

        wait_until(ready, timeout, "the workers are not ready")
        return self.worker_pids()

    def memory(self) -> int:
        """Its resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def gone(pid: int, timeout: float = PATIENCE) -> Any:
    """Wait until a process that is not our child has ended."""
    return wait_until(lambda: not process_alive(pid), timeout, f"process {pid} still runs")


class DaemonCase(SynchronousTestCase):
    """A server and a daemon with these options, the same ones in each test."""

    options: tuple[str, ...] = ()
    #: Whether its port is behind a load balancer.
    proxied = False
    server: ValkeyServer
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ValkeyServer().start()
        cls.addClassCleanup(cls.server.discard)
        cls.daemon = Daemon(*cls.options, redis=cls.server.url, proxied=cls.proxied).start()
        cls.addClassCleanup(cls.daemon.discard)
