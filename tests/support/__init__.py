"""Support for several test modules: a real server, a blocking client, and polling with a limit."""

import atexit
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.embedded import launcher
from jt709c_gateway.redis.embedded.server_process import server_binary

#: The root of the repository.
ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"


#: Seconds to wait for anything whose time is not under test. The limit is long, since a loaded machine is
#: slow; a passing test does not wait for it.
PATIENCE = 60.0


def wait_until(
    predicate: Callable[[], Any], timeout: float = PATIENCE, message: str = "it did not happen"
) -> Any:
    """Poll until `predicate()` is true and return its value; AssertionError after `timeout` seconds.

    It blocks, so it suits events of other processes only, never those of our own reactor.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{message} (within {timeout:g} s)")
        time.sleep(0.01)


def temporary_path(test: SynchronousTestCase) -> str:
    """Return a path where nothing is yet; the test's files there are removed after it.

    Unlike trial's `mktemp` it is absolute, and leaves nothing in the directory the tests are run from.
    """
    directory = tempfile.mkdtemp(prefix="jt709c-test-")
    test.addCleanup(shutil.rmtree, directory, ignore_errors=True)
    return os.path.join(directory, "path")


#: These are below the ports that the kernel gives to outgoing connections, which could otherwise take the
#: port before a daemon is started or restarted on it. Each pytest-xdist process (gw0, gw1, ...) has its own
#: range, and a port is reused only after all others.
_PORTS = range(
    15_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    32_000,
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
_next_ports = itertools.cycle(random.sample(_PORTS, len(_PORTS)))


def free_port() -> int:
    """Return an unused TCP and UDP port on loopback."""
    while True:
        port = next(_next_ports)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind((LOOPBACK, port))
                datagrams.bind((LOOPBACK, port))
            except OSError:
                continue
            return port


def process_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class RedisError(Exception):
    """An error reply, in the server's words."""


class RedisClient:
    """A blocking Redis client: `call` sends one command and returns the reply (bytes, int, list or None)."""

    def __init__(
        self, port: int, host: str = LOOPBACK, timeout: float = PATIENCE, password: str | None = None
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._file = self._socket.makefile("rb")
        if password is not None:
            self.call("AUTH", password)

    def call(self, *arguments: Any) -> Any:
        """Send one command and wait for its reply; RedisError for an error reply."""
        data = [item if isinstance(item, bytes) else str(item).encode() for item in arguments]
        parts = [b"$%d\r\n%b\r\n" % (len(item), item) for item in data]
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), b"".join(parts)))
        return self.read()

    def read(self) -> Any:
        """Wait for one reply or message, as after SUBSCRIBE."""
        reply = self._read()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def _read(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        length = int(rest)
        if length < 0:
            return None
        if kind == b"$":
            return self._file.read(length + 2)[:-2]
        return [self._read() for _ in range(length)]

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> "RedisClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tested_server() -> str:
    """The server under test: that of the extra ``embedded``, or the one that JT709C_TEST_SERVER names."""
    return os.environ.get("JT709C_TEST_SERVER") or server_binary()


class ValkeyServer:
    """A real server in a temporary directory, on the same port from start to start.

    It ends with the test process. `options` are as on valkey-server's command line: ``"--requirepass",
    "x"``. With ``"--appendonly", "yes"`` its data outlive `kill`.
    """

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="valkey-test-"))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.discard)

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def address(self) -> RedisAddress:
        """Its address for a RedisConnection."""
        return RedisAddress(host=LOOPBACK, port=self.port)

    @property
    def url(self) -> str:
        """Its URL for ``--redis``."""
        return f"redis://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> "ValkeyServer":
        """Start it and wait until it answers."""
        command = [
            sys.executable,
            "-I",
            "-S",
            launcher.__file__,
            str(os.getpid()),
            str(self.directory),
            "lock",
        ]
        command += [tested_server(), *self.arguments(), "--port", str(self.port), "--bind", LOOPBACK]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, message="the test server did not start")
        return self

    def arguments(self) -> list[str]:
        """The first arguments of its command line."""
        return ["--save", ""]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()[-500:]
        try:
            with self.client(timeout=1.0) as client:
                return client.call("PING") == b"PONG"
        except RedisError as error:
            return not str(error).startswith("LOADING")
        except OSError:
            return False

    def client(self, timeout: float = PATIENCE) -> RedisClient:
        """Return a new blocking client of it."""
        return RedisClient(self.port, timeout=timeout)

    def stop(self) -> None:
        """Shut it down and wait until it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with SIGKILL and wait until it has ended."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Suspend it: it answers nothing until `resume`, and its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Stop it and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.discard)

    def _end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(10)


_shared: ValkeyServer | None = None
_prefixes = itertools.count(1)


def shared_server() -> ValkeyServer:
    """Return the shared server of the test session; the first call starts it.

    Give each test keys of its own (`key_prefix`); don't stop, pause or flush it: make a ValkeyServer for
    that.
    """
    global _shared
    if _shared is None:
        _shared = ValkeyServer().start()
    return _shared


def key_prefix() -> str:
    """Return a key prefix that no other test of this session uses."""
    return f"test{next(_prefixes)}"
