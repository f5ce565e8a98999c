"""The table of locks."""

import re
from functools import partial
from typing import Any

from tests.browser.support import BrowserTestCase, row
from tests.support.commands import UNLOCKED, FakeLock, card_event, lock_event, new_device
from tests.support.simulator_process import simulated


def _fulfil(answer: dict[str, Any], route: Any) -> None:
    route.fulfill(**answer)


class FleetTests(BrowserTestCase):
    def test_fills(self) -> None:
        """Locks that report are in the table with their state."""
        with simulated(self.daemon, "--locks", "12", "--first-id", "794308510001"):
            page = self.open("#/?q=79430851")
            line = row(page, "794308510007")
            line.wait_for()
            page.locator(".shown", has_text="12 of").wait_for()
            self.wait(page, "document.querySelectorAll('.grid-body [role=row]:not([hidden])').length === 12")
            text = line.inner_text()
        self.assertRegex(text, r"locked|unlocked")
        self.assertRegex(text, r"\d+ %")
        self.assertRegex(text, r"just now|\d+ s ago")
        self.assertIn("gw-page · tcp · 127.0.0.1:", text)
        seen = line.locator("time")
        self.assertRegex(seen.get_attribute("title"), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")

    def test_live(self) -> None:
        """A report updates the table without a reload, and adds a new lock."""
        first, second = FakeLock(new_device()).connect(self.daemon), FakeLock(new_device())
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        page = self.open(f"#/?q={first.device[:9]}&sort=-device")
        row(page, first.device).get_by_text("locked", exact=True).wait_for()
        page.locator("#connection", has_text="live").wait_for()
        page.evaluate("window.untouched = true")
        first.report(lock_event(), UNLOCKED)
        row(page, first.device).get_by_text("unlocked").wait_for()
        second.connect(self.daemon)
        row(page, second.device).wait_for()
        second.close()
        row(page, second.device).get_by_text("offline").wait_for()
        self.assertTrue(page.evaluate("window.untouched"))

    def test_events_live(self) -> None:
        """An event appears in the list at once, or later while the list is paused."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.open("#/events")
        page.locator("#connection", has_text="live").wait_for()
        mine = page.locator(".events li", has_text=lock.device)
        mine.filter(has_text="online").wait_for()
        lock.report(lock_event(), UNLOCKED)
        mine.filter(has_text="by password").wait_for()
        page.get_by_role("button", name="Pause").click()
        lock.report(card_event(), UNLOCKED)
        page.locator(".shown", has_text="paused, 1 new").wait_for()
        self.assertEqual(mine.filter(has_text="by card").count(), 0)
        page.get_by_role("button", name="Resume").click()
        mine.filter(has_text="by card").wait_for()
        page.locator('[data-kind="session"]').click()
        self.wait(page, "document.querySelectorAll('.events .kind-lock').length === 0")
        mine.filter(has_text="online").wait_for()

    def test_sort_and_filter(self) -> None:
        """The table sorts both ways, filters by text and facets, and keeps this in its address."""
        locks = [FakeLock(new_device()).connect(self.daemon) for _ in range(3)]
        for lock in locks:
            self.addCleanup(lock.close)
        locks[1].report(lock_event(), UNLOCKED)
        mine = locks[0].device[:9]
        page = self.open(f"#/?q={mine}&sort=device")
        row(page, locks[2].device).wait_for()
        row(page, locks[1].device).get_by_text("unlocked").wait_for()
        header = page.locator('[role="columnheader"]', has_text="Device")
        self.assertEqual(header.get_attribute("aria-sort"), "ascending")

        def command() -> list[str]:
            return page.evaluate(
                "[...document.querySelectorAll('.grid-body [role=row]:not([hidden])')]"
                ".sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((row) => row.dataset.id)"
            )

        known = [lock.device for lock in locks]
        self.assertEqual([one for one in command() if one in known], known)
        header.get_by_role("button").click()
        self.assertEqual(header.get_attribute("aria-sort"), "descending")
        self.assertEqual([one for one in command() if one in known], known[::-1])
        page.locator('[data-facet="unlocked"]').click()
        self.wait(page, f"!document.querySelector('[data-id=\"{known[0]}\"]:not([hidden])')")
        self.assertEqual([one for one in command() if one in known], [known[1]])
        self.assertRegex(page.url, r"q=\d+&show=unlocked&sort=-device$")
        page.reload()
        row(page, known[1]).wait_for()
        self.assertEqual([one for one in command() if one in known], [known[1]])
        page.keyboard.press("/")
        page.keyboard.type("nothing like it")
        page.locator(".empty", has_text="No lock matches").wait_for()
        page.keyboard.press("Escape")
        page.locator('[data-facet="all"]').click()
        row(page, known[0]).wait_for()

    def test_keyboard(self) -> None:
        """The keyboard alone leads from the search to a lock's page, and back to the same row."""
        locks = [FakeLock(new_device()).connect(self.daemon) for _ in range(3)]
        for lock in locks:
            self.addCleanup(lock.close)
        page = self.open(f"#/?q={locks[2].device}")
        row(page, locks[2].device).wait_for()
        page.keyboard.press("Tab")
        self.assertEqual(page.evaluate("document.activeElement.id"), "skip")
        page.keyboard.press("Enter")
        self.assertEqual(page.evaluate("document.activeElement.id"), "main")
        page.keyboard.press("/")
        page.keyboard.type(locks[0].device[:9])
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "grid":
                break
        self.assertEqual(page.evaluate("document.activeElement.getAttribute('role')"), "grid")
        page.keyboard.press("End")
        page.keyboard.press("ArrowUp")
        chosen = (
            "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))?"
            ".dataset.id"
        )
        device = page.evaluate(chosen)
        self.assertRegex(device, r"^\d+$")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        self.assertNotEqual(outline, "none")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name=device).wait_for()
        self.assertEqual(page.evaluate("document.activeElement.tagName"), "H1")
        page.keyboard.press("Escape")
        self.wait(page, "document.activeElement.getAttribute('role') === 'grid'")
        self.assertEqual(page.evaluate(chosen), device)
        page.keyboard.press("g")
        page.keyboard.press("c")
        page.get_by_role("heading", level=1, name="Commands").wait_for(state="attached")

    def test_keyboard_into_the_table(self) -> None:
        """The arrow down leads into the table, from the search and from anywhere else."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.open(f"#/?q={lock.device}")
        row(page, lock.device).wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name=lock.device).wait_for()
        page = self.open("#/")
        page.locator("#search").wait_for()
        page.keyboard.press("/")
        page.keyboard.type(lock.device)
        page.locator(".shown", has_text=re.compile("^1 of")).wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name=lock.device).wait_for()

    def test_gateway_away(self) -> None:
        """While the gateway is away the page says since when; afterwards it is current."""
        self.expected = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "503")
        lock = FakeLock(new_device()).connect(self.daemon)
        page = self.open(f"#/?q={lock.device}")
        row(page, lock.device).get_by_text("gw-page").wait_for()
        lock.close()
        self.daemon.stop()
        state = page.locator("#connection")
        state.get_by_text(re.compile(r"no answer since \d")).wait_for()
        page.get_by_role("alert").get_by_text("doesn't answer").wait_for()
        self.assertEqual(row(page, lock.device).count(), 1)
        self.daemon.start()
        state.get_by_text("live").wait_for()
        row(page, lock.device).get_by_text("offline").wait_for()
        self.wait(page, "document.querySelector('#notice').hidden")

    def test_redis_away(self) -> None:
        """While Redis is away the page says so in a sentence, also when it is opened then."""
        self.expected = ("503",)
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        self.server.pause()
        try:
            page = self.open(f"#/device/{lock.device}")
            page.get_by_text("Redis is away").first.wait_for()
        finally:
            self.server.resume()

    def test_refusals(self) -> None:
        """A refusal is a sentence with the gateway's text, at the start or later."""
        body = '{"error": {"field": null, "message": "because <b>so</b>"}}'
        for status, sentence in (
            (401, "needs a user name and a password"),
            (403, "not allowed to do this"),
            (503, "can't answer now"),
            (500, "answered with status 500"),
        ):
            self.expected = (*self.expected, f"status of {status}")
            for path in ("config", "devices"):
                page = self.open(None)
                answer = {"status": status, "body": body}
                page.route(f"**/api/v1/{path}*", partial(_fulfil, answer))
                page.goto(self.url())
                page.get_by_text(sentence).first.wait_for()
                page.get_by_text("Its message: because <b>so</b>").first.wait_for()

    def test_silence(self) -> None:
        """A connection without data counts as lost, and a hidden page closes it."""
        page = self.open(None)
        page.clock.install()
        page.goto(self.url())
        state = page.locator("#connection")
        state.get_by_text("live").wait_for()
        self.daemon.pause()
        try:
            page.clock.fast_forward(41_000)
            state.get_by_text("no answer since").wait_for()
        finally:
            self.daemon.resume()
        page.clock.fast_forward(10_000)
        state.get_by_text("live").wait_for()
        turn = (
            "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
            "document.dispatchEvent(new Event('visibilitychange')); }"
        )
        page.evaluate(turn, True)
        page.clock.fast_forward(61_000)
        state.get_by_text("paused while out of sight").wait_for()
        page.evaluate(turn, False)
        state.get_by_text("live").wait_for()
