"""What happens between two turns of the reactor: locks that come and go while Redis is asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from jt709c_gateway.gateway.commands.evidence_tracker import MAX_WATCHED
from tests.support.command_bench import START, BenchTestCase
from tests.support.commands import UNLOCKED, FakeLock, lock_event, new_device
from tests.support.committer import FakeLink


class ExecutorTests(BenchTestCase):
    """A lock has an executor only while it has commands."""

    def test_idle_lock_has_no_executor(self) -> None:
        """A lock without commands has no executor soon after it has connected; Redis was asked once."""
        before = len(self.node.wire.calls)
        link = self.come()
        self.node.run()
        (session,) = link.connection.sessions.values()
        self.assertIsNone(session.executor)
        self.assertEqual(self.node.dispatcher.executors, {})
        claims = [
            call for call in self.node.wire.calls[before:] if f"{self.prefix}:commands:waiting:" in str(call)
        ]
        self.assertEqual(len(claims), 1)

    def test_connection_storm(self) -> None:
        """2,000 locks that connect at once, and again, cost one question each time and leave nothing."""
        # Its lease in Redis lasts by the real clock, however slow this machine is.
        self.node = self.make("gw2", ttl=600.0).start()
        locks = [FakeLock(new_device()) for _ in range(2000)]
        for _ in range(2):
            before = len(self.node.wire.calls)
            for lock in locks:
                link = self.node.link()
                self.node.feed(link, lock.frame(0x0002))
            self.node.run()
            claims = [call for call in self.node.wire.calls[before:] if ":commands:waiting:" in str(call)]
            self.assertEqual(len(claims), len(locks))
            self.assertEqual(len(self.node.dispatcher.executors), 0)

    def test_executor_goes_after_the_command(self) -> None:
        """An executor is removed when its command has ended, and with the lock while one is unsettled."""
        link = self.come()
        command = self.client.unlock(self.device)
        self.node.run()
        self.say(self.node, link, 1, "ELOCK", "1", "1")
        self.report(self.node, link, lock_event(), UNLOCKED)
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")
        self.assertEqual(self.node.dispatcher.executors, {})
        self.client.unlock(self.device)
        self.node.run()
        self.assertEqual(len(self.node.dispatcher.executors), 1)
        link.connection.closed("closed")
        self.node.run()
        self.assertEqual(self.node.dispatcher.executors, {})
        self.assertEqual(self.node.dispatcher.context.claims.tokens, {})


class EvidenceRaceTests(BenchTestCase):
    """Movements that several commands could have caused, and reports that come again."""

    def test_one_movement_is_evidence_for_one_command(self) -> None:
        """A movement confirms the command the lock has said yes to, not the one just written behind it."""
        link = self.come()
        first, second = self.client.unlock(self.device), self.client.unlock(self.device)
        self.node.run()
        self.say(self.node, link, 1, "ELOCK", "1", "1")
        self.node.run()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("acknowledged", "sent"))
        self.report(self.node, link, lock_event(), UNLOCKED)
        self.node.run()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("confirmed", "sent"))
        self.say(self.node, link, 2, "ELOCK", "1", "1")
        self.report(self.node, link, lock_event(), UNLOCKED)
        self.node.run()
        self.assertEqual(self.client.state(second), "confirmed")

    def test_late_report_confirms_the_command_to_which_the_lock_said_yes(self) -> None:
        """A movement that is reported after later commands were written confirms none of them."""
        link = self.come()
        first, second = self.client.unlock(self.device), self.client.unlock(self.device, timeout=1)
        self.node.run()
        self.say(self.node, link, 1, "ELOCK", "1", "1")
        self.node.run()
        movement = self.lock.location(lock_event(), UNLOCKED, START + self.node.clock.seconds())
        self.node.pass_time(121)
        self.assertEqual((self.client.state(first), self.client.state(second)), ("unconfirmed", "uncertain"))
        self.node.feed(link, movement)
        self.node.run()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("confirmed", "uncertain"))

    def test_movements_in_another_order(self) -> None:
        """Two movements of two acknowledged commands confirm these and no silent one, in any order."""
        link = self.come()
        mute = self.client.unlock(self.device, timeout=1)
        self.node.run()
        self.node.pass_time(2)
        movements, commands = [], []
        for serial in (2, 3):
            commands.append(self.client.unlock(self.device))
            self.node.run()
            self.say(self.node, link, serial, "ELOCK", "1", "1")
            self.node.run()
            now = START + self.node.clock.seconds()
            movements.append(self.lock.location(lock_event(), UNLOCKED, now))
            self.node.pass_time(2)
        for movement in reversed(movements):
            self.node.feed(link, movement)
            self.node.run()
        self.assertEqual([self.client.state(one) for one in commands], ["confirmed", "confirmed"])
        self.assertEqual(self.client.state(mute), "uncertain")

    def test_movement_before_a_command_was_written(self) -> None:
        """A movement confirms an unanswered command rather than one that was written seconds later."""
        link = self.come()
        first = self.client.unlock(self.device, timeout=1)
        self.node.run()
        movement = self.lock.location(lock_event(), UNLOCKED, START + self.node.clock.seconds())
        self.node.pass_time(3)
        second = self.client.unlock(self.device, timeout=30)
        self.node.run()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("uncertain", "sent"))
        self.node.feed(link, movement)
        self.node.run()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("confirmed", "sent"))

    def test_report_that_is_not_stored_confirms_no_second_command(self) -> None:
        """A report that Redis refuses comes again, and is evidence for the same command as before."""
        link = self.come()
        mute = self.client.unlock(self.device, timeout=1)
        self.node.run()
        self.node.pass_time(1.5)
        serial = 1
        for name in ("history", "track", "recent", "device"):
            for again in (True, False):
                with self.subTest(key=name, connects_again=again):
                    serial += 1
                    command = self.client.unlock(self.device)
                    self.node.run()
                    self.say(self.node, link, serial, "ELOCK", "1", "1")
                    self.node.run()
                    movement = self.lock.location(lock_event(), UNLOCKED, START + self.node.clock.seconds())
                    with self.spoiled(self.client.key(name, self.device)):
                        self.node.feed(link, movement)
                        self.node.run()
                        self.assertNotEqual(self.client.state(command), "confirmed")
                    if again:
                        link.connection.closed("closed")
                        link = self.come()
                        self.node.run()
                    self.node.feed(link, movement)
                    self.node.pass_time(45.0)
                    self.assertEqual(self.client.state(command), "confirmed")
                    self.assertEqual(self.client.state(mute), "uncertain")
                    self.report(self.node, link)
                    self.node.run()

    @contextmanager
    def spoiled(self, key: str) -> Iterator[None]:
        """A key is of another type for a while."""
        kept = f"{key}:kept"
        there = self.client.redis.call("EXISTS", key)
        if there:
            self.client.redis.call("RENAME", key, kept)
        self.client.redis.call("SADD", key, "x")
        yield
        self.client.redis.call("DEL", key)
        if there:
            self.client.redis.call("RENAME", kept, key)

    def uncertain_and_confirmed(self, link: FakeLink) -> tuple[str, str, bytes]:
        """Two unlock commands: the lock ignores the first and opens upon the second; the report of that."""
        first = self.client.unlock(self.device, timeout=2)
        self.node.pass_time(4)
        second = self.client.unlock(self.device, timeout=2)
        self.node.pass_time(1)
        self.say(self.node, link, int(self.written(link)[-1].split(b",")[2]), "ELOCK", "1", "1")
        report = self.lock.location(lock_event(), UNLOCKED, START + self.node.clock.seconds())
        self.node.feed(link, report)
        self.node.run()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("uncertain", "confirmed"))
        return first, second, report

    def test_report_of_a_movement_comes_again(self) -> None:
        """The same report, sent again, is no second movement: it confirms no command that moved nothing."""
        link = self.come()
        self.node.run()
        first, _, report = self.uncertain_and_confirmed(link)
        for _ in range(2):
            self.node.feed(link, report)
            self.node.run()
        self.assertEqual(self.client.state(first), "uncertain")
        # Another one does, as it may have been late.
        self.report(self.node, link, lock_event(), UNLOCKED)
        self.node.run()
        self.assertEqual(self.client.state(first), "confirmed")

    def test_report_of_a_movement_comes_again_elsewhere(self) -> None:
        """The same at another gateway, which has to know from Redis that the report is no news."""
        link = self.come()
        self.node.run()
        first, _, report = self.uncertain_and_confirmed(link)
        other = self.make("gw2", now=self.node.clock.seconds()).start()
        there = other.link()
        other.feed(there, report)
        other.run()
        other.feed(there, report)
        other.run()
        self.assertEqual(self.client.state(first), "uncertain")
        self.report(other, there, lock_event(), UNLOCKED)
        other.run()
        self.assertEqual(self.client.state(first), "confirmed")


class UnsettledTests(BenchTestCase):
    """Commands without an outcome are kept in mind for a day, and not all of them."""

    def test_watched_commands_are_bounded(self) -> None:
        """Of commands that are unsettled only the newest are kept in mind."""
        link = self.come()
        for number in range(MAX_WATCHED + 5):
            self.client.unlock(self.device, timeout=1)
            self.node.run()
            self.node.pass_time(1.5)
            self.assertEqual(len(self.written(link)), number + 1)
        (executor,) = self.node.dispatcher.executors.values()
        self.assertEqual(len(executor.evidence.watched), MAX_WATCHED)

    def test_confirm_timeout(self) -> None:
        """Acknowledged, and no evidence for two minutes: unconfirmed; a day later nobody waits for it."""
        link = self.come()
        command = self.client.unlock(self.device)
        self.node.run()
        self.say(self.node, link, 1, "ELOCK", "1", "1")
        self.node.run()
        self.node.pass_time(119)
        self.assertEqual(self.client.state(command), "acknowledged")
        self.node.pass_time(2)
        self.assertEqual(self.client.state(command), "unconfirmed")
        self.assertEqual(len(self.node.dispatcher.executors), 1)
        self.node.pass_time(24 * 3600, tick=600)
        self.assertEqual(self.node.dispatcher.executors, {})

    def test_unsettled_commands_are_forgotten_in_redis(self) -> None:
        """A day after it was written no lock is asked any more about a command, though others came since."""
        link = self.come()
        self.client.unlock(self.device, timeout=1)
        self.node.run()
        self.node.pass_time(2)
        key = self.client.key("commands", "unsettled", self.device)
        self.assertEqual(self.client.redis.call("HLEN", key), 1)
        self.node.pass_time(24 * 3600, tick=600)
        link.connection.closed("closed")
        self.come()
        self.node.run()
        self.assertEqual(self.client.redis.call("HLEN", key), 0)


class ConnectionRaceTests(BenchTestCase):
    """Locks that come and go while Redis is asked."""

    def test_lock_comes_while_accepted(self) -> None:
        """A lock that connects while its command is being recorded gets it."""
        command = self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_accept")
        link = self.come()
        self.node.run()
        self.assertEqual(self.client.states(command)[-1], "sent")
        self.assertEqual(len(self.written(link)), 1)

    def test_lock_goes_while_claimed(self) -> None:
        """A lock that goes while its command is being taken leaves it waiting, and gets it when it is
        back."""
        link = self.come()
        self.node.run()
        command = self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_claim")
        link.connection.closed("closed")
        self.node.run()
        self.assertEqual(self.client.state(command), "waiting")
        self.assertEqual(self.client.under_way(), [])
        again = self.come()
        self.node.run()
        self.assertEqual(len(self.written(link, again)), 1)

    def test_reconnects_while_claimed(self) -> None:
        """A lock that comes again over another connection meanwhile gets it there."""
        link = self.come()
        self.node.run()
        self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_claim")
        again = self.come()
        self.node.run()
        self.assertEqual((len(self.written(link)), len(self.written(again))), (0, 1))

    def test_reconnects_while_recorded(self) -> None:
        """While a physical command is being recorded the lock comes again: failed, and nothing is written."""
        link = self.come()
        self.node.run()
        command = self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_claim")
        self.node.step()
        again = self.come()
        self.node.run()
        self.assertEqual(self.written(link, again), [])
        self.assertEqual(self.client.state(command), "failed")
        self.assertIn("before writing", self.client.record(command)["reason"])

    def test_question_goes_to_new_connection(self) -> None:
        """A command that does no harm is written again to a lock that comes again before it has answered."""
        link = self.come()
        command = self.client.command(self.device, "locate")
        self.node.run()
        self.assertEqual(self.client.state(command), "sent")
        again = self.come()
        self.node.run()
        self.assertEqual(self.client.state(command), "sent")
        self.assertEqual(sum(data.startswith(b"\x7e\x82\x01") for data in again.sent), 1)
        self.assertEqual(link.closed, ["replaced"])

    def test_wrong_passwords_are_counted_before_the_next(self) -> None:
        """The third of three waiting commands isn't begun before Redis knows of the second refusal."""
        commands = [self.client.unlock(self.device) for _ in range(3)]
        self.node.run()
        link = self.come()
        self.node.run()
        for serial in (1, 2):
            self.say(self.node, link, serial, "ELOCK", "1", "0", "1")
            self.node.run()
        self.assertEqual([self.client.state(one) for one in commands], ["rejected"] * 3)
        self.assertEqual(len(self.written(link)), 2)

    def test_an_imei_becomes_known_while_its_command_comes_in(self) -> None:
        """Looked up before another gateway learnt the IMEI, taken in after that: the command is the
        lock's."""
        imei = "490154203237518"
        command = self.client.unlock(imei)
        self.steps_until("command_accept")
        self.client.redis.call("HSET", self.node.keys.imei, imei, self.device)
        self.node.run()
        self.assertEqual(self.client.wait(command, "waiting")["device"], self.device)
        self.assertEqual(self.client.redis.call("EXISTS", self.node.keys.waiting(imei)), 0)
        link = self.come()
        self.node.run()
        self.assertEqual(len(self.written(link)), 1)
