"""What the gateway learns of a master from how its frames begin, and from what it answers."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import GroupedSentence
from jt709c_gateway.gateway.commands import encoder
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.protocol import jt701
from jt709c_gateway.protocol.events import Cell
from tests.support.committer import NOW, FakeLink, Fleet
from tests.support.masters import sublock_report
from tests.unit.redis.test_commit_script import ScriptCase

MASTER = "8000620011"
P45 = b"(8000620011,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,1,1,0008627839,0,0,24,5)"
NO_SERIAL = b"(8000620011,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,1,1,0008627839,0,0)"


def dollar(version: int, device: str = MASTER) -> bytes:
    """A `$` frame of a unit of this protocol version, which wants an answer."""
    record = jt701.encode_record(
        time=NOW, latitude=22.5, longitude=113.9, fix=True, speed_kmh=0, course_deg=0, odometer_km=1,
        satellites=6, status=jt701.STATUS_ANSWER_WANTED, battery=40, cell=Cell(460, 0, 4242, 21),
        gsm_signal=20, fence_id=None, wake_source=1, serial=9,
    )  # fmt: skip
    return jt701.encode_frame(device, version, 1, [record])


class VersionTests(SynchronousTestCase):
    """Answers and commands follow the versions that a unit has shown."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.link = self.fleet.link()

    def answered(self, *frames: bytes, link: FakeLink | None = None) -> bytes:
        """What is written for frames."""
        link = link or self.link
        before = len(link.sent)
        self.fleet.hear(link, *frames)
        return b"".join(link.sent[before:])

    def test_old_masters(self) -> None:
        """Below version 19h a P45 is answered by (P46), with a serial and without; from 19h on by (P69)."""
        for version, first, later in ((0x17, b"(P35)", b"(P46)"), (0x18, b"(P35)", b"(P46)")):
            self.assertEqual(self.answered(dollar(version)), first)
            self.assertEqual(self.answered(P45), later)
            self.assertEqual(self.answered(NO_SERIAL), later)
        for version in (0x19, 0x20):
            self.assertEqual(self.answered(dollar(version)), b"(P69,0,9)")
            self.assertEqual(self.answered(P45.replace(b",24,", b",25,")), b"(P69,0,25)")
            self.assertEqual(self.answered(NO_SERIAL.replace(b"0720", b"0721")), b"")

    def test_until_its_version_is_known(self) -> None:
        """The serial answers; what another device has shown changes nothing."""
        self.assertEqual(self.answered(dollar(0x17, "8000620012"), P45), b"(P35)(P69,0,24)")

    def test_over_a_new_connection(self) -> None:
        """What was known goes along."""
        self.answered(dollar(0x17))
        self.assertEqual(self.answered(P45, link=self.fleet.link(peer="192.0.2.8:1")), b"(P46)")

    def test_commands_to_a_jt701t(self) -> None:
        """A unit that sends the version 23 is written to with 23, one that answers under another with 1."""
        command = GroupedSentence("WLNET", 4, ())
        for head, version in ((b"1,001", b"1"), (b"2,001", b"1"), (b"23,29", b"23"), (b"1,002", b"1")):
            self.answered(b"(8000620011,%b,WLNET,4,V1)" % head)
            session = self.fleet.gateway.sessions.get(MASTER)
            assert session is not None
            self.assertEqual(
                encoder.frame(command, session, 7), (b"(8000620011,%b,007,WLNET,4)" % version, 7)
            )

    def test_whose_serial_answers_a_sublock(self) -> None:
        """The sub-lock's own, or the sentence's where the operator has chosen that; also over UDP."""
        report = sublock_report(MASTER, "E03B60000A", serial=77).replace(b",077,", b",110,")
        for policy, number in ((Policy(), 77), (Policy(sentence_serial=True), 110)):
            fleet = Fleet(policy)
            for transport in ("tcp", "udp"):
                link = fleet.link(transport)
                fleet.hear(link, report)
                self.assertEqual(b"".join(link.sent), b"(P69,0,%d)" % number)


class ToldTests(ScriptCase):
    """What answers tell of a device goes into its hash."""

    def test_answers(self) -> None:
        """Firmware and battery, records that wait, cards that were registered, when the clock was set."""
        self.commit(
            b"(8000620011,P01,JT701D/E_20210311,41%)",
            b"(8000620011,P98,10,0,37,0)",
            b"(8000620011,P42,2,0008932328,0008933493)",
            b"(8000620011,P22,1)",
        )
        device = self.script.hash(self.keys.device(MASTER))
        self.assertEqual((device["firmware"], device["battery_percent"]), ("JT701D/E_20210311", "41"))
        self.assertEqual(device["records_waiting"], "37")
        self.assertEqual(device["cards_registered"], '["0008932328","0008933493"]')
        self.assertEqual(device["clock_set_at"], device["seen"])

    def test_what_tells_nothing(self) -> None:
        """A refusal and an answer without its number change nothing that is known."""
        self.commit(b"(8000620011,P01,V1,41%)", b"(8000620011,P98,10,0,37,0)")
        self.commit(b"(8000620011,P01,V2)", b"(8000620011,P98,10,1,0,0)", b"(8000620011,P22,0)")
        self.commit(b"(8000620011,P01,)", b"(8000620011,P01)", b"(8000620011,1,001,BASE,1, )")
        device = self.script.hash(self.keys.device(MASTER))
        self.assertEqual((device["firmware"], device["battery_percent"]), ("V2", "41"))
        self.assertEqual((device["records_waiting"], device.get("clock_set_at")), ("37", None))

    def test_current_dynamic_password(self) -> None:
        """It is kept where unlock commands find it, and nowhere else."""
        self.commit(b"(8000620011,P52,0,000000,386531)")
        self.assertEqual(self.client.call("GET", self.keys.secret(MASTER)), b"386531")
        self.assertNotIn("386531", str(self.script.hash(self.keys.device(MASTER))))

    def test_no_dynamic_password_any_more(self) -> None:
        """One that the lock has no longer is forgotten: an unlock with it would count as a wrong password."""
        for off in (b"(8000620011,P52,0,,)", b"(8000620011,P52,1,0,0)"):
            self.commit(b"(8000620011,P52,2,386531)")
            self.commit(b"(8000620011,P52,1,1,0)")
            self.assertEqual(self.client.call("GET", self.keys.secret(MASTER)), b"386531")
            self.commit(off)
            self.assertIsNone(self.client.call("GET", self.keys.secret(MASTER)))
