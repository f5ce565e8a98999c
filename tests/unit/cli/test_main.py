"""The command line as a process: exit statuses, no tracebacks, signals, pipes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway import __version__
from jt709c_gateway.cli.main import SUBCOMMANDS
from tests.support import wait_until
from tests.support.cli import run

COMMAND = [sys.executable, "-m", "jt709c_gateway.cli.main"]
TIMEOUT = 60


def started(*arguments, **environment):
    """Run the command as users do."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def _waits(pid):
    """Whether a process has nothing to do: it sleeps, and has used no processor time for a while."""
    before = _cpu(pid)
    time.sleep(0.3)
    return before == _cpu(pid) and before[0] == "S"


def _cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[11], fields[12]


class Process(SynchronousTestCase):
    def test_version_and_help(self):
        self.assertIn(__version__, started("--version").stdout)
        result = started("--help")
        for name in SUBCOMMANDS:
            self.assertIn(name, result.stdout)
            self.assertEqual(run(name, "--help").returncode, 0)

    def test_the_list_of_commands_is_in_whole_sentences(self):
        """click cuts what is too long for 80 columns."""
        listed = started("--help", COLUMNS="80").stdout.partition("Commands:\n")[2].splitlines()
        self.assertEqual([line for line in listed if not line.endswith(".") or line.endswith("..")], [])
        self.assertIn("  send         Queue a command and wait for its outcome.", listed)

    def test_help_imports_nothing_heavy(self):
        """Nor does completing the name of a subcommand; a subcommand is imported when it is used."""
        code = (
            "import sys\n"
            "from jt709c_gateway.cli.main import cli\n"
            "cli.main(['--help'], standalone_mode=False)\n"
            "cli.shell_complete(cli.make_context('jt709c', ['devices']), '')\n"
            "print([name for name in ('twisted', 'rich', 'msgspec', 'attrs') if name in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(result.stdout.splitlines()[-1:], ["[]"], result.stderr)

    def test_help_of_subcommands_is_quick(self):
        """What only a run needs, as Twisted, Redis' client and tables do, is imported when it runs."""
        code = (
            "import sys\n"
            "from jt709c_gateway.cli.main import SUBCOMMANDS, cli\n"
            "for name in [*SUBCOMMANDS, 'profiles learn', 'profiles check']:\n"
            "    cli.main([*name.split(), '--help'], standalone_mode=False)\n"
            "    loaded = {'twisted', 'txredisapi'} & set(sys.modules)\n"
            "    print(f'imported: {name}', *loaded)\n"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
        said = [line for line in result.stdout.splitlines() if line.startswith("imported: ")]
        names = [*SUBCOMMANDS, "profiles learn", "profiles check"]
        self.assertEqual(said, [f"imported: {name}" for name in names], result.stderr)

    def test_mistakes_are_one_line_with_status_2(self):
        for arguments in (
            ("nonsense",),
            ("decode", "zz"),
            ("decode", "--nonsense"),
            ("simulate", "--tcp", "nowhere"),
            ("simulate", "--tcp", "[::1:5"),
            ("simulate", "--tcp", "127.0.0.1:1", "--udp", "127.0.0.1:1"),
            ("simulate", "--udp", "127.0.0.1:70000"),
            ("simulate", "--sleep", "5"),
            ("simulate", "--sleep", "0:1"),
            ("simulate", "--sleep", "1.2.3:1"),
            ("simulate", "--interval", "0"),
            ("simulate", "--interval", "nan"),
            ("simulate", "--heartbeat", "inf"),
            ("simulate", "--speed-factor", "nan"),
            ("simulate", "--password", "short"),
            ("simulate", "--first-id", "1x"),
            ("simulate", "--first-id", "999999999999", "--locks", "2"),
            ("simulate", "--route", "/nonexistent"),
            ("simulate", "--route", os.devnull),
            ("watch", "--redis", "http://x"),
            ("watch", "--redis", "embedded:"),
            ("watch", "--kind", "nonsense"),
            ("watch", "--device", ""),
            ("watch", "--since", "soon"),
            ("devices", "--silent-for", "soon"),
            ("devices", "--alarm", "ropecut"),
            ("devices", "--battery-below", "x"),
            ("devices", "--limit", "0"),
            ("devices", "--sort", "x"),
            ("history", "1", "--since", "soon"),
            ("completion", "tcsh"),
            ("replay", "/nonexistent"),
            ("replay", "/"),
            ("replay", os.devnull),
            ("replay", "x", "--to", "nowhere"),
            ("replay", "x", "--speed", "0"),
            ("replay", "x", "--speed", "fast"),
            ("replay", "x", "--speed", "nan"),
            ("send", "unlock", "1", "password=888888"),
            ("catalogue", "dance"),
            ("profiles", "check"),
            ("send", "unlock", "abc"),
            ("send", "unlock", "1", "password"),
            ("send", "text", "1", "text=x", "--id", "no spaces"),
            ("send", "text", "1", "text=x", "--ttl", "0"),
            ("send", "set_password", "1"),
            ("send", "set_parameters", "1", "parameters:={x"),
            ("send", "unlock", "1", "--password-file", "/nonexistent"),
        ):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, (arguments, result.stdout, result.stderr))
            lines = result.stderr.splitlines()
            self.assertTrue(lines[-1].startswith("jt709c: "), result.stderr)
            self.assertNotIn("Traceback", result.stderr)
            self.assertEqual(result.stdout, "")

    def test_errors_name_the_option_and_what_is_expected(self):
        for arguments, said in (
            (("devices", "--limit", "x"), "jt709c: --limit: 'x'; expected an integer from 1\n"),
            (("devices", "--limit", "0"), "jt709c: --limit: '0'; expected an integer from 1\n"),
            (("devices", "--sort", "x"), "jt709c: --sort: 'x' is not one of 'seen', "),
            (("devices", "-o", "x"), "jt709c: --output: 'x' is not one of "),
            (("track", "1" * 21), "jt709c: DEVICE: "),
            (("senf", "unlock"), "jt709c: there is no subcommand 'senf'; did you mean send?\n"),
            (("xyz",), "jt709c: there is no subcommand 'xyz'; jt709c --help lists them\n"),
            (
                ("simulate", "--sublocks", "80"),
                "jt709c: --sublocks: '80'; expected an integer from 0 to 66\n",
            ),
            (("simulate", "--seed", "x"), "jt709c: --seed: 'x'; expected an integer\n"),
            (("simulate", "--duration", "0"), "jt709c: --duration: 0; expected seconds above 0\n"),
            (("simulate", "--interval", "inf"), "jt709c: --interval: inf; expected seconds above 0\n"),
            (("simulate", "--heartbeat", "-1"), "jt709c: --heartbeat: -1; expected seconds from 0\n"),
            (
                ("simulate", "--speed-factor", "nan"),
                "jt709c: --speed-factor: nan; expected a number from 0\n",
            ),
            (("replay", "x", "--grace", "4000"), "jt709c: --grace: 4000; expected seconds from 0 to 3600\n"),
            (
                ("profiles", "learn", "--sentence", "0"),
                "jt709c: --sentence: '0'; expected an integer from 1\n",
            ),
            (("replay", "x", "--port", "0"), "--port: '0'; expected an integer from 1 to 65535"),
            (("send", "text", "1", "text=x", "--ttl", "-4"), "--ttl: -4; expected seconds above 0"),
            (("send", "text", "1", "text=x", "--ttl", "1e9"), "--ttl: is a number; expected seconds above 0"),
            (("send", "text", "1", "text=x", "--id", "a b"), "--id: "),
            (
                ("--redis", "redis://x", "devices"),
                "--redis here; give an option of a subcommand after its",
            ),
            (("devices", "--redis", "embedded:/nonexistent"), "jt709c: --redis: "),
        ):
            self.assertIn(said, run(*arguments).stderr)
        secret = run("send", "text", "1", "text=x", "--ttl", "888888x").stderr
        self.assertIn("jt709c: --ttl: ", secret)
        self.assertNotIn("888888", secret)
        found = run("devices", JT709C_REDIS="embedded:/nonexistent").stderr
        self.assertTrue(found.startswith("jt709c: JT709C_REDIS: "), found)

    def test_a_reader_that_leaves_ends_it_quietly(self):
        frame = b"7e0002000079430801067900017e" * 5000
        process = subprocess.Popen(
            [*COMMAND, "decode", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with process:
            process.stdout.close()
            try:
                process.stdin.write(frame)
                process.stdin.close()
            except BrokenPipeError:
                # It may have ended before it had read everything.
                pass
            self.assertEqual(process.wait(TIMEOUT), 141)
            self.assertEqual(process.stderr.read(), b"")

    def test_colours_only_where_they_are_wanted(self):
        result = run("decode", "7e0002000079430801067900017e")
        self.assertNotIn("\x1b", result.stdout)

    def test_a_reader_of_any_command_may_leave(self):
        for arguments in (
            ("catalogue",),
            ("completion", "bash"),
            ("explain", "7e0002000079430801067900017e"),
        ):
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
            with process:
                process.stdout.close()
                self.assertEqual((process.wait(TIMEOUT), process.stderr.read()), (141, b""), arguments)


class Signals(SynchronousTestCase):
    def test_an_interrupt_ends_whatever_waits(self):
        """For Redis that says nothing, for input that doesn't come, at any moment: 130, and no traceback."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            redis = ("--redis", f"redis://127.0.0.1:{mute.getsockname()[1]}")
            for arguments in (
                ("decode", "-"),
                ("explain", "-"),
                ("replay", "-"),
                ("devices", *redis),
                ("history", "5", *redis),
                ("send", "locate", "5", *redis),
                ("send", "locate", "5", "--wait", *redis),
                ("watch", "--device", "5", *redis),
                ("watch", *redis),
            ):
                process = subprocess.Popen(
                    [*COMMAND, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                with process:
                    wait_until(lambda pid=process.pid: _waits(pid), TIMEOUT)
                    process.send_signal(signal.SIGINT)
                    self.assertEqual(process.wait(TIMEOUT), 130, arguments)
                    said = process.stdout.read() + process.stderr.read()
                    self.assertEqual(said.strip(), b"", arguments)

    def test_an_interrupt_ends_a_replay_that_waits_for_its_input(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(
                [*COMMAND, "replay", "-", "--to", "127.0.0.1:9"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                process.stdin.write(b"7e0002000079430801067900017e\n")
                process.stdin.flush()
                wait_until(lambda pid=process.pid: _waits(pid), TIMEOUT)
                process.send_signal(number)
                self.assertEqual(process.wait(TIMEOUT), 128 + number)
                self.assertNotIn(b"Traceback", process.stderr.read())

    def test_interrupting_is_quiet_and_sums_up(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(
                # Nothing listens on port 9 of loopback; whether it does makes no difference here.
                [*COMMAND, "watch", "--redis", "redis://127.0.0.1:9"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with process:
                first = process.stderr.readline()
                self.assertIn("cannot connect to Redis", first)
                process.send_signal(number)
                _, errors = process.communicate(timeout=TIMEOUT)
            self.assertEqual((process.returncode, errors), (128 + number, ""))
