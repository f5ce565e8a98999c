"""Redis that fails at any await, and gateways that are taken for dead while they live."""

import json

import txredisapi

from tests.support.command_bench import GATEWAY_TTL, BenchTestCase
from tests.support.commands import UNLOCKED, lock_event, new_id


class LostRequestTests(BenchTestCase):
    """The connection to Redis is lost at each request of a command."""

    def assert_goes_on(self, where: str, executed: int) -> None:
        """A command is given, the connection to Redis is lost at this request, and it goes on all the
        same."""
        link = self.come()
        self.node.run()
        command = self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until(where)
        self.node.wire.lose(executed)
        self.node.blocking.lose()
        self.node.pass_time(1)
        self.node.connected()
        self.node.pass_time(3)
        self.assertEqual(len(self.written(link)), 1, where)
        self.say(self.node, link, int(self.written(link)[0].split(b",")[2]), "ELOCK", "1", "1")
        self.node.run()
        self.assertEqual(self.client.state(command), "acknowledged")
        self.report(self.node, link, lock_event(), UNLOCKED)
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")
        self.assertEqual(self.client.under_way(), [])
        self.assertEqual(self.node.dispatcher.context.claims.tokens, {})
        self.assertEqual(self.node.dispatcher.executors, {})
        self.assertEqual(self.client.redis.call("LLEN", self.client.key("commands", "intake", "gw1")), 0)

    def test_redis_lost_looking_up(self) -> None:
        """Redis is lost while the device is looked up."""
        self.assert_goes_on("HGET", 0)

    def test_redis_lost_accepting(self) -> None:
        """Redis is lost while a command is recorded, before or after it got there."""
        self.assert_goes_on("command_accept", 0)

    def test_redis_lost_accepted(self) -> None:
        """The reply is lost."""
        self.assert_goes_on("command_accept", 1)

    def test_redis_lost_claiming(self) -> None:
        """Redis is lost while a command is taken, before it got there."""
        self.assert_goes_on("command_claim", 0)

    def test_redis_lost_claimed(self) -> None:
        """A command is taken, and the reply is lost."""
        # With it comes what was asked behind it.
        self.assert_goes_on("command_claim", 3)

    def test_redis_lost_recording(self) -> None:
        """Redis is lost while it is recorded that a command is about to be written."""
        self.assert_goes_on("commit", 0)

    def test_redis_lost_recorded(self) -> None:
        """That is recorded, and the reply is lost: the committer knows what it is told the second time."""
        self.assert_goes_on("commit", 5)


class OutageTests(BenchTestCase):
    """Redis is away, refuses, or loses its replies."""

    def test_outage_longer_than_timeout(self) -> None:
        """A command that couldn't be recorded within its timeout has failed, and isn't written any more."""
        link = self.come()
        self.node.run()
        command = self.client.unlock(self.device, timeout=5)
        self.node.blocking.step()
        self.steps_until("command_claim")
        self.node.step()
        self.node.wire.lose()
        self.node.pass_time(6)
        self.node.connected()
        self.node.run()
        self.assertEqual(self.written(link), [])
        self.assertEqual(self.client.state(command), "failed")

    def test_claim_is_refused(self) -> None:
        """A server that refuses for a while is asked again, without a reconnection or another command."""
        link = self.come()
        self.node.run()
        self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_claim")
        _, reply = self.node.wire.pending.pop(0)
        reply.errback(txredisapi.ResponseError("OOM command not allowed"))
        self.node.run()
        self.assertEqual(self.written(link), [])
        self.node.pass_time(3)
        self.assertEqual(len(self.written(link)), 1)

    def test_server_becomes_a_replica(self) -> None:
        """A fail-over ends the wait for commands with an error of its own, which is no failure of ours."""
        link = self.come()
        self.node.run()
        _, reply = self.node.blocking.pending.pop(0)
        reply.errback(txredisapi.ResponseError("UNBLOCKED force unblock from blocking operation"))
        self.client.unlock(self.device)
        self.node.pass_time(3)
        self.assertEqual(len(self.written(link)), 1)

    def test_numbering_fails(self) -> None:
        """Redis is lost while a command is to be repeated: it is repeated when Redis is back."""
        link = self.come()
        command = self.client.command(self.device, "text", {"text": "x"}, timeout=2)
        self.node.run()
        self.node.clock.advance(2.5)
        self.assertIn("HINCRBY", [arguments[0] for arguments, _ in self.node.wire.pending])
        self.node.wire.lose()
        self.node.blocking.lose()
        self.node.pass_time(1)
        self.node.connected()
        self.node.pass_time(1)
        self.assertEqual(sum(data.startswith(b"\x7e\x83\x00") for data in link.sent), 2)
        self.assertEqual(self.client.state(command), "sent")

    def test_answered_while_it_is_numbered(self) -> None:
        """A late answer to the first write, while Redis is asked for the serial of the second: no second."""
        for command, params, state in (("text", {"text": "x"}, "done"), ("locate", {}, "acknowledged")):
            link = self.come()
            given = self.client.command(self.device, command, params, timeout=2)
            self.node.run()
            (sent,) = (data for data in link.sent if data.startswith((b"\x7e\x83\x00", b"\x7e\x82\x01")))
            self.node.clock.advance(2.5)
            self.steps_until("HINCRBY")
            self.node.feed(link, self.lock.frame(0x0001, sent[11:13] + sent[1:3] + b"\0"))
            self.node.run()
            self.assertEqual(self.client.state(given), state)
            self.assertEqual(sum(data[:3] == sent[:3] for data in link.sent), 1)
            self.node.pass_time(3)
            self.assertEqual(self.client.state(given), "done")

    def test_expiry_reply_lost(self) -> None:
        """A command is taken from its queue at the end of its ttl, and the reply is lost: it still
        expires."""
        command = self.client.unlock(self.device, ttl=5)
        self.node.run()
        self.assertEqual(self.client.state(command), "waiting")
        self.node.clock.advance(6)
        self.steps_until("command_expire")
        self.node.wire.lose(1)
        self.node.blocking.lose()
        self.node.connected()
        self.node.pass_time(1)
        self.assertEqual(self.client.state(command), "expired")
        self.assertEqual(self.client.under_way(), [])

    def test_cancel_reply_lost(self) -> None:
        """The same for a command that is taken back."""
        command = self.client.unlock(self.device)
        self.node.run()
        cancel = self.client.command(self.device, "cancel", {"id": command})
        self.node.blocking.step()
        self.steps_until("command_remove")
        self.node.wire.lose(1)
        self.node.blocking.lose()
        self.node.connected()
        self.node.pass_time(1)
        self.assertEqual((self.client.state(cancel), self.client.state(command)), ("done", "cancelled"))

    def test_known_id_with_a_lost_record(self) -> None:
        """A cancelled command that is cancelled again is still cancelled."""
        command = self.client.unlock(self.device, id=new_id())
        self.node.run()
        for _ in range(2):
            cancel = self.client.command(self.device, "cancel", {"id": command})
            self.node.run()
            self.assertEqual(self.client.state(cancel), "done")
        self.assertEqual(self.client.states(command), ["queued", "waiting", "cancelled"])


class TakenForDeadTests(BenchTestCase):
    """Another gateway takes over while this one lives."""

    def test_adopted_while_recorded(self) -> None:
        """Taken for dead while a command is being recorded: it is written by its adopter only."""
        link = self.come()
        self.node.run()
        command = self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_claim")
        self.node.step()
        other = self.make("gw2", now=100.0).start()
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        other.pass_time(GATEWAY_TTL * 2, tick=1)
        there = self.come(other)
        other.run()
        self.node.clock.advance(GATEWAY_TTL * 2)
        self.node.run()
        self.assertEqual(len(self.written(link, there)), 1)
        self.assertEqual(len(self.written(there)), 1)
        self.assertEqual(self.node.dispatcher.context.claims.tokens, {})
        self.say(other, there, int(self.written(there)[0].split(b",")[2]), "ELOCK", "1", "1")
        self.report(other, there, lock_event(), UNLOCKED)
        other.run()
        self.node.run()
        self.assertEqual(self.client.state(command), "confirmed")

    def test_adopted_while_taken_in(self) -> None:
        """Taken for dead while an entry without an id is taken in: one of the two carries it out."""
        fields = {"device": self.device, "command": "unlock", "params": {"password": "888888"}}
        self.client.push(json.dumps(fields))
        self.node.blocking.step()
        self.steps_until("command_accept")
        other = self.make("gw2").start()
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        other.pass_time(GATEWAY_TTL * 2, tick=1)
        self.node.run()
        link = self.come(other)
        other.run()
        self.say(other, link, 1, "ELOCK", "1", "1")
        self.report(other, link, lock_event(), UNLOCKED)
        other.run()
        self.assertEqual(len(self.written(link)), 1)

    def test_comes_to_another_while_accepted(self) -> None:
        """A lock that connects to another gateway while this one takes its command in gets it there."""
        other = self.make("gw2").start()
        self.client.unlock(self.device)
        self.node.blocking.step()
        self.steps_until("command_accept")
        link = self.come(other)
        # Its question is answered, but that it is there has not been committed yet.
        other.wire.step()
        self.assertEqual(self.written(link), [])
        self.node.run()
        other.pass_time(1)
        self.assertEqual(len(self.written(link)), 1)

    def test_movement_is_reported_to_another_gateway(self) -> None:
        """A movement waits for a command that another gateway still holds, and confirms no older one."""
        other = self.make("gw2").start()
        for at_once in (True, False):
            with self.subTest(at_once=at_once):
                link = self.come()
                mute = self.client.unlock(self.device, timeout=1)
                self.node.run()
                self.node.pass_time(2)
                command = self.client.unlock(self.device)
                self.node.run()
                there = other.link()
                other.clock.rightNow = self.node.clock.seconds()
                if not at_once:
                    self.report(other, there)
                    other.run()
                self.report(other, there, lock_event(), UNLOCKED)
                other.run()
                self.assertEqual((self.client.state(mute), self.client.state(command)), ("uncertain", "sent"))
                self.node.run()
                self.node.pass_time(60)
                other.pass_time(5)
                self.assertEqual(len(self.written(link, there)), 2)
                self.assertEqual(
                    (self.client.state(mute), self.client.state(command)), ("uncertain", "confirmed")
                )
                there.connection.closed("closed")
                other.run()

    def test_no_adoption_after_outage(self) -> None:
        """After an outage in which nobody could speak up, nobody is taken for dead."""
        link = self.come()
        command = self.client.unlock(self.device)
        self.node.run()
        other = self.make("gw2").start()
        for node in (self.node, other):
            node.wire.lose()
            node.blocking.lose()
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"), self.client.key("gateway", "gw2"))
        for node in (self.node, other):
            node.pass_time(20)
        other.connected()
        other.pass_time(2)
        self.node.connected()
        self.node.run()
        other.pass_time(40)
        self.say(self.node, link, 1, "ELOCK", "1", "1")
        self.node.run()
        self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged"])

    def test_same_name_twice(self) -> None:
        """A second gateway of the same name ends the first, which does nothing more."""
        ended: list[bool] = []
        self.node.background_tasks.superseded = lambda: ended.append(True)
        old = self.come()
        self.node.run()
        twin = self.make("gw1").start()
        link = self.come(twin)
        twin.run()
        command = self.client.unlock(self.device)
        twin.run()
        self.node.pass_time(GATEWAY_TTL / 3)
        self.assertEqual((ended, old.closed), ([True], ["superseded"]))
        twin.pass_time(2)
        self.node.pass_time(60, tick=1)
        self.assertEqual((len(self.written(old)), len(self.written(link))), (0, 1))
        self.assertEqual(self.client.state(command), "sent")
