"""Labels in events: where they stand in the JSON, and that a real gateway keeps them up to date."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.event_labels import EventLabels, label_text, labelled
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.redis.labels import Label
from tests.support import wait_until
from tests.support.acl import GuardedServer
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.web import validate

EVENT = '{"v":1,"id":"1","kind":"lock","device":"5","raw":"a,\\"data\\":b","data":{"action":"locked"}}'
SCHEMA = {"$ref": "#/components/schemas/Event"}


class LabelledTests(SynchronousTestCase):
    def test_before_the_data(self) -> None:
        """The head and the end stay, which the commit script looks at; whatever the label has in it."""
        name = '","data":{"x":1},"kind":"alarm'
        found = labelled(EVENT, label_text(Label(name, plate="AB\x7f 1", note="not in events")))
        self.assertTrue(found.startswith(EVENT[:40]))
        self.assertTrue(found.endswith(',"data":{"action":"locked"}}'))
        self.assertEqual(found.index(',"data":{'), len(found) - len(',"data":{"action":"locked"}}'))
        label = {"name": name, "plate": "AB\x7f 1"}
        self.assertEqual(json.loads(found), {**json.loads(EVENT), "label": label})
        self.assertNotIn("\x7f", found)

    def test_nothing_to_show(self) -> None:
        self.assertEqual((label_text(None), label_text(Label(note="only a note"))), ("", ""))

    def test_removed(self) -> None:
        """Nothing is kept of a label that has gone."""
        labels = EventLabels(SessionTable(10))
        labels.set("5", Label("Truck"))
        labels.set("5", None)
        self.assertEqual(labels.texts, {})


class DaemonTests(SynchronousTestCase):
    """A gateway as the user of etc/redis-acl.conf."""

    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.end)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def gateway(self, *options: str) -> Daemon:
        daemon = Daemon(*options, redis=self.server.gateway_url, udp=False).start()
        self.addCleanup(daemon.discard)
        return daemon

    def put_label(self, device: str, name: str) -> None:
        """As another service does."""
        call = self.client.redis.call
        call("HSET", self.client.key("label", device), "name", name, "group", "north", "note", "x")
        call("SADD", self.client.key("labels"), device)
        seconds, microseconds = call("TIME")
        call("ZADD", self.client.key("labels", "changed"), f"{int(seconds)}.{int(microseconds):06}", device)

    def newest(self, kind: str, device: str) -> dict[str, Any]:
        found = self.client.events(kind, device)[-1]
        validate(found, SCHEMA)
        return found

    def test_kept_up_to_date(self) -> None:
        """In reports, alarms made of them, sessions and commands; a changed label comes within seconds."""
        device = new_device()
        self.put_label(device, "Truck 12")
        daemon = self.gateway("--labels-in-events")
        lock = FakeLock(device).connect(daemon)
        self.addCleanup(lock.close)

        def has(name: str) -> bool:
            lock.report()
            return self.newest("location", device).get("label") == {"name": name, "group": "north"}

        wait_until(lambda: has("Truck 12"))
        self.put_label(device, "Truck 13")
        wait_until(lambda: has("Truck 13"))
        # The commit script has cut the state out of the labelled event.
        state = json.loads(self.client.redis.call("HGET", self.client.key("device", device), "location"))
        self.assertEqual(state, self.newest("location", device)["data"])
        lock.send(lock.location(alarm_bits=1 << 5))
        wait_until(lambda: self.client.events("alarm", device))
        self.assertEqual(self.newest("alarm", device)["label"]["name"], "Truck 13")
        lock.close()
        wait_until(lambda: self.newest("session", device)["data"]["state"] == "offline")
        self.assertEqual(self.newest("session", device)["label"]["name"], "Truck 13")
        self.client.command(device, "locate", ttl=60)
        wait_until(lambda: self.client.events("command", device))
        self.assertEqual(self.newest("command", device)["label"]["name"], "Truck 13")

    def test_off(self) -> None:
        """Without the option no event has one."""
        device = new_device()
        self.put_label(device, "Truck 12")
        lock = FakeLock(device).connect(self.gateway())
        self.addCleanup(lock.close)
        lock.report()
        self.assertNotIn("label", self.newest("location", device))
