"""The seal report on the page, and on paper."""

import json
import re
import time
from typing import Any

from jt709c_gateway.util.timestamps import iso
from tests.browser.support import PHONE, CommandCase
from tests.support.commands import FakeLock, new_device
from tests.unit.reports.test_track_export import read_gpx


class ReportTests(CommandCase):
    options = ("--ask", "none")

    def put(self, device: str, *openings: float, **label: str) -> None:
        """Store a lock that was opened so many seconds ago, and closed ten minutes later."""
        redis, key, now = self.client.redis, self.client.key, time.time()
        redis.call("HSET", key("device", device), "seen", iso(now), "lock_state", "locked")
        for ago in openings:
            for action, at in (("unlocked", now - ago), ("locked", now - ago + 600)):
                data = {"time": iso(at), "action": action, "method": "card", "card": "0308010002"}
                envelope = {"kind": "lock", "device": device, "received_at": iso(at), "clock_skew_s": 0}
                text = json.dumps({**envelope, "stored": False, "data": data})
                redis.call("XADD", key("history", device), f"{int(at * 1000)}-1", "event", text)
        for name, value in label.items():
            redis.call("HSET", key("label", device), name, value)
            redis.call("SADD", key("labels"), device)

    def rows(self, page: Any) -> list[str]:
        page.locator(".report").wait_for()
        found: list[str] = page.locator(".report-table tbody tr td:nth-child(2)").all_inner_texts()
        return found

    def test_from_the_page_of_a_lock(self) -> None:
        """Its link leads to the report of a week: an unlock by command, with its issuer and evidence."""
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        command = self.client.unlock(lock.device, issued_by="night shift")
        lock.say_yes(lock.next_unlock())
        lock.open()
        self.client.wait(command, "confirmed")
        page = self.open(f"#/device/{lock.device}")
        page.get_by_role("link", name="Seal report").click()
        self.assertEqual(self.rows(page), ["Opened"])
        self.assertEqual(page.input_value("#report-device"), lock.device)
        self.assertEqual(page.input_value("#report-period"), "week")
        row = page.locator(".report-opened").inner_text()
        evidence = "shown by a lock event: unlocked by password"
        for text in ("night shift", command, "confirmed", evidence):
            self.assertIn(text, row)
        self.assertRegex(
            page.locator(".report-head").inner_text(), r"Made \d{4}-.* UTC\S* for ann by gw-page"
        )
        self.assertIn("begins later", page.locator(".report-unknown").inner_text())

    def test_periods(self) -> None:
        """The choice is in the address; another period makes another report."""
        device = new_device()
        self.put(device, 4 * 86400, 3 * 86400)
        page = self.open(f"#/report?device={device}&period=week", timezone_id="UTC")
        self.assertEqual(self.rows(page), ["Opened", "Closed"] * 2)
        page.select_option("#report-period", "custom")
        begin = time.time() - 3.5 * 86400
        page.fill("#report-from", iso(begin)[:16])
        page.fill("#report-to", iso(begin + 86400)[:16])
        page.get_by_role("button", name="Show").click()
        self.wait(page, "document.querySelectorAll('.report-table tbody tr').length === 2")
        self.assertIn("from=", page.url)
        self.assertIn("State at the beginning: closed", page.locator(".report-lock").inner_text())
        page.fill("#report-to", iso(begin - 86400)[:16])
        page.get_by_role("button", name="Show").click()
        page.get_by_text("The beginning of the period must be before its end.").wait_for()

    def test_group(self) -> None:
        """All locks of a group by their names; a lock of which nothing is kept says that."""
        group = f"North {new_device()}"
        quiet, busy = new_device(), new_device()
        self.put(busy, 3600, name="Truck 12", group=group, plate="AB-123")
        self.put(quiet, name="Truck 7", group=group)
        page = self.open("#/report")
        page.locator(f'#report-groups option[value="{group}"]').wait_for(state="attached")
        page.fill("#report-group", group.lower())
        page.get_by_label("Period").select_option("week")
        page.get_by_role("button", name="Show").click()
        self.rows(page)
        titles = page.locator(".report-lock h3").all_inner_texts()
        self.assertEqual(titles, [f"Truck 12 ({busy})", f"Truck 7 ({quiet})"])
        last = page.locator(".report-lock").nth(1).inner_text()
        self.assertIn("it is not known whether anything happened", last)
        self.assertIn("No entries are known.", last)
        self.assertNotIn("No opening", last)
        with page.expect_download() as saving:
            page.get_by_role("link", name="CSV").click()
        self.assertRegex(saving.value.suggested_filename, r"^seal-report-.*\.csv$")
        self.assertIn(f"{busy},Truck 12,{group},AB-123,opened", saving.value.path().read_text())

    def test_by_name(self) -> None:
        """A lock may be named by what it is called; a name that none has is said."""
        device = new_device()
        self.put(device, 3600, name=f"Van {device}")
        self.expected = ("400",)
        page = self.open("#/report")
        page.fill("#report-device", "no such van")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("alert").get_by_text("No lock is called no such van").wait_for()
        page.fill("#report-device", f"van {device}")
        page.get_by_label("Period").select_option("week")
        page.get_by_role("button", name="Show").click()
        self.assertEqual(self.rows(page), ["Opened", "Closed"])
        self.assertIn(f"device={device}", page.url)

    def test_from_a_group(self) -> None:
        """Choosing a group in the fleet offers its report."""
        device = new_device()
        self.put(device, 3600, group=f"South {device}")
        self.client.redis.call("ZADD", self.client.key("devices"), time.time(), device)
        page = self.open("#/")
        page.locator(f'#group option[value="South {device}"]').wait_for(state="attached")
        page.select_option("#group", f"South {device}")
        page.get_by_role("link", name="Seal report").click()
        page.locator(".report-head", has_text=f"of the group South {device}").wait_for()

    def test_unknown(self) -> None:
        self.expected = ("404",)
        page = self.open("#/report?device=111111")
        page.get_by_role("alert").get_by_text("Nothing is known of 111111.").wait_for()

    def test_paper(self) -> None:
        """On paper there is the report alone, dark on white, and all of it: also from a dark screen."""
        device = new_device()
        self.put(device, *range(6 * 86400, 3600, -7200))
        page = self.open(f"#/report?device={device}&period=week", color_scheme="dark")
        count = len(self.rows(page))
        self.assertGreater(count, 100)
        page.emulate_media(media="print", color_scheme="dark")
        for selector in (".top", ".report-form", ".report-actions"):
            self.assertFalse(page.locator(selector).is_visible(), selector)
        colours = page.evaluate(
            """() => [document.documentElement, document.querySelector('.report')].map(
              (one) => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor])"""
        )
        self.assertEqual(colours, [["rgb(0, 0, 0)", "rgb(255, 255, 255)"]] * 2)
        data = page.pdf(prefer_css_page_size=True)
        pages = len(re.findall(rb"/Type\s*/Page\b", data))
        self.assertTrue(2 < pages < 20, pages)
        sizes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", data)
        # A4 in points.
        self.assertEqual({(round(float(wide)), round(float(high))) for wide, high in sizes}, {(595, 842)})

    def test_phone(self) -> None:
        """On a phone the page does not scroll sideways; the table does."""
        device = new_device()
        self.put(device, 3600)
        page = self.open(f"#/report?device={device}&period=week", PHONE)
        self.rows(page)
        self.assertTrue(page.evaluate("document.querySelector('main').scrollWidth <= innerWidth"))

    def test_track_file(self) -> None:
        """The page of a lock has its track as a file."""
        device = new_device()
        self.put(device)
        points = [[iso(time.time() - 60 * n), 51.9, 4.4, 42.5, 90] for n in range(3, 0, -1)]
        self.client.redis.call("RPUSH", self.client.key("track", device), *map(json.dumps, points))
        page = self.open(f"#/device/{device}")
        with page.expect_download() as saving:
            page.get_by_role("link", name="GPX").click()
        self.assertEqual(saving.value.suggested_filename, f"track-{device}.gpx")
        self.assertEqual(len(read_gpx(saving.value.path().read_bytes())[0]), 3)
