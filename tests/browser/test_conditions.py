"""Commands with conditions on the page of a lock."""

import json
import os

from tests.browser.support import CommandCase
from tests.support import wait_until
from tests.support.commands import PASSWORD, FakeLock, new_device

HERE = {"latitude": 51.5, "longitude": -0.12, "speed_kmh": 0}
DEPOT = {"circle": {"center": [51.5, -0.12], "radius_m": 200}}
AWAY = {"circle": {"center": [51.511152, -0.12], "radius_m": 200}}


class ConditionTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        for name, area in (("depot-2", AWAY), ("yard", DEPOT)):
            self.client.redis.call("SET", self.client.key("area", name), json.dumps(area))
            self.client.redis.call("SADD", self.client.key("areas"), name)
        self.lock = FakeLock(new_device()).connect(self.daemon, known=False)
        self.addCleanup(self.lock.close)
        self.lock.send(self.lock.location(**HERE))
        self.lock._until_answered()

    def test_area(self) -> None:
        """The fold has the areas; the confirmation says the condition, and the outcome the distance."""
        page = self.lock_page(self.lock.device)
        page.locator(".conditions summary").click()
        page.locator("#command-where option", has_text="in area depot-2").wait_for(state="attached")
        page.select_option("#command-where", "area:depot-2")
        page.fill("#command-speed", "5")
        self.ask_to_unlock(page, PASSWORD)
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("only while the lock is in area depot-2, and at 5 km/h or less").wait_for()
        if folder := os.environ.get("JT709C_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/conditions-confirm.png")
        dialog.get_by_role("button", name="Yes").click()
        page.locator('.followed[data-state="rejected"]').wait_for()
        page.locator(".followed", has_text="1,040 m outside of area depot-2").wait_for()
        self.assertEqual(self.lock.unlocks(), [])

    def test_around_its_place(self) -> None:
        """A circle round the present place, by keyboard, on a phone; a mistake is said and sends nothing."""
        page = self.lock_page(self.lock.device, {"width": 375, "height": 720})
        page.locator(".conditions summary").focus()
        page.keyboard.press("Enter")
        page.select_option("#command-where", "around")
        page.fill("#command-radius", "0")
        self.ask_to_unlock(page, PASSWORD)
        page.locator("#command-problem", has_text="Expected metres from 1 to 1000000.").wait_for()
        page.fill("#command-radius", "150")
        page.locator("#command-not-allowed").check()
        if folder := os.environ.get("JT709C_SCREENSHOTS"):
            page.locator(".conditions").scroll_into_view_if_needed()
            page.screenshot(path=f"{folder}/conditions-phone.png")
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 375)
        page.get_by_role("button", name="Continue").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("within 150 m of 51.50000, -0.12000").wait_for()
        dialog.get_by_role("button", name="Yes").click()
        self.lock.next_unlock()
        events = wait_until(lambda: self.client.events("command", self.lock.device))
        expected = {"only_within": {"circle": {"center": [51.5, -0.12], "radius_m": 150.0}}}
        expected |= {"position_max_age": 120.0, "when_not_allowed": "wait"}
        self.assertEqual(events[0]["data"]["conditions"], expected)
