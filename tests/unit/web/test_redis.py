"""The status page with Sentinel and Redis Cluster: it reads and listens wherever the gateway's keys are."""

from typing import Any

from tests.promises.test_fleet_failover import PREFIX, FailoverTestCase
from tests.support import wait_until
from tests.support.commands import FakeLock
from tests.support.redis_groups import RedisCluster, SentinelGroup
from tests.support.web import Api


class PageCase(FailoverTestCase):
    __test__ = False

    def hears(self, api: Api, lock: FakeLock) -> None:
        """Somebody who listens to a lock hears what it does."""

        def heard() -> bool:
            with api.listen(("device", lock.device), ("kind", "lock")) as listener:
                if listener.status != 200:
                    return False
                listener.socket.settimeout(2)
                lock.open()
                try:
                    return bool(listener.next("event")["device"] == lock.device)
                except (TimeoutError, AssertionError):
                    # It was not subscribed yet.
                    return False

        wait_until(heard, message="nothing is heard")

    def devices(self, api: Api) -> Any:
        """The names of all devices; None while Redis is away."""
        reply = api.get("/devices")
        return [one["device"] for one in reply.json["devices"]] if reply.status == 200 else None


class SentinelPageTests(PageCase):
    __test__ = True

    def test_primary_dies(self) -> None:
        """The page goes on with the promoted server, and whoever listens is told that there was a gap."""
        self.servers = SentinelGroup()
        self.addCleanup(self.servers.discard)
        daemon = self.daemon(self.servers.url)
        api, lock = Api(daemon), self.lock_at(daemon)
        self.hears(api, lock)
        with api.listen() as listener:
            self.servers.replicated()
            self.servers.primary.kill()
            wait_until(lambda: daemon.get("/readyz")[0] == 503, message="readyz does not go down")
            self.report_again(lock)
            self.assertEqual(listener.next("skipped", 30)["reason"], "redis")
        wait_until(lambda: self.devices(api) == [lock.device])
        self.hears(api, lock)
        self.assertNotIn("NOSCRIPT", daemon.log())


class ClusterPageTests(PageCase):
    __test__ = True
    prefix = PREFIX

    def test_everything(self) -> None:
        """Devices, history, commands and events of a cluster, by way of nodes that have none of them."""
        self.servers = RedisCluster(PREFIX)
        self.addCleanup(self.servers.discard)
        daemon = self.daemon(self.servers.url(*self.servers.others))
        api, lock = Api(daemon), self.lock_at(daemon)
        self.hears(api, lock)
        self.assertEqual(self.devices(api), [lock.device])
        self.open_lock(self.client(self.servers), lock)
        [command] = api.get("/commands").json["commands"]
        self.assertEqual((command["device"], command["state"]), (lock.device, "confirmed"))
        kinds = {one["event"]["kind"] for one in api.get(f"/devices/{lock.device}/history").json["entries"]}
        self.assertEqual(kinds, {"lock", "command"})
        self.servers.migrate(next(one for one in self.servers.nodes[:3] if one is not self.servers.holder))
        wait_until(lambda: self.devices(api) == [lock.device])
        self.hears(api, lock)
        for word in ("CROSSSLOT", "Traceback", "NOSCRIPT"):
            self.assertNotIn(word, daemon.log())
