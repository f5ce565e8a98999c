"""The page on a phone, in the dark, with high contrast and without motion."""

from typing import Any

from tests.browser.fleet import store_fleet
from tests.browser.support import PHONE, BrowserTestCase
from tests.support.commands import UNLOCKED, FakeLock, lock_event, new_device

_PATHS = ("#/", "#/map", "#/events", "#/commands", "#/device/{}", "#/nowhere")
#: The contrast of a text with its background, by WCAG 2.2 §1.4.3.
_CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([red, green, blue]) => [red, green, blue]
    .map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.disabled) continue;
    const [one, two] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) poor.push(`${element.outerHTML.slice(0, 80)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}
"""


class LooksTests(BrowserTestCase):
    lock: FakeLock

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        store_fleet(cls.client, 40)
        cls.lock = FakeLock(new_device()).connect(cls.daemon)
        cls.lock.report(lock_event(), UNLOCKED)
        cls.client.command(
            cls.lock.device, "no such command", issued_by="a name that is as long as names are, and longer"
        )
        cls.addClassCleanup(cls.lock.close)

    def settled(self, page: Any, path: str) -> None:
        page.goto(self.url(path.format(self.lock.device)))
        page.locator("main h1").wait_for(state="attached")
        page.locator("#connection", has_text="live").wait_for()
        page.wait_for_timeout(700)

    def test_phone(self) -> None:
        """At 360 pixels nothing scrolls sideways, and the table is readable."""
        page = self.open("", PHONE)
        for path in _PATHS:
            self.settled(page, path)
            for element in ("html", "main"):
                width = page.evaluate(f"document.querySelector('{element}').scrollWidth")
                self.assertLessEqual(width, 360, f"{path} {element}")
        self.settled(page, "#/")
        cells = page.locator('.grid [role="row"]:not([hidden]) .cell-device')
        box = cells.nth(1).bounding_box()
        self.assertGreater(box["width"], 80)
        page.select_option("#sort", "battery")
        self.wait(page, "location.hash.includes('sort=battery')")

    def test_dark(self) -> None:
        """It is dark where the browser prefers that, and light otherwise."""
        light = {}
        for scheme in ("light", "dark"):
            page = self.open("#/", color_scheme=scheme)
            page.locator('.grid [role="row"]:not([hidden])').nth(5).wait_for()
            rgb = page.evaluate(
                "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
            )
            light[scheme] = sum(rgb) / 3
        self.assertLess(light["dark"], 60)
        self.assertGreater(light["light"], 200)

    def test_contrast(self) -> None:
        """Every text has a contrast of at least 4.5 to 1, in both schemes."""
        for scheme in ("light", "dark"):
            page = self.open("", color_scheme=scheme)
            for path in _PATHS:
                self.settled(page, path)
                self.assertEqual(page.evaluate(_CONTRAST), [], f"{scheme} {path}")

    def test_no_motion(self) -> None:
        """Nothing moves where the browser prefers reduced motion."""
        page = self.open("#/", reduced_motion="reduce")
        page.locator('.grid [role="row"]:not([hidden])').nth(5).wait_for()
        found = page.evaluate(
            "[...document.querySelectorAll('*')].map((one) => getComputedStyle(one))"
            ".filter((one) => one.animationName !== 'none' || parseFloat(one.transitionDuration) > 0).length"
        )
        self.assertEqual(found, 0)

    def test_names(self) -> None:
        """Every control has a name, and the page has one main heading."""
        page = self.open("")
        for path in _PATHS:
            self.settled(page, path)
            for role in ("button", "link", "textbox", "searchbox", "combobox"):
                for one in page.get_by_role(role).all():
                    name = one.evaluate(
                        "(e) => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || e.title || ''"
                    )
                    self.assertTrue(name.strip(), f"{path}: {one.evaluate('(e) => e.outerHTML')[:200]}")
            self.assertEqual(page.locator("main h1").count(), 1, path)

    def test_without_script(self) -> None:
        """Without JavaScript the page names the alternatives."""
        page = self.open("", java_script_enabled=False)
        self.assertIn("jt709c watch", page.locator("noscript").inner_text())
