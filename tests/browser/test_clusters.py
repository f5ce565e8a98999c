"""Groups of locks on the map."""

import math
from itertools import combinations
from typing import Any

from tests.browser.fleet import FIRST, store_lock
from tests.browser.support import BrowserTestCase
from tests.browser.test_large_fleet import contention

#: So many locks at one place, of which the first has an alarm and the next two are unlocked.
_DEPOT, _DEPOT_PLACE = 12, (51.5, 4.5)
_FIRST_APART = FIRST + _DEPOT
_APART = ((52.0, 10.0), (52.0, 10.4), (52.2, 10.2))
_FIRST_FIJI = 794308700000
_NAME = "Truck 12"
_FIJI = ((-17.0, 179.8), (-17.0, -179.7))
_DEPOT_TEXT = "12 locks: 1 alarm, 2 unlocked, 1 silent, 8 locked"
#: Seconds for the map of 10,000 locks to be drawn again.
_REDRAW = 0.1
#: Draws a map of 10,000 locks at many zooms, and returns the seconds that the slowest of them took at best.
_SPEED = """
async () => {
  const { leaflet, makeMap } = await import('/static/leaflet.js');
  const { clusterLayer } = await import('/static/cluster_layer.js');
  const L = await leaflet();
  const map = await makeMap(L, document.querySelector('main'), { tiles: {} });
  const layer = clusterLayer(L).addTo(map);
  const rows = Array.from({ length: 10000 }, (_, number) => ({
    id: String(number),
    seen: number,
    alarms: '',
    summary: {
      alarms: number % 10 ? [] : ['vibration'],
      lock_state: number % 2 ? 'locked' : 'unlocked',
      online: number % 3 > 0,
      latitude: 36 + ((number * 7919) % 10000) / 400,
      longitude: -9 + ((number * 104729) % 10000) / 250,
    },
  }));
  let slowest = 0;
  for (const zoom of [2, 4, 6, 9, 12]) {
    map.setView([48, 10], zoom, { animate: false });
    let best = Infinity;
    for (let round = 0; round < 5; round += 1) {
      const begun = performance.now();
      layer.setRows(rows, 5000);
      best = Math.min(best, performance.now() - begun);
    }
    slowest = Math.max(slowest, best);
  }
  return slowest / 1000;
}
"""
#: The groups of locks at places, latitude and longitude, at a zoom.
_GROUPED = """
async ([places, zoom]) => {
  const { grouped, placedRows } = await import('/static/clusters.js');
  const rows = places.map(([latitude, longitude], number) => ({
    id: number, seen: 1, summary: { alarms: [], lock_state: 'locked', latitude, longitude },
  }));
  return grouped(placedRows(rows, 0), zoom)
    .map(({ members, x, y }) => ({ x, y, locks: members.map(({ row }) => row.id) }));
}
"""
#: The popup of a lock whose state changes: its texts before and after, and whether its link keeps the focus.
_CHANGING = """
async () => {
  const { leaflet, makeMap } = await import('/static/leaflet.js');
  const { MapPopup } = await import('/static/map_popup.js');
  const L = await leaflet();
  const map = await makeMap(L, document.querySelector('main'), { tiles: {} });
  const popup = new MapPopup(L, map, { href: (row) => `#/device/${row.id}`, closed: () => {} });
  const summary = { alarms: [], lock_state: 'locked', online: true };
  const row = { id: '7', seen: Date.now(), alarms: '', summary };
  popup.open({ members: [{ row }] }, [0, 0], 0, true);
  const before = popup.content.innerText;
  row.summary = { ...row.summary, lock_state: 'unlocked' };
  popup.refresh(new Map([['7', row]]), 0);
  return [before, popup.content.innerText, document.activeElement.textContent];
}
"""


class ClusterTests(BrowserTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for number in range(_DEPOT):
            store_lock(
                cls.client,
                str(FIRST + number),
                _DEPOT_PLACE,
                "unlocked" if number in (1, 2) else "locked",
                ("rope_cut",) if number == 0 else (),
                7200 if number == 3 else 0,
            )
        for first, places in ((_FIRST_APART, _APART), (_FIRST_FIJI, _FIJI)):
            for number, place in enumerate(places):
                store_lock(cls.client, str(first + number), place)
        named = str(_FIRST_FIJI)
        cls.client.redis.call("HSET", cls.client.key("label", named), "name", _NAME)
        cls.client.redis.call("SADD", cls.client.key("labels"), named)

    def map_of(self, first: int, count: int) -> Any:
        """Open the map with so many locks whose ids are like that of the first, all of them in sight."""
        page = self.open(f"#/map?q={str(first)[:-2]}", reduced_motion="reduce")
        self.wait(page, f"document.querySelector('canvas.points')?.dataset.points === '{count}'")
        page.get_by_role("button", name="Show all").click()
        return page

    def test_counts(self) -> None:
        """A group says how many locks it has in each state; the pointer shows the same as they change."""
        page = self.map_of(FIRST, _DEPOT + len(_APART))
        group = page.get_by_role("button", name=_DEPOT_TEXT)
        group.hover()
        hover = page.locator(".map-hover")
        hover.wait_for()
        self.assertEqual(hover.inner_text(), _DEPOT_TEXT)
        page.locator("#search").fill(str(FIRST)[:-1])
        hover.get_by_text("10 locks: 1 alarm, 2 unlocked, 1 silent, 6 locked").wait_for()
        page.mouse.move(2, 2)
        hover.wait_for(state="hidden")

    def test_list(self) -> None:
        """Locks that share a place are listed, the most urgent first, with the position."""
        page = self.map_of(FIRST, _DEPOT + len(_APART))
        page.get_by_role("button", name=_DEPOT_TEXT).click()
        popup = page.locator(".map-popup")
        popup.get_by_role("heading", name=_DEPOT_TEXT).wait_for()
        names = popup.locator("li a span").all_inner_texts()
        self.assertEqual(len(names), _DEPOT)
        self.assertEqual(names[0], str(FIRST))
        self.assertEqual(set(names[1:3]), {str(FIRST + 1), str(FIRST + 2)})
        self.assertEqual(popup.locator(".position a").inner_text(), "51.50000, 4.50000")
        popup.get_by_role("link", name=str(FIRST)).click()
        page.get_by_role("heading", level=1, name=str(FIRST)).wait_for()

    def test_zooms_in(self) -> None:
        """A click on locks that are apart zooms in until they are seen apart."""
        page = self.map_of(FIRST, _DEPOT + len(_APART))
        group = page.get_by_role("button", name="3 locks: 3 locked")
        group.click()
        for number in range(len(_APART)):
            page.get_by_role("button", name=f"{_FIRST_APART + number}: locked").wait_for()
        self.assertEqual(page.locator(".map-popup").count(), 0)

    def test_keyboard(self) -> None:
        """Arrow keys go from group to group, Enter opens, and Escape goes back."""
        page = self.map_of(FIRST, _DEPOT + len(_APART))
        depot = page.get_by_role("button", name=_DEPOT_TEXT)
        depot.wait_for()
        self.assertEqual(page.locator('.map-groups button[tabindex="0"]').count(), 1)
        depot.focus()
        page.keyboard.press("ArrowRight")
        name = page.evaluate("document.activeElement.ariaLabel")
        self.assertRegex(name, "^3 locks")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        self.wait(page, "document.activeElement.closest('.map-popup') !== null")
        page.keyboard.press("Escape")
        page.locator(".map-popup").wait_for(state="detached")
        self.assertEqual(page.evaluate("document.activeElement.ariaLabel"), _DEPOT_TEXT)

    def test_focus_stays_on_the_map(self) -> None:
        """After zooming in with the keyboard the focus is on a lock that was in the group."""
        page = self.map_of(FIRST, _DEPOT + len(_APART))
        page.get_by_role("button", name="3 locks: 3 locked").press("Enter")
        page.get_by_role("button", name=f"{_FIRST_APART}: locked").wait_for()
        self.wait(page, "document.activeElement.ariaLabel?.includes(': locked')")

    def test_antimeridian(self) -> None:
        """Locks on both sides of the antimeridian are side by side, and shown closely; so is a track."""
        page = self.map_of(_FIRST_FIJI, len(_FIJI))
        names = (f"{_NAME} ({_FIRST_FIJI})", str(_FIRST_FIJI + 1))
        boxes = [page.get_by_role("button", name=f"{name}: locked").bounding_box() for name in names]
        self.assertGreater(boxes[1]["x"], boxes[0]["x"] + 100)
        self.assertEqual(page.locator("canvas.points").get_attribute("data-groups"), "2")
        line = page.evaluate(
            "async (all) => (await import('/static/track_map.js')).unwrapped(all)",
            [{"latitude": 1, "longitude": longitude} for longitude in (179.5, -179.5, 179)],
        )
        self.assertEqual(line, [[1, 179.5], [1, 180.5], [1, 179]])

    def test_name(self) -> None:
        """What opens for a lock has its name, with its id."""
        page = self.map_of(_FIRST_FIJI, len(_FIJI))
        page.get_by_role("button", name=f"{_NAME} ({_FIRST_FIJI}): locked").click()
        link = page.locator(".map-popup h2").get_by_role("link")
        self.assertEqual(link.inner_text().split(), [*_NAME.split(), str(_FIRST_FIJI)])

    def test_apart(self) -> None:
        """Groups are never so close that one is on top of the other, and each lock is in one of them."""
        page = self.open("#/nowhere")
        places = [[60 * math.sin(number), 180 * math.sin(number * number)] for number in range(400)]
        for zoom in (1, 4, 7):
            size = 256 * 2**zoom
            groups = page.evaluate(_GROUPED, [places, zoom])
            self.assertEqual(sorted(one for group in groups for one in group["locks"]), list(range(400)))
            for one, other in combinations(groups, 2):
                across = abs(one["x"] - other["x"])
                far = math.hypot(min(across % 1, 1 - across % 1), one["y"] - other["y"]) * size
                self.assertGreaterEqual(far, 59.9)
        self.assertEqual(len(page.evaluate(_GROUPED, [[[0, 0], [0, 0.0001]], 19])), 1)

    def test_popup_changes(self) -> None:
        """An open popup shows what has become of the lock; its link keeps the focus."""
        page = self.open("#/nowhere")
        before, after, focused = page.evaluate(_CHANGING)
        self.assertIn("locked, online", before)
        self.assertIn("unlocked, online", after)
        self.assertEqual(focused, "7")

    def test_speed(self) -> None:
        """10,000 locks are drawn again in a tenth of a second."""
        page = self.open("#/nowhere")
        took = page.evaluate(_SPEED)
        self.assertLess(took, _REDRAW * contention())
