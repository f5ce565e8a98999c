"""The real daemon and the jt709c commands as the users of etc/redis-acl.conf."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.acl import COMMANDER, GATEWAY, READER, GuardedServer, password_of, rules_of
from tests.support.commands import PASSWORD, CommandClient, FakeLock, new_device, new_id
from tests.support.daemon import Daemon
from tests.support.reporter import report
from tests.unit.protocol.test_dialect_streams import GARBAGE, SOUND

COMMAND = [sys.executable, "-m", "jt709c_gateway.cli.main"]
#: Rights without the keys of commands, or without those of one kind.
EVENTS_ONLY = [
    "~jt709c:events",
    "~jt709c:commit:*",
    "~jt709c:device*",
    "~jt709c:session*",
    "~jt709c:recent:*",
]
EVENTS_ONLY += [
    "~jt709c:imei",
    "~jt709c:history:*",
    "~jt709c:malformed",
    "~jt709c:peripheral*",
    "~jt709c:track:*",
    "~jt709c:epoch",
    "~jt709c:histories",
]
NO_RECORDS = [*EVENTS_ONLY, "~jt709c:commands*", "~jt709c:gateway*"]


class EveryKindTests(SynchronousTestCase):
    def test_every_dialect(self) -> None:
        """Every frame, sessions, malformed input and the limits of stored data: Redis denies nothing."""
        server = GuardedServer().start()
        daemon = Daemon("--devices-max", "1", "--events-max-age", "3600", redis=server.gateway_url).start()
        self.addCleanup(daemon.discard)
        with server.client() as admin:
            for frame in SOUND:
                with daemon.lock() as lock:
                    lock.send(GARBAGE[0], frame)
                    lock.answers_within(0.02)
            with daemon.datagrams() as datagrams:
                datagrams.send(report(7))
                self.assertTrue(datagrams.recv(1024))
            with daemon.lock() as lock:
                # A frame whose checksum is wrong.
                lock.send(report(8)[:-2] + b"\x00\x7e")
                lock.ask(report(9))
            wait_until(lambda: admin.call("XLEN", "jt709c:malformed"))
            self.assertEqual(admin.call("ZCARD", "jt709c:devices"), 1)
            self.assertTrue(admin.call("KEYS", "jt709c:secret:*"), "no frame had a dynamic password")
            self.assertEqual(daemon.stop(), 0)
        self.assertNotIn("could not be written", daemon.log())
        self.assertNotIn("Traceback", daemon.log())
        server.end()


class MissingRightTests(SynchronousTestCase):
    """A user without a right: the log names the right; with it, the gateway goes on."""

    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def start(self, *rules: str) -> Daemon:
        self.client.redis.call("ACL", "SETUSER", GATEWAY, *rules)
        daemon = Daemon("--gateway", "gw1", redis=self.server.gateway_url, udp=False)
        self.addCleanup(daemon.discard)
        return daemon.start(ready=False)

    def said(self, daemon: Daemon, text: str) -> None:
        """Check that the log says this, in few lines, without a traceback."""
        wait_until(lambda: text in daemon.log(), message=f"{text!r} is not said")
        # Long enough for everything that is retried several times a second.
        time.sleep(1.2)
        log = daemon.log()
        # One line for each refused action; two connections may each fail for the same reason.
        told = [line.partition("] ")[2] for line in log.splitlines() if "#error]" in line or "#warn]" in line]
        self.assertLessEqual(max(told.count(line) for line in told), 2, log)
        self.assertLessEqual(len(told), 8, log)
        self.assertNotIn("Traceback", log)
        self.assertNotIn(password_of(GATEWAY), log)
        self.assertTrue(daemon.running)

    def mend(self) -> None:
        self.client.redis.call("ACL", "SETUSER", GATEWAY, "reset", *rules_of(GATEWAY))

    def test_scripts(self) -> None:
        """Without the right to load scripts no connection is usable."""
        daemon = self.start("-script|load")
        self.said(daemon, "NOPERM User jt709c-gateway has no permissions to run the 'script|load' command")
        self.assertEqual(daemon.get("/readyz")[0], 503)
        self.mend()
        daemon.wait_ready()
        with daemon.lock() as lock:
            lock.ask(report(1))

    def test_commits(self) -> None:
        """Without the right to run scripts nothing is answered; afterwards everything is."""
        for rules, said in (
            (["-evalsha"], "no permissions to run the 'evalsha' command"),
            (["resetkeys", "~jt709c:commands*"], "No permissions to access a key: EVALSHA jt709c:events"),
            (["resetchannels"], "No permissions to access a channel (ACL LOG on the server names it)"),
            (["-xadd"], "no permissions to run the 'xadd' command"),
        ):
            daemon = self.start(*rules)
            with daemon.lock() as lock:
                lock.send(report(1))
                self.said(daemon, said)
                self.assertEqual(lock.taken(), [])
                self.mend()
                # A record that was refused alone is sent again; a waiting one is committed.
                wait_until(lambda lock=lock: self._answered(lock))
            self.assertIn(daemon.stop(), (0,))

    def _answered(self, lock: Any) -> bool:
        lock.send(report(1))
        return bool(lock.answers_within(0.3))

    def test_intake(self) -> None:
        """Commands that can't be taken stay in the list, and are executed later."""
        for rules, said in (
            (["-blmove"], "Redis refuses to give out commands from jt709c:commands into "),
            (["resetkeys", *EVENTS_ONLY], "No permissions to access a key: EVALSHA jt709c:commands:waiting:"),
            (["resetkeys", *NO_RECORDS], "No permissions to access a key: EVALSHA jt709c:command:"),
        ):
            daemon = self.start(*rules)
            lock = FakeLock(new_device()).connect(daemon)
            self.addCleanup(lock.close)
            command = self.client.unlock(lock.device)
            self.said(daemon, said)
            self.assertEqual(self.client.redis.call("LLEN", "jt709c:commands:invalid"), 0)
            self.mend()
            lock.say_yes(lock.next_unlock())
            lock.open()
            self.client.wait(command, "confirmed")
            self.assertNotIn(PASSWORD, daemon.log())
            self.assertEqual(daemon.stop(), 0)

    def test_claims(self) -> None:
        """A refused query for a lock's commands is logged as well."""
        daemon = self.start("-hincrby")
        lock = FakeLock(new_device()).connect(daemon)
        self.addCleanup(lock.close)
        self.client.unlock(lock.device)
        self.said(
            daemon, "Redis refuses a claim for the commands of a device: ERR ACL failure in script: User"
        )
        self.mend()
        lock.next_unlock()


class CommandTests(SynchronousTestCase):
    """jt709c as reader and as commander."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()
        cls.daemon = Daemon(redis=cls.server.gateway_url, udp=False).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        cls.server.end()

    def setUp(self) -> None:
        self.lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(self.lock.close)

    def start(self, user: str, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JT709C_REDIS": self.server.url_of(user)},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def run_to_end(self, user: str, *arguments: str) -> tuple[int, str, str]:
        process = self.start(user, *arguments)
        out, err = process.communicate(timeout=30)
        self.assertNotIn(password_of(user), out + err)
        return process.returncode, out, err

    def test_watch(self) -> None:
        """A reader watches all events, those of one kind, and those of one device."""
        device = self.lock.device
        for arguments in (
            (),
            ("--kind", "location"),
            ("--device", device),
            ("--device", device, "--kind", "location"),
        ):
            process = self.start(READER, "watch", "--json", *arguments)
            self.assertRegex(process.stderr.readline(), "^watching (jt709c:event:.*|13 channels) at redis://")
            self.lock.report()
            self.assertEqual(json.loads(process.stdout.readline())["device"], device)

    def test_reader_sends_nothing(self) -> None:
        """A reader's command is refused in one line that names the missing right."""
        status, out, err = self.run_to_end(READER, "send", "locate", self.lock.device)
        self.assertEqual((status, out), (2, ""))
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("no permissions to run the 'rpush' command", err)

    def test_commander_watches_commands_only(self) -> None:
        """A commander gets events of commands, not locations."""
        process = self.start(COMMANDER, "watch", "--kind", "location")
        self.assertIn(
            "No permissions to access a channel: PSUBSCRIBE jt709c:event:location:*",
            process.stderr.readline(),
        )
        process = self.start(COMMANDER, "watch", "--kind", "command")
        self.assertIn("watching", process.stderr.readline())

    def test_send_and_wait(self) -> None:
        """A commander's command is followed to its end, by device id and by a pattern."""
        process = self.start(COMMANDER, "send", "locate", self.lock.device, "--wait", "--reply-to", "me")
        raw = self.lock.next_command()
        self.lock.result(int.from_bytes(raw[11:13], "big"), 0x8201)
        self.lock.send(self.lock.frame(0x0201, raw[11:13] + self.lock.location()[13:-2]))
        out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, out + err)
        with self.server.client_of(COMMANDER) as client:
            (_, outcome) = client.call("BLPOP", "jt709c:reply:me", 5)
        self.assertEqual(json.loads(outcome)["state"], "done")

    def test_cancel(self) -> None:
        """A commander cancels a command for a lock that is away."""
        command = new_id()
        away = new_device()
        status, _, err = self.run_to_end(COMMANDER, "send", "locate", away, "--id", command)
        self.assertEqual(status, 0, err)
        with self.server.client_of(COMMANDER) as client:
            key = f"jt709c:command:{command}"
            wait_until(lambda: client.call("HGET", key, "state") == b"waiting")
            status, out, err = self.run_to_end(COMMANDER, "send", "cancel", away, f"id={command}", "--wait")
            self.assertEqual(status, 0, out + err)
            self.assertEqual(client.call("HGET", key, "state"), b"cancelled")
