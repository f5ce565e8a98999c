"""Support for tests of the status page: headless Chromium, and pages that report their errors.

Without a browser these tests are skipped and say what to install; with ``JT709C_REQUIRE_BROWSER=1`` they
fail.
"""

import atexit
import os
import shutil
import tempfile
import time
import unittest
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ValkeyServer
from tests.support.commands import CommandClient
from tests.support.daemon import Daemon
from tests.support.web import user_line

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Without these it contacts its vendor's hosts at every start.
_OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
#: Milliseconds to wait for anything on the page whose time is not under test.
PATIENCE = 60_000


def _chromium() -> str | None:
    named = os.environ.get("JT709C_CHROMIUM")
    if named:
        return named
    return next((path for path in map(shutil.which, _NAMES) if path), None)


def what_is_missing() -> str | None:
    """Return what to install before these tests can run; None when nothing is missing."""
    if sync_playwright is None:
        return "the page is tested with playwright: pip install '.[browser]'"
    if _chromium() is None:
        return "the page is tested in Chromium: apt-get install chromium, or set JT709C_CHROMIUM to its path"
    return None


_browser: Any = None
_playwright: Any = None


def browser() -> Any:
    """Return the shared browser of the test session; the first call starts it."""
    global _browser, _playwright
    if _browser is None:
        stack = ExitStack()
        atexit.register(stack.close)
        playwright = stack.enter_context(sync_playwright())
        _playwright = playwright
        _browser = fresh_browser()
        stack.callback(_browser.close)
    return _browser


def fresh_browser() -> Any:
    """Start another browser process; the caller closes it."""
    if _playwright is None:
        browser()
    # Chromium's own sandbox refuses to run as root.
    options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return _playwright.chromium.launch(executable_path=_chromium(), args=options)


class BrowserTestCase(SynchronousTestCase):
    """A daemon with its own Valkey, shared by the tests of the class, and pages whose errors fail the test.

    After each test, whatever a page has complained of fails it: errors in the console (a violation of the
    content security policy is one), exceptions, and requests to another host. `options` go to the daemon.
    """

    options: tuple[str, ...] = ()
    #: The variable with which a missing browser is a failure.
    requires = "JT709C_REQUIRE_BROWSER"
    server: ValkeyServer
    daemon: Daemon
    client: CommandClient

    @classmethod
    def what_is_missing(cls) -> str | None:
        """What to install before the tests of this class can run."""
        return what_is_missing()

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        missing = cls.what_is_missing()
        if missing:
            if os.environ.get(cls.requires) == "1":
                raise AssertionError(missing)
            raise unittest.SkipTest(missing)
        cls.make_daemon()

    @classmethod
    def make_daemon(cls) -> None:
        """Start the server and the daemon."""
        cls.server = ValkeyServer().start()
        cls.daemon = Daemon("--gateway", "gw-page", *cls.options, redis=cls.server.url, udp=False).start()
        cls.client = CommandClient(cls.server)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()
        cls.daemon.discard()
        cls.server.discard()
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        self.complaints: list[str] = []
        #: Texts of page errors that this test expects.
        self.expected: tuple[str, ...] = ()

    def tearDown(self) -> None:
        found = [one for one in self.complaints if not any(text in one for text in self.expected)]
        self.assertEqual(found, [])
        super().tearDown()

    def open(
        self,
        path: str | None = "",
        viewport: dict[str, int] = DESKTOP,
        process: Any = None,
        **options: Any,
    ) -> Any:
        """Open a page of the daemon in a fresh browser context; `options` are those of the context.

        With None as `path` it shows nothing yet. `process` is another browser than the shared one.
        """
        context = (process or browser()).new_context(viewport=viewport, **options)
        context.set_default_timeout(PATIENCE)
        self.addCleanup(context.close)
        page = context.new_page()
        self._watch(page)
        if path is not None:
            page.goto(self.url(path))
        return page

    def url(self, path: str = "") -> str:
        """Return the URL of a path on the daemon."""
        return f"http://{LOOPBACK}:{self.daemon.http_port}/{path}"

    def _watch(self, page: Any) -> None:
        here = urlsplit(self.url()).netloc

        def console(message: Any) -> None:
            if message.type in ("error", "warning"):
                self.complaints.append(f"console: {message.text} {message.location.get('url', '')}")

        def request(one: Any) -> None:
            parts = urlsplit(one.url)
            if parts.scheme not in ("data", "blob") and parts.netloc.rpartition("@")[2] != here:
                self.complaints.append(f"asked another host: {one.url}")

        page.on("console", console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error.stack or error}"))
        page.on("request", request)

    def wait(self, page: Any, expression: str, timeout: float = PATIENCE / 1000) -> None:
        """Wait until a JavaScript expression is true in the page.

        Playwright's own `wait_for_function` evaluates text in the page, which its policy forbids.
        """
        deadline = time.monotonic() + timeout
        while not page.evaluate(expression):
            self.assertLess(time.monotonic(), deadline, f"not within {timeout:g} s: {expression}")
            page.wait_for_timeout(20)


class CommandCase(BrowserTestCase):
    """Tests with a user who may send commands."""

    credentials = {"username": "ann", "password": "one two three"}

    @classmethod
    def setUpClass(cls) -> None:
        handle, path = tempfile.mkstemp(prefix="jt709c-test-users-")
        with os.fdopen(handle, "w") as file:
            file.write(user_line(cls.credentials["username"], cls.credentials["password"]))
        cls.addClassCleanup(os.unlink, path)
        cls.options = ("--web-users", path, "--web-commands", *cls.options)
        super().setUpClass()

    def open(self, path: str | None = "", viewport: dict[str, int] = DESKTOP, **options: Any) -> Any:
        """Open a page as this user."""
        return super().open(path, viewport, **{"http_credentials": self.credentials, **options})

    def lock_page(self, device: str, viewport: dict[str, int] = DESKTOP, **options: Any) -> Any:
        """Open the page of a lock, ready for a command."""
        page = self.open(f"#/device/{device}", viewport, **options)
        page.locator("#command-command option[value=unlock]").wait_for(state="attached")
        return page

    def ask_to_unlock(self, page: Any, password: str) -> None:
        """Fill in the form for an unlock and press its button."""
        page.select_option("#command-command", "unlock")
        page.fill("#param-password", password)
        page.get_by_role("button", name="Continue").click()


def row(page: Any, device: str) -> Any:
    """Return the row of a lock in the table."""
    return page.locator(f'[role="row"][data-id="{device}"]:not([hidden])')
