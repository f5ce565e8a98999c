"""Two gateways on one Redis and one lock, in parts that the test drives."""

from typing import Any

from tests.support.command_bench import BenchTestCase, Node


class FleetTestCase(BenchTestCase):
    """Gateways `node` and `other`, each of which knows of the other only through Redis."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.make("gw2").start()
        self.nodes = [self.node, self.other]

    def pass_time(self, seconds: float = 0.5, *nodes: Node) -> None:
        """Let time pass everywhere, or at these gateways only."""
        for _ in range(max(1, round(seconds / 0.25))):
            for node in nodes or self.nodes:
                node.pass_time(0.25)

    def changes(self) -> list[tuple[str, str]]:
        """What was told of the lock: gateway and state, in order."""
        return [(one["gateway"], one["data"]["state"]) for one in self.session_events()]

    def session_events(self) -> list[dict[str, Any]]:
        """The session events of the lock."""
        return self.client.events("session", self.device)

    def holder(self) -> str | None:
        """The gateway that Redis says has the lock."""
        name = self.client.redis.call("HGET", self.client.key("session", self.device), "gateway")
        return None if name is None else name.decode()

    def online_at(self, name: str) -> list[bytes]:
        """The locks that a gateway is known to have."""
        return self.client.redis.call("SMEMBERS", self.client.key("sessions", name))

    def die(self, node: Node) -> None:
        """A gateway is never heard of again, and Redis has noticed."""
        self.nodes.remove(node)
        self.client.redis.call("DEL", self.client.key("gateway", node.name))
