"""Promise: the embedded server is of no use to other users of the host.

It has a password of its own, which its owner alone can read; and it stands nowhere else.
"""

import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.embedded.access import PasswordFile, running_server
from jt709c_gateway.redis.embedded.data_directory import EmbeddedServerError
from tests.support import LOOPBACK, ROOT, RedisClient, RedisError, free_port, temporary_path, wait_until
from tests.support.daemon import Daemon, run_twistd
from tests.support.reporter import report

_NOBODY = 65534
_DEVICE = "794308010679"


def jt709c(*arguments: str, redis: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line with this JT709C_REDIS."""
    return subprocess.run(
        [sys.executable, "-m", "jt709c_gateway.cli.main", *arguments],
        env={**os.environ, "JT709C_REDIS": redis, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


class EmbeddedDaemonTests(SynchronousTestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.daemon = Daemon("--workers", "2").start()
        cls.addClassCleanup(cls.daemon.discard)
        cls.data_dir = cls.daemon.directory / "jt709c-data"
        password = cls.daemon.embedded_password
        assert password is not None
        cls.password = password
        with cls.daemon.lock() as lock:
            lock.ask(report(1))

    def test_nothing_is_carried_out_without_the_password(self) -> None:
        """No command is read or pushed, nor anything else done, without the password or with a wrong one."""
        for password in (None, "wrong"):
            with RedisClient(self.daemon.embedded_port) as client:
                if password is not None:
                    self.assertRaises(RedisError, client.call, "AUTH", password)
                for command in (
                    ("RPUSH", "jt709c:commands", "{}"),
                    ("LRANGE", "jt709c:commands", "0", "-1"),
                    ("GET", f"jt709c:secret:{_DEVICE}"),
                    ("CONFIG", "GET", "*"),
                    ("ACL", "SETUSER", "me", "on", "nopass", "~*", "+@all"),
                    ("PSUBSCRIBE", "*"),
                    ("MONITOR",),
                    ("EVAL", "return 1", "0"),
                    ("SHUTDOWN", "NOSAVE"),
                    ("DEBUG", "SLEEP", "0"),
                    ("PING",),
                ):
                    with self.subTest(command=command, password=password):
                        error = self.assertRaises(RedisError, client.call, *command)
                        self.assertTrue(str(error).startswith("NOAUTH"), error)

    def test_the_password_opens_it(self) -> None:
        """With the password everything works, the supervisor's workers among it."""
        with self.daemon.embedded_client() as client:
            self.assertEqual(client.call("HGET", f"jt709c:device:{_DEVICE}", "dialect"), b"jt709")

    def test_the_file_is_for_its_owner_only(self) -> None:
        """It is closed to others, and there is no half-written one beside it."""
        status = (self.data_dir / "redis-password").stat()
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(status.st_uid, os.geteuid())
        self.assertGreaterEqual(len(self.password), 40)
        self.assertEqual(sorted(os.listdir(self.data_dir)), ["redis-password", "valkey"])

    def test_the_password_stands_nowhere_else(self) -> None:
        """Neither in a log nor in any file, command line, environment or page."""
        secret = self.password.encode()
        for path in self.daemon.directory.rglob("*"):
            if path.is_file() and path.name != "redis-password":
                self.assertNotIn(secret, path.read_bytes(), path)
        pids = [self.daemon.pid, self.daemon.embedded_pid(), *self.daemon.worker_pids().values()]
        for pid in pids:
            for name in ("cmdline", "environ"):
                self.assertNotIn(secret, Path(f"/proc/{pid}/{name}").read_bytes(), (pid, name))
        for page in ("/metrics", "/readyz", "/healthz", "/"):
            self.assertNotIn(self.password, self.daemon.get(page)[1], page)

    def test_jt709c_finds_it_by_its_directory(self) -> None:
        """``embedded:DIR`` has port and password, also by what the log says to paste."""
        (pasted,) = re.findall(r"export (JT709C_REDIS=\S+)", self.daemon.last_log())
        self.assertEqual(pasted, f"JT709C_REDIS=embedded:{self.data_dir}")
        shown = jt709c("devices", "--json", redis=pasted.partition("=")[2])
        self.assertIn(_DEVICE, shown.stdout, shown.stderr)
        for redis in ("embedded", "embedded:jt709c-data", "embedded:./jt709c-data/"):
            shown = jt709c("devices", "--json", redis=redis, cwd=self.daemon.directory)
            self.assertIn(_DEVICE, shown.stdout, (redis, shown.stderr))
        shown = jt709c("devices", "--json", "--redis", f"embedded:{self.data_dir}", redis="redis://x")
        self.assertIn(_DEVICE, shown.stdout, shown.stderr)

    def test_jt709c_without_the_password(self) -> None:
        """With the address alone it says what is missing, in one line."""
        shown = jt709c("devices", redis=f"redis://{LOOPBACK}:{self.daemon.embedded_port}")
        self.assertEqual(shown.returncode, 2)
        self.assertIn("NOAUTH", shown.stderr)

    def test_another_user_gets_nothing_from_it(self) -> None:
        """Another user can neither read the file nor use ``embedded:DIR``, and is told so in one line."""
        if os.geteuid() != 0:
            # Nobody can be another user here but root; the mode is looked at above.
            self.assertEqual(stat.S_IMODE((self.data_dir / "valkey").stat().st_mode), 0o700)
            return
        self.daemon.directory.chmod(0o755)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            try:
                running_server(self.data_dir)
            except EmbeddedServerError as error:
                refused = "Permission denied" in str(error)
                try:
                    (self.data_dir / "redis-password").read_text()
                except PermissionError:
                    os._exit(0 if refused else 2)
            os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


class EmbeddedLifeTests(SynchronousTestCase):
    def daemon(self, *options: str) -> Daemon:
        daemon = Daemon(*options)
        self.addCleanup(daemon.discard)
        return daemon

    def test_kept_from_start_to_start(self) -> None:
        """The password is made once; one that the operator puts there instead counts from the next start."""
        daemon = self.daemon().start()
        first = daemon.embedded_password
        daemon.stop()
        daemon.start()
        self.assertEqual(daemon.embedded_password, first)
        daemon.stop()
        chosen = 'my own "pass" word \\ ü # \''
        (daemon.directory / "jt709c-data" / "redis-password").write_text(f"  {chosen}\nsecond line\n")
        daemon.start()
        with RedisClient(daemon.embedded_port, password=chosen) as client:
            self.assertEqual(client.call("PING"), b"PONG")
        self.assertNotIn("my own", daemon.log())

    def test_data_from_before_it_had_one(self) -> None:
        """A directory that was used without a password keeps its data and gets one."""
        daemon = self.daemon("--embedded-open").start()
        with RedisClient(daemon.embedded_port) as client:
            client.call("SET", "kept", "yes")
        daemon.stop()
        daemon._options = ()
        daemon.start()
        with RedisClient(daemon.embedded_port) as client:
            self.assertRaises(RedisError, client.call, "GET", "kept")
        with daemon.embedded_client() as client:
            self.assertEqual(client.call("GET", "kept"), b"yes")

    def test_left_open_when_asked_to(self) -> None:
        """``--embedded-open`` leaves it open, says so, and there is no password file any more."""
        daemon = self.daemon().start()
        daemon.stop()
        daemon._options = ("--embedded-open", "--workers=2")
        daemon.start()
        self.assertIsNone(daemon.embedded_password)
        self.assertIn("open to every user of this host", daemon.last_log())
        with RedisClient(daemon.embedded_port) as client:
            self.assertEqual(client.call("PING"), b"PONG")
        shown = jt709c("devices", redis=f"embedded:{daemon.directory / 'jt709c-data'}")
        self.assertEqual(shown.returncode, 0, shown.stderr)

    def test_restarted_server_has_it_too(self) -> None:
        """A server that died comes back with its password, and the gateway with it."""
        daemon = self.daemon().start()
        os.kill(daemon.embedded_pid(), 9)
        wait_until(lambda: "embedded Valkey is back" in daemon.log())
        with RedisClient(daemon.embedded_port) as client:
            self.assertRaises(RedisError, client.call, "PING")
        wait_until(lambda: daemon.get("/readyz")[0] == 200)
        with daemon.lock() as lock:
            lock.ask(report(1))

    def test_no_file_that_others_may_have_read(self) -> None:
        """A file that is open to others, or another user's, stops the start with one line that says so."""
        directory = Path(temporary_path(self))
        directory.mkdir()
        path = directory / "data" / "redis-password"
        path.parent.mkdir()
        path.write_text("s3cret\n")
        cases = [(0o644, None, "chmod 600"), (0o640, None, "chmod 600"), (0o602, None, "chmod 600")]
        if os.geteuid() == 0:
            cases.append((0o600, _NOBODY, f"belongs to user {_NOBODY}"))
        for mode, owner, said in cases:
            path.chmod(mode)
            if owner is not None:
                os.chown(path, owner, owner)
            for workers in ("1", "2"):
                ended = run_twistd(
                    *("-n", "--pidfile=", "jt709c-gateway", "--redis=embedded", f"--data-dir={path.parent}"),
                    *(f"--listen=tcp:{free_port()}:interface={LOOPBACK}", "--no-udp", f"--workers={workers}"),
                    directory=directory,
                )
                self.assertNotEqual(ended.returncode, 0)
                self.assertIn(said, ended.stderr)
                self.assertIn(str(path), ended.stderr)
                self.assertNotIn("Traceback", ended.stdout + ended.stderr)
                self.assertNotIn("s3cret", ended.stdout + ended.stderr)
            self.assertRaises(EmbeddedServerError, PasswordFile(path.parent).read)


class PasswordFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()
        self.file = PasswordFile(self.directory)

    def test_made_when_missing(self) -> None:
        """Made once, different each time, whole, and closed to others whatever the umask is."""
        self.assertIsNone(self.file.read())
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        first = self.file.ensure()
        self.assertEqual(self.file.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.file.ensure(), first)
        self.assertEqual(self.file.read(), first)
        self.file.remove()
        self.file.remove()
        self.assertNotEqual(self.file.ensure(), first)
        self.assertEqual(os.listdir(self.directory), ["redis-password"])

    def test_half_written_leftover(self) -> None:
        """What a kill in the middle of writing left behind is no hindrance."""
        self.file.path.with_name("redis-password.new").write_text("half")
        self.assertNotEqual(self.file.ensure(), "half")

    def test_what_is_no_password(self) -> None:
        """An empty file, one that is no text, a directory, a named pipe: one line each, without waiting."""
        for content in (b"", b"\n", b"  \nx", b"\xff\xfe\n"):
            self.file.path.write_bytes(content)
            self.file.path.chmod(0o600)
            self.assertIn("holds no password", str(self.assertRaises(EmbeddedServerError, self.file.read)))
        self.file.path.unlink()
        for make in (os.mkdir, os.mkfifo):
            make(self.file.path, 0o600)
            error = self.assertRaises(EmbeddedServerError, self.file.ensure)
            self.assertIn("no regular file", str(error))
            (os.rmdir if make is os.mkdir else os.unlink)(self.file.path)

    def test_not_writable(self) -> None:
        """A directory that can't be written is named."""
        gone = PasswordFile(self.directory / "gone")
        self.assertIn("No such file", str(self.assertRaises(EmbeddedServerError, gone.ensure)))

    def test_reader_never_sees_half_of_it(self) -> None:
        """Whoever reads while it is made finds nothing or all of it."""
        seen: set[int] = set()
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                found = self.file.read()
                seen.add(-1 if found is None else len(found))

        reader = threading.Thread(target=watch)
        reader.start()
        for _ in range(200):
            length = len(self.file.ensure())
            self.file.remove()
        done.set()
        reader.join()
        self.assertLessEqual(seen, {-1, length})


class RunningServerTests(SynchronousTestCase):
    def test_no_gateway_runs_there(self) -> None:
        """Without a server of ours nobody is given the password, who may listen on its port now."""
        daemon = Daemon().start()
        self.addCleanup(daemon.discard)
        data_dir = daemon.directory / "jt709c-data"
        port = daemon.embedded_port
        self.assertEqual(running_server(data_dir).port, port)
        daemon.stop()
        with socket.create_server((LOOPBACK, port)) as squatter:
            squatter.settimeout(0.2)
            shown = jt709c("devices", redis=f"embedded:{data_dir}")
            self.assertEqual(shown.returncode, 2)
            self.assertIn(f"no embedded server runs on {data_dir}", shown.stderr)
            self.assertRaises(TimeoutError, squatter.accept)

    def test_no_such_directory(self) -> None:
        """Each mistake is one line with what is right."""
        for redis, said in (
            ("embedded:/nowhere", "no embedded server runs on /nowhere"),
            ("embedded:", "expected embedded:DIR"),
            ("embedded:6399", "embedded:./6399"),
        ):
            shown = jt709c("watch", redis=redis)
            self.assertEqual(shown.returncode, 2)
            self.assertIn(said, shown.stderr)
            self.assertEqual(len(shown.stderr.strip().splitlines()), 1, shown.stderr)
