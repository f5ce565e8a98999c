"""What needs somebody comes first: in the table, the title, on a phone."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from tests.browser.support import BrowserTestCase, CommandCase, row
from tests.support.commands import PASSWORD, CommandClient, FakeLock, new_device

PHONE = {"width": 375, "height": 667}
#: The ids of the rows from top to bottom.
_ROWS = (
    "[...document.querySelectorAll('.grid-body [role=row]:not([hidden])')]"
    ".sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((row) => row.dataset.id)"
)
#: The reasons of a row as the page has them: `[{need, text}]`, by its summary, age in seconds and interval.
_REASONS = """
async ([summary, age, interval]) => {
  const { reasonsOf } = await import('./static/needs.js');
  const at = new Date(Date.now() - (summary.position_age ?? 0) * 1000).toISOString();
  const whole = { alarms: [], battery_percent: null, position_time: at, ...summary };
  return reasonsOf({ summary: whole, seen: age === null ? 0 : Date.now() - age * 1000, interval }, 3600)
    .map((one) => one.text);
}
"""
HIDE = (
    "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    "document.dispatchEvent(new Event('visibilitychange')); }"
)


def store(client: CommandClient, device: str, age: float = 1, **fields: Any) -> None:
    """Store the state of a lock that was seen so many seconds ago; `speed` is in km/h."""
    seen = time.time() - age
    when = datetime.fromtimestamp(seen, UTC).isoformat().replace("+00:00", "Z")
    speed = fields.pop("speed", 0)
    state = {
        "seen": when,
        "lock_state": "locked",
        "battery_percent": 80,
        "location": json.dumps({"time": when, "fix": "gnss", "speed_kmh": speed}),
        **fields,
        "alarms": json.dumps(fields.get("alarms", [])),
    }
    client.redis.call(
        "HSET", client.key("device", device), *[part for pair in state.items() for part in pair]
    )
    client.redis.call("ZADD", client.key("devices"), seen, device)


class AttentionTests(BrowserTestCase):
    def lock(self, **fields: Any) -> str:
        """Store a lock, and remove it after the test; returns its id."""
        device = new_device()
        store(self.client, device, **fields)
        self.addCleanup(self.client.redis.call, "ZREM", self.client.key("devices"), device)
        return device

    def live(self, path: str = "#/", **options: Any) -> Any:
        page = self.open(path, **options)
        page.locator("#connection", has_text="live").wait_for()
        return page

    def test_needs_first(self) -> None:
        """The table begins with what needs somebody, most urgent first, with the reasons in words."""
        calm = self.lock()
        low = self.lock(battery_percent=9)
        silent = self.lock(age=3 * 3600)
        moving = self.lock(lock_state="unlocked", speed=43.2)
        alarm = self.lock(alarms=["rope_cut", "vibration"])
        worst = self.lock(alarms=["back_cover_opened"], lock_state="unlocked", speed=12)
        emptier = self.lock(battery_percent=3)
        page = self.live()
        row(page, calm).wait_for()
        self.assertEqual(page.evaluate(_ROWS), [worst, alarm, moving, silent, emptier, low, calm])
        for device, text in (
            (worst, "back cover opened, unlocked and moving, 12 km/h"),
            (alarm, "rope cut, vibration"),
            (moving, "unlocked and moving, 43.2 km/h"),
            (silent, "silent for 3 h"),
            (low, "low battery, 9 %"),
            (calm, ""),
        ):
            self.assertEqual(row(page, device).locator(".cell-need").inner_text(), text)
        header = page.locator('[role="columnheader"]', has_text="Needs attention")
        self.assertEqual(header.get_attribute("aria-sort"), "ascending")
        chip = page.locator('[data-facet="attention"]')
        self.assertEqual(chip.inner_text(), "6 Needs attention")
        chip.click()
        row(page, calm).wait_for(state="detached")
        self.assertTrue(page.url.endswith("#/?show=attention"), page.url)
        self.assertEqual(page.evaluate(_ROWS), [worst, alarm, moving, silent, emptier, low])

    def test_reasons(self) -> None:
        """Each need has its threshold."""
        page = self.live()
        driving = {"lock_state": "unlocked", "speed_kmh": 40}
        for given, expected in (
            (({}, 1, 0), []),
            (({"lock_state": "unlocked", "speed_kmh": 4.9}, 1, 0), []),
            (({"lock_state": "unlocked", "speed_kmh": 5}, 1, 0), ["unlocked and moving, 5 km/h"]),
            (({"lock_state": "locked", "speed_kmh": 90}, 1, 0), []),
            (({"lock_state": "unlocked", "speed_kmh": None}, 1, 0), []),
            (({**driving, "position_age": 1530}, 1, 0), ["unlocked and moving, 40 km/h 25 min ago"]),
            (({"battery_percent": 20}, 1, 0), ["low battery, 20 %"]),
            (({"battery_percent": 21}, 1, 0), []),
            (({"battery_percent": 5, "charging": True}, 1, 0), []),
            (({"alarms": ["low_battery"]}, 1, 0), ["low battery"]),
            (({"alarms": ["low_battery", "bit_5"]}, 1, 0), ["bit 5", "low battery"]),
            (({}, 3500, 0), []),
            (({}, 3700, 0), ["silent for 1 h"]),
            # It reports every two hours: three of them may pass.
            (({}, 21000, 7200), []),
            (({}, 22000, 7200), ["silent for 6 h"]),
            # A shorter interval of its own makes it silent no sooner.
            (({}, 3500, 30), []),
            (({}, None, 0), ["never seen"]),
        ):
            self.assertEqual(page.evaluate(_REASONS, list(given)), expected, given)

    def test_interval(self) -> None:
        """The page learns the interval of a lock's reports, and forgets a long one by and by."""
        page = self.live()
        learn = """
            async (ages) => {
              const { Fleet } = await import('./static/fleet.js');
              const live = new EventTarget();
              const fleet = new Fleet(live);
              const now = Date.now();
              for (const age of ages) {
                const one = { device: '1', alarms: [], seen: new Date(now - age * 1000).toISOString() };
                live.dispatchEvent(new CustomEvent('devices', { detail: { devices: [one] } }));
              }
              return fleet.rows.get('1').interval;
            }"""
        for ages, interval in (
            ([90], 0),
            ([90, 60], 30),
            ([7230, 30, 0], 3600),
            ([7260, 60, 60, 30, 0], 1800),
        ):
            self.assertEqual(page.evaluate(learn, ages), interval, ages)

    def test_title(self) -> None:
        """The title has the count, which follows the locks; views without the fleet show none."""
        device = self.lock(alarms=["rope_cut"])
        other = self.lock()
        page = self.live()
        self.wait(page, "document.title === '(1) Fleet · gw-page'")
        store(self.client, other, lock_state="unlocked", speed=30)
        self.wait(page, "document.title === '(2) Fleet · gw-page'")
        page.get_by_role("link", name="Map").click()
        self.wait(page, "document.title === '(2) Map · gw-page'")
        store(self.client, device)
        store(self.client, other)
        self.wait(page, "document.title === 'Map · gw-page'")
        page.get_by_role("link", name="Events").click()
        self.wait(page, "document.title === 'Events · gw-page'")

    def test_silence_is_kept(self) -> None:
        """The span after which a lock counts as silent is remembered by the browser."""
        device = self.lock(age=2 * 3600)
        page = self.live()
        row(page, device).get_by_text("silent for 2 h").wait_for()
        page.select_option("#silence", "86400")
        self.wait(page, "document.title === 'Fleet · gw-page'")
        page.goto(self.url("nothing"))
        self.expected = ("404",)
        page.goto(self.url("#/"))
        row(page, device).wait_for()
        self.assertEqual(page.locator("#silence").input_value(), "86400")
        self.assertTrue(page.url.endswith("#/?silent=86400"), page.url)

    def test_no_false_silence(self) -> None:
        """No lock is silent because the page itself hears nothing: while asleep, or without its gateway."""
        self.expected = ("ERR",)
        self.lock()
        page = self.open(None)
        page.clock.install()
        page.goto(self.url())
        page.locator("#connection", has_text="live").wait_for()
        page.locator('.grid-body [role="row"]:not([hidden])').first.wait_for()
        self.daemon.pause()
        try:
            page.clock.fast_forward(2 * 3_600_000)
            page.locator("#connection", has_text="no answer since").wait_for()
            self.assertEqual(page.title(), "Fleet · gw-page")
        finally:
            self.daemon.resume()


class PhoneTests(CommandCase):
    """At 375 by 667 pixels."""

    options = ("--ask", "none")

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def assert_on_screen(self, page: Any, *parts: Any) -> None:
        """Assert that elements are wholly on the screen, which has not been scrolled."""
        self.assertEqual(page.evaluate("document.querySelector('main').scrollTop"), 0)
        for part in parts:
            box = part.bounding_box()
            self.assertGreaterEqual(min(box["x"], box["y"]), 0, box)
            self.assertLessEqual(box["x"] + box["width"], PHONE["width"], box)
            self.assertLessEqual(box["y"] + box["height"], PHONE["height"], box)

    def test_chips(self) -> None:
        """What needs attention, alarms and unlocked are the first chips, on the screen without scrolling."""
        self.lock()
        page = self.open("#/", PHONE)
        page.locator('.grid-body [role="row"]:not([hidden])').first.wait_for()
        chips = page.locator(".fact")
        names = [chips.nth(index).get_attribute("data-facet") for index in range(3)]
        self.assertEqual(names, ["attention", "alarms", "unlocked"])
        for index in range(2):
            self.assert_on_screen(page, chips.nth(index))
        self.assertLess(chips.nth(2).bounding_box()["x"], PHONE["width"] - 60)

    def test_unlock(self) -> None:
        """State, the large Unlock, its password, and the outcome are on one screen."""
        lock = self.lock()
        page = self.lock_page(lock.device, PHONE, has_touch=True, is_mobile=True)
        state, unlock = page.locator(".lock-state"), page.locator("[data-unlock]")
        self.assert_on_screen(page, state, unlock)
        self.assertGreaterEqual(unlock.bounding_box()["height"], 44)
        unlock.click()
        field = page.locator("#quick-password")
        field.wait_for()
        page.get_by_role("alert").get_by_text("press Unlock again").wait_for()
        self.assert_on_screen(page, state, field, unlock)
        self.assertEqual(field.get_attribute("inputmode"), "numeric")
        self.assertEqual(page.evaluate("document.activeElement.id"), "quick-password")
        page.get_by_role("button", name="abc").first.click()
        self.assertEqual(field.get_attribute("inputmode"), "text")
        field.fill(PASSWORD)
        unlock.click()
        page.get_by_role("dialog").get_by_role("button", name="Yes").click()
        lock.say_yes(lock.next_unlock())
        lock.open()
        followed = page.locator('.followed[data-state="confirmed"]')
        followed.wait_for()
        state.get_by_text("unlocked").wait_for()
        self.assert_on_screen(page, state, unlock, followed.locator(".chip"), followed.locator(".step").last)
        self.assertEqual(page.locator("#quick-password").count(), 0)

    def test_wrong_password_form(self) -> None:
        """A password that can't be right is refused at the button, before any confirmation."""
        lock = self.lock()
        page = self.lock_page(lock.device, PHONE)
        page.locator("[data-unlock]").click()
        page.fill("#quick-password", "12")
        self.expected = ("400",)
        page.locator("[data-unlock]").click()
        page.locator(".quick-unlock").get_by_role("alert").get_by_text("password").wait_for()
        self.assertEqual(page.get_by_role("dialog").count(), 0)

    def test_keypads(self) -> None:
        """Searches, for names and ids, offer the keypad of digits; with a mouse there is no such button."""
        lock = self.lock()
        page = self.open("#/events", PHONE, has_touch=True, is_mobile=True)
        device = page.locator(".tools [data-search]")
        self.assertEqual(device.get_attribute("inputmode"), "text")
        page.get_by_role("button", name="123").click()
        self.assertEqual(device.get_attribute("inputmode"), "numeric")
        page.goto(self.url("#/"))
        row(page, lock.device).wait_for()
        self.assertEqual(page.locator("#search").get_attribute("inputmode"), "text")
        page.get_by_role("button", name="123").click()
        self.assertEqual(page.locator("#search").get_attribute("inputmode"), "numeric")
        page = self.open("#/")
        page.locator("#search").wait_for()
        self.assertFalse(page.locator(".keypad").first.is_visible())

    def test_manifest(self) -> None:
        """The browser reads the manifest with the user's password, and would install the page."""
        page = self.open("#/")
        page.locator("#connection", has_text="live").wait_for()
        session = page.context.new_cdp_session(page)
        found = session.send("Page.getAppManifest")
        self.assertEqual(found["errors"], [])
        self.assertEqual(json.loads(found["data"])["display"], "standalone")
        self.assertEqual(found["manifest"]["startUrl"], self.url())
        self.assertEqual(found["manifest"]["scope"], self.url())
        problems = [
            one["errorId"] for one in session.send("Page.getInstallabilityErrors")["installabilityErrors"]
        ]
        # The contexts of tests are private windows.
        self.assertEqual(problems, ["in-incognito"])
