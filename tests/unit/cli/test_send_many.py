"""jt709c send to many locks, against a real server."""

import fcntl
import json
import os
import pty
import subprocess
import termios
import time
from pathlib import Path

from tests.support import temporary_path
from tests.support.cli import COMMAND, TIMEOUT, WithRedis

DEVICES = [f"79430803000{number}" for number in range(1, 5)]


class SendManyTests(WithRedis):
    def setUp(self) -> None:
        super().setUp()
        for device in DEVICES:
            self.redis.call("ZADD", "jt709c:devices", time.time(), device)

    def send(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "send", *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            input=text,
            env={**os.environ, "JT709C_REDIS": self.server.url},
        )

    def taken(self) -> list[dict[str, object]]:
        """Take all commands that were pushed."""
        found = []
        while (entry := self.redis.call("LPOP", "jt709c:commands")) is not None:
            found.append(json.loads(entry))
        return found

    def test_a_list(self) -> None:
        """Comments, blank lines and names that come twice; each lock gets one command, in one batch."""
        unknown = "794308039999"
        self.redis.call("HSET", "jt709c:imei", "867284063211238", DEVICES[0])
        lines = f"# trucks\n{DEVICES[0]}  # first\n\n{DEVICES[1]}\n{DEVICES[0]}\n867284063211238\n{unknown}\n"
        result = self.send("locate", "--devices", "-", "--yes", "--batch", "b-1", text=lines)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("batch b-1: locate queued for 2 locks", result.stdout)
        for said in (
            f"named more than once, and taken once: {DEVICES[0]}",
            f"1 never heard, and left out: {unknown}",
            "1 another name of a lock in the list: 867284063211238",
            "2 not connected",
        ):
            self.assertIn(said, result.stderr)
        commands = self.taken()
        self.assertEqual([one["id"] for one in commands], [f"b-1-{device}" for device in DEVICES[:2]])
        self.assertEqual({one["batch"] for one in commands}, {"b-1"})
        # The same again has the same ids, which no gateway carries out twice.
        self.send("locate", "--devices", "-", "--yes", "--batch", "b-1", text=lines)
        self.assertEqual([one["id"] for one in self.taken()], [one["id"] for one in commands])

    def test_waiting(self) -> None:
        """A table counts the outcomes, and the exit status is that of the worst."""
        path = temporary_path(self)
        Path(path).write_text("\n".join(DEVICES))
        states = ("done", "done", "confirmed", "uncertain")
        own = ("batch", "b", "issued_by", "ops", "command", "locate", "reason", "no answer")
        for device, state in zip(DEVICES, states, strict=True):
            self.redis.call("HSET", f"jt709c:command:b-{device}", "state", state, *own)
        arguments = ("locate", "--devices", path, "--yes", "--batch", "b", "--wait", "--rate", "1000")
        arguments += ("--issued-by", "ops")
        result = self.send(*arguments)
        self.assertEqual(result.returncode, 3, result.stderr)
        lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
        for line in ("done 2", "confirmed 1", "uncertain 1", f"{DEVICES[3]} uncertain no answer"):
            self.assertIn(line, lines)
        self.redis.call("HSET", f"jt709c:command:b-{DEVICES[0]}", "state", "failed")
        result = self.send(*arguments, "--json")
        self.assertEqual(result.returncode, 1)
        found = {one["device"]: one["state"] for one in map(json.loads, result.stdout.splitlines())}
        self.assertEqual(list(found.values()), ["failed", *states[1:]])
        # Another command has been given under the id of the batch.
        self.redis.call("HSET", f"jt709c:command:b-{DEVICES[0]}", "state", "confirmed", "command", "unlock")
        result = self.send(*arguments)
        self.assertEqual(result.returncode, 1)
        self.assertIn("invalid  not given: another command has its id, unlock", result.stdout)

    def test_a_group_with_parameters(self) -> None:
        for device, group in zip(DEVICES, ("north", "south", "north", "north"), strict=True):
            self.redis.call("HSET", f"jt709c:label:{device}", "group", group)
            self.redis.call("SADD", "jt709c:labels", device)
        result = self.send("set_intervals", "awake=60", "asleep=120", "--group", "north", "--yes", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        told = json.loads(result.stdout)
        commands = self.taken()
        self.assertEqual((told["count"], told["left_out"]), (3, []))
        self.assertEqual([one["device"] for one in commands], [DEVICES[number] for number in (0, 2, 3)])
        self.assertEqual(commands[0]["params"], {"awake": 60, "asleep": 120})

    def test_mistakes(self) -> None:
        """Each is one line, and nothing is pushed."""
        for arguments, text, said in (
            (("locate",), "", "DEVICE is missing"),
            (("locate", "--devices", "-"), DEVICES[0], "give --yes, or a terminal"),
            (
                ("locate", "--devices", "-", "--yes"),
                f"{DEVICES[0]}\n12-3\n",
                "line 2 is text of 4 characters",
            ),
            (("locate", "--devices", "-", "--yes"), "# none\n", "0 locks; expected 1 to 10000"),
            (("locate", "--devices", "-", "--yes"), "794308039999", "no such lock has been heard"),
            (("locate", "--devices", "/nowhere/list"), "", "can't read /nowhere/list: No such file"),
            (("locate", DEVICES[0], "--devices", "-"), DEVICES[0], "stands beside --devices"),
            (("locate", "--devices", "-", "--id", "x"), DEVICES[0], "expected --batch"),
            (("locate", "--devices", "-", "--group", "north"), DEVICES[0], "expected either"),
            (("locate", "--group", "nobodys", "--yes"), "", "no lock has the group nobodys"),
        ):
            result = self.send(*arguments, text=text)
            self.assertEqual((result.returncode, result.stdout), (2, ""), (arguments, result.stderr))
            self.assertIn(said, result.stderr)
            self.assertNotIn("Traceback", result.stderr)
        self.assertEqual(self.taken(), [])

    def test_asks_on_a_terminal(self) -> None:
        """The list comes from standard input and the answer from the terminal."""
        for answer, count in ((b"n\n", 0), (b"y\n", 2)):
            master, slave = pty.openpty()

            def on_terminal(slave: int = slave) -> None:
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

            process = subprocess.Popen(
                [*COMMAND, "send", "locate", "--devices", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=slave,
                env={**os.environ, "JT709C_REDIS": self.server.url},
                preexec_fn=on_terminal,
            )
            assert process.stdin is not None
            process.stdin.write("\n".join(DEVICES[:2]).encode())
            process.stdin.close()
            said = b""
            while b"locate for 2 locks? [y/N]" not in said:
                said += os.read(master, 1000)
            os.write(master, answer)
            self.assertEqual(process.wait(TIMEOUT), 0 if count else 2)
            assert process.stdout is not None
            process.stdout.close()
            self.assertEqual(len(self.taken()), count)
            os.close(master)
            os.close(slave)
