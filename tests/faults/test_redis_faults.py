"""Faults of Redis: it hangs, dies, loses its scripts, refuses writes."""

from tests.faults.fault_case import FaultTestCase
from tests.support import LOOPBACK, ValkeyServer, free_port, wait_until


class RedisFaultTests(FaultTestCase):
    def test_frozen(self) -> None:
        """Redis hangs for longer than the timeout: nothing is answered, and then everything is, once."""
        self.load("--redis-timeout", "1")
        self.server.pause()
        self.outage(1.5)
        self.wait_for_log("no reply from Redis")
        self.server.resume()
        self.settle()
        self.check_log()

    def test_killed(self) -> None:
        """Redis is killed at any moment and started again, several times."""
        self.load()
        for _ in range(3):
            self.fleet.wait_for(self.dice.randrange(5, 60))
            self.server.kill()
            self.outage(0.2)
            self.server.start()
        self.settle()

    def test_restarted(self) -> None:
        """Redis restarts normally: it has its data and has lost the scripts."""
        self.load()
        self.server.restart()
        self.settle()

    def test_scripts_flushed(self) -> None:
        """The scripts are flushed while the connections stay: the gateway loads them again without a
        failure."""
        self.load()
        with self.redis() as redis:
            for _ in range(5):
                redis.call("SCRIPT", "FLUSH")
                self.fleet.wait_for(20)
        self.settle()
        self.assertNotIn("lost the connection to Redis", self.daemon.log())
        self.check_log(20)

    def refused(self, begin: tuple[object, ...], end: tuple[object, ...], word: str) -> None:
        """The server refuses writes for a while: nothing is answered, and the log says so once."""
        self.load()
        if begin[0] == "REPLICAOF" and not isinstance(self.server, ValkeyServer):
            self.skipTest("a node of a cluster is made a replica in another way")
        with self.redis() as redis:
            redis.call(*begin)
            self.outage(1.5)
            self.wait_for_log(word)
            redis.call(*end)
        self.settle()
        self.check_log()

    def test_read_only(self) -> None:
        """The server becomes a replica, as in a fail-over, and then a primary again."""
        self.refused(("REPLICAOF", LOOPBACK, free_port()), ("REPLICAOF", "NO", "ONE"), "READONLY")

    def test_out_of_memory(self) -> None:
        """The server reaches its memory limit and evicts nothing."""
        self.refused(
            ("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0), "OOM command not allowed"
        )


class WayFaultTests(FaultTestCase):
    """Faults of the connection between gateway and Redis."""

    def test_slow(self) -> None:
        """Every reply is slow: the batches grow, and everything is answered."""
        self.load(proxied=True)
        self.proxy.slow(0.05)
        self.fleet.wait_for(300)
        self.proxy.slow(0)
        self.settle()

    def test_slower_than_allowed(self) -> None:
        """Redis executes requests, and each reply comes too late: they are repeated, and applied once."""
        self.load("--redis-timeout", "0.5", proxied=True)
        self.proxy.slow(0.6)
        self.wait_for_log("no reply from Redis")
        self.outage(1.0)
        self.proxy.slow(0)
        self.settle()
        self.check_log()

    def test_cut_in_a_reply(self) -> None:
        """The connection ends in the middle of a reply: the batch has been applied, and is not applied
        again."""
        self.load(proxied=True)
        for number in range(6):
            self.proxy.cut_after(self.dice.randrange(4, 200))
            wait_until(lambda number=number: self.proxy.cuts > number)
            self.fleet.wait_for(10)
        self.settle()

    def test_reset(self) -> None:
        """The connections to Redis are reset, again and again."""
        self.load(proxied=True)
        for _ in range(5):
            self.proxy.reset()
            self.fleet.wait_for(self.dice.randrange(1, 40))
        self.settle()

    def test_black_hole(self) -> None:
        """Bytes of both sides are dropped, as when a firewall forgets a connection."""
        self.load("--redis-timeout", "1", proxied=True)
        self.proxy.freeze()
        self.outage(1.5)
        self.wait_for_log("no reply from Redis")
        self.proxy.thaw(lost=True)
        self.settle()
        self.check_log()
