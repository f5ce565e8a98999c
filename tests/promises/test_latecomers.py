"""A gateway that was delayed opens no lock twice and changes no outcome."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support import key_prefix, shared_server
from tests.support.command_bench import GATEWAY_TTL
from tests.support.fencing_checks import CheckedWorld
from tests.support.fencing_lines import Gateway


class LatecomerTests(SynchronousTestCase):
    """Two gateways. The first is delayed with a command claimed, and the lock goes on at the second."""

    def setUp(self) -> None:
        self.world = CheckedWorld(shared_server(), key_prefix())
        self.addCleanup(self.world.close)
        self.first = self.start("gw1")
        self.lock = self.world.units[0]

    def start(self, name: str) -> Gateway:
        """Start a gateway and claim its name."""
        self.world.boot(name)
        self.live(1)
        return self.world.gateways[-1]

    def live(self, seconds: float) -> None:
        """Let all gateways that are not paused run for some time."""
        for _ in range(round(seconds / 0.25)):
            self.world.pass_time(0.25)
            for gateway in self.world.gateways:
                gateway.run()
            self.world.check()

    def give(self, stage: str, before_reply: bool = False) -> str:
        """Push an unlock command and run it to this step at the first gateway; return its id."""
        self.lock.connect(self.first, self.world.now, keeping=False)
        self.live(1)
        self.world.advance_unlock(self.lock, stage, before_reply)
        return next(iter(self.world.pushed))

    def written(self) -> int:
        """Return how often anything was written."""
        self.lock.collect()
        return len(self.lock.written)

    def open_at(self, gateway: Gateway, command: str, keeping: bool = False) -> None:
        """The lock moves to another gateway, gets the command there, and opens."""
        self.lock.connect(gateway, self.world.now, keeping)
        for _ in range(int(GATEWAY_TTL * 2)):
            self.live(1)
            if self.written():
                break
        self.lock.answer("yes", self.world.now)
        self.lock.open(self.world.now)
        self.live(0.5)
        self.assertEqual(self.world.client.state(command), "confirmed")

    def assert_stays(self, command: str, *outcomes: str) -> None:
        """Check that it was written once, and that record, events and reply keep these outcomes."""
        self.live(GATEWAY_TTL * 3)
        self.assertEqual(self.written(), 1, self.lock.written)
        client = self.world.client
        self.assertEqual(client.state(command), outcomes[-1])
        self.assertEqual([one for one in client.states(command) if one in {*outcomes, "failed"}], [*outcomes])
        self.assertEqual([client.reply("r1", timeout=1)["state"] for _ in outcomes], [*outcomes])
        self.assertEqual(client.redis.call("LLEN", client.key("reply", "r1")), 0)

    def claim_late(self, resume: Callable[[], None]) -> None:
        """Delay the reply to a claim until another gateway has executed the command."""
        second = self.start("gw2")
        command = self.give("claimed", before_reply=True)
        self.assertEqual(self.written(), 0)
        self.first.frozen = self.first.cut = True
        self.open_at(second, command)
        self.first.cut = False
        resume()
        self.assert_stays(command, "confirmed")

    def test_an_unlock_is_not_written_twice_by_a_late_claim(self) -> None:
        """A gateway that continues does not requeue a command that another has executed."""
        self.claim_late(lambda: self.first.thaw(self.world.now, data_first=True))

    def test_an_unlock_is_not_written_twice_when_what_is_due_comes_first(self) -> None:
        """The same, and it notices the delay before it reads the reply."""
        self.claim_late(lambda: self.first.thaw(self.world.now, data_first=False))

    def test_two_of_one_name_write_once(self) -> None:
        """A process that was cut off while a later one took its name stops and writes nothing."""
        command = self.give("claimed")
        self.assertEqual((self.written(), self.world.client.record(command)["attempts"]), (0, "0"))
        self.first.cut = True
        second = self.start("gw1")
        self.open_at(second, command, keeping=True)
        self.world.heal(self.first)
        self.assert_stays(command, "confirmed")
        self.assertTrue(self.first.superseded)
        self.assertFalse(second.superseded)

    def test_an_opened_command_never_becomes_failed(self) -> None:
        """A record that was due when Redis was cut off is refused once another gateway has opened the
        lock."""
        second = self.start("gw2")
        command = self.give("claimed")
        self.first.cut = True
        self.open_at(second, command)
        self.world.heal(self.first)
        self.assert_stays(command, "confirmed")

    def confirm_late(self, data_first: bool) -> None:
        """Paused after the write; others end the command and see the lock open."""
        second = self.start("gw2")
        command = self.give("written")
        self.first.frozen = True
        self.live(GATEWAY_TTL * 2)
        self.assertEqual(self.world.client.state(command), "uncertain")
        self.lock.connect(second, self.world.now, keeping=False)
        self.live(1)
        self.lock.open(self.world.now)
        self.live(1)
        self.assertEqual(self.world.client.state(command), "confirmed")
        self.first.thaw(self.world.now, data_first)
        self.assert_stays(command, "uncertain", "confirmed")

    def test_a_confirmed_command_never_becomes_uncertain(self) -> None:
        """The paused gateway then changes nothing."""
        self.confirm_late(data_first=True)

    def test_a_confirmed_command_never_becomes_uncertain_by_what_is_due(self) -> None:
        """The same, and it notices the delay first."""
        self.confirm_late(data_first=False)

    def test_evidence_of_an_older_session_is_none(self) -> None:
        """Reports over an older connection of a lock confirm no command, in record or events."""
        second = self.start("gw2")
        command = self.give("sent")
        self.lock.connect(second, self.world.now, keeping=True)
        second.run()
        self.lock.open(self.world.now, index=0)
        self.first.run()
        self.assertEqual(self.world.client.state(command), "uncertain")
        self.live(GATEWAY_TTL * 3)
        record, told = self.world.client.record(command), self.world.client.states(command)
        self.assertEqual(told, ["queued", "sent", record["state"]])
        self.assertEqual(record["state"], "uncertain")
