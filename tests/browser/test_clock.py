"""Times on the page are in the time zone of the reader's computer, with its offset."""

import json
import re
import time
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.browser.support import PHONE, CommandCase
from tests.support.commands import PASSWORD, UNLOCKED, FakeLock, lock_event, new_device

_ZONES = {"Asia/Kolkata": "UTC+5:30", "Pacific/Marquesas": "UTC\u22129:30", "UTC": "UTC"}
_CLOCK = re.compile(r"\d\d:\d\d:\d\d(.{0,9})")


class ClockTests(CommandCase):
    lock: FakeLock

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.lock = FakeLock(new_device()).connect(cls.daemon)
        cls.addClassCleanup(cls.lock.close)
        for ago in (90_000, 60):
            cls.lock.report(lock_event(), UNLOCKED, at=time.time() - ago)
        cls.lock.send(cls.lock.location(alarm_bits=1 << 1))
        cls.client.wait(cls.client.unlock(cls.lock.device, issued_by="night shift"), "sent")

    def check(self, page: Any, zone: str) -> int:
        """Check that every time of day is right and names the zone; return their number."""
        offset = _ZONES[zone]
        text = page.locator("body").inner_text()
        found = _CLOCK.findall(text)
        for after in found:
            self.assertRegex(after, rf"^\s{re.escape(offset)}(?![+\d\u2212])", text)
        for element in page.locator("time").all():
            shown = element.inner_text()
            if _CLOCK.search(shown):
                at = datetime.fromisoformat(element.get_attribute("datetime")).astimezone(ZoneInfo(zone))
                self.assertIn(f"{at:%H:%M:%S}", shown)
                self.assertIn(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", element.get_attribute("title"))
        return len(found)

    def test_every_view(self) -> None:
        """In each card and list, on a desktop and on a phone."""
        for zone in _ZONES:
            page = self.open("", timezone_id=zone)
            for path, items in (("#/events", ".events > li"), ("#/commands", ".commands tbody tr")):
                page.goto(self.url(path))
                page.locator(items).first.wait_for()
                self.assertGreater(self.check(page, zone), 0, path)
            page.goto(self.url(f"#/device/{self.lock.device}"))
            for card in (".timeline > li", ".frames > li", ".step"):
                page.locator(card).first.wait_for()
            page.get_by_text("positions, from").wait_for()
            self.assertGreater(self.check(page, zone), 6)
            self.assertIn("Position taken", page.locator(".details").inner_text())

    def test_dialog(self) -> None:
        """The question before a command uses the same clock, also on a phone."""
        page = self.lock_page(self.lock.device, PHONE, timezone_id="Asia/Kolkata")
        self.ask_to_unlock(page, PASSWORD)
        self.assertGreater(self.check(page, "Asia/Kolkata"), 6)
        self.assertRegex(page.get_by_role("dialog").inner_text(), r"last seen .* UTC\+5:30")

    def test_times_within_an_event(self) -> None:
        """A time in the data of an event uses the same clock."""
        event = {"v": 1, "id": "odd-1", "kind": "unknown", "device": self.lock.device, "data": {"at": None}}
        event["data"] = {"at": "2026-01-02T22:30:00Z"}
        page = self.open("#/events", timezone_id="Asia/Kolkata")
        page.locator("#connection", has_text="live").wait_for()
        channel = self.client.key("event", "unknown", self.lock.device)
        self.client.redis.call("PUBLISH", channel, json.dumps(event))
        page.get_by_text("at 2026-01-03 04:00:00 UTC+5:30").wait_for()
