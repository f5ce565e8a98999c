"""jt709c simulate against a real gateway and a real server, in each dialect."""

import os
import subprocess
import sys
from typing import Any

from tests.support import LOOPBACK, wait_until
from tests.support.commands import CommandClient
from tests.support.daemon import DaemonCase

COMMAND = [sys.executable, "-m", "jt709c_gateway.cli.main", "simulate"]
DIALECTS = ("jt709", "jt705", "jt701")
EACH = [argument for dialect in DIALECTS for argument in ("--dialect", dialect)]
#: The first lock of each dialect, and the first sub-lock of the first master.
LOCKS = {"jt709": "794308010001", "jt705": "856009010001", "jt701": "8000010001"}
MASTER = LOCKS["jt701"]
SUBLOCK = "0001000101"


class GatewayCase(DaemonCase):
    """A daemon shared by the tests of a class, and virtual locks."""

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    @classmethod
    def simulate(cls, *arguments: str, udp: bool = False) -> subprocess.Popen[bytes]:
        """A fleet against the daemon."""
        target = (
            ("--udp", f"{LOOPBACK}:{cls.daemon.udp_port}")
            if udp
            else ("--tcp", f"{LOOPBACK}:{cls.daemon.tcp_port}")
        )
        return subprocess.Popen(
            [*COMMAND, *target, *arguments],
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def events(self, kind: str, device: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many events of a kind."""

        def found() -> list[dict[str, Any]] | None:
            events = self.client.events(kind, device)
            return events if len(events) >= count else None

        return wait_until(found, message=f"no {count} {kind} events of {device}")


class AnsweredTests(GatewayCase):
    """Short runs, to their end."""

    def check(self, *arguments: str, udp: bool = False) -> str:
        """All that the fleet reports is answered; its last line."""
        process = self.simulate("--interval", "0.2", "--duration", "2", *arguments, udp=udp)
        out, _ = process.communicate(timeout=30)
        text = out.decode()
        self.assertEqual(process.returncode, 0, text)
        self.assertIn(", 0 unanswered, 0 sent again;", text)
        return text.splitlines()[-1]

    def test_each_dialect(self) -> None:
        """Every report of a dialect becomes events of that dialect, and is answered."""
        for dialect in DIALECTS:
            summary = self.check("--locks", "3", "--dialect", dialect)
            self.assertIn(f"3 virtual locks ({dialect}): ", summary)
            for number in range(3):
                device = str(int(LOCKS[dialect]) + number)
                located = self.events("location", device, 3)
                self.assertEqual({event["dialect"] for event in located}, {dialect})
                self.assertIn(False, {event["stored"] for event in located})
                self.assertTrue(51 < located[0]["data"]["latitude"] < 52)

    def test_a_mixed_fleet_over_udp(self) -> None:
        """The same as datagrams, and sub-locks with them."""
        summary = self.check(*EACH, "--locks", "6", "--sublocks", "4", "--first-id", "4100000001", udp=True)
        self.assertIn("6 virtual locks (2 jt709, 2 jt705, 2 jt701 with 8 sub-locks): ", summary)
        dialects = [self.events("location", str(4100000001 + number))[0]["dialect"] for number in range(6)]
        self.assertEqual(dialects, list(DIALECTS) * 2)
        told = self.events("peripheral", "4100000003", 4)
        kinds = {event["data"]["peripheral"]: event["data"]["peripheral_type"] for event in told}
        self.assertEqual(
            kinds,
            {"0000000301": "jt709", "0000000302": "jt709", "0000000303": "jt709", "0000000304": "jt126"},
        )

    def test_what_a_master_stored_asleep_arrives_too(self) -> None:
        """Records and sub-locks' reports made without a connection come afterwards, the records as stored."""
        self.check(
            "--dialect", "jt701", "--sublocks", "1", "--first-id", "4200000001", "--sleep", "0.5:0.7",
        )  # fmt: skip
        located = self.events("location", "4200000001", 5)
        self.assertEqual({event["stored"] for event in located}, {False, True})


class CommandTests(GatewayCase):
    """Commands to a fleet that goes on reporting."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.fleet = cls.simulate(
            *EACH, "--locks", "3", "--sublocks", "2", "--interval", "0.5", "--relock", "1",
            "--card-every", "0",
        )  # fmt: skip

    @classmethod
    def tearDownClass(cls) -> None:
        cls.fleet.terminate()
        cls.fleet.communicate(timeout=30)
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        for device in LOCKS.values():
            self.events("location", device)

    def test_unlock(self) -> None:
        """In every dialect the lock says yes, and its own event and status confirm it."""
        for dialect, device in LOCKS.items():
            command = self.client.unlock(device, "888888")
            record = self.client.wait(command, "confirmed")
            self.assertEqual(record["profile"], dialect)
            self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged", "confirmed"])
            (moved,) = [e["data"] for e in self.events("lock", device) if e["data"]["command_id"] == command]
            self.assertEqual((moved["method"], moved["action"]), ("password", "unlocked"))
        wait_until(lambda: self.client.events("lock", MASTER)[-1]["data"]["action"] == "locked")

    def test_unlock_dynamic(self) -> None:
        """With the dynamic password that the lock told the gateway."""
        for device in LOCKS.values():
            self.events("password", device)
            command = self.client.command(device, "unlock", {"method": "dynamic"})
            self.client.wait(command, "confirmed")

    def test_wrong_password(self) -> None:
        """A wrong password is rejected."""
        for device in LOCKS.values():
            command = self.client.unlock(device, "000000")
            self.client.wait(command, "rejected")

    def test_seal(self) -> None:
        """A jt705 closes when it is told to."""
        device = LOCKS["jt705"]
        self.client.wait(self.client.unlock(device, "888888"), "confirmed")
        self.client.wait(self.client.command(device, "seal"), "confirmed")

    def test_questions_and_settings(self) -> None:
        """Commands that move nothing are done."""
        for command, params, answer in (
            ("query", {"what": "firmware"}, "JT701D_SIM_1.0"),
            ("query", {"what": "imei"}, "860008000010001"),
            ("set_intervals", {"awake": 60, "asleep": 120}, "60,120"),
            ("set_tracking", {"on": True}, "1,1"),
            ("cards_list", {"group": 1}, "1,0"),
            ("sublock_list", {}, f"0,2,{SUBLOCK},0001000102"),
        ):
            record = self.client.wait(self.client.command(MASTER, command, params), "done")
            self.assertIn(answer, record["answer"].replace('","', ","), command)
        self.client.wait(self.client.command(LOCKS["jt705"], "query", {"what": "firmware"}), "done")

    def test_a_sublock_unlocks_reports_and_locks_again(self) -> None:
        """WLNET,8: the master answers, the sub-lock says that LoRa opened it, and later that it is locked."""
        command = self.client.command(MASTER, "sublock_unlock", {"id": SUBLOCK})
        wait_until(
            lambda: "acknowledged" in self.client.states(command), message="the master does not answer"
        )

        def moves() -> list[tuple[int, str, str]]:
            told = [event["data"] for event in self.client.events("lock", MASTER)]
            return [(e["code"], e["method"], e["action"]) for e in told if e.get("peripheral") == SUBLOCK]

        expected = [(8, "lora", "unlocked"), (1, "unknown", "locked")]
        wait_until(lambda: moves() == expected, message="the sub-lock does not report")
        opened = [
            event["data"]
            for event in self.client.events("peripheral", MASTER)
            if event["data"]["peripheral"] == SUBLOCK and event["data"]["event"] == 8
        ]
        self.assertEqual([one["lock_state"] for one in opened], ["unlocked"])
