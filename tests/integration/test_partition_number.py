"""A gateway whose number of partitions is not that of its store ends with one line."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ValkeyServer, key_prefix, shared_server
from tests.support.daemon import Daemon, run_twistd
from tests.support.reporter import report


class WrongNumberTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.prefix = key_prefix()

    def fill(self, partitions: int, redis: str) -> None:
        """A gateway with so many partitions serves some locks and ends."""
        daemon = Daemon(*self.options(partitions), redis=redis, udp=False)
        self.addCleanup(daemon.discard)
        daemon.start()
        for number in range(4):
            with daemon.lock() as lock:
                lock.ask(report(1, f"79430801000{number}"))
        self.assertEqual(daemon.stop(), 0)

    def options(self, partitions: int) -> tuple[str, ...]:
        return ("--prefix", self.prefix, "--partitions", str(partitions))

    def refused(self, partitions: int, redis: str, line: str) -> None:
        """A gateway with so many ends with status 1 and this line, which is no traceback, on stderr."""
        directory = Daemon(udp=False)
        self.addCleanup(directory.discard)
        ended = run_twistd(
            *("-n", "--pidfile=", "--logfile=log", "jt709c-gateway", "--redis", redis, "--no-udp"),
            *("--listen", f"tcp:{directory.tcp_port}:interface=127.0.0.1", *self.options(partitions)),
            *("--http", f"tcp:{directory.http_port}:interface=127.0.0.1"),
            directory=directory.directory,
        )
        self.assertEqual((ended.returncode, ended.stderr), (1, f"jt709c-gateway: {line}\n"))
        self.assertNotIn("Traceback", (directory.directory / "log").read_text())

    def line(self, found: str, number: int, expected: int) -> str:
        return (
            f"the keys under the prefix {self.prefix} are in {found}, not {expected}: give --partitions "
            f"{number}, or move them with jt709c repartition --from {number} --to {expected}"
        )

    def test_one_to_four(self) -> None:
        redis = shared_server().url
        self.fill(1, redis)
        self.refused(4, redis, self.line("1 partition", 1, 4))
        self.fill(1, redis)

    def test_four_to_others(self) -> None:
        """Also when partition 0 has lost its marker, and the right number is used as before."""
        redis = shared_server().url
        self.fill(4, redis)
        for wrong in (1, 8, 2):
            self.refused(wrong, redis, self.line("4 partitions", 4, wrong))
        with shared_server().client() as client:
            client.call("DEL", f"{self.prefix}:{{0}}:partitions")
        self.refused(8, redis, self.line("4 partitions", 4, 8))
        self.fill(4, redis)

    def test_several_servers(self) -> None:
        """The markers of all servers count."""
        servers = [ValkeyServer().start() for _ in range(2)]
        for one in servers:
            self.addCleanup(one.discard)
        redis = " ".join(one.url for one in servers)
        self.fill(2, redis)
        self.refused(4, redis, self.line("2 partitions", 2, 4))
        self.refused(1, servers[0].url, self.line("2 partitions", 2, 1))
        self.fill(2, redis)
