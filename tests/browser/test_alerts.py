"""Sound and notifications, once the user has switched them on."""

from typing import Any

from tests.browser.support import BrowserTestCase, row
from tests.browser.test_attention import HIDE, store
from tests.support.commands import new_device

#: Records notifications and tones. `permission` is what the user has decided, `answer` what he will.
_RECORD = """
window.shown = [];
window.tones = 0;
window.permission = sessionStorage.permission ?? 'default';
window.Notification = class extends EventTarget {
  static get permission() { return window.permission; }
  static async requestPermission() {
    window.permission = sessionStorage.permission = window.answer ?? 'granted';
    return window.permission;
  }
  constructor(title, { body }) { super(); window.shown.push([title, body]); window.last = this; }
  close() {}
};
const Oscillator = window.OscillatorNode;
window.OscillatorNode = class extends Oscillator {
  constructor(...all) { super(...all); window.tones += 1; }
};
"""
_BOTH = 2
_CELL = '[data-id="%s"]:not([hidden]) .cell-need'


class AlertTests(BrowserTestCase):
    def lock(self, **fields: Any) -> str:
        """Store a lock, and remove it after the test; returns its id."""
        device = new_device()
        store(self.client, device, **fields)
        self.addCleanup(self.client.redis.call, "ZREM", self.client.key("devices"), device)
        return device

    def page(self, *, answer: str = "granted") -> Any:
        """Open the fleet with a recording browser, and a clock that the test moves."""
        page = self.open(None)
        page.clock.install()
        page.add_init_script(f"window.answer = '{answer}';{_RECORD}")
        page.goto(self.url())
        page.locator("#connection", has_text="live").wait_for()
        page.locator('.grid-body [role="row"]:not([hidden])').first.wait_for()
        return page

    def switch_on(self, page: Any, *names: str) -> None:
        page.locator("[data-alerts]").click()
        for name in names:
            page.locator(f"#alerts-{name}").check()
        page.locator(".alerts-dialog").get_by_role("button", name="Close").click()
        page.locator("[data-alerts]", has_text="Alerts: on").wait_for()

    def change(self, page: Any, device: str, text: str, **fields: Any) -> None:
        """Change a lock and wait until its row has this reason."""
        store(self.client, device, **fields)
        self.wait(page, f"document.querySelector('{_CELL % device}')?.innerText === '{text}'")
        # Passes over the fleet are 0.3 s apart.
        page.clock.run_for(400)

    def shown(self, page: Any, count: int) -> list[list[str]]:
        """Wait past the times of gathering and pause; returns the notifications, so many."""
        page.clock.run_for(12_000)
        self.wait(page, f"window.shown.length >= {count}")
        found: list[list[str]] = page.evaluate("window.shown")
        self.assertEqual(len(found), count, found)
        return found

    def test_off_by_default(self) -> None:
        """Nothing sounds or asks before the user has switched it on."""
        device = self.lock()
        page = self.page()
        self.assertEqual(page.locator("[data-alerts]").inner_text(), "Alerts: off")
        self.change(page, device, "rope cut", alarms=["rope_cut"])
        self.assertEqual(self.shown(page, 0), [])
        self.assertEqual(page.evaluate("[window.tones, window.permission]"), [0, "default"])

    def test_each_reason_once(self) -> None:
        """A reason is told once until it has cleared; another one of the same lock is told as well."""
        self.lock(alarms=["vibration"])
        device = self.lock()
        page = self.page()
        self.switch_on(page, "sound", "notify")
        self.change(page, device, "rope cut", alarms=["rope_cut"])
        expected = [[device, "rope cut"]]
        self.assertEqual(self.shown(page, 1), expected)
        self.assertEqual(page.evaluate("window.tones"), _BOTH)
        # The same again, then another one, then cleared and back.
        self.change(page, device, "rope cut", alarms=["rope_cut"], battery_percent=70)
        self.shown(page, 1)
        self.change(page, device, "rope cut, low battery, 9 %", alarms=["rope_cut"], battery_percent=9)
        expected.append([device, "low battery, 9 %"])
        self.assertEqual(self.shown(page, 2), expected)
        self.change(page, device, "")
        self.shown(page, 2)
        self.change(page, device, "rope cut", alarms=["rope_cut"])
        expected.append([device, "rope cut"])
        self.assertEqual(self.shown(page, 3), expected)
        # A vehicle that stops and goes on is told once, until the lock is locked.
        for text, speed in (
            ("unlocked and moving, 30 km/h", 30),
            ("", 0),
            ("unlocked and moving, 20 km/h", 20),
        ):
            self.change(page, device, text, lock_state="unlocked", speed=speed)
        self.assertRegex(self.shown(page, 4)[-1][1], "^unlocked and moving, [23]0 km/h$")
        self.assertEqual(page.evaluate("window.tones"), 4 * _BOTH)

    def test_burst(self) -> None:
        """Many at once are one notification with their count, which leads to them."""
        devices = [self.lock() for _ in range(30)]
        page = self.page()
        self.switch_on(page, "sound", "notify")
        for device in devices:
            store(self.client, device, alarms=["back_cover_opened"])
        self.wait(page, "document.title.startsWith('(30) ')")
        page.clock.run_for(400)
        [[title, body]] = self.shown(page, 1)
        self.assertEqual(title, "30 locks need attention")
        self.assertEqual(body.count("back cover opened"), 3)
        self.assertTrue(body.endswith("and 27 more"), body)
        self.assertEqual(page.evaluate("window.tones"), _BOTH)
        page.evaluate("window.last.dispatchEvent(new Event('click'))")
        self.wait(page, "location.hash === '#/?show=attention'")

    def test_test(self) -> None:
        """The Test button gives an alert, with what is on; the choice is kept."""
        self.lock()
        page = self.page()
        page.locator("[data-alerts]").click()
        test = page.locator(".alerts-dialog").get_by_role("button", name="Test")
        self.assertFalse(test.is_enabled())
        page.locator("#alerts-notify").check()
        test.click()
        self.wait(page, "window.shown.length === 1")
        self.assertEqual(page.evaluate("window.tones"), 0)
        page.locator("#alerts-sound").check()
        test.click()
        self.wait(page, f"window.shown.length === 2 && window.tones === {_BOTH}")
        page.reload()
        page.locator("[data-alerts]").click()
        page.locator("[data-alerts]", has_text="Alerts: on").wait_for()
        self.assertTrue(page.locator("#alerts-notify").is_checked())
        self.assertTrue(page.locator("#alerts-sound").is_checked())

    def test_refused(self) -> None:
        """A browser that refuses notifications is reported in a sentence, and the switch stays off."""
        self.lock()
        page = self.page(answer="denied")
        page.locator("[data-alerts]").click()
        page.locator("#alerts-notify").click()
        page.get_by_role("status").get_by_text("The browser refuses notifications of this page").wait_for()
        self.assertFalse(page.locator("#alerts-notify").is_checked())
        self.assertEqual(page.locator("[data-alerts]").inner_text(), "Alerts: off")

    def test_hidden(self) -> None:
        """With alerts the stream of a hidden page stays open, so that the title and alerts go on."""
        device = self.lock()
        page = self.page()
        self.switch_on(page, "notify")
        page.evaluate(HIDE, True)
        page.clock.fast_forward(61_000)
        self.change(page, device, "rope cut", alarms=["rope_cut"])
        self.wait(page, "document.title.startsWith('(1) ')")
        self.assertEqual(self.shown(page, 1), [[device, "rope cut"]])
        self.assertEqual(page.locator("#connection").inner_text(), "live")

    def test_other_views(self) -> None:
        """With alerts the page of a lock follows the fleet, too; what was there before is no news."""
        other = self.lock(alarms=["vibration"])
        device = self.lock()
        page = self.page()
        self.switch_on(page, "notify")
        page.evaluate(f"location.hash = '#/device/{other}'")
        page.reload()
        self.wait(page, f"document.title === '(1) {other} · gw-page'")
        store(self.client, device, alarms=["rope_cut"])
        self.wait(page, "document.title.startsWith('(2) ')")
        page.clock.run_for(400)
        self.assertEqual(self.shown(page, 1), [[device, "rope cut"]])
        page.evaluate("window.last.dispatchEvent(new Event('click'))")
        self.wait(page, f"location.hash === '#/device/{device}'")
        page.evaluate("location.hash = '#/'")
        row(page, device).wait_for()
