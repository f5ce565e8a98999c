"""Test case for the embedded server."""

from typing import Any

from twisted.internet import reactor, task
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.embedded.server import EmbeddedServer
from tests.support import RedisClient


class EmbeddedTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("jt709c_gateway.redis"):
            self.lines.append(formatEvent(event))

    def embedded(self, data_dir: str, port: int | None = None, **options: Any) -> EmbeddedServer:
        server = EmbeddedServer(reactor, data_dir, port, **options)
        self.addCleanup(server.stopService)
        return server

    def client(self, address: RedisAddress) -> RedisClient:
        return RedisClient(address.port, password=address.password)

    async def until(self, predicate: Any) -> None:
        while not predicate():
            await task.deferLater(reactor, 0.01, lambda: None)
