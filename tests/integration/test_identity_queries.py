"""The gateway's own queries to locks for IMEI and firmware: the real daemon and simulated masters."""

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.jt808 import luhn_digit
from tests.support import ValkeyServer, temporary_path, wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.masters import FakeMaster, new_master

FIRMWARE = "JT701D_V8111"
NEWER = (
    'name = "newer"\nextends = "jt701"\ndialect = "jt701"\nsource = "a test"\n'
    '[match]\nfirmware = ["JT701D_V9*"]\n[commands.restart]\ntemplate = { pnn = "P15,9" }\n'
)


def new_imei(device: str) -> str:
    """Return an IMEI that no other device has."""
    digits = f"4901{device}"
    return digits + luhn_digit(digits)


class AskingCase(SynchronousTestCase):
    options: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = ValkeyServer().start()
        cls.daemon = Daemon(*cls.options, redis=cls.server.url, udp=False).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        cls.server.discard()

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeMaster(new_master())
        self.addCleanup(self.lock.close)
        self.device = self.lock.device
        self.imei = new_imei(self.device)

    def state(self, device: str | None = None) -> dict[str, str]:
        """Return the last known state of the lock."""
        flat = self.client.redis.call("HGETALL", self.client.key("device", device or self.device))
        texts = [item.decode() for item in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def introduce(self, firmware: str = FIRMWARE) -> None:
        """Connect the lock and answer the gateway's queries."""
        self.lock.connect(self.daemon)
        self.assertEqual(self.lock.next_command(), b"(P14)")
        self.lock.say("P14", self.imei)
        self.assertEqual(self.lock.next_command(), b"(P01)")
        self.lock.say("P01", firmware, "89")
        wait_until(lambda: self.state().get("firmware") == firmware)

    def unlock(self, device: str, **more: object) -> str:
        """Push an unlock command and execute it at the lock; return its id."""
        command = self.client.unlock(device, "888888", **more)
        self.assertEqual(self.lock.next_command(), b"(P43,888888)")
        self.lock.say("P43", "1", "0")
        self.client.wait(command, "acknowledged")
        return command


class AskedTests(AskingCase):
    """By default masters are asked."""

    def test_after_its_first_report(self) -> None:
        """IMEI and firmware are asked one after the other, and the answers are stored."""
        self.introduce()
        self.assertEqual((self.state()["imei"], self.state()["firmware"]), (self.imei, FIRMWARE))
        self.assertEqual(
            self.client.redis.call("HGET", self.client.key("imei"), self.imei).decode(), self.device
        )
        self.assertEqual(self.client.events("command", self.device), [])
        samples = self.daemon.metrics()
        for outcome in ("asked", "answered"):
            self.assertGreaterEqual(samples[f'jt709c_questions_total{{outcome="{outcome}"}}'], 2)

    def test_once_a_day(self) -> None:
        """They are not asked again after a reconnection, by another gateway, or after a restart."""
        self.introduce()
        asked = len(self.lock.commands)
        other = Daemon("--gateway", "other", redis=self.server.url, udp=False).start()
        self.addCleanup(other.discard)
        for daemon in (self.daemon, other, self.daemon):
            self.lock.connect(daemon)
            self.lock.beat()
        self.daemon.stop()
        self.daemon.start()
        later = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(later.close)
        self.lock.connect(self.daemon)
        # This lock came after it, so its turn is over.
        last = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(last.close)
        self.assertEqual(last.next_command(), b"(P14)")
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), asked)

    def test_the_next_day(self) -> None:
        """The firmware, which may change, is asked again; the IMEI is not."""
        self.introduce()
        before = int(self.state()["asked"]) - 24 * 3600
        self.client.redis.call("HSET", self.client.key("device", self.device), "asked", before)
        self.lock.connect(self.daemon)
        self.assertEqual(self.lock.next_command(), b"(P01)")
        self.lock.say("P01", "JT701D_V8112", "88")
        wait_until(lambda: self.state()["firmware"] == "JT701D_V8112")
        self.assertGreater(int(self.state()["asked"]), before)

    def test_not_before_a_report(self) -> None:
        """A heartbeat alone, which needs no answer, does not prove a lock that reports."""
        self.lock.connect(self.daemon, known=False)
        self.lock.say("@JT")
        last = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(last.close)
        self.assertEqual(last.next_command(), b"(P14)")
        self.assertEqual(self.lock.unlocks(), [])
        self.assertEqual(self.lock.commands, [])

    def test_other_dialects(self) -> None:
        """Other dialects are not asked by default."""
        other = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(other.close)
        self.lock.connect(self.daemon)
        self.assertEqual(self.lock.next_command(), b"(P14)")
        other.beat()
        self.assertEqual(other.commands, [])

    def test_no_answer(self) -> None:
        """A command waits a few seconds behind an unanswered query; the query is not repeated."""
        self.lock.connect(self.daemon)
        self.assertEqual(self.lock.next_command(), b"(P14)")
        self.unlock(self.device)
        self.lock.connect(self.daemon)
        self.lock.beat()
        self.assertEqual(self.lock.commands, [b"(P14)", b"(P43,888888)"])
        self.assertNotIn("imei", self.state())
        self.assertIn('jt709c_questions_total{outcome="unanswered"}', self.daemon.metrics())

    def test_no_imei(self) -> None:
        """An invalid IMEI counts as an answer, and gives the lock no name."""
        self.lock.connect(self.daemon)
        self.lock.next_command()
        self.lock.say("P14", "490154203237519")
        self.assertEqual(self.lock.next_command(), b"(P01)")
        self.assertIsNone(self.client.redis.call("HGET", self.client.key("imei"), "490154203237519"))

    def test_the_answer_is_for_no_command(self) -> None:
        """A command takes no answer to a query for its own."""
        self.lock.connect(self.daemon)
        self.lock.next_command()
        command = self.client.command(self.device, "query", {"what": "imei"})
        self.client.wait(command, "queued")
        self.lock.say("P14", self.imei)
        self.assertEqual(self.lock.next_command(), b"(P01)")
        self.assertEqual(self.client.state(command), "queued")
        self.lock.say("P01", FIRMWARE, "89")
        self.assertEqual(self.lock.next_command(), b"(P14)")
        self.lock.say("P14", self.imei)
        self.client.wait(command, "done")
        named = [one["data"]["command_id"] for one in self.client.events("reply", self.device)]
        self.assertEqual(named, [None, None, command])


class NameTests(AskingCase):
    """Commands addressed by a known IMEI."""

    def test_a_command_by_the_imei(self) -> None:
        """The command finds the lock, and its events name the device."""
        self.introduce()
        command = self.unlock(self.imei)
        self.assertEqual(self.client.record(command)["device"], self.device)
        self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged"])

    def test_when_the_lock_is_away(self) -> None:
        """The command waits for the lock, and is sent when it connects."""
        self.introduce()
        self.lock.close()
        command = self.client.unlock(self.imei, "888888")
        self.client.wait(command, "waiting", "queued")
        self.lock.connect(self.daemon)
        self.assertEqual(self.lock.next_command(), b"(P43,888888)")
        self.client.wait(command, "sent")

    def test_an_imei_that_nobody_knew(self) -> None:
        """Commands for an unknown IMEI are sent in sequence once a lock has reported it."""
        first, second = (
            self.client.command(self.imei, "query", {"what": what}) for what in ("sim", "channels")
        )
        for command in (first, second):
            self.assertEqual(self.client.wait(command, "waiting")["device"], self.imei)
        self.introduce()
        for command, said in ((first, "P68,1,8959"), (second, "P59,1,1,1,1,1")):
            self.assertEqual(self.lock.next_command().split(b",")[0].strip(b"()").decode(), said[:3])
            self.lock.say(said)
            record = self.client.wait(command, "done")
            self.assertEqual(record["device"], self.device)
            self.assertEqual(self.client.states(command)[-2:], ["sent", "done"])
        self.assertEqual(self.client.redis.call("KEYS", self.client.key("commands", "waiting", "*")), [])
        # Commands of other tests may still await their confirmation.
        wait_until(lambda: not {first, second} & set(self.client.under_way()))

    def test_taken_back_after_it_has_gone_on(self) -> None:
        """Such a command can be cancelled, and expires, like any other of the lock's."""
        cancelled = self.client.unlock(self.imei, "888888")
        expiring = self.client.unlock(self.imei, "888888", ttl=4)
        self.client.wait(expiring, "waiting")
        self.lock.connect(self.daemon)
        self.lock.next_command()
        self.lock.say("P14", self.imei)
        wait_until(lambda: self.client.record(cancelled)["device"] == self.device)
        self.lock.close()
        cancel = self.client.command(self.imei, "cancel", {"id": cancelled})
        self.client.wait(cancel, "done")
        self.assertEqual(self.client.wait(cancelled, "cancelled")["device"], self.device)
        self.assertEqual(self.client.wait(expiring, "expired")["device"], self.device)

    def test_written_when_the_gateway_dies(self) -> None:
        """After a crash a written command that was addressed by IMEI is uncertain and is not repeated."""
        command = self.client.unlock(self.imei, "888888")
        self.client.wait(command, "waiting")
        self.introduce()
        self.assertEqual(self.lock.next_command(), b"(P43,888888)")
        self.client.wait(command, "sent")
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.client.wait(command, "uncertain")["device"], self.device)
        self.lock.connect(self.daemon)
        self.lock.beat()
        self.assertEqual(self.lock.commands.count(b"(P43,888888)"), 1)
        event = self.client.events("command")[-1]
        self.assertEqual((event["device"], event["data"]["state"]), (self.device, "uncertain"))


class FirmwareTests(AskingCase):
    """A profile for one firmware."""

    @classmethod
    def setUpClass(cls) -> None:
        directory = Path(temporary_path(cls()))
        directory.mkdir(parents=True)
        (directory / "newer.toml").write_text(NEWER, encoding="utf-8")
        cls.options = ("--profiles", str(directory))
        super().setUpClass()

    def test_the_learnt_firmware_chooses_the_profile(self) -> None:
        """A lock that has reported the firmware gets commands in the form of that profile; another does
        not."""
        for firmware, written, profile in [
            ("JT701D_V9001", b"(P15,9)", "newer"),
            (FIRMWARE, b"(P15)", "jt701"),
        ]:
            self.lock = FakeMaster(new_master())
            self.addCleanup(self.lock.close)
            self.device = self.lock.device
            self.imei = new_imei(self.device)
            self.introduce(firmware)
            command = self.client.command(self.device, "restart")
            self.assertEqual(self.lock.next_command(), written)
            self.lock.say("P15")
            self.assertEqual(self.client.wait(command, "done")["profile"], profile)


class OthersTests(AskingCase):
    """Queries enabled for jt709 too."""

    options = ("--ask", "jt709")

    def test_binary_locks(self) -> None:
        """Binary locks get one query, and masters none."""
        self.lock.connect(self.daemon)
        other = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(other.close)
        self.assertEqual(other.next_command(), f"({other.device},1,001,BASE,1)".encode())
        other.answer(1, "BASE", "1", "JT709C_2.31")
        wait_until(lambda: self.state(other.device).get("firmware") == "JT709C_2.31")
        command = self.client.unlock(other.device)
        self.assertEqual(other.next_unlock(), 2)
        self.client.wait(command, "sent")
        self.lock.beat()
        self.assertEqual(self.lock.commands, [])


class NobodyTests(AskingCase):
    options = ("--ask", "none")

    def test_nobody_is_asked(self) -> None:
        """Nothing is written without a command."""
        self.lock.connect(self.daemon)
        command = self.client.command(self.device, "query", {"what": "sim"})
        self.assertEqual(self.lock.next_command(), b"(P68,1,0)")
        self.lock.say("P68", "1", "8959")
        self.assertEqual(json.loads(self.client.wait(command, "done")["answer"])["arguments"], ["1", "8959"])
        self.assertNotIn("asked", self.state())
