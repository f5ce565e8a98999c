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
        """Without tiles all locks are drawn on a graticule, and no other host is contacted."""
        page = self.map_page()
        self.wait(page, f"document.querySelector('canvas.points').dataset.points === '{_COUNT}'")
        self.assertGreater(page.locator("canvas.points").evaluate(_INK), _COUNT)
        self.assertGreater(page.locator("canvas.graticule").evaluate(_INK), 100_000)
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
        """A click on a lock opens its page."""
        page = self.map_page(f"#/map?q={794308600000 + 7}")
        self.wait(page, "document.querySelector('canvas.points').dataset.points === '1'")
        page.get_by_role("button", name="Show all").click()
        box = page.locator(".map").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
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


class TilesTests(BrowserTestCase):
    options = (
        "--web-tiles",
        "https://tiles.example.net/{z}/{x}/{y}.png",
        "--web-tiles-attribution",
        "<b>Their</b> tiles",
    )

    def test_tiles_fail(self) -> None:
        """When tiles fail, positions are on the graticule, and the map says so."""
        store_fleet(self.client, 5)
        self.expected = ("tiles.example.net", "ERR_")
        page = self.open("#/map")
        page.get_by_text("tiles can't be loaded").wait_for()
        page.locator("canvas.graticule").wait_for()
        self.wait(page, "document.querySelector('canvas.points').dataset.points === '5'")

    def test_tiles(self) -> None:
        """Tiles come from the configured host; its attribution is shown as words and links."""
        store_fleet(self.client, 5)
        self.expected = ("asked another host: https://tiles.example.net/",)
        page = self.open(None)
        answer = {"body": _PIXEL, "content_type": "image/png"}
        page.route("https://tiles.example.net/**", lambda route: route.fulfill(**answer))
        page.goto(self.url("#/map"))
        page.locator(".leaflet-tile-loaded").first.wait_for()
        self.wait(page, "document.querySelector('canvas.graticule') === null")
        note = page.locator(".map-note")
        self.assertEqual(note.inner_html(), "Their tiles")
