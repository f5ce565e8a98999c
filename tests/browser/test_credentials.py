"""The page opened at an address with the user's name and password."""

from urllib.parse import quote

from tests.browser.support import CommandCase
from tests.support.commands import FakeLock, new_device


class CredentialsInTheAddressTests(CommandCase):
    def test_alive(self) -> None:
        """The page is live, shows the map, and gives a command, as when the browser asks for them."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        name, password = map(quote, self.credentials.values())
        page = self.open(None, http_credentials=None)
        page.goto(self.url().replace("://", f"://{name}:{password}@"))
        page.locator("#connection", has_text="live").wait_for()
        page.get_by_role("link", name=lock.device).wait_for()
        page.get_by_role("link", name="Map").click()
        page.locator("canvas.points").wait_for(state="attached")
        page.evaluate("(device) => { location.hash = `#/device/${device}`; }", lock.device)
        page.locator("#command-command option[value=unlock]").wait_for(state="attached")
        self.ask_to_unlock(page, "888888")
        page.get_by_role("dialog").get_by_role("button", name="Yes").click()
        lock.say_yes(lock.next_unlock())
        page.locator(".followed .step", has_text="sent").wait_for()
