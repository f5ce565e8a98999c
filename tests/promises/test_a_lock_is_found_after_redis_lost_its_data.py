"""After Redis has lost its data, gateways restore the sessions of their locks, so that commands find them."""

from collections.abc import Callable

from jt709c_gateway.gateway.data_loss import DataLossDetector
from jt709c_gateway.redis.gateway_registry import SESSIONS_AT_ONCE
from tests.support import PATIENCE, wait_until
from tests.support.command_bench import START, BenchTestCase
from tests.support.commands import FakeLock, new_device, new_id
from tests.support.daemon import Daemon
from tests.support.partitioned import PARTITIONS, store


class LossTestCase(BenchTestCase):
    """Gateway `node` with a lock, and `other`, which takes commands in for it."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.make("gw2").start()
        self.link = self.come()
        self.losses = DataLossDetector(self.node.clock, self.node.dispatcher)
        self.node.pass_time(0.5)
        self.look()

    def look(self) -> None:
        """Run the half-second check for lost data."""
        self.losses.check()
        self.node.run()

    def keys(self) -> list[bytes]:
        """Return all keys in Redis."""
        found: list[bytes] = self.client.redis.call("KEYS", f"{self.prefix}:*")
        return found

    def empty(self) -> None:
        """Delete all data in Redis."""
        self.client.redis.call("DEL", *self.keys())

    def holder(self, device: str | None = None) -> bytes | None:
        """Return the gateway that has a lock according to Redis."""
        key = self.client.key("session", device or self.device)
        found: bytes | None = self.client.redis.call("HGET", key, "gateway")
        return found

    def count(self) -> int:
        """Return the number of losses found."""
        return self.node.gateway.counters.losses


class LossTests(LossTestCase):
    def test_nothing_lost(self) -> None:
        """Nothing is restored as long as Redis has its data."""
        for _ in range(5):
            self.report(self.node, self.link)
            self.node.pass_time(1)
            self.look()
        self.assertEqual(self.count(), 0)
        self.node.pass_time(4000)
        self.look()
        marker = self.node.committer.marker
        self.assertGreater(self.client.redis.call("TTL", marker), 86_000)

    def test_a_command_taken_in_elsewhere_meanwhile(self) -> None:
        """A command taken in by a gateway that knew of no session is written when the loss is found."""
        self.empty()
        self.other.pass_time(6)
        command = self.client.command(self.device, "locate", id=new_id())
        self.other.pass_time(0.5)
        self.assertEqual(self.client.state(command), "waiting")
        self.look()
        self.node.pass_time(0.25)
        self.assertEqual(self.client.state(command), "sent")
        self.assertEqual(self.holder(), b"gw1")

    def test_a_command_that_comes_after_it(self) -> None:
        """The gateway that takes a command in finds the lock before any gateway has renewed its heartbeat."""
        self.empty()
        self.look()
        self.other.pass_time(0.5)
        command = self.client.command(self.device, "locate", id=new_id())
        self.other.pass_time(0.5)
        self.node.pass_time(0.5)
        self.assertEqual(self.client.state(command), "sent")

    def test_what_is_lost_and_how_it_is_noticed(self) -> None:
        """All or the newest data, idle or busy: the loss is found once, and the session is restored."""
        session, marker = self.client.key("session", self.device), self.node.committer.marker

        def all_of_it() -> None:
            self.empty()

        def all_of_it_with_reports_at_once() -> None:
            self.empty()
            for _ in range(3):
                self.report(self.node, self.link)
                self.node.pass_time(0.1)

        def the_newest_part() -> None:
            self.client.redis.call("DEL", session)
            self.client.redis.call("SET", marker, "1")

        def the_newest_part_with_reports_at_once() -> None:
            the_newest_part()
            self.report(self.node, self.link)
            self.node.pass_time(0.1)

        ways: list[Callable[[], None]] = [
            all_of_it,
            all_of_it_with_reports_at_once,
            the_newest_part,
            the_newest_part_with_reports_at_once,
        ]
        for number, lose in enumerate([*ways, *reversed(ways)], start=1):
            for _ in range(3):
                self.report(self.node, self.link)
                self.node.pass_time(0.1)
            lose()
            self.assertIsNone(self.holder(), lose.__name__)
            for _ in range(4):
                self.look()
                self.report(self.node, self.link)
                self.node.pass_time(0.1)
            self.assertEqual(self.holder(), b"gw1", lose.__name__)
            self.assertEqual(self.count(), number, lose.__name__)

    def test_names(self) -> None:
        """A command that names the lock by its IMEI finds it as well."""
        session = self.node.gateway.sessions.get(self.device)
        assert session is not None
        self.node.gateway.sessions.set_imei(session, "356938035643809")
        self.empty()
        self.look()
        self.assertEqual(
            self.client.redis.call("HGET", self.client.key("imei"), "356938035643809"), self.device.encode()
        )
        self.assertIsNotNone(self.client.redis.call("ZSCORE", self.client.key("devices"), self.device))

    def test_a_lock_that_has_moved_stays_where_it_is(self) -> None:
        """Of two gateways that both have a session, the newest one has the lock in the end."""
        self.come(self.other)
        self.other.pass_time(0.5)
        self.empty()
        losses = DataLossDetector(self.other.clock, self.other.dispatcher)
        losses.check()
        self.other.run()
        self.look()
        self.node.pass_time(0.5)
        self.assertEqual(self.holder(), b"gw2")

    def test_what_a_gateway_had_taken_that_is_heard_no_more(self) -> None:
        """Commands of a silent gateway are adopted although a loss has removed it from Redis."""
        gateways = self.client.key("gateways")
        self.node.pass_time(6)
        self.look()
        self.empty()
        self.look()
        self.node.pass_time(6)
        self.look()
        self.assertEqual(set(self.client.redis.call("SMEMBERS", gateways)), {b"gw1", b"gw2"})


class ManyTests(LossTestCase):
    def test_reports_come_in_between(self) -> None:
        """The sessions are restored in batches, so that no report waits for all of them."""
        locks = [FakeLock(new_device()) for _ in range(3 * SESSIONS_AT_ONCE)]
        links = [self.node.link() for _ in locks]
        for lock, link in zip(locks, links, strict=True):
            self.node.feed(link, lock.location(b"", 2, START))
        self.node.run()
        self.empty()
        self.losses.check()
        most = 0
        while self.node.step():
            most = max(most, self.node.committer.unacked)
        self.assertLessEqual(most, 2 * SESSIONS_AT_ONCE + 2)
        self.assertEqual({self.holder(lock.device) for lock in locks}, {b"gw1"})
        self.assertEqual(self.count(), 1)


class RestartTests(BenchTestCase):
    def test_a_restart_without_persistence(self) -> None:
        """Redis restarts without data: each lock is known again before it has sent anything."""
        server = store().start()
        self.addCleanup(server.discard)
        daemon = Daemon("--gateway", "gw1", redis=server.url).start()
        self.addCleanup(daemon.discard)
        with daemon.lock() as lock:
            lock.ask(self.lock.location(b"", 2, START))
            server.stop()
            server.start()

            def known() -> bool:
                with server.client() as client:
                    return bool(client.call("HGET", f"jt709c:session:{self.device}", "gateway") == b"gw1")

            wait_until(known, PATIENCE, "the lock is not known again")
        # Each partition notices its own loss.
        losses = daemon.metrics()["jt709c_redis_losses_total"]
        self.assertTrue(1 <= losses <= max(PARTITIONS, 1), losses)
