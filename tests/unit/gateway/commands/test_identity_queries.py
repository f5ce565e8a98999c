"""How the gateway's own questions keep out of the way: gateways on clocks that the test moves."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.commands.identity_queries import MAX_QUEUED, PATIENCE, PER_ROUND, ROUND
from jt709c_gateway.gateway.sessions import Session
from tests.support import key_prefix, shared_server
from tests.support.command_bench import START, Node
from tests.support.commands import CommandClient
from tests.support.committer import FakeLink
from tests.support.masters import FakeMaster, new_master


class PaceTests(SynchronousTestCase):
    """One gateway that asks, and masters that are there."""

    def setUp(self) -> None:
        self.client = CommandClient(shared_server(), key_prefix())
        self.addCleanup(self.client.close)
        self.node = Node(self.client.redis, self.client.prefix, ask={"jt701"}).start()
        self.master = FakeMaster(new_master())
        self.device = self.master.device

    def come(self, master: FakeMaster | None = None) -> FakeLink:
        """A master connects and reports; nothing has been committed by that."""
        link = self.node.link()
        self.report(link, master)
        return link

    def report(self, link: FakeLink, master: FakeMaster | None = None) -> None:
        """A master reports."""
        at = START + self.node.clock.seconds()
        self.node.feed(link, (master or self.master).location(at=at))

    def say(self, link: FakeLink, *words: str) -> None:
        """A sentence of the master."""
        self.node.feed(link, f"({','.join((self.device, *words))})".encode())

    @staticmethod
    def written(link: FakeLink) -> list[bytes]:
        """What was written over a link, but for the answers to reports."""
        return [data for data in link.sent if not data.startswith(b"(P69")]

    def asked(self) -> int:
        """How many questions have been written in all."""
        return self.node.gateway.counters.questions["asked"]

    def test_a_fleet_that_reconnects(self) -> None:
        """A few a round are asked, however many there are; none of that is in a list in Redis."""
        links = [self.come(FakeMaster(new_master())) for _ in range(40)]
        self.node.run()
        for rounds in range(1, 4):
            self.node.pass_time(ROUND, tick=ROUND)
            self.assertEqual(self.asked(), rounds * PER_ROUND)
        self.assertEqual(sum(bool(self.written(link)) for link in links), 3 * PER_ROUND)
        self.assertEqual(self.client.redis.call("KEYS", self.client.key("commands*")), [])
        self.assertEqual(self.client.redis.call("KEYS", self.client.key("command:*")), [])

    def test_a_queue_that_is_full(self) -> None:
        """What finds no room is counted."""
        poller = self.node.background_tasks._identity_poller
        assert poller is not None
        link = self.come()
        for number in range(MAX_QUEUED + 5):
            session = Session(str(number), link.connection, "t", "", 0.0, link.connection.origin)
            session.dialect = "jt701"
            self.node.gateway.callbacks.reported(session)
        self.assertEqual(len(poller._queue), MAX_QUEUED)
        self.assertEqual(self.node.gateway.counters.questions["dropped"], 5)

    def test_not_before_the_report_is_committed(self) -> None:
        """While Redis holds the report back, nothing is asked."""
        link = self.come()
        for _ in range(8):
            self.node.clock.advance(ROUND)
        self.assertEqual(self.written(link), [])
        self.node.pass_time(2 * ROUND)
        self.assertEqual(self.written(link), [b"(P14)"])

    def test_a_command_goes_first(self) -> None:
        """A lock whose command is under way is asked after a later report."""
        command = self.client.unlock(self.device, "888888")
        self.node.pass_time(1)
        link = self.come()
        self.node.pass_time(2)
        self.assertEqual(self.written(link), [b"(P43,888888)"])
        self.say(link, "P43", "1", "0")
        self.node.pass_time(1)
        self.assertEqual(self.client.state(command), "acknowledged")
        self.report(link)
        self.node.pass_time(1)
        self.assertEqual(self.written(link), [b"(P43,888888)", b"(P14)"])

    def test_a_command_behind_a_question(self) -> None:
        """It waits while the question may be answered, and no longer; no second question is put then."""
        link = self.come()
        self.node.pass_time(1)
        self.assertEqual(self.written(link), [b"(P14)"])
        self.client.unlock(self.device, "888888")
        self.node.pass_time(PATIENCE - 1)
        self.assertEqual(self.written(link), [b"(P14)"])
        self.node.pass_time(1)
        self.assertEqual(self.written(link), [b"(P14)", b"(P43,888888)"])

    def test_the_time_is_for_all_questions(self) -> None:
        """An answer at the last moment doesn't make a command wait as long again."""
        link = self.come()
        self.node.pass_time(0.5)
        self.client.unlock(self.device, "888888")
        self.node.pass_time(PATIENCE - 1)
        self.say(link, "P14", "490154203237518")
        self.node.pass_time(1.5)
        self.assertEqual(self.written(link), [b"(P14)", b"(P01)", b"(P43,888888)"])
        self.say(link, "P01", "JT701D_V8111", "89")
        self.node.run()
        firmware = self.client.redis.call("HGET", self.client.key("device", self.device), "firmware")
        self.assertEqual(firmware, b"JT701D_V8111")

    def test_a_lock_that_hangs_up(self) -> None:
        """It is over then, and its command goes out over the next connection."""
        link = self.come()
        self.node.pass_time(1)
        self.client.unlock(self.device, "888888")
        self.node.pass_time(0.5)
        link.close("closed")
        self.node.pass_time(0.5)
        again = self.come()
        self.node.pass_time(0.5)
        self.assertEqual(self.written(again), [b"(P43,888888)"])
        self.assertEqual(self.node.gateway.counters.questions["unanswered"], 1)

    def test_a_lock_that_has_gone_to_sleep(self) -> None:
        """One that was not heard for a while is asked when it is heard again."""
        link = self.come()
        self.node.run()
        self.node.dispatcher.context.sending = False
        self.node.pass_time(1)
        self.node.dispatcher.context.sending = True
        self.node.pass_time(40, tick=1)
        self.assertEqual(self.written(link), [])
        self.report(link)
        self.node.pass_time(1)
        self.assertEqual(self.written(link), [b"(P14)"])

    def test_redis_is_lost(self) -> None:
        """Under a question's own request as well: commands go on, and it is asked with a later report."""
        link = self.come()
        self.node.run()
        self.node.clock.advance(ROUND)
        self.node.wire.lose()
        self.node.connected()
        self.client.unlock(self.device, "888888")
        self.node.pass_time(1)
        self.assertEqual(self.written(link), [b"(P43,888888)"])
        self.say(link, "P43", "1", "0")
        self.node.pass_time(1)
        self.report(link)
        self.node.pass_time(1)
        self.assertEqual(self.written(link), [b"(P43,888888)", b"(P14)"])

    def test_nothing_is_left(self) -> None:
        """When it is over the lock has no executor, and costs nothing more per message."""
        link = self.come()
        self.node.pass_time(1)
        self.say(link, "P14", "490154203237518")
        self.node.run()
        self.say(link, "P01", "JT701D_V8111", "89")
        self.node.pass_time(1)
        self.assertEqual(self.node.dispatcher.executors, {})
        self.assertEqual(self.written(link), [b"(P14)", b"(P01)"])
