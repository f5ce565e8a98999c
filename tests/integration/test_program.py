"""The `jt709c-gateway` program, and its demo."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway import demo
from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.program import ProgramOptions, log_line
from jt709c_gateway.startup import StartError
from tests.support import LOOPBACK, PATIENCE, free_port, temporary_path, wait_until
from tests.support.daemon import twistd_environment

_PROGRAM = [sys.executable, "-c", "from jt709c_gateway.program import main; main()"]


class Program:
    """The program in its own directory; `log` has its output."""

    def __init__(self, test: SynchronousTestCase, *arguments: str) -> None:
        self.directory = Path(temporary_path(test))
        self.directory.mkdir()
        self._log = self.directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_PROGRAM, *arguments],
                cwd=self.directory,
                env=twistd_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        test.addCleanup(self.process.wait, 10)
        test.addCleanup(self.process.kill)

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> str:
        """Wait until it has written this, or fail when it ends."""

        def there() -> bool:
            return text in self.log() or self.process.poll() is not None

        wait_until(there, message=f"not written: {text}")
        assert text in self.log(), self.log()
        return self.log()


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as directory:
        return subprocess.run(
            [*_PROGRAM, *arguments],
            cwd=directory,
            env=twistd_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


class ProgramTests(SynchronousTestCase):
    """The gateway without twistd."""

    def test_has_the_options_of_the_plugin(self) -> None:
        plugin, program = str(Options()), str(ProgramOptions())
        names = re.findall(r"--[a-z0-9-]+", plugin)
        self.assertGreater(len(names), 50)
        self.assertEqual(set(re.findall(r"--[a-z0-9-]+", program)), {*names, "--demo"})
        self.assertTrue(str(ProgramOptions()).startswith("Usage: jt709c-gateway [options]"))

    def test_a_mistake_is_one_line(self) -> None:
        for arguments, line in (
            (["--bogus"], "jt709c-gateway: option --bogus not recognized\n"),
            (["--max-connections", "many"], "jt709c-gateway: --max-connections 'many': "),
            (["--demo", "--config", __file__], "jt709c-gateway: --demo: expected without --config\n"),
        ):
            ended = _run(*arguments)
            self.assertEqual((ended.returncode, ended.stdout), (1, ""))
            self.assertTrue(ended.stderr.startswith(line), ended.stderr)
            self.assertEqual(ended.stderr.count("\n"), 1)

    def test_a_port_in_use_is_one_line(self) -> None:
        with socket.socket() as taken:
            taken.bind((LOOPBACK, 0))
            taken.listen()
            port = taken.getsockname()[1]
            ended = _run("--listen", f"tcp:{port}:interface={LOOPBACK}", "--no-udp")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("Address already in use", ended.stderr)
        self.assertEqual(ended.stderr.count("\n"), 1)
        self.assertNotIn("Traceback", ended.stdout + ended.stderr)

    def test_runs_and_ends_with_a_signal(self) -> None:
        port = free_port()
        program = Program(
            self, "--redis", "embedded", "--listen", f"tcp:{port}:interface={LOOPBACK}", "--no-udp"
        )
        log = program.wait_for("connected to Redis")
        directory = program.directory / "jt709c-data"
        self.assertIn(f" (password in {directory}/redis-password); for jt709c: export JT709C_REDIS=", log)
        self.assertRegex(log, rf"(?m)^\S+ listening for locks on tcp 127\.0\.0\.1:{port}$")
        self.assertNotIn(" starting on ", log)
        program.process.send_signal(signal.SIGTERM)
        self.assertEqual(program.process.wait(PATIENCE), 0)
        self.assertRegex(program.log(), r"(?m)^\S+ stopped$")
        self.assertEqual(program.log().count("connected to Redis"), 1)
        self.assertNotIn("Traceback", program.log())
        self.assertTrue((program.directory / "jt709c-data").is_dir())

    def test_reads_a_configuration(self) -> None:
        options = ProgramOptions()
        path = temporary_path(self)
        Path(path).write_text('gateway = "gw7"\n')
        options.parseOptions(["--config", path])
        self.assertEqual(options.settings.gateway, "gw7")


class LogLineTests(SynchronousTestCase):
    """Log lines of the program."""

    def event(self, text: str, namespace: str = "ours", level: Any = LogLevel.info) -> dict[str, Any]:
        return {"log_format": text, "log_namespace": namespace, "log_level": level, "log_time": 0.0}

    def test_level_and_text(self) -> None:
        self.assertRegex(log_line(self.event("hello")) or "", r"^\S+ hello\n$")
        self.assertRegex(log_line(self.event("oh", level=LogLevel.warn)) or "", r"^\S+ warn: oh\n$")

    def test_leaves_out_twisteds_ports_only(self) -> None:
        line = "TCP for locks starting on 8888"
        self.assertIsNone(log_line(self.event(line, "log_legacy")))
        self.assertIsNone(log_line(self.event("(TCP Port 8888 Closed)", "log_legacy")))
        self.assertIsNotNone(log_line(self.event(line)))
        self.assertIsNotNone(log_line(self.event("Received SIGTERM", "twisted.internet")))


class DemoTests(SynchronousTestCase):
    """`--demo`."""

    def test_shows_a_page_and_locks_that_open(self) -> None:
        lock_port, page_port = free_port(), free_port()
        program = Program(
            self,
            *("--demo", "--listen", f"tcp:{lock_port}:interface={LOOPBACK}", "--no-udp"),
            *("--http", f"tcp:{page_port}:interface={LOOPBACK}"),
        )
        log = program.wait_for("ends everything and removes jt709c-demo")
        self.assertNotIn("warn", log)
        self.assertIn(f"For locks:   {LOOPBACK}:{lock_port}, TCP\n", log)
        found = re.search(r"The page: +(\S+) +user (\S+), password (\S+)", log)
        assert found is not None, log
        url, user, password = found.groups()
        self.assertEqual(url, f"http://{LOOPBACK}:{page_port}/")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()

        def get(address: str) -> str:
            request = urllib.request.Request(address, headers={"authorization": f"Basic {token}"})
            body: bytes = urllib.request.urlopen(request).read()
            return body.decode()

        wait_until(lambda: get(f"{url}api/v1/devices").count('"79430801000') >= 3)
        self.assertIn(
            datetime.now(UTC).strftime('"time":"%Y-%m-%d'), get(f"{url}api/v1/events?kind=location")
        )
        self.assertEqual(os.stat(program.directory / "jt709c-demo").st_mode & 0o077, 0)
        # The two lines as they are, and the password at the prompt.
        lines = re.search(r"(export JT709C_REDIS=\S+)\n +(jt709c send unlock .*)\n", log)
        assert lines is not None, log
        program_path = Path(sys.executable).parent
        sent = subprocess.run(
            ["bash", "-c", f"{lines[1]}; {lines[2]} --password-file <(echo 888888)"],
            cwd=program.directory,
            env={**twistd_environment(), "PATH": f"{program_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertIn("confirmed", sent.stdout, sent.stderr)
        program.process.send_signal(signal.SIGINT)
        self.assertEqual(program.process.wait(PATIENCE), 0)
        self.assertFalse((program.directory / "jt709c-demo").exists())
        self.assertNotIn("Traceback", program.log())

    def plan(self, **given: Any) -> demo.DemoPlan:
        directory = temporary_path(self)
        os.mkdir(directory)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)
        return demo.plan_demo(given)

    def test_a_port_in_use_is_replaced(self) -> None:
        with socket.socket() as taken:
            taken.bind((LOOPBACK, 0))
            taken.listen()
            port = taken.getsockname()[1]
            with mock.patch.object(demo, "_LOCK_PORT", port):
                plan = self.plan()
        listen = plan.options["listen"]
        assert listen is not None
        self.assertNotIn(str(port), listen)
        self.assertRegex(listen, r"^tcp:[1-9]\d+:interface=127\.0\.0\.1$")

    def test_another_directory_is_left_alone(self) -> None:
        given = self.plan().temporary
        assert given is not None
        (given / "made-by-demo").unlink()
        self.assertRaises(StartError, demo.plan_demo, {})
        demo.DemoPlan({}, None, given).discard()
        self.assertTrue(given.exists())
        kept = demo.plan_demo({"data_dir": given})
        self.assertIsNone(kept.temporary)

    def test_the_command_line_is_named_so_that_it_is_found(self) -> None:
        """The hint names the command if it leads to the same installation, else its path; with uvx its
        path."""
        directory = Path(temporary_path(self))
        for place in ("bin", "cache/archive-v0/x/bin"):
            (directory / place).mkdir(parents=True)
            path = directory / place / "jt709c"
            path.touch(0o700)
            for search, named in ((str(path.parent), "jt709c"), ("/nowhere", str(path))):
                shown = str(path) if "archive-v0" in place else named
                program = str(path.with_name("jt709c-gateway"))
                with mock.patch.object(sys, "argv", [program]), mock.patch.dict(os.environ, PATH=search):
                    self.assertEqual(demo._command_line(), shown)

    def test_given_users_stay(self) -> None:
        plan = self.plan(web_users="none")
        self.assertIsNone(plan.password)
        self.assertNotIn("web-users", plan.options)
        self.assertNotIn("web-commands", plan.options)
