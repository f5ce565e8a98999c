"""The consumers of docs/examples that read all partitions, against a gateway with four on two servers."""

import os
import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.test_examples import GROUP, LIMIT, Consumer, command
from tests.support import LOOPBACK, wait_until
from tests.support.acl import READER, GuardedServer
from tests.support.cli_partitions import LAYOUT
from tests.support.daemon import Daemon
from tests.support.reporter import stream_events


class PartitionConsumerTests(SynchronousTestCase):
    """One that is killed gets what it was given before; one whose server is gone goes on with the others."""

    def setUp(self) -> None:
        self.servers = [GuardedServer(several=True).start() for _ in range(2)]
        self.clients = []
        for server in self.servers:
            self.addCleanup(server.discard)
            self.clients.append(server.client())
            self.addCleanup(self.clients[-1].close)
        urls = " ".join(server.gateway_url for server in self.servers)
        self.daemon = Daemon("--partitions", "4", redis=urls).start()
        self.addCleanup(self.daemon.discard)

    def start(self, program: str) -> Consumer:
        urls = " ".join(server.url_of(READER) for server in self.servers)
        consumer = Consumer(command(program), {**os.environ, "JT709C_REDIS": urls, "PYTHONUNBUFFERED": "1"})
        self.addCleanup(consumer.kill)
        return consumer

    def ids(self) -> set[str]:
        """The ids of the events in all streams."""
        return {
            one["id"]
            for number, keys in enumerate(LAYOUT)
            for one in stream_events(self.clients[number % 2], keys.prefix)
        }

    def pending(self) -> int:
        return sum(
            self.clients[number % 2].call("XPENDING", keys.events, GROUP)[0]
            for number, keys in enumerate(LAYOUT)
        )

    def check(self, program: str) -> None:
        fleet = subprocess.Popen(
            [
                *(sys.executable, "-m", "jt709c_gateway.cli.main", "simulate", "--card-every=0"),
                *("--tcp", f"{LOOPBACK}:{self.daemon.tcp_port}", "--locks=8", "--interval=0.3"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(fleet.kill)
        first = self.start(program)
        wait_until(lambda: len(first.ids) >= 20, message=f"nothing comes: {first.said}")
        first.kill()
        second = self.start(program)
        wait_until(lambda: len(second.ids) >= 20, message=f"nothing comes: {second.said}")
        self.clients[1].call("CLIENT", "KILL", "USER", READER)
        count = len(second.ids)
        wait_until(lambda: len(second.ids) >= count + 10, message=f"it did not go on: {second.said}")
        fleet.send_signal(signal.SIGINT)
        fleet.wait(LIMIT)
        try:
            wait_until(lambda: not self.ids() - {*first.ids, *second.ids} and not self.pending())
        except AssertionError:
            missing = self.ids() - {*first.ids, *second.ids}
            self.fail(f"events are missing: {missing}, pending {self.pending()}: {second.said[-20:]}")
        self.assertTrue(all(stream_events(self.clients[n % 2], keys.prefix) for n, keys in enumerate(LAYOUT)))

    def test_redis_py(self) -> None:
        """Python with redis-py, a thread for each partition."""
        self.check("consumer_partitions.py")

    def test_client(self) -> None:
        """Python with our client, the same program as for one partition."""
        self.check("consumer_client.py")
