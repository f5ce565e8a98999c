"""Commands with conditions through the whole daemon: command line, areas, and faults while they wait."""

import json
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import ENDED
from tests.support.acl import GuardedServer
from tests.support.cli import run
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon

INSIDE = {"latitude": 51.5, "longitude": -0.12, "speed_kmh": 0}
OUTSIDE = {"latitude": 51.511152, "longitude": -0.12, "speed_kmh": 0}
DEPOT = {"circle": {"center": [51.5, -0.12], "radius_m": 200}}


class ConditionCommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.end)
        self.daemon = Daemon(
            "--gateway", "gw1", "--gateway-ttl", "3", redis=self.server.gateway_url, udp=False
        )
        self.daemon.start()
        self.addCleanup(self.daemon.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)

    def at(self, place: dict[str, float]) -> None:
        """The lock reports this place, and the report is answered."""
        self.lock.send(self.lock.location(**place))
        self.lock._until_answered()

    def area(self, *arguments: str) -> Any:
        return run("area", *arguments, "--redis", self.server.url_of("jt709c-operator"))

    def test_command_line(self) -> None:
        """An area is defined and used by its name; the outcome says how far outside the lock is."""
        defined = self.area("set", "depot-2", "circle:51.5,-0.12,200")
        self.assertEqual((defined.stdout, defined.stderr), ("area depot-2 is defined\n", ""))
        self.assertEqual(json.loads(self.area("show", "depot-2").stdout), DEPOT)
        self.assertEqual(self.area("list", "--json").stdout, '["depot-2"]\n')
        self.lock.connect(self.daemon, known=False)
        self.at(OUTSIDE)
        arguments = ("locate", self.lock.device, "--wait", "--redis", self.server.url)
        sent = run("send", *arguments, "--only-within", "area:depot-2", "--max-speed", "5")
        self.assertEqual(sent.returncode, 1, sent)
        self.assertIn("1,040 m outside of area depot-2", sent.stdout)
        self.assertEqual(self.area("remove", "depot-2").stdout, "area depot-2 is removed\n")
        gone = self.area("remove", "depot-2")
        self.assertEqual((gone.returncode, gone.stdout), (2, ""))
        unknown = run("send", *arguments, "--only-within", "area:depot-2")
        self.assertIn("area depot-2 is not defined", unknown.stdout + unknown.stderr)

    def test_import(self) -> None:
        """GeoJSON has the longitude first; with a mistake in one feature none is defined."""
        ring = [[-0.13, 51.49], [-0.11, 51.49], [-0.11, 51.51], [-0.13, 51.49]]
        good = {"type": "Feature", "properties": {"name": "yard"}, "geometry": None}
        good["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        bad = {**good, "properties": {}}
        command = ("area", "import", "-", "--redis", self.server.url_of("jt709c-operator"))
        failed = run(*command, stdin=json.dumps({"type": "FeatureCollection", "features": [good, bad]}))
        self.assertEqual(failed.returncode, 2)
        self.assertIn("features[1].properties.name", failed.stderr)
        self.assertEqual(self.area("list").stdout, "no areas are defined\n")
        self.assertEqual(run(*command, stdin=json.dumps(good)).stdout, "1 areas are defined: yard\n")
        corners = [[51.49, -0.13], [51.49, -0.11], [51.51, -0.11]]
        self.assertEqual(json.loads(self.area("show", "yard").stdout), {"polygon": corners})

    def test_killed_while_it_waits(self) -> None:
        """The gateway that comes next keeps the conditions: written inside, and not before."""
        self.lock.connect(self.daemon, known=False)
        self.at(OUTSIDE)
        command = self.client.unlock(self.lock.device, only_within=DEPOT, when_not_allowed="wait")
        self.client.wait(command, "waiting")
        self.daemon.kill()
        self.daemon.start()
        self.lock.connect(self.daemon, known=False)
        self.at(OUTSIDE)
        self.lock.beat()
        self.assertEqual((self.client.state(command), self.lock.unlocks()), ("waiting", []))
        self.at(INSIDE)
        self.lock.next_unlock()
        self.client.wait(command, "sent")

    def test_redis_is_away_when_the_area_is_to_be_read(self) -> None:
        """Nothing is written while Redis can't say what the area is, and the new definition counts then."""
        self.client.redis.call("SET", "jt709c:area:depot", json.dumps(DEPOT))
        self.lock.connect(self.daemon, known=False)
        self.at(OUTSIDE)
        command = self.client.unlock(
            self.lock.device, only_within={"area": "depot"}, when_not_allowed="wait", ttl=60
        )
        self.client.wait(command, "waiting")
        away = {"circle": {"center": [10, 10], "radius_m": 200}}
        self.client.redis.call("SET", "jt709c:area:depot", json.dumps(away))
        self.server.pause()
        self.lock.send(self.lock.location(**INSIDE))
        time.sleep(1)
        self.assertEqual(self.lock.unlocks(), [])
        self.server.resume()
        self.lock.beat()
        self.lock.beat()
        self.assertEqual((self.client.state(command), self.lock.unlocks()), ("waiting", []))
        self.client.redis.call("SET", "jt709c:area:depot", json.dumps(DEPOT))
        self.at(INSIDE)
        self.lock.next_unlock()
        self.assertNotIn(self.client.state(command), ENDED)
