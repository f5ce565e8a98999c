"""Roles on the page: what each user finds there, cancelling, and the way out."""

from pathlib import Path
from typing import Any

from tests.browser.firefox import Firefox, firefox
from tests.browser.support import PHONE, BrowserTestCase, CommandCase
from tests.support import temporary_path
from tests.support.commands import FakeLock, new_device
from tests.support.web import user_line

PASSWORD = "one two three"
ROLES = """\
#role vera viewer
#role dora dispatcher commands=locate,unlock
#role gus dispatcher group=Trucks group="Depot 2"
#role anna admin
"""
USERS = ROLES + "".join(user_line(name, PASSWORD) for name in ("vera", "dora", "gus", "anna"))
#: Opens an address with user and password, as they are after a login.
LOGIN = "://anna:one%20two%20three@"


class RoleCase(CommandCase):
    """A gateway with `USERS`."""

    path: Path

    @classmethod
    def make_daemon(cls) -> None:
        cls.path = Path(cls.options[1])
        cls.path.write_text(USERS)
        super().make_daemon()

    def page_of(self, name: str, path: str = "", **options: Any) -> Any:
        credentials = {"username": name, "password": PASSWORD}
        return self.open(path, **{"http_credentials": credentials, **options})

    def labelled(self, group: str | None) -> str:
        """A lock that was heard once, with a label of this group."""
        lock = FakeLock(new_device()).connect(self.daemon)
        lock.close()
        if group is not None:
            self.client.redis.call("HSET", self.client.key("label", lock.device), "group", group)
        return lock.device

    def waiting(self, device: str, command: str = "locate") -> str:
        """Give a command that waits for its lock."""
        given = self.client.command(device, command, issued_by="night shift", ttl=600)
        self.client.wait(given, "waiting")
        return given


class WhatRolesFindTests(RoleCase):
    def test_viewer(self) -> None:
        """A viewer is named in the header, and finds nothing to give or cancel."""
        device = self.labelled(None)
        given = self.waiting(device)
        page = self.page_of("vera", f"#/device/{device}")
        page.locator("#user", has_text="vera").get_by_text("viewer").wait_for()
        page.locator(".timeline .chip", has_text="waiting").wait_for()
        self.assertEqual(page.locator("form.command-form, [data-cancel]").count(), 0)
        page.goto(self.url(f"#/commands/{given}"))
        page.locator(".commands .opened", has_text=given).wait_for()
        self.assertEqual(page.locator("[data-cancel]").count(), 0)

    def test_dispatcher_of_commands(self) -> None:
        """A dispatcher of some commands is offered just these, and may cancel no others."""
        device = self.labelled(None)
        mine, other = self.waiting(device), self.waiting(device, "restart")
        page = self.page_of("dora", f"#/device/{device}")
        page.locator("#command-command option[value=unlock]").wait_for(state="attached")
        options = page.locator("#command-command option").evaluate_all("all => all.map((one) => one.value)")
        self.assertEqual(set(options), {"", "locate", "unlock"})
        page.get_by_text("Your role has no other commands.").wait_for()
        page.locator(f'[data-cancel="{mine}"]').wait_for()
        self.assertEqual(page.locator(f'[data-cancel="{other}"]').count(), 0)

    def test_dispatcher_of_groups(self) -> None:
        """A dispatcher of groups sees all locks, and why a lock of another group takes no command."""
        van, truck = self.labelled("Vans"), self.labelled("Trucks")
        page = self.page_of("gus", f"#/device/{van}")
        page.get_by_text("to locks of the groups Depot 2, Trucks. This one is in the group Vans.").wait_for()
        self.assertFalse(page.locator("form.command-form").is_visible())
        page.goto(self.url(f"#/device/{truck}"))
        page.locator("#command-command option[value=unlock]").wait_for(state="attached")
        page.locator("form.command-form").wait_for()

    def test_another_role(self) -> None:
        """A page follows a change of its user's role."""
        self.addCleanup(self.path.write_text, USERS)
        device = self.labelled(None)
        page = self.page_of("dora", f"#/device/{device}")
        page.locator("#command-command option[value=unlock]").wait_for(state="attached")
        self.path.write_text(
            USERS.replace("#role dora dispatcher commands=locate,unlock", "#role dora viewer")
        )
        page.locator("#user").get_by_text("viewer").wait_for()
        page.locator(".lock-state", has_text="offline").wait_for()
        self.assertEqual(page.locator("form.command-form").count(), 0)

    def test_on_a_phone(self) -> None:
        """The header fits a phone, with a long name too."""
        self.addCleanup(self.path.write_text, USERS)
        name = "a.very.long.name.of.somebody.in.the.night.shift"
        self.path.write_text(f"#role {name} dispatcher group=Trucks\n{user_line(name, PASSWORD)}{USERS}")
        page = self.page_of(name, viewport=PHONE)
        page.get_by_role("button", name="Log out").wait_for()
        self.assertTrue(
            page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        )


class CancelTests(RoleCase):
    def setUp(self) -> None:
        super().setUp()
        # The page may look for its command before the gateway has accepted it.
        self.expected = ("404",)

    def test_cancel_in_the_list(self) -> None:
        """A command that waits is cancelled after a question, and both are in the list."""
        device = self.labelled("Trucks")
        given = self.waiting(device)
        page = self.page_of("gus", "#/commands")
        page.locator(f'[data-cancel="{given}"]').click()
        dialog = page.get_by_role("dialog")
        self.assertIn(f"Cancel locate of {device}?", dialog.inner_text())
        self.assertIn("given by night shift", dialog.inner_text())
        self.assertEqual(page.evaluate("document.activeElement.innerText"), "No, keep it")
        page.keyboard.press("Enter")
        dialog.wait_for(state="hidden")
        self.assertEqual(self.client.record(given)["state"], "waiting")
        page.locator(f'[data-cancel="{given}"]').click()
        dialog.get_by_role("button", name="Yes, cancel it").click()
        dialog.get_by_text("Cancelled. It was not written to the lock").wait_for()
        dialog.get_by_role("button", name="Close").click()
        page.locator(".commands .chip", has_text="cancelled").first.wait_for()
        self.assertEqual(self.client.record(given)["state"], "cancelled")
        page.locator(".commands tr", has_text="web:gus").get_by_text("done").first.wait_for()

    def test_cancel_on_the_page_of_the_lock(self) -> None:
        """A command that was given there waits, and can be cancelled where its progress is."""
        device = self.labelled(None)
        page = self.page_of("dora", f"#/device/{device}")
        page.locator("#command-command option[value=locate]").wait_for(state="attached")
        page.select_option("#command-command", "locate")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name=f"Yes, locate {device}").click()
        page.locator('.followed[data-state="waiting"] [data-cancel]').click()
        page.get_by_role("dialog").get_by_role("button", name="Yes, cancel it").click()
        page.get_by_text("Cancelled. It was not written to the lock").wait_for()
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
        page.locator('.followed[data-state="cancelled"]').wait_for()
        self.assertEqual(page.locator("[data-cancel]").count(), 0)

    def test_too_late(self) -> None:
        """A command that was written just before can't be cancelled any more, and the page says so."""
        device = self.labelled(None)
        self.waiting(device)
        page = self.page_of("anna", f"#/device/{device}")
        lock = FakeLock(device)

        def let_the_lock_be_first(route: Any) -> None:
            lock.connect(self.daemon)
            lock.next_command()
            route.continue_()

        page.route("**/api/v1/commands", let_the_lock_be_first)
        page.locator(".timeline [data-cancel]").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Yes, cancel it").click()
        self.addCleanup(lock.close)
        dialog.get_by_text("Too late: it was written to the lock before it could be cancelled.").wait_for()
        dialog.get_by_text("The gateway says: command").wait_for()

    def test_sent_meanwhile(self) -> None:
        """When the page hears that the command was written, it says so before it is asked."""
        device = self.labelled(None)
        self.waiting(device)
        page = self.page_of("anna", "#/commands")
        page.locator(".commands tr", has_text=device).locator("[data-cancel]").click()
        lock = FakeLock(device).connect(self.daemon)
        self.addCleanup(lock.close)
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Too late: it was written to the lock").wait_for()
        self.assertFalse(dialog.get_by_role("button", name="Yes, cancel it").is_visible())

    def test_refused_by_the_gateway(self) -> None:
        """A label that has changed since counts: nothing is cancelled, and the page says why."""
        self.expected += ("403",)
        device = self.labelled("Vans")
        given = self.waiting(device)
        page = self.page_of("gus", "#/commands")
        page.locator(f'[data-cancel="{given}"]').click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Yes, cancel it").click()
        dialog.get_by_text("It was not cancelled.").wait_for()
        dialog.get_by_text(f"lock {device} is in group Vans, and gus may not give it commands").wait_for()
        self.assertEqual(self.client.record(given)["state"], "waiting")


class LogoutTests(RoleCase):
    def test_in_chromium(self) -> None:
        """After logging out the browser shows a page that says so, and has forgotten the password."""
        self.expected = ("401",)
        page = self.open(None, http_credentials=None)
        page.goto(self.url().replace("://", LOGIN))
        page.goto(self.url())
        page.locator("#connection", has_text="live").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("heading", name="You are logged out").wait_for()
        answer = page.evaluate("fetch('static/base.css', {credentials: 'omit'}).then((one) => one.status)")
        self.assertEqual(answer, 401)
        with self.assertRaisesRegex(Exception, "ERR_INVALID_AUTH_CREDENTIALS"):
            page.goto(self.url())


class FirefoxLogoutTests(RoleCase):
    requires = "JT709C_REQUIRE_FIREFOX"

    @classmethod
    def what_is_missing(cls) -> str | None:
        return None if firefox() else "needs Firefox: apt-get install firefox-esr"

    def test_in_firefox(self) -> None:
        """Firefox forgets the password too, without asking anything on the way out."""
        browser = Firefox(Path(temporary_path(self)))
        self.addCleanup(browser.close)
        browser.go(self.url("api/v1/me").replace("://", LOGIN))
        browser.go(self.url())
        browser.wait("document.querySelector('#connection').innerText.includes('live')")
        browser.click("#user button")
        browser.wait("document.querySelector('h1')?.innerText === 'You are logged out'")
        status = "fetch('static/base.css').then((one) => document.title = `status ${one.status}`)"
        browser.run(f"{status}; return 1")
        with self.assertRaisesRegex(AssertionError, "asking you to sign in"):
            browser.wait("document.title.startsWith('status')")


class NobodyTests(BrowserTestCase):
    def test_without_users(self) -> None:
        """Where there are no users the header names none."""
        page = self.open()
        page.locator("#connection", has_text="live").wait_for()
        self.assertFalse(page.locator("#user").is_visible())
