"""Which reports of a movement are evidence for a command, when several come or Redis refuses one."""

from datetime import UTC, datetime, timedelta

from jt709c_gateway.protocol.jt808_messages import encode_location_answer, encode_stored
from tests.support.command_bench import START, BenchTestCase
from tests.support.commands import UNLOCKED, lock_event
from tests.vectors import location


class RepeatedMovementTests(BenchTestCase):
    """A movement that comes in several reports confirms one command only."""

    def test_other_serial_and_memory(self) -> None:
        """The same movement under another serial, or once more from the memory, is no second movement."""
        link = self.come()
        first, second = self.client.unlock(self.device), self.client.unlock(self.device)
        self.node.run()
        for serial in (1, 2):
            self.say(self.node, link, serial, "ELOCK", "1", "1")
            self.node.run()
        moment = datetime.fromtimestamp(START + self.node.clock.seconds(), UTC)
        moved = location(lock_event(), status=UNLOCKED, time=moment)
        later = location(status=UNLOCKED, time=moment + timedelta(seconds=1))
        for message_id, body in (
            (0x0200, moved),
            (0x0200, moved),
            (0x0704, encode_stored([moved])),
            (0x0704, encode_stored([moved, later])),
        ):
            self.node.feed(link, self.lock.frame(message_id, body))
            self.node.run()
            self.assertEqual(
                (self.client.state(first), self.client.state(second)), ("confirmed", "acknowledged")
            )
        self.report(self.node, link)
        self.node.pass_time(2)
        self.report(self.node, link, lock_event(), UNLOCKED)
        self.node.run()
        self.assertEqual(self.client.state(second), "confirmed")

    def test_answer_with_a_known_position(self) -> None:
        """An answer to a query of the position is one, though that position was reported just before."""
        link = self.come()
        opening = self.client.unlock(self.device)
        self.node.run()
        self.say(self.node, link, 1, "ELOCK", "1", "1")
        moment = datetime.fromtimestamp(START + self.node.clock.seconds(), UTC)
        position = location(lock_event(0x22), time=moment)
        self.node.feed(link, self.lock.frame(0x0200, position))
        query = self.client.command(self.device, "locate")
        self.node.run()
        serial = int(self.client.record(query)["serial"])
        self.node.feed(link, self.lock.frame(0x0201, encode_location_answer(serial, position)))
        self.node.run()
        self.assertEqual((self.client.state(opening), self.client.state(query)), ("acknowledged", "done"))

    def test_confirmed_while_claimed(self) -> None:
        """A command that is confirmed during a claim is not watched again as the claim has found it."""
        link = self.come()
        command = self.client.unlock(self.device, timeout=1)
        self.node.run()
        self.node.pass_time(2)
        self.assertEqual(self.client.state(command), "uncertain")
        self.node.dispatcher.dispatch(self.device)
        self.steps_until("command_claim")
        for _ in range(2):
            self.report(self.node, link, lock_event(), UNLOCKED)
            self.node.run()
            self.node.pass_time(1)
        moved = [event["data"]["command_id"] for event in self.client.events("lock", self.device)]
        self.assertEqual(moved, [command, None])
        self.assertEqual(self.node.dispatcher.executors, {})


class RefusedEvidenceTests(BenchTestCase):
    """Redis refuses a report, and the device sends it again."""

    def test_again_at_once(self) -> None:
        """A command without an answer stays watched at every moment after its confirmation was refused."""
        for steps in range(8):
            with self.subTest(steps=steps):
                link = self.come()
                self.node.run()
                command = self.client.unlock(self.device)
                self.node.run()
                moved = self.lock.location(lock_event(), UNLOCKED, START + self.node.clock.seconds())
                history = self.client.key("history", self.device)
                self.client.redis.call("RENAME", history, f"{history}:kept")
                self.client.redis.call("SADD", history, "x")
                self.node.feed(link, moved)
                late = self.node.committer.statistics.late
                # Refused once, and once more without its event.
                while self.node.committer.statistics.late < late + 2:
                    self.assertTrue(self.node.step())
                self.client.redis.call("RENAME", f"{history}:kept", history)
                for _ in range(steps):
                    self.node.step()
                self.node.feed(link, moved)
                self.node.run()
                self.assertEqual(self.client.state(command), "confirmed", steps)
                self.node.pass_time(2)

    def test_confirmation_without_event(self) -> None:
        """A confirmation whose event can't be written is stored, and the claim is let go of at once."""
        link = self.come()
        command = self.client.unlock(self.device)
        self.node.run()
        history = self.client.key("history", self.device)
        self.client.redis.call("DEL", history)
        self.client.redis.call("SADD", history, "x")
        self.report(self.node, link, status=UNLOCKED)
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")
        self.assertEqual(self.node.dispatcher.context.claims.tokens, {})
        self.client.redis.call("DEL", history)
