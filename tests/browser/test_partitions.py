"""The page while partitions of the store are away."""

from typing import Any

from jt709c_gateway.redis.partitions import Partitions
from tests.browser.support import BrowserTestCase, row
from tests.support import ValkeyServer
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.fleets import two_servers


class PartitionsAwayTests(BrowserTestCase):
    """Four partitions on two servers, of which one is stopped."""

    servers: list[ValkeyServer]

    @classmethod
    def make_daemon(cls) -> None:
        """Start two servers and the daemon; the second one keeps its data over a restart."""
        cls.servers, cls.daemon = two_servers("--gateway", "gw-page")
        cls.server = cls.servers[0]
        cls.daemon.start()
        cls.client = CommandClient(cls.server)
        cls.addClassCleanup(cls.servers[1].discard)

    def lock(self, partition: int) -> FakeLock:
        """Connect a lock whose device id is in this partition."""
        layout = Partitions("jt709c", 4)
        device = next(name for name in iter(new_device, "") if layout.number(name) == partition)
        lock = FakeLock(device).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def text_of(self, page: Any) -> str:
        text: str = page.locator("#away").inner_text()
        return text

    def test_banner(self) -> None:
        """What is away is named in every view, its locks stay in the table, and later all is there again."""
        here, gone = self.lock(2), self.lock(3)
        # The browser logs answers with an error status.
        self.expected = ("503",)
        page = self.open()
        for lock in (here, gone):
            row(page, lock.device).wait_for()
        self.assertTrue(page.locator("#away").is_hidden())
        self.servers[1].kill()
        banner = page.locator("#away", has_text="Partitions 1, 3 of the store are away")
        banner.wait_for()
        page.reload()
        banner.wait_for()
        row(page, here.device).wait_for()
        self.assertEqual(row(page, gone.device).count(), 0)
        for view in ("#/events", "#/commands", "#/map", f"#/device/{gone.device}"):
            page.goto(self.url(view))
            banner.wait_for()
        page.locator("#notice", has_text="partition 3 of Redis is away").wait_for()
        self.servers[1].start()
        page.goto(self.url())
        banner.wait_for(state="hidden")
        gone.send(gone.location())
        row(page, gone.device).wait_for()

    def test_locks_stay(self) -> None:
        """A table that was complete keeps the locks of a partition that has gone away since."""
        here, gone = self.lock(0), self.lock(1)
        page = self.open()
        row(page, gone.device).wait_for()
        self.servers[1].kill()
        page.locator("#away", has_text="Partitions 1, 3").wait_for()
        # The list is read again, without them.
        with page.expect_response(lambda one: "seen_since" in one.url):
            pass
        here.report()
        row(page, here.device).wait_for()
        self.assertEqual(row(page, gone.device).count(), 1)
        self.servers[1].start()
        page.locator("#away").wait_for(state="hidden")
