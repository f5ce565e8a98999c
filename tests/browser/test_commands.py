"""Sending commands on the page of a lock."""

from tests.browser.support import BrowserTestCase, CommandCase
from tests.support import wait_until
from tests.support.commands import PASSWORD, FakeLock, new_device
from tests.support.simulator_process import simulated


class WithoutCommandsTests(BrowserTestCase):
    def test_read_only(self) -> None:
        """Without --web-commands there is no form, and past commands are shown."""
        with simulated(self.daemon, "--locks", "1", "--first-id", "794308520001"):
            self.client.wait_end(self.client.unlock("794308520001", "888888", ttl=20))
        page = self.open("#/device/794308520001")
        page.locator(".timeline .chip", has_text="confirmed").wait_for()
        self.assertEqual(page.locator("form.command-form").count(), 0)
        self.assertEqual(page.get_by_text("Give a command").count(), 0)


class CommandTests(CommandCase):
    def test_unlock(self) -> None:
        """A command is confirmed in words, reaches the lock, and is shown to its end."""
        with simulated(self.daemon, "--locks", "1", "--first-id", "794308520002"):
            wait_until(lambda: self.client.redis.call("EXISTS", self.client.key("device", "794308520002")))
            page = self.lock_page("794308520002")
            page.locator(".lock-state", has_text="online").wait_for()
            password = page.locator("#param-password")
            page.select_option("#command-command", "unlock")
            self.assertEqual(password.get_attribute("type"), "password")
            self.assertIn(password.get_attribute("autocomplete"), ("off", "new-password"))
            self.ask_to_unlock(page, "888888")
            dialog = page.get_by_role("dialog")
            text = dialog.inner_text()
            for said in (
                "794308520002",
                "last seen",
                "physically opens",
                "at most once",
                "assumed",
                "5 min",
            ):
                self.assertIn(said, text)
            self.assertRegex(text, r"at -?\d+\.\d{5}, -?\d+\.\d{5}")
            self.assertNotIn("888888", text)
            self.assertEqual(self.client.events("command", "794308520002"), [])
            dialog.get_by_role("button", name="Yes, unlock 794308520002").click()
            followed = page.locator('.followed[data-state="confirmed"]')
            followed.wait_for()
            for state in ("queued", "sent", "confirmed"):
                self.assertEqual(followed.locator(".step", has_text=state).count(), 1)
            self.assertEqual(password.input_value(), "")
            page.locator(".timeline", has_text="by web:ann").wait_for()
            command = followed.get_attribute("data-command")
        record = self.client.record(command)
        self.assertEqual((record["state"], record["issued_by"]), ("confirmed", "web:ann"))
        page.goto(self.url(f"#/commands/{command}"))
        page.locator(".commands .opened", has_text=command).wait_for()
        page.locator(".commands .assumed").first.wait_for()

    def test_standard(self) -> None:
        """A command whose form is only JT/T 808's is marked before it is sent, and in the list of
        commands."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.lock_page(lock.device)
        page.select_option("#command-command", "restart")
        page.locator(".standard", has_text="standard form").wait_for()
        page.get_by_role("button", name="Continue").click()
        dialog = page.get_by_role("dialog")
        self.assertIn("national standard", dialog.inner_text())
        dialog.get_by_role("button", name=f"Yes, restart {lock.device}").click()
        page.locator(".timeline .standard").first.wait_for()
        page.goto(self.url("#/commands"))
        page.locator(".commands .standard").first.wait_for()

    def test_no(self) -> None:
        """ "No" and Escape send no command."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.lock_page(lock.device)
        dialog = page.get_by_role("dialog")
        self.ask_to_unlock(page, PASSWORD)
        dialog.wait_for()
        self.assertEqual(page.evaluate("document.activeElement.innerText"), "No, do nothing")
        page.keyboard.press("Enter")
        dialog.wait_for(state="hidden")
        self.ask_to_unlock(page, PASSWORD)
        dialog.wait_for()
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        page.get_by_role("heading", level=1, name=lock.device).wait_for()
        lock.beat()
        self.assertEqual(lock.unlocks(), [])
        self.assertEqual(self.client.events("command", lock.device), [])

    def test_asleep(self) -> None:
        """For a lock that is away the page says how long the command waits; it is sent when the lock
        connects."""
        lock = FakeLock(new_device()).connect(self.daemon)
        lock.close()
        page = self.lock_page(lock.device)
        page.locator(".lock-state", has_text="offline").wait_for()
        page.select_option("#command-ttl", "3600")
        self.ask_to_unlock(page, PASSWORD)
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("is not connected. The command waits for it to connect, at most 1 h").wait_for()
        dialog.get_by_role("button", name="Yes").click()
        page.locator('.followed[data-state="waiting"]').wait_for()
        lock.connect(self.daemon)
        self.addCleanup(lock.close)
        lock.refuse(lock.next_unlock())
        page.locator('.followed[data-state="rejected"]').wait_for()

    def test_mistakes(self) -> None:
        """Missing or invalid values are shown at the form, and nothing is sent."""
        self.expected = ("400",)
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        page = self.lock_page(lock.device)
        self.ask_to_unlock(page, "12,45(")
        problem = page.locator(".command-form .problem")
        problem.get_by_text("password doesn't fit: expected text of 6 printable").wait_for()
        self.assertNotIn("12,45(", problem.inner_text())
        self.assertEqual(page.get_by_role("dialog").count(), 0)
        page.select_option("#command-command", "text")
        page.get_by_role("button", name="Continue").click()
        problem.get_by_text("text is needed").wait_for()
        self.assertEqual(self.client.events("command", lock.device), [])

    def test_who(self) -> None:
        """Without the right name and password there is no page, only a line that says what is needed."""
        self.expected = ("401",)
        page = self.open(http_credentials={"username": "ann", "password": "wrong"})
        self.assertEqual(page.locator("script").count(), 0)
        self.assertRegex(page.locator("body").inner_text(), "password")
