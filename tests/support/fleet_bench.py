"""Two gateways on one Redis and one lock, in parts that the test drives."""

from typing import Any

from tests.support.command_bench import BenchTestCase, Node


class FleetTestCase(BenchTestCase):
    """Gateways `node` and `other`, which know of each other only through Redis."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.make("gw2").start()
        self.nodes = [self.node, self.other]

    def pass_time(self, seconds: float = 0.5, *nodes: Node) -> None:
        """Advance the time everywhere, or at these gateways only."""
        for _ in range(max(1, round(seconds / 0.25))):
            for node in nodes or self.nodes:
                node.pass_time(0.25)

    def changes(self) -> list[tuple[str, str]]:
        """Return the published gateway and state of the lock, oldest first."""
        return [(one["gateway"], one["data"]["state"]) for one in self.session_events()]

    def session_events(self) -> list[dict[str, Any]]:
        """Return the session events of the lock."""
        return self.client.events("session", self.device)

    def holder(self) -> str | None:
        """Return the gateway that has the lock according to Redis."""
        name = self.client.redis.call("HGET", self.client.key("session", self.device), "gateway")
        return None if name is None else name.decode()

    def online_at(self, name: str) -> list[bytes]:
        """Return the locks that are online at a gateway."""
        return self.client.redis.call("SMEMBERS", self.client.key("sessions", name))

    def die(self, node: Node) -> None:
        """End a gateway without a word, and expire its liveness in Redis."""
        self.nodes.remove(node)
        self.client.redis.call("DEL", self.client.key("gateway", node.name))
