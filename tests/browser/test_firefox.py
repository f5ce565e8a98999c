"""The status page in Firefox: every view, and an unlock."""

from pathlib import Path

from tests.browser.firefox import Firefox, firefox
from tests.browser.fleet import store_fleet
from tests.browser.support import CommandCase
from tests.support import temporary_path, wait_until
from tests.support.simulator_process import simulated

_DEVICE = "794308530001"
#: An element that is there when the view has what it shows.
_VIEWS = {
    "#/": ".grid [role=row][data-id]:not([hidden])",
    "#/map": ".map canvas.points",
    "#/events": ".events > li",
    "#/commands": ".commands .chip",
    f"#/device/{_DEVICE}": ".timeline .chip",
}


class FirefoxTests(CommandCase):
    requires = "JT709C_REQUIRE_FIREFOX"

    @classmethod
    def what_is_missing(cls) -> str | None:
        return None if firefox() else "needs Firefox: apt-get install firefox-esr"

    def test_views_and_an_unlock(self) -> None:
        """An unlock is confirmed, every view shows it, and the console has no complaint."""
        store_fleet(self.client, 40)
        browser = Firefox(Path(temporary_path(self)))
        self.addCleanup(browser.close)
        name, password = self.credentials["username"], self.credentials["password"].replace(" ", "%20")
        with simulated(self.daemon, "--locks", "1", "--first-id", _DEVICE):
            wait_until(lambda: self.client.redis.call("EXISTS", self.client.key("device", _DEVICE)))
            # Firefox keeps user and password of the first address; the page is then opened without.
            browser.go(self.url("api/v1/devices").replace("://", f"://{name}:{password}@"))
            browser.go(self.url(f"#/device/{_DEVICE}"))
            browser.wait("document.querySelector('#command-command option[value=unlock]')")
            browser.click("#command-command option[value=unlock]")
            browser.type("#param-password", "888888")
            browser.click("form.command-form [type=submit]")
            browser.wait(
                "document.querySelector('[role=dialog], dialog')?.innerText.includes('physically opens')"
            )
            browser.run(
                "[...document.querySelectorAll('button')]"
                ".find((one) => one.innerText.startsWith('Yes')).click()"
            )
            browser.wait("document.querySelector('.followed[data-state=confirmed]')")
            for view, element in _VIEWS.items():
                browser.run("location.hash = arguments[0]", view)
                browser.wait(f"document.querySelector({element!r})")
                browser.wait("document.querySelector('#connection').innerText.includes('live')")
                self.assertTrue(browser.run("return document.querySelector('main h1').innerText"), view)
        self.assertEqual(browser.complaints(self.url()), [])
