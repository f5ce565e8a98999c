"""Support for tests of the command line with several partitions on two servers."""

import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions
from tests.support import RedisClient
from tests.support.acl import GuardedServer
from tests.support.cli import Running, put_device, run

COUNT = 4
LAYOUT = Partitions("jt709c", COUNT)
#: A device of each partition: the first ids that belong there.
DEVICES = {
    number: [str(one) for one in range(794308010001, 794308010200) if LAYOUT.number_of(str(one)) == number]
    for number in range(COUNT)
}


class WithTwoServers(SynchronousTestCase):
    """Tests with two servers: the first has partitions 0 and 2, the second 1 and 3."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = [GuardedServer(several=True).start() for _ in range(2)]

    @classmethod
    def tearDownClass(cls) -> None:
        for server in cls.servers:
            server.discard()

    def setUp(self) -> None:
        for server in self.servers:
            if not server.running:
                server.start()
        self.clients = [server.client() for server in self.servers]
        for client in self.clients:
            self.addCleanup(client.close)
            client.call("FLUSHALL")
        for number, keys in enumerate(LAYOUT):
            self.client(number).call("SET", keys.partitions, COUNT)

    def client(self, number: int) -> RedisClient:
        """Return the client of a partition."""
        return self.clients[number % 2]

    def on(self, device: str, command: str, key: str, *arguments: Any) -> Any:
        """Send a command about a key of a device's partition; `key` is without the prefix."""
        number = LAYOUT.number_of(device)
        return self.client(number).call(command, f"{LAYOUT.keys[number].prefix}:{key}", *arguments)

    def put_device(self, device: str, seen: float, **more: Any) -> None:
        """Store a device as the gateway does, with its IMEI."""
        number = LAYOUT.number_of(device)
        put_device(self.client(number), device, seen, prefix=LAYOUT.keys[number].prefix, **more)
        if imei := more.get("imei"):
            self.on(imei, "HSET", "imei", imei, device)

    def url(self, user: str | None = None) -> str:
        """The addresses of both servers."""
        return " ".join(one.url if user is None else one.url_of(user) for one in self.servers)

    def jt709c(
        self, *arguments: str, user: str | None = None, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return run(*arguments, stdin=stdin, JT709C_REDIS=self.url(user), **environment)

    def output(self, *arguments: str, user: str | None = None) -> str:
        """Return what a good run prints."""
        result = self.jt709c(*arguments, user=user)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def start(self, *arguments: str, user: str | None = None) -> Running:
        """Start the command."""
        running = Running(*arguments, JT709C_REDIS=self.url(user))
        self.addCleanup(running.__exit__)
        return running

    def keys_of(self, device: str) -> Keys:
        """Return the names of the keys of a device's partition."""
        return LAYOUT.keys_of(device)
