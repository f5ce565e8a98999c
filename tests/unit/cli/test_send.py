"""jt709c send against a real server."""

import fcntl
import hmac
import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import termios
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli import command_arguments
from jt709c_gateway.cli.errors import UserError
from tests.support import wait_until
from tests.support.cli import COMMAND, DEVICE, TIMEOUT, WithRedis, run
from tests.support.signing import SECRET

#: A profile with a command of its own, named almost like one of the catalogue.
OWN_PROFILE = """
name = "own"
dialect = "jt709"
source = "a test"

[match]
devices = ["1"]

[commands.unlok]
template = { sentence = "OWN,1,{speed}" }
params.speed = { type = "integer", required = true, min = 1, max = 9 }
"""


class WithLock(WithRedis):
    """A lock that has been heard."""

    def setUp(self):
        super().setUp()
        self.redis.call("ZADD", "jt709c:devices", time.time(), DEVICE)

    def send(self, *arguments, **environment):
        return subprocess.run(
            [*COMMAND, "send", *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "JT709C_REDIS": self.server.url, **environment},
        )


class Send(WithLock):
    def secret_file(self, *lines):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "secret"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def test_a_command_is_queued_as_the_design_says(self):
        path = self.secret_file("471100")
        result = self.send("unseal", DEVICE, "--password-file", path, "--ttl", "60", "--id", "o-1")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("command o-1 queued: unlock for 794308010679", result.stdout)
        command = self.taken_command()
        self.assertRegex(command.pop("issued_by"), ".@.")
        self.assertEqual(
            command,
            {
                "id": "o-1",
                "device": DEVICE,
                "command": "unlock",
                "params": {"password": "471100"},
                "ttl": 60.0,
                "timeout": 30.0,
            },
        )

    def test_a_secret_on_the_command_line_is_refused_and_not_repeated(self):
        """In each form that a shell's history and ps would show, whatever the profile calls it."""
        for command, assignment, instead in (
            ("unlock", "password=471100", "--password-file FILE"),
            ("unlock", 'password:="471100"', "--password-file FILE"),
            ("set_password", "new=471100", "--password-file FILE"),
            ("set_server", "apn_password=471100", "apn_password=@FILE"),
            ("set_parameters", 'parameters={"0x0012": "471100"}', "parameters=@FILE"),
            ("set_parameters", 'parameters:={"16": "471100"}', "parameters=@FILE"),
            ("own_command", "my_secret=471100", "NAME=@FILE"),
        ):
            result = self.send(command, DEVICE, assignment)
            self.assertEqual((result.returncode, result.stdout), (2, ""), assignment)
            self.assertIn("doesn't belong on a command line, where ps", result.stderr)
            self.assertIn(instead, result.stderr)
            self.assertNotIn("471100", result.stderr)
        self.assertEqual(self.redis.call("LLEN", "jt709c:commands"), 0)

    def test_secrets_come_out_of_files_and_standard_input(self):
        path = self.secret_file("471100")
        for arguments, stdin, expected in (
            (("unlock", "--password-file", "-"), "471100\n", {"password": "471100"}),
            (("unlock", "password=@-"), "471100\n", {"password": "471100"}),
            (("unlock", f"password=@{path}"), "", {"password": "471100"}),
            (
                ("set_password", "--password-file", "-"),
                "old111\nnew222\n",
                {"old": "old111", "new": "new222"},
            ),
            (("set_parameters", "parameters=@-"), '{"0012": "x"}', {"parameters": {"0012": "x"}}),
            (("set_parameters", 'parameters={"0001": 60}'), "", {"parameters": {"0001": 60}}),
            (("raw", "hex=7e027e"), "", {"hex": "7e027e"}),
            (("text", "text=@home"), "", {"text": "@home"}),
        ):
            command, *rest = arguments
            result = run("send", command, DEVICE, *rest, stdin=stdin, JT709C_REDIS=self.server.url)
            self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
            self.assertEqual(self.taken_command()["params"], expected)
        for text in ("", "one111\ntwo222\n"):
            result = run("send", "unlock", DEVICE, "--password-file", "-", stdin=text)
            self.assertEqual(result.returncode, 2)
            self.assertRegex(result.stderr, "standard input has [02] lines; unlock takes 1: password")
        self.assertIn("is empty", run("send", "unlock", DEVICE, "password=@/dev/null").stderr)

    def test_a_new_password_takes_the_present_one_first(self):
        result = self.send("set_password", DEVICE, "--password-file", self.secret_file("old111", "new222"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.taken_command()["params"], {"old": "old111", "new": "new222"})

    def test_a_misspelled_command_is_refused_with_the_right_one(self):
        for word, right in (("unlok", "unlock"), ("unsael", "unseal"), ("Unlock", "unlock")):
            result = self.send(word, DEVICE)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(f"did you mean {right}?", result.stderr)
        result = self.send(DEVICE, "unlock")
        self.assertIn("the command comes first: jt709c send unlock DEVICE", result.stderr)
        self.assertEqual(self.redis.call("LLEN", "jt709c:commands"), 0)

    def test_a_parameter_that_does_not_exist_is_refused_before_it_is_pushed(self):
        """Without its name, which may be a misplaced password; and with a word about the shell's history."""
        history = "if it held a password, your shell's history has it now"
        for command, given, said in (
            ("unlock", "pasword=471100", f"did you mean password; {history}"),
            ("unlock", "pin471100=1", f"expected method, password; {history}"),
            ("locate", "hurry=yes", "locate has no such parameter (number 1 of them); expected none"),
            ("cancel", "di=7f3c", "expected id"),
        ):
            result = self.send(command, DEVICE, given)
            self.assertEqual((result.returncode, result.stdout), (2, ""), result.stderr)
            self.assertIn(said, result.stderr)
            self.assertEqual(history in result.stderr, history in said)
            self.assertNotIn("471100", result.stderr)
        self.assertEqual(self.redis.call("LLEN", "jt709c:commands"), 0)

    def test_profiles_of_the_operator_are_known(self):
        directory = Path(self.secret_file()).parent
        (directory / "own.toml").write_text(OWN_PROFILE)
        result = self.send("unlok", DEVICE, "speed=3", "--profiles", str(directory))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(self.taken_command()["params"], {"speed": 3})
        result = self.send("zzz", DEVICE, JT709C_PROFILES=str(directory))
        self.assertIn("there is no such command (a name of 3 characters)", result.stderr)

    def test_a_password_file_that_does_not_fit_is_refused(self):
        for lines in ((), ("one111", "two222")):
            result = self.send("unlock", DEVICE, "--password-file", self.secret_file(*lines))
            self.assertEqual(result.returncode, 2)
            self.assertNotIn("111", result.stderr)
        self.assertEqual(self.redis.call("LLEN", "jt709c:commands"), 0)

    def test_without_a_terminal_the_gateway_puts_in_its_own_password(self):
        self.assertEqual(self.send("unlock", DEVICE).returncode, 0)
        self.assertNotIn("params", self.taken_command())

    def test_at_a_terminal_the_password_is_asked_for_and_hidden(self):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "send", "unlock", DEVICE, "--redis", self.server.url],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # The controlling terminal is where a hidden prompt reads from.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + TIMEOUT
        written = False
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                shown += os.read(ours, 1024)
            except OSError:
                break
            # The space comes once the terminal no longer echoes; what was typed before that is thrown away.
            if not written and b"gateway has): " in shown:
                os.write(ours, b"471100\n")
                written = True
        os.close(ours)
        self.assertEqual(process.wait(TIMEOUT), 0, shown)
        self.assertNotIn(b"471100", shown)
        self.assertEqual(self.taken_command()["params"], {"password": "471100"})

    def test_json_and_a_list_for_the_outcome(self):
        result = self.send("restart", DEVICE, "--json", "--reply-to", "auto", "--issued-by", "night shift")
        told = json.loads(result.stdout)
        command = self.taken_command()
        self.assertEqual((command["reply_to"], command["issued_by"]), (told["id"], "night shift"))
        self.assertEqual(told["reply_to"], command["id"])

    def key_file(self, text=None):
        path = Path(self.secret_file(text or f'k1 = "{SECRET.hex()}"'))
        path.chmod(0o600)
        return str(path)

    def test_a_command_is_signed_with_a_key_of_a_file(self):
        two = self.key_file(f'k1 = "{SECRET.hex()}"\nk2 = "{SECRET[::-1].hex()}"')
        for arguments in (("--key-file", self.key_file()), ("--key-file", two, "--key-id", "k1")):
            result = self.send("text", DEVICE, "text=Tür 7", "--id", "o-1", *arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            entry = wait_until(lambda: self.redis.call("LPOP", "jt709c:commands"))
            envelope = json.loads(entry)
            mac = hmac.new(SECRET, envelope["order"].encode(), "sha256").hexdigest()
            self.assertEqual((envelope["key"], envelope["mac"]), ("k1", mac))
            command = json.loads(envelope["order"])
            self.assertLess(abs(command["issued_at"] - time.time()), 60)
            self.assertEqual((command["id"], command["params"]), ("o-1", {"text": "Tür 7"}))

    def test_a_key_that_can_not_be_used_is_one_line_without_the_secret(self):
        good = self.key_file()
        world = self.key_file()
        os.chmod(world, 0o644)
        for arguments, word in (
            (("--key-id", "k1"), "--key-id goes with --key-file"),
            (("--key-file", good, "--key-id", "k9"), "expected one of k1"),
            (
                ("--key-file", self.key_file(f'a = "{SECRET.hex()}"\nb = "{"7f" * 16}"')),
                "--key-id is missing",
            ),
            (("--key-file", world), "chmod o="),
            (("--key-file", self.key_file('k1 = "' + SECRET.hex()[:20] + '"')), "at least 16 bytes"),
            (("--key-file", "/nowhere"), "No such file"),
        ):
            result = self.send("locate", DEVICE, *arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(word, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)
            self.assertNotIn(SECRET.hex()[:20], result.stderr)
        self.assertEqual(self.redis.call("LLEN", "jt709c:commands"), 0)

    def test_no_server_is_one_line_and_status_2(self):
        result = self.send("restart", DEVICE, JT709C_REDIS="redis://127.0.0.1:9")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertIn("cannot connect to Redis", result.stderr)


class Notes(WithLock):
    """Locks that were never heard, and parameters that are missing."""

    def test_a_lock_that_was_never_heard_is_noted(self):
        """With --wait or without; the command is queued for it all the same."""
        result = self.send("locate", "794308010678", "--ttl", "60")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(
            result.stderr,
            "no such lock has been heard: 794308010678 (prefix jt709c); "
            "a valid command waits for it for 60 s (--ttl)\n",
        )
        self.taken_command()
        running = self.start("send", "locate", "794308010678", user="jt709c-commander")
        self.assertIn("no such lock has been heard", running.notice())
        self.taken_command()
        running = self.start("send", "locate", "794308010678", "--wait")
        command = self.taken_command()
        for state in ("queued", "waiting"):
            self.publish("command", "794308010678", id=command["id"], state=state, command="locate")
        self.assertRegex(
            running.notice(), "^no such lock has been heard.*; the command waits for it for 300 s"
        )
        self.assertIn("queued", running.line())

    def test_a_command_that_waits_for_no_lock_has_no_note(self):
        """The gateway's own commands end at once, and a known id is not carried out again."""
        self.redis.call("HSET", "jt709c:command:o-1", "state", "expired")
        for arguments in (("cancel", "1", "id=7f3c"), ("clear_lockout", "1"), ("locate", "1", "--id", "o-1")):
            result = self.send(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
            self.taken_command()

    def test_a_required_parameter_that_is_missing_is_refused(self):
        for command, said in (
            ("text", "text: missing; expected "),
            ("set_intervals", "asleep: missing; expected an integer from 5 to 1440"),
            ("query", "what: missing; expected one of "),
            ("cancel", "id: missing; expected text"),
        ):
            result = self.send(command, DEVICE)
            self.assertEqual((result.returncode, result.stdout), (2, ""), command)
            self.assertIn(said, result.stderr)
        self.assertEqual(self.redis.call("LLEN", "jt709c:commands"), 0)


class Wait(WithLock):
    def follow(self, *states, device=DEVICE):
        """Send a command and publish these states of it; the process, and what it printed."""
        running = self.start("send", "locate", device, "--wait")
        command = self.taken_command()
        for state in states:
            self.publish("command", "794308010679", id="another", state="done", command="locate")
            self.publish("command", id=command["id"], state=state, command="locate", reason="because")
        self.assertIsNotNone(running.process.wait(TIMEOUT))
        return running, running.process.stdout.read()

    def test_each_state_is_shown_and_the_last_one_is_the_exit_status(self):
        for state, status in (
            ("done", 0),
            ("confirmed", 0),
            ("rejected", 1),
            ("failed", 1),
            ("invalid", 1),
            ("cancelled", 1),
            ("unconfirmed", 3),
            ("uncertain", 3),
            ("timed_out", 3),
            ("expired", 3),
        ):
            running, output = self.follow("queued", "sent", state)
            self.assertEqual(running.process.returncode, status, state)
            self.assertEqual(len(output.splitlines()), 3)
            self.assertIn("because", output)

    def test_a_command_for_a_sublock_is_followed_at_its_master(self):
        for device in ("e03b60000a", "1234567890"):
            running = self.start("send", "unlock", device, "--wait")
            command = self.taken_command()
            self.publish(
                "command", "8054201973", id=command["id"], state="confirmed", command="sublock_unlock"
            )
            self.assertEqual(running.process.wait(TIMEOUT), 0, device)

    def test_a_command_by_imei_is_followed_too(self):
        running, output = self.follow("done", device="867284063211238")
        self.assertEqual((running.process.returncode, len(output.splitlines())), (0, 1))

    def test_what_was_missed_while_the_connection_was_gone_is_looked_up(self):
        running = self.start("send", "locate", DEVICE, "--wait")
        command = self.taken_command()
        self.redis.call("HSET", f"jt709c:command:{command['id']}", "state", "done")
        self.redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        self.assertEqual(running.process.wait(TIMEOUT), 0)
        self.assertEqual(running.line(), "meanwhile: done\n")
        self.assertIn("lost the connection to Redis", running.notice())

    def test_an_interrupt_says_that_the_command_goes_on(self):
        running = self.start("send", "locate", DEVICE, "--wait")
        command = self.taken_command()
        running.process.send_signal(signal.SIGINT)
        self.assertEqual(running.process.wait(TIMEOUT), 130)
        notices = running.process.stderr.read()
        self.assertEqual(
            notices, f"command {command['id']} goes on; jt709c history {DEVICE} shows what becomes of it\n"
        )


class Parameters(SynchronousTestCase):
    def read(self, command, *assignments):
        return command_arguments.read_params(command, assignments)

    def test_values_are_read_as_the_profile_says(self):
        self.assertEqual(self.read("text", "text=12", "flags=4"), {"text": "12", "flags": 4})
        self.assertEqual(self.read("get_parameters", "ids=0001, 0013"), {"ids": ["0001", "0013"]})
        self.assertEqual(self.read("set_parameters", 'parameters={"0001": 60}'), {"parameters": {"0001": 60}})
        self.assertEqual(self.read("query", "what=firmware"), {"what": "firmware"})

    def test_what_no_profile_knows_is_json_or_text(self):
        given = self.read("own_command", "a=5", "b=007", "c=[1]", "d=x y", 'e:="5"')
        self.assertEqual(given, {"a": 5, "b": "007", "c": [1], "d": "x y", "e": "5"})

    def test_mistakes_say_what_is_expected(self):
        for command, assignment, word in (
            ("text", "flags=many", "an integer"),
            ("set_parameters", "parameters=x", "object"),
            ("text", "=x", "name=value"),
            ("text", "Text=x", "name=value"),
            ("text", "flags:={", "not JSON"),
        ):
            error = self.assertRaises(UserError, self.read, command, assignment)
            self.assertIn(word, error.format_message())
        self.assertRaises(UserError, self.read, "text", "text=1", "text=2")
