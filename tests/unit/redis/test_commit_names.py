"""commit.lua against a real server: which master a sub-lock has, and which device an IMEI is."""

import json

from jt709c_gateway.redis.commit_records import PositionRecord
from jt709c_gateway.redis.committer import Limits
from tests.support.committer import NOW, Teller
from tests.support.masters import IMEI, LORA, OPEN, sublock_report
from tests.unit.redis.test_commit_script import ScriptCase, report

MASTER, OTHER = "8054201973", "8054201974"
SUBLOCK = "E03B60000A"
AT = NOW.timestamp()
SENSOR = b"\x01\x02\x32\x00\x00\x00"


class PeripheralCase(ScriptCase):
    def said(self, identity: str = SUBLOCK, master: str = MASTER, **more: object) -> bytes:
        """What a sub-lock reports a minute ago, unless said otherwise."""
        return sublock_report(master, identity, **{"at": AT - 60, **more})

    def hash(self, identity: str = SUBLOCK) -> dict[str, str]:
        return self.script.hash(self.keys.peripheral(identity))

    def behind(self, master: str = MASTER) -> list[str]:
        """The sub-locks and sensors of a master, longest unheard first."""
        return [one.decode() for one in self.client.call("ZRANGE", self.keys.peripherals(master), 0, -1)]


class PeripheralTests(PeripheralCase):
    def test_what_is_kept(self) -> None:
        """Its master, when and as what it was heard, its state and battery."""
        self.commit(self.said(status=OPEN))
        self.assertEqual(
            self.hash(),
            {
                "device": MASTER,
                "seen": "2025-11-18T11:30:00.000000Z",
                "time": str(int(AT) - 60),
                "type": "jt709",
                "lock_state": "unlocked",
                "battery_percent": "88",
            },
        )
        self.assertEqual(self.behind(), [SUBLOCK])

    def test_a_sensor(self) -> None:
        """It has no state; a type that no document names is its number."""
        self.commit(self.said(kind=1, rest=SENSOR), self.said("E03B60000B", kind=7, rest=b""))
        self.assertEqual(self.hash()["type"], "jt126")
        self.assertNotIn("lock_state", self.hash())
        self.assertEqual(self.hash("E03B60000B")["type"], "7")

    def test_a_report_that_comes_again(self) -> None:
        """It changes nothing."""
        again = self.said(status=OPEN)
        self.commit(again)
        self.commit(self.said(at=AT - 60, event=1))
        before = self.hash()
        self.commit(again)
        self.assertEqual(self.hash(), before)
        self.assertEqual(before["lock_state"], "locked")

    def test_it_moves(self) -> None:
        """To the master that it was heard through last; its earlier one doesn't have it any more."""
        self.commit(self.said())
        self.commit(self.said(master=OTHER, at=AT - 50))
        self.assertEqual((self.hash()["device"], self.behind(), self.behind(OTHER)), (OTHER, [], [SUBLOCK]))

    def test_an_older_report(self) -> None:
        """It moves nothing back, and changes no state."""
        self.commit(self.said(master=OTHER, at=AT - 50))
        before = self.hash()
        for resent in (False, True):
            self.commit(self.said(event=LORA, status=OPEN, resent=resent))
        self.assertEqual((self.hash(), self.behind(), self.behind(OTHER)), (before, [], [SUBLOCK]))

    def test_a_clock_in_the_future(self) -> None:
        """It counts as of now, so that the next report is news."""
        self.commit(self.said(at=AT + 86400, status=OPEN))
        self.assertEqual(self.hash()["time"], str(int(AT)))
        self.commit(self.said(at=AT))
        self.assertEqual(self.hash()["lock_state"], "locked")

    def test_an_ordinary_report(self) -> None:
        """A report without a sub-lock takes the short form, which has no place for one."""
        (content,) = self.teller.reports(report())
        self.assertEqual(len(content), len(PositionRecord.__struct_fields__))

    def test_of_many_the_last_heard_stay(self) -> None:
        """A master has at most a hundred."""
        names = [f"E03B6{number:05d}" for number in range(130)]
        for name in names:
            self.commit(self.said(name))
        self.assertEqual(len(self.behind()), 100)
        left = [name for name in names if self.client.call("EXISTS", self.keys.peripheral(name))]
        self.assertEqual(sorted(left), sorted(self.behind()))
        self.assertEqual(len(left), 100)


class ForgottenTests(PeripheralCase):
    limits = Limits(devices=2)

    def test_with_its_master(self) -> None:
        """When a master is forgotten its sub-locks go too, but for one that has moved."""
        moved = "E03B60000C"
        for number, (master, identity) in enumerate(
            [(MASTER, SUBLOCK), (MASTER, moved), (OTHER, moved), ("8054201975", "E03B60000D")]
        ):
            teller = Teller()
            teller.wall = NOW.replace(second=number)
            self.script.commit(teller.contents(self.said(identity, master, at=AT + number)))
        self.assertEqual(self.client.call("ZCARD", self.keys.devices), 2)
        self.assertEqual((self.hash(), self.behind()), ({}, []))
        self.assertEqual(self.hash(moved)["device"], OTHER)
        self.assertEqual(self.client.call("EXISTS", self.keys.device(MASTER)), 0)


class ImeiTests(ScriptCase):
    OTHER_IMEI = "356938035643809"

    def setUp(self) -> None:
        super().setUp()
        self.commit(f"({MASTER},@JT)".encode())

    def tell(self, imei: str) -> None:
        """The master answers P14."""
        self.commit(f"({MASTER},P14,{imei})".encode())

    def names(self) -> dict[str, str]:
        return self.script.hash(self.keys.imei)

    def wait_under(self, imei: str, *ids: str) -> None:
        """Commands that wait under a name that nobody has."""
        for one in ids:
            self.client.call("HSET", self.keys.command(one), "device", imei, "state", "waiting")
            command = {"id": one, "device": imei, "params": {"list": [], "big": 2**60}}
            self.client.call("RPUSH", self.keys.waiting(imei), json.dumps(command))

    def test_known(self) -> None:
        """The IMEI leads to the device, whose state says it too."""
        self.tell(IMEI)
        self.assertEqual(self.names(), {IMEI: MASTER})
        self.assertEqual(self.script.hash(self.keys.device(MASTER))["imei"], IMEI)
        (event,) = self.script.events("reply")
        self.assertEqual(event["imei"], IMEI)

    def test_no_imei(self) -> None:
        """What can be none names nothing: another length, a letter, a wrong check digit, zeros."""
        for wrong in ("", "49015420323751", f"{IMEI}0", "49015420323751X", "490154203237517", "0" * 15):
            self.tell(wrong)
        self.assertEqual(self.names(), {})
        self.assertNotIn("imei", self.script.hash(self.keys.device(MASTER)))

    def test_another(self) -> None:
        """A device that says another one is not known by the first any more."""
        self.tell(IMEI)
        self.tell(self.OTHER_IMEI)
        self.assertEqual(self.names(), {self.OTHER_IMEI: MASTER})

    def test_what_waits_goes_on(self) -> None:
        """Commands under the IMEI wait for the device from then on, as they were, behind those that do."""
        self.wait_under(MASTER, "own")
        self.wait_under(IMEI, "first", "second")
        before = self.client.call("LRANGE", self.keys.waiting(IMEI), 0, -1)
        self.tell(IMEI)
        queue = self.client.call("LRANGE", self.keys.waiting(MASTER), 0, -1)
        self.assertEqual(queue[1:], before)
        self.assertEqual(self.client.call("EXISTS", self.keys.waiting(IMEI)), 0)
        self.assertGreater(self.client.call("TTL", self.keys.waiting(MASTER)), 0)
        for one in ("first", "second"):
            self.assertEqual(self.script.hash(self.keys.command(one))["device"], MASTER)
