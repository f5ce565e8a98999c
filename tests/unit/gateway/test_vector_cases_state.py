"""Cases of more than one frame: what is known, what is kept; and units that are not in the list."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.framing import Framer, Malformed
from jt709c_gateway.redis.committer import Limits
from tests.support.committer import Fleet
from tests.unit.gateway.test_masters import dollar
from tests.unit.redis.test_commit_script import CARD, DEVICE, LOW_BATTERY, ScriptCase, report
from tests.vectors import binary
from tests.vectors.lines import Line, case, messages, one_test_each, published


@one_test_each([case("F13")])
class OldMasterTests(SynchronousTestCase):
    def check(self, line: Line) -> None:
        """A unit whose `$` frames have a version below 19h hears (P46); until one came, (P69)."""
        for version, expected in ((None, b"(P69,0,1)"), (0x17, b"(P46)"), (0x19, b"(P69,0,1)")):
            fleet = Fleet()
            link = fleet.link()
            if version is not None:
                fleet.hear(link, dollar(version, "7000000001"))
            fleet.hear(link, line.frame)
            self.assertEqual(link.sent[-1], expected)


@one_test_each([case("P4")])
class TrailTests(ScriptCase):
    limits = Limits(devices=50, histories=50)

    def check(self, line: Line) -> None:
        """Sixty invented ids put out nothing of a lock that has an audit trail."""
        self.commit(report(items=CARD, alarm_bits=LOW_BATTERY))
        before = self.script.stream(self.keys.history(DEVICE))
        self.assertGreaterEqual(len(before), 2)
        for number in range(60):
            self.commit(binary(0x0002, wire=bytes.fromhex(f"{600000000000 + number}")))
        self.assertEqual(self.script.stream(self.keys.history(DEVICE)), before)
        self.assertEqual(self.device()["lock_state"], "locked", line.name)


@one_test_each([case("P11")])
class WrongTypeTests(ScriptCase):
    def check(self, line: Line) -> None:
        """A report that could not be written is published once, when it can be."""
        self.client.call("SET", self.keys.device(DEVICE), "x")
        failed = self.script.commit(self.teller.reports(report()))
        self.assertIn(b"WRONGTYPE", failed[2])
        self.client.call("DEL", self.keys.device(DEVICE))
        self.commit(report())
        self.assertEqual(len(self.script.events("location")), 1, line.name)


@one_test_each([case("P16")])
class GivenUpTests(ScriptCase):
    def check(self, line: Line) -> None:
        """An IMEI that its second owner gives up leads to the first again, who has said it."""
        first, second = "8054201973", "8054201974"
        said, other = "490154203237518", "356938035643809"
        for device, imei in ((first, said), (second, said)):
            self.commit(f"({device},P14,{imei})".encode())
        self.assertEqual(self.script.hash(self.keys.imei), {said: second})
        self.commit(f"({second},P14,{other})".encode())
        self.assertEqual(self.script.hash(self.keys.imei), {said: first, other: second}, line.name)
        # Who says another one by then has no claim to it.
        self.commit(f"({second},P14,{said})".encode())
        self.commit(f"({first},P14,{other})".encode())
        self.commit(f"({second},P14,{other})".encode())
        self.assertNotIn(said, self.script.hash(self.keys.imei))


@one_test_each([case("P15 ")])
class OtherUnitSentenceTests(SynchronousTestCase):
    def check(self, line: Line) -> None:
        """A JT600 is no unit that we know: what it says is carried word by word."""
        (event,) = published(line.frame)
        (message,) = messages(line.frame)
        self.assertEqual((event["kind"], event["device"]), ("reply", "6000000001"))
        self.assertEqual((event["data"]["word"], event["raw"]), ("U01", line.frame.decode()))
        self.assertEqual(len(event["data"]["arguments"]), 17)
        self.assertIsNone(message.answer)


@one_test_each([case("P15b")])
class OtherUnitRecordTests(SynchronousTestCase):
    def check(self, line: Line) -> None:
        """Its record has no length: it is kept as malformed, makes up nothing, and costs no other frame."""
        heartbeat = binary(0x0002)
        *broken, last = Framer().feed_datagram(line.frame + heartbeat)
        self.assertEqual(last.raw, heartbeat)
        self.assertTrue(broken)
        for one in broken:
            self.assertIsInstance(one, Malformed)
