"""10,000 locks on the page."""

import time
from collections.abc import Callable
from typing import Any

from tests.browser.fleet import store_fleet
from tests.browser.support import BrowserTestCase, fresh_browser, row

_COUNT = 10_000
#: Seconds from an action to its drawn result. It is 0.04 to 0.07 on an idle machine.
_LIMIT = 1.0
#: Seconds from the address to the first table; 1.5 on an idle machine.
_FIRST_TABLE = 3.0
#: So many tries, of which one has to keep a time.
_TRIES = 3
#: Seconds of CPU time with which the contention is measured.
_SAMPLE = 0.1
#: Bytes of JavaScript's heap, with what is not collected yet; it is 7 million in a browser's first page.
_HEAP = 12_000_000
#: JavaScript for the state of a lock as the table shows it.
_LOCK_CELL = (
    "document.querySelector('[role=row][data-id=\"%s\"]:not([hidden]) .cell-lock')?.textContent.trim()"
)
#: JavaScript that measures the seconds from an action to its drawn result.
_TIMED = """
async () => {
  const drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  await drawn();
  const begun = performance.now();
  %s;
  await drawn();
  await drawn();
  return (performance.now() - begun) / 1000;
}
"""


def contention() -> float:
    """Return how many times longer work takes than on an idle machine, since other processes run."""
    begun, used = time.perf_counter(), time.thread_time()
    while (spent := time.thread_time() - used) < _SAMPLE:
        pass
    return max(1.0, (time.perf_counter() - begun) / spent)


class LargeFleetTests(BrowserTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.devices = store_fleet(cls.client, _COUNT)

    def timed(self, page: Any, deed: str) -> float:
        """Return the seconds that an action, JavaScript, takes until it is drawn."""
        took = page.evaluate(_TIMED % deed)
        return float(took)

    def test_usable(self) -> None:
        """Filtering, sorting and scrolling are quick, and only visible rows have elements."""
        page = self.whole_table()
        took = {
            "sort": self.timed(page, "document.querySelector('[data-sort=battery]').click()"),
            "sort again": self.timed(page, "document.querySelector('[data-sort=where]').click()"),
            "filter": self.timed(
                page,
                "const search = document.getElementById('search'); search.value = 'rope cut gw1';"
                "search.dispatchEvent(new Event('input'))",
            ),
        }
        page.locator(".shown", has_text="of 10,000 shown").wait_for()
        shown = int(page.locator(".grid").get_attribute("aria-rowcount")) - 1
        self.assertTrue(0 < shown < 400, shown)
        took["filter away"] = self.timed(page, "document.querySelector('[data-facet=all]').click()")
        took["facet"] = self.timed(page, "document.querySelector('[data-facet=alarms]').click()")
        took["facet away"] = self.timed(page, "document.querySelector('[data-facet=alarms]').click()")
        page.locator('[data-sort="device"]').click()
        took["scroll"] = self.timed(page, "document.querySelector('.grid').scrollTop = 1e9")
        row(page, self.devices[-1]).wait_for()
        self.assertEqual({deed: seconds for deed, seconds in took.items() if seconds > _LIMIT}, {}, took)
        elements = page.evaluate("document.querySelectorAll('*').length")
        self.assertLess(elements, 1500)
        self.assertEqual(row(page, self.devices[-1]).get_attribute("aria-rowindex"), str(_COUNT + 1))

    def test_memory(self) -> None:
        """The first page of a browser takes a bounded heap, as it is when the table is there and later."""
        process = fresh_browser()
        self.addCleanup(process.close)
        page = self.open(None, process=process)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        self.show_table(page)
        used = []
        for _ in range(10):
            # Also while the table is sorted again each second.
            metrics = session.send("Performance.getMetrics")["metrics"]
            used += [one["value"] for one in metrics if one["name"] == "JSHeapUsedSize"]
            page.wait_for_timeout(300)
        self.assertLess(max(used), _HEAP, used)

    def test_first_table(self) -> None:
        """All locks are shown within seconds, in a page that has nothing in its cache."""

        def load(_: int) -> None:
            page = self.open(None)
            self.show_table(page)

        self.assert_quick(load, _FIRST_TABLE)

    def test_change(self) -> None:
        """A lock that reports is shown with its new state within a second."""
        page = self.whole_table("#/?sort=device")
        device = self.devices[0]
        key = self.client.key("device", device)
        before = self.client.redis.call("HMGET", key, "lock_state", "alarms")
        self.addCleanup(self.client.redis.call, "HSET", key, "lock_state", before[0], "alarms", before[1])

        def change(number: int) -> None:
            state = ("unlocked", "locked")[number % 2]
            self.client.redis.call("HSET", key, "lock_state", state, "alarms", "[]")
            self.client.redis.call("ZADD", self.client.key("devices"), time.time(), device)
            self.wait(page, _LOCK_CELL % device + f" === '{state}'")

        self.assert_quick(change, _LIMIT)

    def assert_quick(self, take: Callable[[int], None], limit: float) -> None:
        """Assert that one of some tries takes fewer seconds than the limit; `take` gets its number.

        A try's seconds are divided by the machine's contention, measured before and after it: the lower one.
        """
        took: list[tuple[float, float]] = []
        for number in range(_TRIES):
            before, begun = contention(), time.monotonic()
            take(number)
            elapsed = time.monotonic() - begun
            took.append((elapsed, min(before, contention())))
            if elapsed / took[-1][1] < limit:
                return
        self.fail(f"not within {limit:g} s: {took} (seconds, contention)")

    def test_need(self) -> None:
        """A lock that begins to need somebody is the first row within a second."""
        page = self.whole_table()
        # It is locked, with a full battery, and was seen minutes ago.
        device = self.devices[98]
        key = self.client.key("device", device)
        before = self.client.redis.call("HMGET", key, "lock_state", "alarms")
        self.addCleanup(self.client.redis.call, "HSET", key, "lock_state", before[0], "alarms", before[1])
        first = "document.querySelector('[aria-rowindex=\"2\"]')?.dataset.id"
        self.wait(page, f"document.title.startsWith('(') && {first} !== '{device}'")

        def change(number: int) -> None:
            state, alarms = (("unlocked", '["rope_cut"]'), ("locked", "[]"))[number % 2]
            self.client.redis.call("HSET", key, "lock_state", state, "alarms", alarms)
            self.client.redis.call("ZADD", self.client.key("devices"), time.time(), device)
            comes = "===" if number % 2 == 0 else "!=="
            self.wait(page, f"{first} {comes} '{device}'")

        self.assert_quick(change, _LIMIT)

    def whole_table(self, path: str = "") -> Any:
        """Open a page with the table of all locks."""
        page = self.open(None)
        self.show_table(page, path)
        page.locator("#connection", has_text="live").wait_for()
        return page

    def show_table(self, page: Any, path: str = "") -> None:
        """Go to the table and wait until it has all locks."""
        page.goto(self.url(path))
        self.wait(page, f"document.querySelector('.grid')?.getAttribute('aria-rowcount') === '{_COUNT + 1}'")
        page.locator('.grid [role="row"]:not([hidden])').nth(5).wait_for()

    def test_counts(self) -> None:
        """The counts at the top are those of the whole fleet."""
        page = self.open()
        self.wait(page, "document.querySelector('[data-facet=all]')?.innerText.startsWith('10,000')")
        texts = {
            name: page.locator(f'[data-facet="{name}"]').inner_text()
            for name in ("online", "unlocked", "alarms")
        }
        self.assertEqual(
            texts, {"online": "7,500 Online", "unlocked": "5,000 Unlocked", "alarms": "1,000 Alarms"}
        )

    def test_map(self) -> None:
        """The map draws all of them, and again within the same time when it is moved."""
        page = self.open("#/map")
        self.wait(page, f"document.querySelector('canvas.points')?.dataset.points === '{_COUNT}'")
        took = self.timed(page, "document.querySelector('.leaflet-control-zoom-in').click()")
        self.assertLess(took, _LIMIT)
        self.assertLess(page.evaluate("document.querySelectorAll('*').length"), 1500)
