"""A gateway that lacks a right says which, and is not ready; with the right it is."""

import json
import re
from collections.abc import Callable
from typing import Any

import txredisapi
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis import rights, scripts
from jt709c_gateway.redis.keys import Channels, Keys
from tests.support import RedisError, wait_until
from tests.support.acl import GATEWAY, GuardedServer, rules_of
from tests.support.daemon import Daemon

#: What is in `Keys` and is no key.
_NO_KEYS = {"prefix", "channel", "channels", "count"}


class Caller:
    """A connection to a real server, as the gateway's user."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        try:
            return defer.succeed(self._call(*arguments))
        except RedisError as error:
            return defer.fail(txredisapi.ResponseError(str(error)))


class NeededTests(SynchronousTestCase):
    """The list of rights, on a real server."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()
        cls.addClassCleanup(cls.server.discard)

    def missing(self, *rules: str) -> list[str]:
        """What a user with changed rights lacks."""
        with self.server.client() as admin, self.server.client_of(GATEWAY) as client:
            admin.call("ACL", "SETUSER", GATEWAY, *rules)
            try:
                looking = defer.Deferred.fromCoroutine(
                    rights.missing(Caller(client.call), Keys(), admits=True)
                )
                return self.successResultOf(looking)
            finally:
                admin.call("ACL", "SETUSER", GATEWAY, *rules_of(GATEWAY))

    def test_shipped_user(self) -> None:
        """The user of etc/redis-acl.conf lacks nothing, and looking changes nothing."""
        self.assertEqual(self.missing(), [])
        with self.server.client() as admin:
            self.assertEqual(admin.call("KEYS", "*"), [])

    def test_each_command(self) -> None:
        """Each command of the list is missed by its name when it is taken away."""
        for command in sorted({command for command, *_ in rights.needed(Keys(), admits=True)}):
            (said,) = self.missing(f"-{command}")
            self.assertEqual(said.split()[0], command)

    def test_each_key(self) -> None:
        """Each key of the contract is missed by its pattern when it is taken away, or can only be read."""
        every = {name: rights._key(Keys(), name) for name in {**rights.NEEDED, **rights.ADMITTING}}
        for name, key in every.items():
            others = [f"~{one}" for one in every.values() if one != key]
            pattern = re.sub(":0$", ":*", key)
            self.assertIn(pattern, "; ".join(self.missing("resetkeys", *others)), name)
            said = self.missing("resetkeys", *others, f"%R~{key}")
            self.assertEqual(bool(said), name != "allowed", name)

    def test_each_channel(self) -> None:
        """A kind of event that can't be published is named."""
        said = self.missing("resetchannels", "&jt709c:event:location:*")
        self.assertIn("jt709c:event:alarm:*", said[0])
        self.assertNotIn("jt709c:event:location:*", said[0])

    def test_every_key_is_in_it(self) -> None:
        """No key of the contract is forgotten."""
        names = {name for name in vars(Keys) if not name.startswith("_")} - _NO_KEYS
        self.assertEqual(names, {*rights.NEEDED, *rights.PARTITIONED, *rights.ADMITTING})

    def test_every_command_is_in_it(self) -> None:
        """No command that the scripts run is forgotten."""
        page = (scripts.FLEET, scripts.LATEST)
        sources = b"".join([script.source for script in scripts.SCRIPTS if script not in page])
        used = {one.decode() for one in re.findall(rb"call(?:\(|, )'([A-Z]+)'", sources)}
        self.assertLessEqual(used, {command for command, *_ in rights.needed(Keys("t:{1}", Channels.SHARED))})


class DaemonTests(SynchronousTestCase):
    def test_told(self) -> None:
        """Taken away and given back, while it runs: log, /readyz and metric say so."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon(redis=server.gateway_url, udp=False).start()
        self.addCleanup(daemon.discard)
        with server.client() as admin:
            admin.call("ACL", "SETUSER", GATEWAY, "-append")
            wait_until(lambda: daemon.get("/readyz")[0] == 503)
            said = json.loads(daemon.get("/readyz")[1])
            self.assertEqual(said["rights_missing"], ["APPEND jt709c:recent:*"])
            self.assertIn("lacks rights: APPEND jt709c:recent:*", daemon.log())
            self.assertIn("jt709c_redis_rights_missing 1.0", daemon.get("/metrics")[1])
            admin.call("ACL", "SETUSER", GATEWAY, "+append")
            wait_until(lambda: daemon.get("/readyz")[0] == 200)
            self.assertIn("has all rights", daemon.log())

    def test_from_the_start(self) -> None:
        """It is never ready without a right that it lacks from the start."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        with server.client() as admin:
            admin.call("ACL", "SETUSER", GATEWAY, "-xadd")
            daemon = Daemon(redis=server.gateway_url, udp=False).start(ready=False)
            self.addCleanup(daemon.discard)
            wait_until(lambda: "lacks rights: XADD jt709c:events" in daemon.log())
            self.assertEqual(daemon.get("/readyz")[0], 503)
