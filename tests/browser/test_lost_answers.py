"""Commands whose answers don't reach the page."""

from typing import Any

from tests.browser.cutting import CuttingProxy
from tests.browser.support import CommandCase
from tests.support import LOOPBACK, wait_until
from tests.support.commands import PASSWORD, FakeLock, new_device


class LostAnswerTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.proxy = CuttingProxy(self.daemon.http_port)
        self.addCleanup(self.proxy.close)
        # Lost answers, and requests for commands that are not known yet.
        self.expected = ("Failed to load resource",)
        self.lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(self.lock.close)
        self.page = self.lock_page(self.lock.device)
        self.page.locator(".lock-state", has_text="online").wait_for()
        self.dialog = self.page.get_by_role("dialog")

    def url(self, path: str = "") -> str:
        """Return the URL of a path on the daemon, through the proxy."""
        return f"http://{LOOPBACK}:{self.proxy.port}/{path}"

    def ask(self) -> None:
        """Fill in the form for an unlock, up to the question."""
        self.ask_to_unlock(self.page, PASSWORD)
        self.dialog.wait_for()

    def lose(self, *what: str) -> None:
        """Lose answers to requests whose first lines contain one of these, except those of checks."""
        self.proxy.cut = lambda line: not line.endswith("/check") and any(one in line for one in what)

    def commands(self) -> list[str]:
        """Return the ids of the commands in the lock's history."""
        return list({event["data"]["id"]: 1 for event in self.client.events("command", self.lock.device)})

    def check_once(self) -> str:
        """Check that one unlock was sent and has just reached the lock; return its id."""
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        wait_until(lambda: self.commands())
        [command] = self.commands()
        self.client.wait(command, "confirmed")
        wait_until(lambda: self.client.redis.call("LLEN", self.client.key("commands")) == 0)
        self.lock.beat()
        self.assertEqual(self.lock.unlocks(), [])
        self.assertEqual(self.commands(), [command])
        return command

    def press(self, name: str) -> None:
        self.dialog.get_by_role("button", name=name).click()

    def test_pressed_again(self) -> None:
        """Pressed again after a lost answer, one unlock reaches the lock."""
        self.lose("/commands", "/events/live")
        self.ask()
        self.press("Yes, unlock")
        self.dialog.get_by_text("the command may have been given").wait_for()
        self.dialog.get_by_text("doesn't answer yet").wait_for()
        self.assertTrue(any(line.startswith("POST") for line in self.proxy.lost), self.proxy.lost)
        # The answer to the repeated command is lost as well; the next one comes through.
        self.press("Send the same command again")
        self.dialog.get_by_role("button", name="Send the same command again").wait_for()
        self.lose("GET /api/v1/commands", "/events/live")
        self.press("Send the same command again")
        self.dialog.wait_for(state="hidden")
        command = self.check_once()
        self.lose()
        followed = self.page.locator('.followed[data-state="confirmed"]')
        followed.wait_for()
        self.assertEqual(followed.get_attribute("data-command"), command)
        self.assertEqual(self.page.locator("#param-password").input_value(), "")
        self.assertEqual(self.kept(), [])

    def test_asks(self) -> None:
        """The page asks for the state of the command, and shows it at the button."""
        self.lose("POST")
        self.ask()
        self.press("Yes, unlock")
        self.dialog.get_by_text("The answer was lost, but the command has been given").wait_for()
        self.assertEqual(self.dialog.locator("[data-confirm]").is_visible(), False)
        self.check_once()
        self.dialog.locator(".chip", has_text="confirmed").wait_for()
        self.press("Close")
        self.page.locator('.followed[data-state="confirmed"]').wait_for()
        self.assertEqual(self.kept(), [])

    def test_closed(self) -> None:
        """After closing the question or the page, the user sees the first command before sending a second."""
        self.lose("/commands", "/events/live")
        self.ask()
        self.press("Yes, unlock")
        self.dialog.get_by_text("the command may have been given").wait_for()
        self.press("Close")
        self.page.locator(".followed", has_text="may have been given").wait_for()
        for reload in (False, True):
            if reload:
                # The stream does not contain earlier events.
                self.lose("/commands")
                self.page.reload()
                self.page.locator("#command-command option[value=unlock]").wait_for(state="attached")
            self.ask()
            self.dialog.get_by_text("may have been given: there was no answer to it").wait_for()
            self.dialog.get_by_role("button", name="a second time").wait_for()
            if not reload:
                self.press("No, do nothing")
        self.lose()
        self.dialog.get_by_text("has been given. It is").wait_for()
        self.press("No, do nothing")
        self.check_once()
        self.page.locator('.followed[data-state="confirmed"]').wait_for()
        self.assertEqual(self.kept(), [])
        self.assertNotIn(PASSWORD, self.page.evaluate("JSON.stringify(localStorage)"))

    def test_never_arrived(self) -> None:
        """For a command that never arrived the page says so, and sending it again works."""
        self.page.route("**/api/v1/commands", lambda route: route.abort())
        self.ask()
        self.press("Yes, unlock")
        self.dialog.get_by_text("knows no such command yet").wait_for()
        self.assertEqual(self.commands(), [])
        self.page.unroute("**/api/v1/commands")
        self.press("Send the same command again")
        self.dialog.wait_for(state="hidden")
        self.check_once()

    def kept(self) -> Any:
        """Wait until the browser has no stored command in doubt, and return the empty list."""
        self.wait(
            self.page, "JSON.parse(localStorage.getItem('jt709c-unsure-commands') ?? '[]').length === 0"
        )
        return self.page.evaluate("JSON.parse(localStorage.getItem('jt709c-unsure-commands') ?? '[]')")
