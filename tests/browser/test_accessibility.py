"""Every view passes axe-core, in both colour schemes, on a desktop and on a phone."""

from importlib.resources import files
from typing import Any

from tests.browser.fleet import store_fleet
from tests.browser.support import DESKTOP, PHONE, CommandCase
from tests.support.commands import PASSWORD, FakeLock, new_device
from tests.support.masters import FakeMaster, new_master, new_sublock

#: WCAG 2.2, levels A and AA, and axe-core's own best practices.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class AccessibilityTests(CommandCase):
    options = ("--ask", "none")
    lock: FakeLock
    master: FakeMaster

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.axe = files("axe_playwright_python").joinpath("axe.min.js").read_text()
        store_fleet(cls.client, 40)
        cls.lock = FakeLock(new_device()).connect(cls.daemon)
        cls.addClassCleanup(cls.lock.close)
        cls.lock.open()
        cls.lock.send(cls.lock.location(alarm_bits=1 << 1))
        cls.command = cls.client.unlock(cls.lock.device)
        cls.client.wait(cls.command, "sent")
        cls.client.wait(cls.client.command(new_device(), "locate", ttl=3600), "waiting")
        cls.master = FakeMaster(new_master()).connect(cls.daemon)
        cls.addClassCleanup(cls.master.close)
        cls.master.hear(new_sublock())

    def check(self, page: Any, what: str) -> None:
        """Check that the page violates no rule."""
        page.wait_for_timeout(300)
        page.evaluate(self.axe)
        found = page.evaluate(
            "(rules) => axe.run(document, { runOnly: { type: 'tag', values: rules } })", _RULES
        )
        problems = [
            f"{what}: {one['id']}: {one['help']}: {node['html'][:300]}: {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        self.assertEqual(problems, [])
        self.assertGreater(len(found["passes"]), 10)

    def pages(self) -> Any:
        for viewport in (DESKTOP, PHONE):
            for scheme in ("light", "dark"):
                yield self.open("", viewport, color_scheme=scheme), f"{viewport['width']} {scheme}"

    def go(self, page: Any, path: str, ready: str) -> None:
        page.goto(self.url(path))
        page.locator(ready).first.wait_for()
        page.locator("#connection", has_text="live").wait_for()

    def test_lists(self) -> None:
        """Fleet, keys, alerts, map, events with a decoded frame, commands with steps and a cancel, a report,
        no view."""
        for page, what in self.pages():
            self.go(page, "#/", '.grid [role="row"]:not([hidden])')
            self.check(page, f"{what} fleet")
            page.locator(".grid-body input[type=checkbox]").first.check()
            page.get_by_role("button", name="Give them a command").click()
            page.get_by_role("dialog").get_by_role("button", name="Continue").wait_for()
            self.check(page, f"{what} many locks")
            page.keyboard.press("Escape")
            page.keyboard.press("?")
            page.get_by_role("dialog").wait_for()
            self.check(page, f"{what} keys")
            page.keyboard.press("Escape")
            page.locator("[data-alerts]").click()
            page.locator("#alerts-sound").check()
            self.check(page, f"{what} alerts")
            page.keyboard.press("Escape")
            self.go(page, "#/map", ".map-list li")
            self.check(page, f"{what} map")
            self.go(page, f"#/map?q={self.lock.device}", ".map-groups button")
            page.locator(".map-groups button").first.press("Enter")
            page.locator(".map-popup .position").wait_for()
            self.check(page, f"{what} lock on the map")
            self.go(page, "#/events", ".events > li")
            opened = page.locator(".events > li", has=page.locator(".kind-lock"))
            opened.get_by_role("button").first.click()
            page.locator("table.fields").first.wait_for()
            self.check(page, f"{what} events")
            self.go(page, f"#/commands/{self.command}", ".commands .opened .step")
            self.check(page, f"{what} commands")
            page.locator("[data-cancel]").first.click()
            page.get_by_role("dialog").wait_for()
            self.check(page, f"{what} cancel")
            page.keyboard.press("Escape")
            self.go(page, f"#/report?device={self.lock.device}&period=week", ".report-table td")
            self.check(page, f"{what} report")
            self.go(page, "#/nowhere", "h1")
            self.check(page, f"{what} nowhere")

    def test_lock(self) -> None:
        """The page of a lock: the form, its errors, the question, and the progress of a command."""
        for page, what in self.pages():
            self.go(page, f"#/device/{self.master.device}", "table.plain td")
            page.locator("#command-command option[value=unlock]").wait_for(state="attached")
            self.check(page, f"{what} master")
            self.go(page, f"#/device/{self.lock.device}", ".timeline > li")
            page.locator(".conditions summary").click()
            page.locator(".frames summary").first.click()
            page.locator("table.fields").first.wait_for()
            self.check(page, f"{what} lock")
            page.locator("[data-unlock]").click()
            page.locator("#quick-password").wait_for()
            self.check(page, f"{what} large button")
            self.ask_to_unlock(page, "")
            page.get_by_role("alert").get_by_text("needs its password").wait_for()
            self.check(page, f"{what} error")
            self.ask_to_unlock(page, PASSWORD)
            page.get_by_role("dialog").wait_for()
            self.check(page, f"{what} question")
            page.get_by_role("button", name="No, do nothing").click()
            page.select_option("#command-command", "locate")
            page.get_by_role("button", name="Continue").click()
            page.get_by_role("dialog").get_by_role("button", name="Yes").click()
            page.locator(".followed .step").first.wait_for()
            self.check(page, f"{what} progress")
