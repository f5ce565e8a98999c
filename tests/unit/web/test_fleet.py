"""The table of the fleet: 10,000 locks at once, page after page, and for many who ask."""

import gzip
import json
import statistics
import threading
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web.http import SharedResponse, accepts_gzip
from tests.support import RedisClient
from tests.support.acl import GuardedServer
from tests.support.daemon import Daemon
from tests.support.web import Api

LOCKS = 10_000
#: Of a report as the gateway keeps it.
LOCATION: dict[str, Any] = {
    "time": "2026-11-22T10:15:00Z", "fix": "gnss", "latitude": 22.5, "longitude": 113.9, "altitude_m": 12,
    "speed_kmh": 1.5, "course_deg": 90, "satellites": 9, "gsm_signal": 20, "battery_percent": 80,
    "battery_volts": 3.9, "charging": False, "odometer_km": 1.0, "lock_state": "locked", "rope_open": False,
    "motor_open": False, "back_cover_open": False, "fence_id": None, "wake_source": 1, "wake_reason": "rtc",
    "network_generation": 4, "protocol_version": 1, "cell": {"mcc": 460, "mnc": 0, "cell_id": 1, "lac": 2},
    "alarms": ["low_battery"], "alarm_bits": 2, "status_bits": 2, "lock_event": None, "items": {},
}  # fmt: skip


def device(number: int) -> str:
    """The id of the lock of a number."""
    return str(794_300_000_000 + number)


STATE = {
    "seen": "2026-11-22T10:15:01.000000Z", "dialect": "jt709", "imei": "867284063211238", "firmware": "1",
    "location": json.dumps(LOCATION, separators=(",", ":")), "lock_state": "locked", "battery_percent": "80",
    "alarms": '["low_battery"]',
}  # fmt: skip
SESSION = {
    "gateway": "gw1", "transport": "tcp", "peer": "192.0.2.1:5", "since": "2026-11-22T09:00:00.000000Z"
}  # fmt: skip


def fill(client: RedisClient, count: int) -> None:
    """So many locks, the last seen last; a hundred at a time share a moment, every second one is online."""
    state, session = ([one for pair in fields.items() for one in pair] for fields in (STATE, SESSION))
    for number in range(count):
        name = device(number)
        client.call("HSET", f"jt709c:device:{name}", *state)
        client.call("ZADD", "jt709c:devices", f"{1_764_000_000 + number // 100}.125", name)
        if number % 2:
            client.call("HSET", f"jt709c:session:{name}", *session)


class TenThousandTests(SynchronousTestCase):
    server: GuardedServer
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = GuardedServer().start()
        with cls.server.client() as client:
            fill(client, LOCKS)
        cls.daemon = Daemon("--gateway", "gw1", redis=cls.server.gateway_url).start()
        cls.api = Api(cls.daemon)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        cls.server.end()
        super().tearDownClass()

    def fetch(self, query: str = "", **headers: str) -> Any:
        return self.api.fetch("GET", f"/api/v1/devices{query}", headers=headers)

    def test_all_at_once(self) -> None:
        """All of them, as they are, in 2 s also on a busy machine (0.4 s else); compressed they are small."""
        took = []
        for _ in range(3):
            began = time.monotonic()
            reply = self.fetch(accept_encoding="gzip")
            took.append(time.monotonic() - began)
            time.sleep(1.01)
        self.assertLess(min(took), 2.0)
        self.assertEqual(reply.headers["content-encoding"], "gzip")
        self.assertLess(len(reply.body), 1 << 20)
        answer = json.loads(gzip.decompress(reply.body))
        self.assertEqual((answer["total"], answer["next"], len(answer["devices"])), (LOCKS, None, LOCKS))
        names = [one["device"] for one in answer["devices"]]
        self.assertEqual(set(names), {device(number) for number in range(LOCKS)})
        self.assertEqual(names, sorted(names, reverse=True))
        self.assertEqual(sum(one["online"] for one in answer["devices"]), LOCKS // 2)
        self.assertEqual(answer["devices"][0], {
            "device": device(LOCKS - 1), "imei": "867284063211238", "dialect": "jt709", "firmware": "1",
            "seen": "2026-11-22T10:15:01.000000Z", "online": True, "gateway": "gw1", "transport": "tcp",
            "peer": "192.0.2.1:5", "since": "2026-11-22T09:00:00.000000Z", "lock_state": "locked",
            "battery_percent": 80, "gsm_signal": 20, "fix": "gnss", "latitude": 22.5, "longitude": 113.9,
            "position_time": "2026-11-22T10:15:00Z", "speed_kmh": 1.5, "course_deg": 90,
            "alarms": ["low_battery"], "rope_open": False, "charging": False,
        })  # fmt: skip

    def test_page_after_page(self) -> None:
        """With any length of page each lock comes once, also where many were heard at the same moment."""
        for limit in (137, 200, 2500):
            found: list[str] = []
            query: list[tuple[str, object]] = [("limit", limit)]
            while True:
                reply = self.api.fetch("GET", "/api/v1/devices?" + "&".join(f"{k}={v}" for k, v in query))
                answer = reply.json
                self.assertLessEqual(len(answer["devices"]), limit)
                found += [one["device"] for one in answer["devices"]]
                if answer["next"] is None:
                    break
                query = [("limit", limit), ("cursor", answer["next"])]
            self.assertEqual(found, [device(number) for number in range(LOCKS - 1, -1, -1)])

    def test_seen_since(self) -> None:
        """Those heard since a moment, page after page, and how many these are."""
        since = 1_764_000_000 + LOCKS // 100 - 2
        first = self.api.get("/devices", ("seen_since", since), ("limit", 150)).json
        self.assertEqual((first["total"], len(first["devices"])), (200, 150))
        rest = self.api.get("/devices", ("seen_since", since), ("cursor", first["next"])).json
        self.assertEqual((len(rest["devices"]), rest["next"]), (50, None))

    def test_many_ask(self) -> None:
        """For all who ask within a second the fleet is read once; the gateway answers others meanwhile."""
        self.fetch()
        time.sleep(1.01)
        with self.server.client() as client:
            client.call("CONFIG", "RESETSTAT")
            threads = [threading.Thread(target=self.fetch) for _ in range(20)]
            for thread in threads:
                thread.start()
            waits = []
            while any(thread.is_alive() for thread in threads):
                began = time.monotonic()
                self.assertEqual(self.daemon.get("/healthz")[0], 200)
                waits.append(time.monotonic() - began)
            text = client.call("INFO", "commandstats").decode()
            calls = int(text.partition("cmdstat_zrevrangebyscore:calls=")[2].partition(",")[0])
        pages = LOCKS // 200 + 1
        self.assertLessEqual(calls, 3 * pages)
        self.assertLess(statistics.median(waits), 0.1)


class SharedTests(SynchronousTestCase):
    """One answer for all who ask within a second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.shared = SharedResponse(self.clock, most=3)
        self.made: list[Deferred[Any]] = []

    def get(self, key: object = "k") -> Deferred[Any]:
        async def make() -> Any:
            self.made.append(Deferred())
            return await self.made[-1]

        return Deferred.fromCoroutine(self.shared.get(key, make))

    def test_shared(self) -> None:
        """All who wait get it, and who comes within a second; a second later it is made anew."""
        waiting = [self.get() for _ in range(3)]
        self.assertEqual(len(self.made), 1)
        self.clock.advance(0.5)
        self.made[0].callback("one")
        self.assertEqual([self.successResultOf(one) for one in waiting], ["one"] * 3)
        self.assertEqual(self.successResultOf(self.get()), "one")
        self.clock.advance(0.5)
        self.assertNoResult(self.get())
        self.assertEqual(len(self.made), 2)

    def test_failure(self) -> None:
        """A failure goes to all who wait, and is not kept."""
        waiting = [self.get(), self.get()]
        self.made[0].errback(ValueError())
        for one in waiting:
            self.failureResultOf(one, ValueError)
        self.assertNoResult(self.get())

    def test_slow(self) -> None:
        """While it is being made, however long that takes, it is not made twice."""
        self.get()
        self.clock.advance(10)
        self.get()
        self.assertEqual(len(self.made), 1)

    def test_one_after_another(self) -> None:
        """Somebody who asks in many ways has one made at a time, and takes no more memory than others."""
        first, second = self.get(1), self.get(2)
        self.assertEqual(len(self.made), 1)
        self.made[0].errback(ValueError())
        self.failureResultOf(first, ValueError)
        self.made[1].callback("two")
        self.assertEqual(self.successResultOf(second), "two")

    def test_forgotten(self) -> None:
        """When a second is over nothing is kept, also when nobody asks any more."""
        self.get()
        self.made[0].callback("one")
        self.assertEqual(len(self.shared._entries), 1)
        self.clock.advance(1)
        self.assertEqual(self.shared._entries, {})

    def test_bounded(self) -> None:
        """No more are kept than is said."""
        for key in range(20):
            self.get(key)
            self.made[-1].callback(key)
        self.assertLessEqual(len(self.shared._entries), 4)


class EncodingTests(SynchronousTestCase):
    def test_accepts_gzip(self) -> None:
        """Who takes gzip, and who says not to."""
        for header, taken in (
            (b"gzip", True),
            (b"br, GZIP;q=0.5", True),
            (b"*", True),
            (b"gzip;q=0", False),
            (b"gzip; q=0.000", False),
            (b"br", False),
            (b"", False),
            (None, False),
        ):
            self.assertEqual(accepts_gzip(header), taken, header)
