"""Positions that can be opened in a map application, and copied."""

from typing import Any

from tests.browser.fleet import FIRST, store_lock
from tests.browser.support import BrowserTestCase
from tests.support.commands import UNLOCKED, FakeLock, lock_event, new_device

_PLACE = (51.50735, -0.127758)
_SHOWN, _COPIED = "51.50735, -0.12776", "51.507350, -0.127758"
#: Takes the clipboard away, as a page has it without HTTPS; `%s` is what the older way to copy then does.
_WITHOUT_CLIPBOARD = """
Object.defineProperty(navigator, 'clipboard', { value: undefined });
document.execCommand = (name) => {
  globalThis.taken = `${name}: ${getSelection().toString() || document.activeElement.value}`;
  return %s;
};
"""


class PositionTests(BrowserTestCase):
    lock: FakeLock

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        store_lock(cls.client, str(FIRST), _PLACE)
        cls.lock = FakeLock(new_device()).connect(cls.daemon)
        cls.addClassCleanup(cls.lock.close)
        cls.lock.report(lock_event(), UNLOCKED)

    def position(self, page: Any) -> Any:
        """Return the position in the state of the lock."""
        page.goto(self.url(f"#/device/{FIRST}"))
        found = page.locator(".details .position")
        found.wait_for()
        return found

    def test_link_and_copy(self) -> None:
        """The page of a lock links to a map application, and copies the position with six decimals."""
        page = self.open(None)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        position = self.position(page)
        link = position.get_by_role("link", name=_SHOWN)
        self.assertEqual(link.get_attribute("href"), "geo:51.507350,-0.127758")
        position.get_by_role("button", name=f"Copy {_COPIED}").click()
        position.get_by_text("Copied").wait_for()
        self.assertEqual(page.evaluate("navigator.clipboard.readText()"), _COPIED)

    def test_without_https(self) -> None:
        """Where the browser has no clipboard for the page, the position is copied in the older way."""
        page = self.open(None)
        page.add_init_script(_WITHOUT_CLIPBOARD % "true")
        position = self.position(page)
        button = position.get_by_role("button")
        button.click()
        position.get_by_text("Copied").wait_for()
        self.assertEqual(page.evaluate("globalThis.taken"), f"copy: {_COPIED}")
        self.assertTrue(button.evaluate("(one) => document.activeElement === one"))

    def test_refused(self) -> None:
        """Where nothing may be copied, the position is selected in a field, to be copied by hand."""
        page = self.open(None)
        page.add_init_script(_WITHOUT_CLIPBOARD % "false")
        position = self.position(page)
        position.get_by_role("button").click()
        field = position.get_by_role("textbox")
        self.assertEqual(field.input_value(), _COPIED)
        self.assertTrue(field.evaluate("(one) => document.activeElement === one"))
        self.assertEqual(field.evaluate("(one) => one.selectionEnd - one.selectionStart"), len(_COPIED))

    def test_events(self) -> None:
        """An event that is opened, and one in the timeline of its lock, have it too."""
        page = self.open(f"#/device/{self.lock.device}")
        timeline = page.locator(".timeline .entry-lock .position").first
        shown = timeline.get_by_role("link").inner_text()
        self.assertRegex(shown, r"^-?\d+\.\d{5}, -?\d+\.\d{5}$")
        self.assertEqual(page.locator(".timeline .entry-lock").first.inner_text().count(shown), 1)
        page.goto(self.url("#/events?kind=lock"))
        page.locator(".events .event-toggle").first.click()
        page.locator(".events .position").get_by_role("link", name=shown).wait_for()
