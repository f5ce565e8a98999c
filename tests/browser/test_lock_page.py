"""The page of one lock."""

import json
import time

from jt709c_gateway.util.timestamps import iso
from tests.browser.support import BrowserTestCase
from tests.support.commands import PASSWORD, UNLOCKED, FakeLock, lock_event, new_device
from tests.support.masters import LORA, OPEN, FakeMaster, new_master, new_sublock


class LockPageTests(BrowserTestCase):
    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def test_timeline(self) -> None:
        """Reports, alarms and commands are in one timeline, each command once with its steps."""
        lock = self.lock()
        command = self.client.unlock(lock.device, issued_by="night shift")
        serial = lock.next_unlock()
        lock.say_yes(serial)
        lock.open()
        self.client.wait(command, "confirmed")
        page = self.open(f"#/device/{lock.device}")
        item = page.locator(".timeline > li", has_text="night shift")
        item.locator(".chip", has_text="confirmed").wait_for()
        for state in ("queued", "sent", "acknowledged", "confirmed"):
            self.assertEqual(item.locator(".step strong", has_text=state).count(), 1)
        page.locator(".timeline .kind-lock").first.wait_for()
        lock.send(lock.location(alarm_bits=1 << 1))
        page.locator(".timeline .entry-alarm", has_text="raised").wait_for()
        first = page.locator(".timeline > li").first
        self.assertIn("raised", first.inner_text())
        page.locator(".lock-state .alarms").wait_for()

    def test_frames(self) -> None:
        """A frame is decoded on demand: each field with offset, bytes, name, value and meaning."""
        lock = self.lock()
        lock.report(lock_event(), UNLOCKED)
        page = self.open(f"#/device/{lock.device}")
        frame = page.locator(".frames > li", has_text="lock").first
        frame.locator("summary").click()
        table = frame.locator("table.fields")
        table.get_by_text("location report", exact=True).first.wait_for()
        field = table.locator("tr", has=page.locator("th", has_text="terminal id"))
        cells = field.locator("td, th").all_inner_texts()
        self.assertEqual(cells[0], "5")
        self.assertEqual(cells[1].replace(" ", ""), lock.device)
        self.assertEqual(cells[2:], ["terminal id", lock.device, f"device {lock.device}"])
        self.assertNotIn(PASSWORD.encode().hex(), page.content())
        lock.report()
        page.locator(".frames > li").nth(2).wait_for()
        opened = page.locator(".frames > li", has=page.locator("details[open]"))
        self.assertEqual(opened.locator("table.fields").count(), 1)
        self.assertIn("lock", opened.inner_text())

    def test_track(self) -> None:
        """The track is on the map; without one the page says that none is stored."""
        lock = self.lock()
        points = [[iso(time.time() - 600 + 60 * n), 51.9 + n / 100, 4.4 + n / 50, 42.5, 90] for n in range(8)]
        key = self.client.key("track", lock.device)
        self.client.redis.call("DEL", key)
        self.client.redis.call("RPUSH", key, *[json.dumps(point) for point in points])
        page = self.open(f"#/device/{lock.device}")
        page.get_by_text("8 positions, from").wait_for()
        page.locator(".map-small .leaflet-overlay-pane canvas").wait_for()

    def test_leaving(self) -> None:
        """Leaving the page while its track is drawn causes no error."""
        lock = self.lock()
        for _ in range(3):
            lock.report(at=time.time() - 20)
        page = self.open("#/commands")
        page.evaluate(
            """() => new MutationObserver(() => {
              const drawn = document.querySelector('.map-small .leaflet-overlay-pane canvas');
              if (!drawn || !document.body.innerText.includes(', from 20')) return;
              if (location.hash !== '#/commands') window.left = (window.left ?? 0) + 1;
              location.hash = '#/commands';
            }).observe(document.body, { childList: true, subtree: true })"""
        )
        for number in range(1, 13):
            page.evaluate(f"location.hash = '#/device/{lock.device}'")
            self.wait(page, f"window.left === {number}")
            page.locator(".view-commands").wait_for()
        page.wait_for_timeout(100)

    def test_sublocks(self) -> None:
        """A master's page lists its sub-locks with their last reports."""
        master, sublock = FakeMaster(new_master()), new_sublock()
        master.connect(self.daemon)
        self.addCleanup(master.close)
        page = self.open(f"#/device/{master.device}")
        page.get_by_role("heading", level=1, name=master.device).wait_for()
        master.hear(sublock, LORA, OPEN)
        line = page.locator("table.plain tr", has_text=sublock)
        line.get_by_text("unlocked").wait_for()
        self.assertIn("88 %", line.inner_text())

    def test_imei(self) -> None:
        """An IMEI leads to its lock."""
        lock = self.lock()
        self.client.redis.call("HSET", self.client.key("imei"), "860000000000017", lock.device)
        page = self.open("#/device/860000000000017")
        page.get_by_role("heading", level=1, name=lock.device).wait_for()
        self.wait(page, f"location.hash === '#/device/{lock.device}'")

    def test_unknown(self) -> None:
        """The page of an unknown lock says so."""
        self.expected = ("404",)
        page = self.open("#/device/111111")
        page.get_by_role("alert").get_by_text("No lock 111111 is known here").wait_for()

    def test_markup_stays_text(self) -> None:
        """External text stays text everywhere: ids, sentences, names, issuers of commands."""
        attack = "<img src=x onerror=window.pwned=1>"
        lock = self.lock()
        device = lock.device
        self.client.command(device, "locate", issued_by=attack)
        lock.send(f"({device},1,077,BASE,2,{attack})".encode())
        lock.beat()
        redis = self.client.redis
        redis.call(
            "HSET", self.client.key("device", device), "firmware", attack, "alarms", json.dumps([attack])
        )
        stranger = f"x{attack}"
        redis.call(
            "HSET", self.client.key("device", stranger), "seen", "2026-11-25T10:00:00Z", "imei", attack
        )
        redis.call("ZADD", self.client.key("devices"), time.time(), stranger)
        page = self.open(f"#/device/{device}")
        page.locator(".timeline", has_text=attack).wait_for()
        page.locator(".details", has_text=attack).wait_for()
        page.locator(".frames", has_text="BASE").wait_for()
        page.goto(self.url("#/"))
        page.locator('.grid [role="row"]', has_text=stranger).wait_for()
        page.goto(self.url("#/map"))
        page.locator(".map canvas.points").wait_for()
        page.goto(self.url("#/commands"))
        page.locator(".commands", has_text=attack).wait_for()
        page.goto(self.url("#/events"))
        page.locator("#connection", has_text="live").wait_for()
        event = {
            "v": 1,
            "id": attack,
            "kind": "lock",
            "device": stranger,
            "data": {"action": attack, "method": attack},
        }
        redis.call("PUBLISH", self.client.key("event", "lock", stranger), json.dumps(event))
        page.locator(".events", has_text=f"{attack} · by {attack}").wait_for()
        page.goto(self.url(f"#/device/{'%3Cimg%20src=x%20onerror=window.pwned=1%3E'}"))
        self.expected = ("400", "404")
        page.get_by_role("heading", level=1, name=attack).wait_for()
        self.assertEqual(page.locator("main img").count(), 0)
        self.assertIsNone(page.evaluate("window.pwned ?? null"))
