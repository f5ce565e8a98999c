"""Units that send UTC+8 (`--utc8`): their times stand in events as UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.protocol.zones import Utc8Devices
from tests.support.commands import CommandCase
from tests.support.committer import NOW, Fleet
from tests.support.masters import FakeMaster, sublock_report
from tests.unit.redis.test_commit_script import CARD, report
from tests.vectors import binary, location

HERE = "2025-11-18T11:30:00Z"
#: What a clock in China shows then.
THERE = NOW + timedelta(hours=8)
MASTER, SUBLOCK = "8054201973", "E03B60000A"


class Utc8Tests(SynchronousTestCase):
    def hear(self, *frames: bytes, prefixes: tuple[str, ...] = ("all",)) -> list[dict[str, Any]]:
        fleet = Fleet(Policy(utc8=Utc8Devices(prefixes)))
        found = fleet.hear(fleet.link(), *frames)
        return [one for one in found if one["kind"] != "session"]

    def check(self, *frames: bytes, kinds: set[str]) -> None:
        events = self.hear(*frames)
        self.assertLessEqual(kinds, {one["kind"] for one in events})
        for event in events:
            data = event["data"]
            times = {data.get("time"), data.get("master_time"), (data.get("lock_event") or {}).get("time")}
            self.assertEqual(times - {None}, {HERE}, event["kind"])

    def test_a_position_and_its_lock_event(self) -> None:
        """The event that stands by itself and in its position is put into UTC once."""
        self.check(report(items=CARD, time=THERE), kinds={"location", "lock"})

    def test_the_time_of_a_lock_event(self) -> None:
        """That of item E7 is UTC already, in some units; in others it is by the unit's clock, like all."""
        for clock in (NOW, THERE):
            item = b"\xe7\x04" + int(clock.timestamp() - 9).to_bytes(4, "big")
            position, event = self.hear(report(items=CARD + item, time=THERE))
            self.assertEqual(position["data"]["time"], HERE)
            self.assertEqual(event["data"]["time"], "2025-11-18T11:29:51Z")
            self.assertEqual(position["data"]["lock_event"]["time"], "2025-11-18T11:29:51Z")
            self.assertEqual(position["data"]["items"], {})

    def test_the_short_way(self) -> None:
        (event,) = self.hear(report(time=THERE))
        self.assertEqual((event["data"]["time"], event["clock_skew_s"]), (HERE, 0))

    def test_stored_positions(self) -> None:
        item = location(time=THERE)
        body = b"\x00\x02\x01" + (len(item).to_bytes(2, "big") + item) * 2
        self.check(binary(0x0704, body), kinds={"location"})

    def test_a_master_and_its_sublock(self) -> None:
        master = FakeMaster.__new__(FakeMaster)
        master.device, master._serial = MASTER, 0
        self.check(master.location(at=THERE.timestamp()), kinds={"location"})
        self.check(sublock_report(MASTER, SUBLOCK, 1, at=THERE.timestamp()), kinds={"peripheral", "lock"})
        p45 = f"({MASTER},P45,{THERE:%d%m%y,%H%M%S},22.5,N,113.4,E,A,0,15,4,1,0000000000,0,0,7,58)"
        self.check(p45.encode(), kinds={"lock"})

    def test_an_impossible_date(self) -> None:
        """It stays null."""
        body = location()
        (event,) = self.hear(binary(0x0200, body[:22] + b"\x99" * 6 + body[28:]))
        self.assertIsNone(event["data"]["time"])

    def test_by_prefix(self) -> None:
        """Only units whose ids begin so; of all others the times are UTC as ever."""
        for prefixes, time in {
            ("7943",): HERE,
            ("1", "79430801067"): HERE,
            ("794308010679",): HERE,
            ("7944", "9430"): "2025-11-18T19:30:00Z",
            (): "2025-11-18T19:30:00Z",
        }.items():
            (event,) = self.hear(report(time=THERE), prefixes=prefixes)
            self.assertEqual(event["data"]["time"], time, prefixes)


class DaemonTests(CommandCase):
    options = ("--utc8", "0794399", "--utc8", "79439")

    def test_the_option(self) -> None:
        """A lock whose clock shows UTC+8 has no skew, and confirms its commands."""
        self.lock.device = self.device = "794399000001"
        self.lock.connect(self.daemon, known=False)
        there = datetime.now(UTC) + timedelta(hours=8)
        self.lock.report(at=there.timestamp())
        (event,) = self.client.events("location", self.device)
        self.assertEqual(event["clock_skew_s"], 0)
        self.assertEqual(event["data"]["time"], f"{there - timedelta(hours=8):%Y-%m-%dT%H:%M:%SZ}")
