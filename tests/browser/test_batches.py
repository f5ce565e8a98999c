"""Locks that are selected in the table, and one command for all of them."""

import json
from typing import Any

from tests.browser.cutting import CuttingProxy
from tests.browser.support import CommandCase, row
from tests.support import LOOPBACK, wait_until
from tests.support.commands import PASSWORD, FakeLock, new_device


class BatchTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.proxy = CuttingProxy(self.daemon.http_port)
        self.addCleanup(self.proxy.close)
        self.expected = ("Failed to load resource",)

    def url(self, path: str = "") -> str:
        """Return the URL of a path on the daemon, through the proxy."""
        return f"http://{LOOPBACK}:{self.proxy.port}/{path}"

    def away(self, count: int, group: str) -> list[str]:
        """Put locks of a group into Redis that have reported and are away."""
        devices = [new_device() for _ in range(count)]
        for number, device in enumerate(devices):
            call, key = self.client.redis.call, self.client.key
            call("HSET", key("device", device), "dialect", "jt709", "seen", "2026-01-01T00:00:00Z")
            call("HSET", key("label", device), "group", group, "name", f"{group} {number}")
            call("SADD", key("labels"), device)
            call("ZADD", key("devices"), 1767225600, device)
        return devices

    def fleet(self, device: str) -> Any:
        page = self.open("#/")
        row(page, device).wait_for()
        return page

    def box(self, page: Any, device: str) -> Any:
        return row(page, device).get_by_role("checkbox")

    def selected(self, page: Any, text: str) -> None:
        page.locator(".markbar").get_by_text(text, exact=True).wait_for()

    def ask(self, page: Any, command: str = "unlock") -> Any:
        """Fill in the form, up to the question; return the dialog."""
        page.get_by_role("button", name="Give them a command").click()
        dialog = page.get_by_role("dialog")
        dialog.locator(f"#batch-command option[value={command}]").wait_for(state="attached")
        page.select_option("#batch-command", command)
        if command == "unlock":
            page.fill("#batch-param-password", PASSWORD)
        dialog.get_by_role("button", name="Continue").click()
        dialog.locator("[data-confirm]").wait_for()
        return dialog

    def test_select(self) -> None:
        """By clicks, a range with Shift, with keys, all that are shown; it stays while rows are filtered."""
        devices = self.away(6, "east")
        page = self.fleet(devices[0])
        page.fill("#search", "79430802")
        self.box(page, devices[0]).click()
        self.selected(page, "1 lock selected")
        self.box(page, devices[3]).click(modifiers=["Shift"])
        self.selected(page, "4 locks selected")
        self.assertEqual(row(page, devices[2]).get_attribute("aria-selected"), "true")
        self.assertTrue(self.box(page, devices[2]).is_checked())
        page.keyboard.press("ArrowDown")
        page.keyboard.press(" ")
        self.selected(page, "5 locks selected")
        page.fill("#search", devices[5])
        self.selected(page, "5 locks selected, 5 of them not shown")
        page.get_by_role("checkbox", name="Select all locks that are shown").check()
        self.selected(page, "6 locks selected, 5 of them not shown")
        row(page, devices[5]).locator(".cell-device a").click()
        page.locator(".lock-state").first.wait_for()
        page.go_back()
        self.selected(page, "6 locks selected, 5 of them not shown")
        page.get_by_role("button", name="Select none").click()
        page.get_by_role("button", name="Give them a command").wait_for(state="hidden")
        page.select_option("#mark-group", "east")
        self.selected(page, "6 locks selected, 5 of them not shown")

    def test_one_question_and_lost_answers(self) -> None:
        """One question names the odd ones and has the number typed; lost answers double nothing."""
        devices = self.away(11, "west")
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.fleet(lock.device)
        page.select_option("#mark-group", "west")
        self.box(page, lock.device).click()
        self.selected(page, "12 locks selected")
        dialog = self.ask(page)
        dialog.get_by_role("heading", name="Unlock 12 locks?").wait_for()
        names = ", ".join(f"west {number} ({device})" for number, device in enumerate(devices[:5]))
        dialog.get_by_text(f"11 not connected: it waits for them: {names} and 6 more.").wait_for()
        yes = dialog.locator("[data-confirm]")
        self.assertTrue(yes.is_disabled())
        page.fill("#batch-typed", "11")
        self.assertTrue(yes.is_disabled())
        page.fill("#batch-typed", "12")
        self.proxy.cut = lambda line: "/batches" in line and not line.endswith("/check")
        yes.click()
        dialog.get_by_text("the command may have been given").wait_for()
        dialog.get_by_role("button", name="Send the same again").click()
        dialog.get_by_text("doesn't answer yet").wait_for()
        self.assertNotIn(PASSWORD, page.evaluate("JSON.stringify(localStorage)"))
        # The page looks for the batch itself, too.
        self.proxy.cut = lambda line: line.startswith("GET") and "/batches/" in line
        dialog.get_by_role("button", name="Send the same again").click()
        dialog.wait_for(state="hidden")
        self.proxy.cut = lambda line: False
        page.get_by_role("heading", name="Unlock: 12 locks").wait_for()
        lock.say_yes(lock.next_unlock())
        lock.open()
        page.locator('.batch-states [data-state="confirmed"]', has_text="1").wait_for()
        page.locator('.batch-states [data-state="waiting"]', has_text="11").wait_for()
        lock.beat()
        self.assertEqual(lock.unlocks(), [])
        waiting = [
            self.client.redis.call("LLEN", self.client.key("commands", "waiting", one)) for one in devices
        ]
        self.assertEqual(waiting, [1] * 11)
        self.assertIsNone(
            page.evaluate("JSON.parse(localStorage['jt709c-unsure-batches'] ?? '[]')[0] ?? null")
        )
        page.get_by_role("link", name="All commands of it").click()
        wait_until(lambda: page.locator("table.commands > tbody > tr").count() == 12)

    def test_stopped_half_way(self) -> None:
        """A batch that a gateway has left when it died says how many locks did not get the command."""
        given, left = self.away(2, "north")
        batch = {
            "id": "night",
            "fields": {"name": "locate"},
            "issued_by": "web:ann",
            "created_at": "2026-01-01T00:00:00Z",
            "asked": "",
            "devices": {given: given, left: left},
            "left_out": [{"device": "5", "problems": ["unknown"], "message": "no such lock has reported"}],
        }
        self.client.redis.call("SET", self.client.key("batch", "night"), json.dumps(batch))
        own = {"id": f"night-{given}", "batch": "night", "issued_by": "web:ann"}
        self.client.wait(self.client.command(given, "locate", ttl=600, **own), "waiting")
        page = self.open("#/batch/night")
        page.get_by_role("heading", name="Locate: 2 locks").wait_for()
        page.get_by_text("1 locks did not get the command").wait_for()
        rows = page.locator("table.commands > tbody > tr").all_inner_texts()
        self.assertEqual([" ".join(one.split()) for one in rows][1], "5 left out no such lock has reported")
        self.assertEqual(" ".join(rows[0].split()), f"north 1 {left} not given")
