"""Lists that search further back than one answer of the gateway."""

import json
import time
from typing import Any
from uuid import uuid4

from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, to_hash
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.util.timestamps import iso
from jt709c_gateway.web.pagination import MAX_SCANNED
from tests.browser.support import BrowserTestCase
from tests.support import wait_until
from tests.support.commands import FakeLock, new_device

KEYS = Keys("jt709c")
#: Number of newer entries: two answers find nothing.
_IN_FRONT = 2 * MAX_SCANNED + 500
_OTHERS = """
for number = 1, tonumber(ARGV[1]) do
  local event = string.gsub(ARGV[4], 'NUMBER', string.format('%s-%06d', ARGV[5], number))
  redis.call('XADD', KEYS[1], '*', 'kind', ARGV[2], 'device', ARGV[3], 'event', event)
end
"""
_COMMANDS = """
for number = 1, tonumber(ARGV[1]) do
  local id = ARGV[2] .. '-' .. number
  redis.call('HSET', 'jt709c:command:' .. id, 'id', id, unpack(ARGV, 4))
  redis.call('ZADD', KEYS[1], ARGV[3] + number / 1000, id)
end
"""
_ASKED_OF_EVENTS = "**/api/v1/events?*"


class PastTests(BrowserTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        for key in (KEYS.events, KEYS.recent_commands):
            self.redis.call("DEL", key)

    def happened(self, count: int, kind: str, device: str) -> None:
        """Publish events of a kind of a device, now."""
        event = {"v": 1, "id": "NUMBER", "kind": kind, "device": device, "received_at": iso(time.time())}
        event["data"] = {"state": "online"} if kind == "session" else {"name": "tamper", "active": True}
        self.redis.call(
            "EVAL", _OTHERS, 1, KEYS.events, count, kind, device, json.dumps(event), uuid4().hex[:8]
        )

    def held(self, page: Any, pattern: str) -> list[Any]:
        """Hold calls of a page in this list until the test continues them."""
        calls: list[Any] = []
        page.route(pattern, lambda route: calls.append(route))
        return calls

    def answer(self, page: Any, calls: list[Any], wanted: Any, denial: Any) -> int:
        """Continue calls until a wanted entry is there and return their number; until then no list is called
        empty."""
        deadline, answered = time.monotonic() + 60, 0
        while not wanted.is_visible():
            self.assertLess(time.monotonic(), deadline, "it was not found")
            if calls:
                self.assertFalse(denial.is_visible())
                calls.pop(0).continue_()
                answered += 1
            page.wait_for_timeout(20)
        return answered

    def test_frames(self) -> None:
        """The frames of a lock are found behind thousands of events of others; until then no list is called
        empty."""
        lock = FakeLock(new_device()).connect(self.daemon)
        lock.report()
        lock.close()
        wait_until(lambda: len(self.client.events("session", lock.device)) > 1)
        self.happened(_IN_FRONT, "session", "794300000001")
        page = self.open(None)
        calls = self.held(page, _ASKED_OF_EVENTS)
        page.goto(self.url(f"#/device/{lock.device}"))
        looking = page.locator(".paged-history .looking", has_text="Looking further back, to 20")
        denial = page.get_by_text("No frames of this lock are kept")
        self.answer(page, calls, looking, denial)
        found = page.locator(".frames > li", has_text="location").first
        self.assertGreaterEqual(self.answer(page, calls, found, denial), 1)
        self.answer(page, calls, page.locator(".view-device:not(:has(.looking:not([hidden])))"), denial)

    def test_nothing(self) -> None:
        """The page says at the end that there are no entries, and a search ends with its view."""
        self.happened(_IN_FRONT, "session", "794300000001")
        page = self.open(None)
        calls = self.held(page, _ASKED_OF_EVENTS)
        page.goto(self.url("#/events?kind=alarm"))
        looking = page.locator(".looking", has_text="Looking further back, to 20")
        denial = page.get_by_text("There are no such events")
        self.answer(page, calls, looking, denial)
        self.assertGreaterEqual(self.answer(page, calls, denial, page.locator(".nothing-such")), 2)
        page.goto(self.url("#/events?kind=password"))
        self.answer(page, calls, looking, denial)
        page.goto(self.url("#/commands"))
        page.locator(".view-commands").wait_for()
        calls.clear()
        page.wait_for_timeout(500)
        self.assertEqual(calls, [])

    def test_older(self) -> None:
        """Older events are loaded page by page, until there are none."""
        self.happened(150, "alarm", "794300000002")
        self.happened(_IN_FRONT, "session", "794300000001")
        page = self.open("#/events?kind=alarm")
        items = page.locator(".events > li")
        self.wait(page, "document.querySelectorAll('.events > li').length === 100")
        older = page.get_by_role("button", name="Older")
        older.click()
        self.wait(page, "document.querySelectorAll('.events > li').length === 150")
        older.wait_for(state="hidden")
        self.happened(1, "alarm", "794300000002")
        page.reload()
        # The first answer has one, and an answer has up to 100.
        self.wait(page, "document.querySelectorAll('.events > li').length === 101")
        page.get_by_role("button", name="Pause").click()
        older.click()
        self.wait(page, "document.querySelectorAll('.events > li').length === 151")
        self.assertEqual(items.count(), 151)

    def test_commands(self) -> None:
        """A command in a rare state is found behind thousands of others."""
        self.put_commands(1, "rare", CommandState.REJECTED)
        self.put_commands(MAX_SCANNED + 500, "usual", CommandState.DONE)
        page = self.open("#/commands?state=rejected")
        page.locator(".commands", has_text="rejected").wait_for()
        self.assertEqual(page.locator(".commands tbody tr").count(), 1)
        page.get_by_role("button", name="Older").wait_for(state="hidden")
        page.select_option("#command-state", "uncertain")
        page.get_by_text("There are no such commands").wait_for()
        page.select_option("#command-state", "")
        self.wait(page, "document.querySelectorAll('.commands tbody tr').length === 100")
        page.get_by_role("button", name="Older").click()
        self.wait(page, "document.querySelectorAll('.commands tbody tr').length === 200")

    def put_commands(self, count: int, name: str, state: CommandState) -> None:
        """Store commands in a state, newer than those before."""
        record = dict.fromkeys(PUBLIC_FIELDS) | {
            "command": "locate",
            "device": "794300000003",
            "state": str(state),
            "params": {},
            "created_at": iso(time.time()),
        }
        del record["id"]
        flat = [part for item in to_hash(record).items() for part in item]
        self.redis.call("EVAL", _COMMANDS, 1, KEYS.recent_commands, count, name, time.time() - 60, *flat)

    def test_addresses(self) -> None:
        """The selection is in the address: it survives a reload, the back button, and links."""
        self.happened(3, "alarm", "794300000002")
        page = self.open("#/events")
        page.locator('[data-kind="alarm"]').click()
        self.wait(page, "location.hash === '#/events?kind=alarm'")
        search = page.get_by_label("Only events of this lock")
        search.fill("794300000002")
        search.press("Enter")
        whole = "#/events?kind=alarm&device=794300000002"
        self.wait(page, f"location.hash === '{whole}'")
        self.check_events(page)
        page.reload()
        self.check_events(page)
        page.evaluate("location.hash = '#/map'")
        page.locator(".map").wait_for()
        page.go_back()
        self.check_events(page)
        page.evaluate("location.hash = '#/map'")
        page.locator(".map").wait_for()
        page.get_by_role("link", name="Events").click()
        self.wait(page, f"location.hash === '{whole}'")
        self.check_events(page)
        page.evaluate("location.hash = '#/events?kind=lock'")
        page.locator('[data-kind="lock"][aria-pressed="true"]').wait_for()
        self.assertEqual(search.input_value(), "")
        page.get_by_text("There are no such events").wait_for()
        page.go_back()
        self.check_events(page)
        page.goto(self.url("#/commands?state=done&device=5&nonsense=1"))
        self.wait(page, "document.querySelector('#command-state')?.value === 'done'")
        self.assertEqual(page.get_by_label("Only commands of this lock").input_value(), "5")
        page.select_option("#command-state", "")
        self.wait(page, "location.hash === '#/commands?device=5'")
        page.goto(self.url("#/commands?state=constructor"))
        self.wait(page, "document.querySelector('#command-state').value === ''")

    def check_events(self, page: Any) -> None:
        """Check that the events of the selected kind and lock are shown, and the selection."""
        self.wait(page, "document.querySelectorAll('.events .kind-alarm').length === 3")
        page.locator('[data-kind="alarm"][aria-pressed="true"]').wait_for()
        self.assertEqual(page.get_by_label("Only events of this lock").input_value(), "794300000002")
