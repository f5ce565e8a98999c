"""Inputs of binary frames that this gateway, or others, once got wrong: what is right (cases.jsonl)."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.committer import Limits
from tests.support import key_prefix, shared_server
from tests.support.committer import Script, Teller
from tests.vectors import binary, location
from tests.vectors.lines import NOW, Line, case, line_test, messages, published, sent


def only(line: Line) -> dict[str, Any]:
    """The data of the one event of a case."""
    (event,) = published(line.frame)
    found: dict[str, Any] = event["data"]
    return found


class DecodedTests(SynchronousTestCase):
    """What the codec makes of one frame."""

    @line_test("F7 D4=FF")
    def battery_byte_ff(self, line: Line) -> None:
        """FF is charging and no percentage."""
        data = only(line)
        self.assertEqual((data["battery_percent"], data["charging"]), (None, True))

    @line_test("F7 D4=AA")
    def battery_byte_aa(self, line: Line) -> None:
        """AA is power from outside and no percentage."""
        data = only(line)
        self.assertEqual((data["battery_percent"], data["external_power"]), (None, True))

    @line_test("F9a")
    def more_items_than_counted(self, line: Line) -> None:
        """Both positions are told."""
        events = published(line.frame)
        self.assertEqual(
            [(event["kind"], event["data"]["time"]) for event in events],
            [("location", "2026-03-01T08:00:00Z"), ("location", "2026-03-01T08:01:00Z")],
        )

    @line_test("F9b")
    def short_item_first(self, line: Line) -> None:
        """The sound ones are told, and the message is carried with the short one in it."""
        events = published(line.frame)
        self.assertEqual([event["kind"] for event in events], ["location", "location", "unknown"])
        self.assertEqual(events[0]["raw"], line.frame.hex())
        self.assertIsNotNone(messages(line.frame)[0].answer)

    @line_test("F11")
    def bit_of_a_2019_header(self, line: Line) -> None:
        """Only the header of 2013 fits the length: its id counts."""
        (found,) = messages(line.frame)
        self.assertEqual((found.device, found.message_id), ("10000000001", 0x0102))
        (answer,) = messages(found.answer or b"")
        self.assertEqual((answer.device, answer.message_id), ("10000000001", 0x8001))

    @line_test("F12 0107 with a 2019 header, standard")
    def attributes_of_2019(self, line: Line) -> None:
        """Model and id have 30 bytes."""
        self.attributes(line)

    @line_test("F12 0107 with a 2019 header, field")
    def attributes_of_field_units(self, line: Line) -> None:
        """The maker may have eleven."""
        self.attributes(line)

    def attributes(self, line: Line) -> None:
        data = only(line)
        self.assertEqual(
            {key: data[key] for key in ("model", "terminal_id", "iccid", "hardware", "firmware")},
            {
                "model": "CR03", "terminal_id": "id00156", "iccid": "89860000000000000001",
                "hardware": "HW1.0", "firmware": "FW_2.31",
            },
        )  # fmt: skip
        self.assertEqual(messages(line.frame)[0].firmware, "FW_2.31")

    @line_test("P2 ")
    def charging_by_extended_status(self, line: Line) -> None:
        """Bit 0 of the extended status is charging."""
        data = only(line)
        self.assertEqual((data["battery_percent"], data["charging"]), (85, True))

    @line_test("P5")
    def length_field_off(self, line: Line) -> None:
        """The frame is carried raw and answered, so that it isn't sent for ever, and counted."""
        (found,) = messages(line.frame)
        self.assertEqual([kind for kind, _ in found.events], ["unknown"])
        self.assertEqual((found.raw, found.wrong_length), (line.frame.hex(), True))
        (answer,) = messages(found.answer_at(NOW) or b"")
        self.assertEqual((answer.message_id, answer.device), (0x8001, found.device))

    @line_test("P10")
    def heartbeat_of_17_bytes(self, line: Line) -> None:
        """It says nothing of the battery."""
        self.assertEqual(only(line), {"battery_percent": None, "gsm_signal": None, "status_bits": None})

    @line_test("P17")
    def values_that_are_none(self, line: Line) -> None:
        """Speed, course, signal and satellites are null."""
        data = only(line)
        for name in ("speed_kmh", "course_deg", "satellites", "gsm_signal"):
            self.assertIsNone(data[name], name)


class CommittedTests(SynchronousTestCase):
    """What becomes of it in Redis."""

    def setUp(self) -> None:
        client = shared_server().client()
        self.addCleanup(client.close)
        self.script = Script(client, key_prefix(), Limits(track=10, devices=5))
        self.teller = Teller()

    def commit(self, *frames: bytes) -> None:
        for frame in frames:
            self.assertEqual(self.script.commit(self.teller.contents(frame)), 0)

    def latest(self, device: str, name: str) -> Any:
        return self.script.client.call("HGET", self.script.keys.device(device), name)

    @line_test("F10a")
    def alarm_between_two_live_positions(self, line: Line) -> None:
        """It rose and cleared: both is told."""
        self.commit(*sent(line))
        told = [(event["data"]["name"], event["data"]["active"]) for event in self.script.events("alarm")]
        cover = [one for one in told if one[0] == "back_cover_opened"]
        self.assertEqual(cover, [("back_cover_opened", True), ("back_cover_opened", False)])

    @line_test("F10b")
    def live_positions_newest_first(self, line: Line) -> None:
        """The newest is what is kept."""
        self.commit(*sent(line))
        self.assertIn(b'"latitude":23.0', self.latest("102000000004", "location"))
        latitudes = [event["data"]["latitude"] for event in self.script.events("location")]
        self.assertEqual(latitudes[1:], sorted(latitudes[1:]))

    def test_empty_firmware(self) -> None:
        """One that is known stays."""
        device = "123456789012"
        self.commit(case("F12 0107 with a 2019 header, standard").frame)
        self.assertEqual(self.latest(device, "firmware"), b"FW_2.31")
        empty = b"\x00\x04" + bytes(65) + bytes(10) + b"\x00\x00"
        wire = bytes.fromhex("0100000000123456789012")
        self.commit(binary(0x0107, empty, 2, wire), binary(0x0200, location(), 3, wire))
        self.assertEqual(self.latest(device, "firmware"), b"FW_2.31")
