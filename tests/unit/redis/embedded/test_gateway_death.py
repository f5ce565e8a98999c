"""The embedded server ends with its gateway, however that ends, and what is left over is ended later."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from jt709c_gateway.redis.embedded import launcher
from jt709c_gateway.redis.embedded import server as embedded
from jt709c_gateway.redis.embedded.access import PasswordFile
from jt709c_gateway.redis.embedded.data_directory import ValkeyDirectory
from jt709c_gateway.redis.embedded.server import EmbeddedServerError
from jt709c_gateway.redis.embedded.server_process import server_binary
from tests.support import LOOPBACK, RedisClient, process_alive, temporary_path, wait_until
from tests.support.embedded import EmbeddedTestCase

_HOST = """
import sys
from twisted.internet import reactor
from jt709c_gateway.redis.embedded.server import EmbeddedServer

server = EmbeddedServer(reactor, sys.argv[1])
reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
server.startService()
server.start().addCallbacks(
    lambda address: print("ready", address.port, server.pid, flush=True),
    lambda failure: print("failed", failure.value, flush=True),
)
reactor.run()
"""


class HostProcess:
    """A process of its own that runs an EmbeddedServer, as the gateway does."""

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOST, data_dir],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(embedded.__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().strip()
        word, *rest = self.first_line.split()
        if word == "ready":
            self.port, self.server_pid = map(int, rest)

    def client(self) -> RedisClient:
        return RedisClient(self.port, password=PasswordFile(self.data_dir).read())

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(20)
        self.process.stdout.close()


class DeathTests(EmbeddedTestCase):
    """With the gateway in a process of its own. Waiting blocks, as nothing of it runs in our reactor."""

    def host(self, data_dir: str) -> HostProcess:
        host = HostProcess(data_dir)
        self.addCleanup(host.end)
        return host

    def test_killed_gateway(self) -> None:
        """A gateway that is killed takes its server along; the next one finds what was committed."""
        data_dir = temporary_path(self)
        host = self.host(data_dir)
        with host.client() as client:
            client.call("SET", "committed", "yes")
        host.end()
        wait_until(lambda: not process_alive(host.server_pid), message="the server outlived its gateway")
        again = self.host(data_dir)
        with again.client() as client:
            self.assertEqual(client.call("GET", "committed"), b"yes")

    def test_killed_with_hung_server(self) -> None:
        """A server that hangs ends with its gateway as well."""
        host = self.host(temporary_path(self))
        os.kill(host.server_pid, signal.SIGSTOP)
        host.end()
        wait_until(lambda: not process_alive(host.server_pid), message="the server outlived its gateway")

    def test_terminated_gateway(self) -> None:
        """A gateway that ends in good order has ended its server before."""
        host = self.host(temporary_path(self))
        host.end(signal.SIGTERM)
        self.assertFalse(process_alive(host.server_pid))

    def test_own_session(self) -> None:
        """A Ctrl-C in the gateway's terminal doesn't reach the server."""
        host = self.host(temporary_path(self))
        self.assertEqual(os.getsid(host.server_pid), host.server_pid)

    def test_second_gateway(self) -> None:
        """A second gateway on the same data is refused, with the pid of the first."""
        data_dir = temporary_path(self)
        first = self.host(data_dir)
        second = self.host(data_dir)
        self.assertIn(f"failed the data directory {os.path.abspath(data_dir)}", second.first_line)
        self.assertIn(f"with pid {first.process.pid}", second.first_line)
        second.end()
        with first.client() as client:
            self.assertEqual(client.call("PING"), b"PONG")

    def orphan(self, data_dir: str) -> subprocess.Popen[bytes]:
        """A server that no gateway has, as is left over where servers can't be tied to their parent."""
        directory = ValkeyDirectory(data_dir)
        directory.claim()
        port = directory.choose_port(None)
        directory.write_config(port)
        directory.release()
        arguments = [str(os.getpid()), str(directory.path), str(directory.server_lock)]
        orphan = subprocess.Popen(
            [sys.executable, launcher.__file__, *arguments, server_binary(), "valkey.conf"],
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(orphan.wait)
        self.addCleanup(orphan.kill)
        wait_until(lambda: RedisClient(port) if port_open(port) else None).close()
        self.assertEqual(directory.server_pid(), orphan.pid)
        return orphan

    async def test_leftover_ended(self) -> None:
        """A server that an earlier gateway left behind is ended before a new one starts on the same data."""
        data_dir = temporary_path(self)
        orphan = self.orphan(data_dir)
        server = self.embedded(data_dir)
        await server.start()
        self.assertFalse(process_alive(orphan.pid))
        self.assertNotEqual(server.pid, orphan.pid)
        self.assertIn(f"ending the Valkey with pid {orphan.pid}", self.lines[0])

    async def test_hung_leftover_ended(self) -> None:
        """One that hangs is killed."""
        data_dir = temporary_path(self)
        orphan = self.orphan(data_dir)
        os.kill(orphan.pid, signal.SIGSTOP)
        await self.embedded(data_dir, stop_timeout=0.1).start()
        self.assertFalse(process_alive(orphan.pid))

    async def test_stranger_left_alone(self) -> None:
        """A process that holds the lock but isn't at work in the directory is not killed."""
        data_dir = temporary_path(self)
        directory = ValkeyDirectory(data_dir)
        directory.claim()
        directory.release()
        script = (
            "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX);"
            "print('held', flush=True); sys.stdin.read()"
        )
        stranger = subprocess.Popen(
            [sys.executable, "-c", script, str(directory.server_lock)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stranger.stdout.readline()
        with self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(data_dir, stop_timeout=0.05).start()
        self.assertIn("can't be ended", str(caught.exception))
        self.assertIsNone(stranger.poll())
        stranger.communicate()

    def test_launcher_refuses(self) -> None:
        """The launcher starts nothing for a parent that is gone, nor where a server runs already."""
        data_dir = temporary_path(self)
        os.mkdir(data_dir)
        for parent, status in ((os.getpid(), 0), (1, 1)):
            launched = subprocess.run(
                [sys.executable, launcher.__file__, str(parent), data_dir, "lock", "/bin/true"],
                stderr=subprocess.DEVNULL,
            )
            self.assertEqual(launched.returncode, status)
        orphan_dir = temporary_path(self)
        self.orphan(orphan_dir)
        path = str(Path(orphan_dir, "valkey"))
        launched = subprocess.run(
            [sys.executable, launcher.__file__, str(os.getpid()), path, "server.lock", "/bin/true"]
        )
        self.assertEqual(launched.returncode, launcher.EXIT_LOCKED)


def port_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
