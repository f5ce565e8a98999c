"""The result of a command is visible and focused, on a desktop and on a phone."""

from typing import Any

from tests.browser.support import DESKTOP, PHONE, CommandCase
from tests.support.commands import PASSWORD, FakeLock, new_device
from tests.support.masters import LORA, OPEN, FakeMaster, new_master, new_sublock

#: Whether the middle of an element is visible: in the window, with nothing above it.
_SEEN = """(element) => {
  const { left, top, width, height } = element.getBoundingClientRect();
  const found = document.elementFromPoint(left + width / 2, top + height / 2);
  return found !== null && (element.contains(found) || found.contains(element));
}"""


class OutcomeTests(CommandCase):
    # The gateway sends no queries of its own to masters.
    options = ("--ask", "none")

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def assert_seen(self, element: Any) -> None:
        self.assertTrue(element.evaluate(_SEEN), element.inner_text())

    def test_followed_to_its_end(self) -> None:
        """The focus stays at the command from "Yes" to its end, which is visible; each step is announced."""
        for viewport in (DESKTOP, PHONE):
            lock = self.lock()
            page = self.lock_page(lock.device, viewport)
            self.ask_to_unlock(page, PASSWORD)
            page.get_by_role("dialog").get_by_role("button", name="Yes").click()
            followed = page.locator(".followed")
            followed.wait_for()
            self.assertIn(f"unlock {lock.device}", followed.get_attribute("aria-label"))
            self.wait(page, "document.activeElement.classList.contains('followed')")
            followed.locator(".step", has_text="sent").wait_for()
            # Screen readers announce new text in an element that stays.
            live = followed.locator("[aria-live=polite]")
            live.evaluate("(element) => { element.stays = true; element.querySelector('li').stays = true; }")
            lock.say_yes(lock.next_unlock())
            lock.open()
            last = live.locator(".step", has_text="the lock's own report shows it")
            last.wait_for()
            self.assertEqual(followed.locator(".chip").inner_text(), "confirmed")
            for element in (followed.locator(".chip"), last):
                self.assert_seen(element)
            self.assertTrue(page.evaluate("document.activeElement.classList.contains('followed')"))
            self.assertTrue(live.evaluate("(one) => one.stays && one.querySelector('li').stays"))
            self.assertEqual(followed.locator(".step").count(), 4)

    def test_refused_after_yes(self) -> None:
        """The refusal of a checked command is visible as well."""
        self.expected = ("403",)
        lock = self.lock()
        page = self.lock_page(lock.device, PHONE)
        refusal = '{"error": {"field": "key", "message": "key page may not give unlock"}}'
        page.route(
            "**/api/v1/commands",
            lambda route: route.fulfill(status=403, content_type="application/json", body=refusal),
        )
        self.ask_to_unlock(page, PASSWORD)
        page.get_by_role("dialog").get_by_role("button", name="Yes").click()
        problem = page.get_by_role("alert").get_by_text("key page may not give unlock")
        problem.wait_for()
        self.assert_seen(problem)
        self.assertEqual(page.evaluate("document.activeElement.innerText"), "Continue…")

    def test_without_a_password(self) -> None:
        """An unlock that needs a password is refused at its field, before "Yes"."""
        for viewport in (DESKTOP, PHONE):
            lock = self.lock()
            page = self.lock_page(lock.device, viewport)
            for method, words in (
                ("static", "needs its password"),
                ("dynamic", "needs its dynamic password"),
            ):
                page.select_option("#command-command", "unlock")
                page.select_option("#param-method", method)
                page.get_by_role("button", name="Continue").click()
                problem = page.locator(".field", has=page.locator("#param-password")).get_by_role("alert")
                problem.get_by_text(words).wait_for()
                self.assert_seen(problem)
                self.assertEqual(page.evaluate("document.activeElement.id"), "param-password")
                self.assertEqual(page.locator("#param-password").get_attribute("aria-invalid"), "true")
                self.assertNotRegex(problem.inner_text(), r"static_password|dynamic_password|params|JSON")
            self.assertEqual(page.get_by_role("dialog").count(), 0)
            page.select_option("#param-method", "static")
            self.ask_to_unlock(page, PASSWORD)
            page.get_by_role("dialog").get_by_role("button", name="Yes").wait_for()
            self.assertEqual(self.client.events("command", lock.device), [])

    def test_sublock(self) -> None:
        """A sub-lock is opened by its master, without a password."""
        master, sublock = FakeMaster(new_master()), new_sublock()
        master.connect(self.daemon)
        self.addCleanup(master.close)
        master.hear(sublock)
        page = self.lock_page(master.device, PHONE)
        page.select_option("#command-command", "unlock")
        page.locator("#param-password").wait_for()
        page.select_option("#command-target", sublock)
        page.locator("#param-password").wait_for(state="detached")
        names = page.locator("#command-command option").all_inner_texts()
        self.assertEqual(names, ["choose…", "unlock"])
        self.assertEqual(page.locator("#command-command").input_value(), "unlock")
        page.get_by_role("button", name="Continue").click()
        dialog = page.get_by_role("dialog")
        self.assertIn(f"Sub-lock {sublock} behind lock {master.device}", dialog.inner_text())
        dialog.get_by_role("button", name=f"Yes, unlock {sublock}").click()
        serial, minutes, identity = master.next_sublock_unlock()
        self.assertEqual((minutes, identity), ("5", sublock))
        master.take(serial)
        master.hear(sublock, LORA, OPEN)
        page.locator('.followed[data-state="confirmed"]').wait_for()
        self.assert_seen(page.locator(".followed .chip"))
        page.select_option("#command-target", master.device)
        page.locator("#command-command option[value=cards_add]").wait_for(state="attached")
