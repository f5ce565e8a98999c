"""Names of locks on the page: shown first, searched, filtered by group, changed while it is open."""

import json
from typing import Any

from tests.browser.fleet import store_fleet
from tests.browser.support import PHONE, CommandCase, row
from tests.support.commands import PASSWORD, FakeLock, new_device
from tests.support.web import FROM_THE_PAGE, Api, basic


class LabelTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.api = Api(self.daemon, basic(*self.credentials.values()))

    def name(self, *labels: dict[str, str]) -> None:
        """Write labels as somebody else does, meanwhile."""
        self.assertEqual(self.api.post("/labels", {"labels": labels}).status, 200)

    def shown(self, page: Any) -> list[str]:
        """Return the rows of the table that are in sight, from above."""
        found: list[str] = page.locator('.grid-body [role="row"]:not([hidden])').evaluate_all(
            "rows => rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map(row => row.dataset.id)"
        )
        return found

    def test_fleet(self) -> None:
        """Names in the table, the search, the group in the address, and a change while the page is open."""
        devices = store_fleet(self.client, 12)
        self.name(
            *(
                {
                    "device": device,
                    "name": f"Truck {number}",
                    "group": "north" if number % 2 else "south",
                    "plate": f"AB-{number}-CD",
                }
                for number, device in enumerate(devices[:11])
            )
        )
        page = self.open("#/?sort=device")
        row(page, devices[3]).locator(".device-name", has_text="Truck 3").wait_for()
        self.assertEqual(row(page, devices[3]).locator(".device-id").inner_text(), devices[3])
        # By name, numbers by size; locks without a name come last.
        self.assertEqual(self.shown(page)[:12], devices)
        page.fill("#search", "AB-10-cd")
        self.wait(page, "document.querySelector('.shown').textContent.startsWith('1 of ')")
        self.assertEqual(self.shown(page), [devices[10]])
        page.fill("#search", "")
        page.select_option("#group", "north")
        self.wait(page, "document.querySelector('.shown').textContent.startsWith('5 of ')")
        self.assertEqual(self.shown(page), devices[1:11:2])
        self.assertIn("group=north", page.evaluate("location.hash"))
        page.reload()
        row(page, devices[3]).wait_for()
        self.assertEqual(self.shown(page), devices[1:11:2])
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        self.name({"device": devices[3], "name": "Trailer 77"})
        row(page, devices[3]).locator(".device-name", has_text="Trailer 77").wait_for(timeout=10_000)
        self.api.call("DELETE", f"/devices/{devices[5]}/label", headers=FROM_THE_PAGE)
        self.wait(page, "document.querySelector('.shown').textContent.startsWith('4 of ')")
        # Nothing was loaded again for that.
        self.assertEqual([url for url in asked if "/devices?" in url and "seen_since" not in url], [])

    def test_lock_page(self) -> None:
        """The name is given on the lock's page, asked for in the dialog, and shown in all lists."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.lock_page(lock.device)
        page.get_by_role("button", name="Name…").click()
        page.fill("#label-name", "Truck\u202e 12")
        page.get_by_role("button", name="Save").click()
        self.expected = ("400",)
        page.locator("#label-problem", has_text="U+202E").wait_for()
        self.assertEqual(page.locator("#label-name").get_attribute("aria-invalid"), "")
        page.fill("#label-name", "Truck 12")
        page.fill("#label-group", "north")
        page.get_by_role("button", name="Save").click()
        page.locator("h1 .device-name", has_text="Truck 12").wait_for()
        self.assertEqual(page.locator("h1 .device-id").inner_text(), lock.device)
        self.assertEqual(page.evaluate("document.activeElement.innerText"), "Name…")
        self.ask_to_unlock(page, PASSWORD)
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("heading", name=f"Unlock Truck 12 ({lock.device})?").wait_for()
        dialog.get_by_role("button", name=f"Yes, unlock Truck 12 ({lock.device})").click()
        page.locator(".followed").wait_for()
        # Renamed elsewhere.
        self.name({"device": lock.device, "name": "Truck 13", "note": "spare key in the office"})
        page.locator("h1 .device-name", has_text="Truck 13").wait_for(timeout=10_000)
        page.locator(".details", has_text="spare key in the office").wait_for()
        for view in ("events", "commands"):
            page.goto(self.url(f"#/{view}"))
            page.locator(".view .device-name", has_text="Truck 13").first.wait_for()
            page.fill("[data-search]", "truck 13")
            page.keyboard.press("Enter")
            self.wait(page, f"location.hash.includes('device={lock.device}')")
            self.name({"device": lock.device, "name": "Truck 14"})
            page.locator(".view .device-name", has_text="Truck 14").first.wait_for(timeout=10_000)
            self.name({"device": lock.device, "name": "Truck 13"})

    def test_hostile_names(self) -> None:
        """Markup in a name stays text, and a long name does not widen a phone's page."""
        [device] = store_fleet(self.client, 1)
        name = "<img src=x onerror=alert(1)>" + "W" * 36
        key = self.client.key("label", device)
        self.client.redis.call("HSET", key, "name", name, "group", json.dumps("</option>"))
        page = self.open("#/", PHONE)
        row(page, device).locator(".device-name", has_text="<img").wait_for()
        self.assertEqual(page.locator("img[src=x]").count(), 0)
        wide = "document.documentElement.scrollWidth - innerWidth"
        self.assertLessEqual(page.evaluate(wide), 0)
        page.goto(self.url(f"#/device/{device}"))
        page.locator("h1 .device-name", has_text="<img").wait_for()
        self.assertLessEqual(page.evaluate(wide), 0)
        self.client.redis.call("DEL", key)
