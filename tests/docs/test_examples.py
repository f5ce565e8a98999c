"""The programs of docs/examples, against a real gateway with virtual locks.

They run as the users of etc/redis-acl.conf that such services get.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ROOT, ValkeyServer, wait_until
from tests.support.acl import COMMANDER, READER, password_of, rules_of
from tests.support.commands import CommandClient
from tests.support.daemon import Daemon
from tests.support.docs_tools import missing, needed
from tests.support.reporter import stream_events

EXAMPLES = ROOT / "docs" / "examples"
#: The directory where `npm install` was run with docs/examples/package.json.
NODE_DIRECTORY = "JT709C_TEST_NODE"
PASSWORD = "888888"
GROUP = "logbook"
LIMIT = 60.0


def command(program: str) -> list[str]:
    """Return the command line of a program of the examples."""
    if program.endswith(".py"):
        return [sys.executable, str(EXAMPLES / program)]
    if program.endswith(".sh"):
        return ["sh", str(EXAMPLES / program)]
    node, modules = needed("node"), os.environ.get(NODE_DIRECTORY, "")
    if not (Path(modules) / "node_modules" / "redis").is_dir():
        missing(f"{NODE_DIRECTORY} to name where `npm install` was done for the examples")
    # A module finds its imports beside it.
    return [node, shutil.copy(EXAMPLES / program, modules)]


def cli() -> dict[str, str]:
    """Return the installed one of the two command-line clients."""
    needed("jq")
    return {"CLI": needed("valkey-cli", "redis-cli")}


class ExampleCase(SynchronousTestCase):
    """A server with users, a daemon, and fleets whose locks react to commands in different ways."""

    fleets: dict[str, Iterator[int]]
    running: dict[str, subprocess.Popen[bytes]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ValkeyServer().start()
        with cls.server.client() as client:
            for user in (READER, COMMANDER):
                client.call("ACL", "SETUSER", user, *rules_of(user))
        cls.daemon = Daemon("--confirm-timeout=2", redis=cls.server.url).start()
        cls.fleets, cls.running = {}, {}

    @classmethod
    def tearDownClass(cls) -> None:
        for one in cls.running.values():
            one.kill()
            one.wait()
        cls.daemon.discard()
        cls.server.discard()
        super().tearDownClass()

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def lock(self, *options: str) -> str:
        """Return a connected lock of a fleet with these options, used by no other test."""
        name = " ".join(options)
        if name not in self.fleets:
            first = 794308600001 + 1000 * len(self.fleets)
            self.fleets[name] = itertools.count(first)
            self.running[name] = self.simulate("--locks=20", f"--first-id={first}", *options)
        device = str(next(self.fleets[name]))
        wait_until(lambda: self.client.redis.call("EXISTS", f"jt709c:session:{device}"))
        return device

    def simulate(self, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "jt709c_gateway.cli.main", "simulate"),
                *("--tcp", f"{LOOPBACK}:{self.daemon.tcp_port}", "--card-every=0", *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def environment(self, user: str, more: Mapping[str, str]) -> dict[str, str]:
        address = f"redis://{user}:{password_of(user)}@{LOOPBACK}:{self.server.port}"
        return {**os.environ, "JT709C_REDIS": address, "PYTHONUNBUFFERED": "1", **more}


class CommandTests(ExampleCase):
    """A command followed to its end: the exit status tells the outcomes apart."""

    def give(self, program: str, device: str, more: Mapping[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command(program), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(COMMANDER, more),
        )
        self.addCleanup(process.kill)
        assert process.stdin is not None
        process.stdin.write(f"{PASSWORD}\n")
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        said, errors = process.communicate(timeout=LIMIT)
        self.assertEqual(errors, "")
        return process.returncode, said.split()[0]

    def check_outcomes(self, program: str, more: Mapping[str, str] | None = None) -> None:
        more = more or {}
        for options, outcome in (
            ((), (0, "confirmed")),
            (("--refuse",), (1, "rejected")),
            (("--no-evidence",), (2, "unconfirmed")),
        ):
            with self.subTest(options=options):
                device = self.lock(*options)
                self.assertEqual(self.end(self.give(program, device, more)), outcome)
        self.assertEqual(self.end(self.give(program, "no such lock", more)), (1, "invalid"))
        self.check_uncertain(program, more)

    def check_uncertain(self, program: str, more: Mapping[str, str]) -> None:
        """The lock disconnects with the command that was written to it."""
        first = 794308900001 + len(self.client.events("command"))
        fleet = self.simulate("--mute", f"--first-id={first}")
        self.addCleanup(fleet.kill)
        wait_until(lambda: self.client.redis.call("EXISTS", f"jt709c:session:{first}"))
        process = self.give(program, str(first), more)
        wait_until(
            lambda: any(one["data"]["state"] == "sent" for one in self.client.events("command", str(first)))
        )
        fleet.kill()
        fleet.wait()
        self.assertEqual(self.end(process), (2, "uncertain"))

    def test_redis_py(self) -> None:
        """Python with redis-py."""
        self.check_outcomes("command_redis_py.py")

    def test_client(self) -> None:
        """Python with our client."""
        self.check_outcomes("command_client.py")

    def test_plain(self) -> None:
        """Python without a library."""
        self.check_outcomes("command_plain.py")

    def test_node(self) -> None:
        """Node with the package redis."""
        self.check_outcomes("command.mjs")

    def test_cli(self) -> None:
        """A shell with redis-cli or valkey-cli."""
        self.check_outcomes("command.sh", cli())

    def test_cli_half_said(self) -> None:
        """Without a device or a password the shell reports the error at once and pushes nothing."""
        before = self.client.events("command")
        for arguments, said in (([], "usage: command.sh DEVICE"), (["794308900001"], "no password")):
            with self.subTest(arguments=arguments):
                done = subprocess.run(
                    [*command("command.sh"), *arguments],
                    env={**os.environ, **cli(), "JT709C_REDIS": self.server.url},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=10,
                )
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn(said, done.stderr)
        self.assertEqual(self.client.redis.call("LLEN", "jt709c:commands"), 0)
        self.assertEqual(self.client.events("command"), before)


class Consumer:
    """A running consumer and the ids of the events that it has printed."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.ids: list[str] = []
        self.said: list[str] = []
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
            words = line.split()
            if len(words) == 3:
                self.ids.append(words[0])

    def kill(self) -> None:
        """Kill it and its children at any moment."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join(5)


class ConsumerTests(ExampleCase):
    """A consumer that is killed, away or disconnected gets every event in the end."""

    def start(self, program: str, more: Mapping[str, str]) -> Consumer:
        consumer = Consumer(command(program), self.environment(READER, more))
        self.addCleanup(consumer.kill)
        return consumer

    def all_ids(self) -> set[str]:
        return {one["id"] for one in stream_events(self.client.redis)}

    def pending(self) -> int:
        found: Any = self.client.redis.call("XPENDING", "jt709c:events", GROUP)
        return int(found[0])

    def check_consumer(self, program: str, more: Mapping[str, str] | None = None) -> None:
        more = more or {}
        self.client.redis.call("DEL", "jt709c:events")
        fleet = self.simulate("--locks=3", "--interval=0.2", "--first-id=794308950001")
        self.addCleanup(fleet.kill)
        first = self.start(program, more)
        wait_until(lambda: len(first.ids) >= 8, message=f"nothing comes: {first.said}")
        first.kill()
        # It gets some events that it never acknowledges.
        read = ("XREADGROUP", "GROUP", GROUP, f"{GROUP}-1", "COUNT", 3, "STREAMS", "jt709c:events", ">")
        wait_until(lambda: self.client.redis.call(*read))
        self.assertTrue(self.pending() >= 1)
        second = self.start(program, more)
        wait_until(lambda: len(second.ids) >= 8, message=f"nothing comes: {second.said}")
        self.client.redis.call("CLIENT", "KILL", "USER", READER)
        count = len(second.ids)
        wait_until(lambda: len(second.ids) >= count + 4, message=f"it did not go on: {second.said}")
        fleet.send_signal(signal.SIGINT)
        fleet.wait(LIMIT)
        wait_until(
            lambda: not self.all_ids() - {*first.ids, *second.ids} and not self.pending(),
            message=f"events are missing: {second.said[-3:]}",
        )
        second.kill()

    def test_redis_py(self) -> None:
        """Python with redis-py."""
        self.check_consumer("consumer_redis_py.py")

    def test_client(self) -> None:
        """Python with our client."""
        self.check_consumer("consumer_client.py")

    def test_redis_py_cut_off(self) -> None:
        """It reports how much of the stream was trimmed while it was away."""
        self.check_consumer("consumer_redis_py.py")
        for number in range(40):
            self.client.redis.call("XADD", "jt709c:events", "*", "event", json.dumps({"id": number}))
        self.client.redis.call("XTRIM", "jt709c:events", "MAXLEN", 30)
        consumer = self.start("consumer_redis_py.py", {})
        wait_until(lambda: consumer.said)
        self.assertEqual(consumer.said[0], "away for too long: 10 events were cut off (--events-max)\n")

    def test_plain(self) -> None:
        """Python without a library."""
        self.check_consumer("consumer_plain.py")

    def test_node(self) -> None:
        """Node with the package redis."""
        self.check_consumer("consumer.mjs")

    def test_cli(self) -> None:
        """A shell with redis-cli or valkey-cli."""
        self.check_consumer("consumer.sh", cli())
