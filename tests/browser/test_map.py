"""The map of last positions."""

import base64
from typing import Any

from tests.browser.fleet import store_fleet
from tests.browser.support import BrowserTestCase

_COUNT = 300
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
#: The number of pixels of each colour on a canvas, without the background.
_INK = """
(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let drawn = 0;
  for (let at = 3; at < data.length; at += 4) drawn += data[at] > 0;
  return drawn;
}
"""
#: The mean brightness of what is drawn on a canvas, from 0 to 255.
_BRIGHTNESS = """
(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let [drawn, sum] = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 255) continue;
    drawn += 1;
    sum += data[at];
  }
  return sum / drawn;
}
"""
#: Whether places, latitude and longitude, are on land, as the module of the page has it.
_LAND = """
async (places) => {
  const { outlines, cutRing } = await import('/static/outlines.js');
  const { mapX, mapY } = await import('/static/canvas_layer.js');
  const path = new Path2D();
  for (const { points } of (await outlines()).land) {
    if (Math.abs(points.at(-2) - points[0]) > 0.5) continue;
    for (const turn of [0, 1]) {
      const ring = cutRing(Array.from(points), [-1, 0, 2, 1]);
      for (let at = 0; at < ring.length; at += 2) {
        const place = [(ring[at] + turn) * 1e6, ring[at + 1] * 1e6];
        if (at) path.lineTo(...place);
        else path.moveTo(...place);
      }
      path.closePath();
    }
  }
  const context = document.createElement('canvas').getContext('2d');
  return places.map(([latitude, longitude]) =>
    context.isPointInPath(path, mapX(longitude) * 1e6, mapY(latitude) * 1e6, 'evenodd'));
}
"""


class MapTests(BrowserTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        store_fleet(cls.client, _COUNT)

    def map_page(self, path: str = "#/map") -> Any:
        page = self.open(path)
        page.locator(".map canvas.points").wait_for()
        self.wait(page, "Number(document.querySelector('canvas.points').dataset.points) > 0")
        return page

    def points(self, page: Any) -> int:
        return int(page.locator("canvas.points").get_attribute("data-points"))

    def test_points(self) -> None:
        """Without tiles all locks are drawn on outlines and a graticule; no other host is contacted."""
        page = self.map_page()
        self.wait(page, f"document.querySelector('canvas.points').dataset.points === '{_COUNT}'")
        self.assertGreater(page.locator("canvas.points").evaluate(_INK), _COUNT)
        self.assertGreater(page.locator("canvas.graticule").evaluate(_INK), 1000)
        page.locator("canvas.outlines[data-loaded=true]").wait_for()
        self.assertGreater(page.locator("canvas.outlines").evaluate(_INK), 100_000)
        self.assertGreater(page.locator("canvas.names").evaluate(_INK), 1000)
        page.get_by_text(f"{_COUNT} in sight").wait_for()
        self.assertEqual(page.locator(".leaflet-tile").count(), 0)

    def test_graticule_adapts(self) -> None:
        """The lines get closer when the user zooms in."""
        page = self.map_page()
        grid = page.locator("canvas.graticule")
        before = float(grid.get_attribute("data-step"))
        for _ in range(3):
            page.get_by_role("button", name="Zoom in").click()
            page.wait_for_timeout(400)
        self.wait(page, f"Number(document.querySelector('canvas.graticule').dataset.step) < {before}")

    def test_click(self) -> None:
        """A click on a lock shows it and where it is, with a link to its page."""
        page = self.map_page(f"#/map?q={794308600000 + 7}")
        self.wait(page, "document.querySelector('canvas.points').dataset.points === '1'")
        page.get_by_role("button", name="Show all").click()
        box = page.locator(".map").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        popup = page.locator(".map-popup")
        popup.get_by_text("unlocked, online").wait_for()
        self.assertRegex(popup.inner_text(), r"\d+\.\d{5}, -?\d+\.\d{5}")
        popup.get_by_role("link", name="794308600007").click()
        page.get_by_role("heading", level=1, name="794308600007").wait_for()

    def test_shares_the_filter(self) -> None:
        """The filter of the table applies to the map too."""
        page = self.open("#/")
        page.locator('[data-facet="unlocked"]').click()
        page.get_by_role("link", name="Map").click()
        page.locator("canvas.points").wait_for()
        self.assertEqual(page.locator('[data-facet="unlocked"]').get_attribute("aria-pressed"), "true")
        self.wait(
            page, f"Number(document.querySelector('canvas.points').dataset.points) in {{{_COUNT // 2}: 1}}"
        )

    def test_outlines(self) -> None:
        """Outlines are loaded for the first map only. Land is land on both sides of the antimeridian."""
        page = self.open(None)
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url) if "outlines" in one.url else None)
        page.goto(self.url("#/"))
        page.locator('.grid [role="row"]:not([hidden])').first.wait_for()
        self.assertEqual(asked, [])
        page.get_by_role("link", name="Map").click()
        page.locator("canvas.outlines[data-loaded=true]").wait_for()
        colours = page.evaluate(_LAND, [[48.85, 2.35], [45, -30], [66.5, 179], [66.5, 181], [-17.8, 178]])
        self.assertEqual(colours, [True, False, True, True, True])
        self.assertEqual([one.rpartition("/")[2] for one in asked], ["outlines.js", "outlines.json"])

    def test_dark_outlines(self) -> None:
        """Land has another colour when the browser changes to its dark scheme."""
        self.expected = ("willReadFrequently",)
        page = self.map_page()
        page.locator("canvas.outlines[data-loaded=true]").wait_for()
        self.assertGreater(page.locator("canvas.outlines").evaluate(_BRIGHTNESS), 200)
        page.emulate_media(color_scheme="dark")
        self.wait(page, f"({_BRIGHTNESS})(document.querySelector('canvas.outlines')) < 60")


class TilesTests(BrowserTestCase):
    options = (
        "--web-tiles",
        "https://tiles.example.net/{z}/{x}/{y}.png",
        "--web-tiles-attribution",
        "<b>Their</b> tiles",
    )

    def test_tiles_fail(self) -> None:
        """When tiles fail, positions are on outlines, and the map says so."""
        store_fleet(self.client, 5)
        self.expected = ("tiles.example.net", "ERR_")
        page = self.open("#/map")
        page.get_by_text("tiles can't be loaded").wait_for()
        page.locator("canvas.graticule").wait_for()
        page.locator("canvas.outlines[data-loaded=true]").wait_for()
        self.wait(page, "document.querySelector('canvas.points').dataset.points === '5'")

    def test_tiles(self) -> None:
        """Tiles come from the configured host; its attribution is shown as words and links."""
        store_fleet(self.client, 5)
        self.expected = ("asked another host: https://tiles.example.net/",)
        page = self.open(None)
        answer = {"body": _PIXEL, "content_type": "image/png"}
        page.route("https://tiles.example.net/**", lambda route: route.fulfill(**answer))
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        page.goto(self.url("#/map"))
        page.locator(".leaflet-tile-loaded").first.wait_for()
        self.wait(page, "document.querySelector('canvas.graticule') === null")
        self.assertEqual([one for one in asked if "outlines.json" in one], [])
        note = page.locator(".map-note")
        self.assertEqual(note.inner_html(), "Their tiles")
