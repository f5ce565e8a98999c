"""Invalid addresses and events: the page shows everything else."""

import json
import time

from jt709c_gateway.redis.keys import Keys
from tests.browser.support import BrowserTestCase
from tests.support.commands import FakeLock, new_device

KEYS = Keys("jt709c")
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


class GarbageTests(BrowserTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def test_addresses_with_names_that_every_object_has(self) -> None:
        """There is no such page, and no such column to sort by."""
        lock = self.lock()
        lock.report()
        for address in ("#/constructor", "#/__proto__", "#/toString/x"):
            self.open(address).get_by_role("heading", name="Nothing here").wait_for()
        page = self.open("#/?sort=__proto__")
        page.get_by_text(lock.device).first.wait_for()

    def test_events_of_another_shape(self) -> None:
        """Each event is shown as text as far as possible, and the others as usual."""
        lock = self.lock()
        lock.open()
        odd = [
            {"kind": "command", "data": {"answer": {"arguments": 5}, "state": "sent", "command": MARKUP}},
            {"kind": "reply", "data": {"arguments": 5, "word": MARKUP}},
            {"kind": "constructor", "data": {"name": MARKUP}},
            {"kind": "__proto__", "data": None},
            {"kind": "lock", "data": None},
            {},
        ]
        for number, event in enumerate(odd):
            whole = json.dumps({"v": 1, "id": f"odd-{number}", "device": lock.device, **event})
            for key in (KEYS.history(lock.device), KEYS.events):
                fields = ("kind", "lock", "device", lock.device, "event", whole)
                self.redis.call("XADD", key, "*", *fields)
        page = self.open(f"#/device/{lock.device}")
        page.locator(".timeline .kind-lock").nth(1).wait_for()
        page.locator(".timeline", has_text=MARKUP).wait_for()
        events = self.open("#/events")
        events.locator("main .kind-lock").first.wait_for()
        events.locator("main", has_text=MARKUP).wait_for()
        self.assertEqual(events.locator("main img[src=x], main script").count(), 0)
        for kind in ("location", "lock", "reply"):
            whole = json.dumps(
                {"v": 1, "id": f"live-{kind}-{time.time()}", "kind": kind, "device": lock.device}
            )
            self.redis.call("PUBLISH", KEYS.channel(kind, lock.device), whole)
        lock.open()
        page.locator(".timeline .kind-lock").nth(2).wait_for()
