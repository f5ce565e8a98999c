"""Recorded frames against what their makers read from them."""

from datetime import UTC, datetime
from typing import Any

from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import decoder, jt709
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import (
    ExtendedLocation,
    Heartbeat,
    Location,
    Password,
    Reply,
    TimeRequest,
    to_json,
)
from jt709c_gateway.protocol.framing import BinaryFrame, Malformed
from jt709c_gateway.protocol.jt808 import unescape
from jt709c_gateway.protocol.message import Message
from tests.vectors import binary, decode, frames_of, load, location, message, part

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FIX = {1: "gnss", 2: "lbs", 0: "none"}
#: The vendor's number of an alarm, in the order of the bits; -1 is none.
ALARMS = ["overspeed", "low_battery", "back_cover_opened", "fence_entered", "fence_left"]
#: The vendor's name of an item's reading -> the item, and where the reading stands here.
ITEMS = {
    "GpsSignal": (0x31, "satellites"),
    "GSMSignal": (0x30, "gsm_signal"),
    "Battery": (0xD4, "battery_percent"),
    "Voltage": (0xD5, "battery_volts"),
    "Mileage": (0xFE, "odometer_km"),
    "ProtocolVersion": (0xF9, "protocol_version"),
    "FenceId": (0xFC, "fence_id"),
}
CELL = {"MCC": "mcc", "MNC": "mnc", "LAC": "lac", "CELLID": "cell_id"}


def published(decoded: Message) -> bytes:
    """All JSON that one message gives."""
    return b"\n".join(to_json(event) for event in wrap_all(decoded, Origin(), NOW))


def items_of(frame: bytes) -> dict[int, bytes]:
    """The items of a location frame, read in the plainest way."""
    rest = unescape(frame[1:-1])[12 + 28 : -1]
    items = {}
    while len(rest) >= 2 and len(rest) >= 2 + rest[1]:
        items[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return items


def vendor_time(text: str) -> datetime:
    """The vendor leaves out seconds that are 00."""
    return datetime.fromisoformat(text if text.count(":") == 2 else text.replace("Z", ":00Z"))


class VendorTests(SynchronousTestCase):
    """The manufacturer's decoder agrees, frame by frame."""

    def kind(self, kind: str) -> list[dict[str, Any]]:
        chosen = [vector for vector in load("jt709.jsonl") if vector["vendor"]["MsgType"] == kind]
        self.assertTrue(chosen)
        return chosen

    def test_all_are_covered(self) -> None:
        """Every vector is one whole frame of a kind that the tests here look at."""
        vectors = load("jt709.jsonl")
        self.assertEqual(len(vectors), 120)
        kinds = {vector["vendor"]["MsgType"] for vector in vectors}
        self.assertEqual(kinds, {"Location", "heartbeat", "BASE2", "ALARM4", "ELOCK3", "WLNET18"})
        for vector in vectors:
            self.assertEqual(message(vector["frame"]).device, vector["vendor"]["DeviceID"])

    def test_location(self) -> None:
        """Place, time, movement and status are the vendor's."""
        for vector in self.kind("Location"):
            decoded = message(vector["frame"])
            body = vector["vendor"]["DataBody"]
            kind, location = decoded.events[0]
            self.assertEqual((kind, decoded.serial, decoded.dialect), ("location", body["Index"], "jt709"))
            assert isinstance(location, Location)
            self.assertEqual(location.time, vendor_time(body["GpsTime"]))
            self.assertEqual((location.latitude, location.longitude), (body["Latitude"], body["Longitude"]))
            self.assertEqual(location.fix, FIX[body["LocationType"]])
            assert location.speed_kmh is not None
            self.assertEqual(int(location.speed_kmh), body["Speed"])
            self.assertEqual(location.course_deg, body["Direction"])
            self.assertEqual(location.altitude_m, body["Altitude"])
            self.assertEqual(location.lock_state, "unlocked" if body["LockStatus"] else "locked")
            self.assertEqual(location.rope_open, bool(body["LockRope"]))
            # The vendor's decoder doesn't know the bit that a JT709X has for it.
            newer = bool((location.status_bits or 0) & jt709.STATUS_BACK_COVER_709X)
            self.assertEqual(location.back_cover_open, bool(body["BackCover"]) or newer)
            self.assertEqual(location.wake_source, body["Awaken"])

    def test_items(self) -> None:
        """An item that was sent reads as the vendor's; one that wasn't is None, where the vendor says 0."""
        missing = 0
        for vector in self.kind("Location"):
            ((_, location), *_) = message(vector["frame"]).events
            body = vector["vendor"]["DataBody"]
            assert isinstance(location, Location)
            sent = items_of(vector["frame"])
            for name, (item, field) in ITEMS.items():
                value = getattr(location, field)
                if item in sent:
                    self.assertAlmostEqual(value, body[name], places=9, msg=name)
                else:
                    missing += 1
                    self.assertIsNone(value, name)
                    self.assertEqual(body[name], 0)
            if 0xFD in sent:
                for name, field in CELL.items():
                    self.assertEqual(getattr(location.cell, field), body[name])
            else:
                self.assertIsNone(location.cell)
        self.assertGreater(missing, 50)

    def test_alarm(self) -> None:
        """The vendor's one alarm is our first that has a name, numbered from 1 in the order of the bits."""
        for vector in self.kind("Location"):
            ((_, location), *_) = message(vector["frame"]).events
            assert isinstance(location, Location)
            named = [ALARMS.index(name) + 1 for name in location.alarms if name in ALARMS]
            self.assertEqual(named[0] if named else -1, vector["vendor"]["DataBody"]["Alarm"])

    def test_lock_event(self) -> None:
        """Code, card, acceptance and fence of a lock event are the vendor's; no item, no event."""
        seen = 0
        for vector in self.kind("Location"):
            decoded = message(vector["frame"])
            location = decoded.events[0][1]
            assert isinstance(location, Location)
            event, theirs = location.lock_event, vector["vendor"]["DataBody"]["LockEvent"]
            if theirs is None:
                self.assertIsNone(event)
                self.assertEqual(len(decoded.events), 1)
                continue
            seen += 1
            assert event is not None
            self.assertEqual(decoded.events[1:], [("lock", event)])
            self.assertEqual((event.code, event.card), (theirs["Type"], theirs["CardNo"]))
            self.assertEqual(event.fence_id, None if theirs["FenceId"] == -1 else theirs["FenceId"])
            if event.code != 0x12:
                self.assertEqual(event.action == "unlocked", bool(theirs["UnLockStatus"]))
            else:
                # The vendor's decoder doesn't know that this one opens.
                self.assertEqual((event.action, theirs["UnLockStatus"]), ("unlocked", 0))
        self.assertEqual(seen, 40)

    def test_passwords(self) -> None:
        """A password is nowhere in the JSON, and `raw` is the frame but for its six bytes."""
        seen = 0
        for vector in self.kind("Location"):
            decoded = message(vector["frame"])
            theirs = vector["vendor"]["DataBody"]["LockEvent"]
            password = theirs["Password"] if theirs else None
            if not password:
                self.assertFalse(decoded.raw_masked)
                self.assertEqual(decoded.raw, vector["frame"].hex())
                self.assertNotIn(b"raw_masked", published(decoded))
                continue
            seen += 1
            clear = password.encode("ascii")
            self.assertEqual(vector["frame"].count(clear), 1)
            self.assertTrue(decoded.raw_masked)
            masked = vector["frame"].replace(clear, b"\x2a" * 6)
            self.assertEqual(decoded.raw, masked[:-2].hex() + "2a7e")
            for line in published(decoded).splitlines():
                self.assertNotIn(clear, line)
                self.assertNotIn(clear.hex().encode(), line)
                self.assertIs(from_json(line)["raw_masked"], True)
            open_ = message(vector["frame"], Decoder(secrets=True))
            self.assertEqual((open_.raw, open_.raw_masked), (vector["frame"].hex(), False))
        self.assertEqual(seen, 20)

    def test_heartbeat(self) -> None:
        """A heartbeat gives what it carries, or nothing at all, and is answered."""
        for vector in self.kind("heartbeat"):
            decoded = message(vector["frame"])
            payload = unescape(vector["frame"][1:-1])
            expected = Heartbeat(*payload[12:15]) if len(payload) > 13 else Heartbeat()
            if (expected.battery_percent or 0) > 100:
                # A percentage that is none.
                expected = Heartbeat(None, *payload[13:15])
            self.assertEqual(decoded.events, [("heartbeat", expected)])
            assert decoded.answer is not None
            (answer,) = frames_of(decoded.answer)
            assert isinstance(answer, BinaryFrame)
            self.assertEqual(answer.payload[12:], payload[10:12] + b"\x00\x02\x00")

    def test_time_request(self) -> None:
        """`BASE,2,TIME` is answered with the same head and the time in UTC."""
        for vector in self.kind("BASE2"):
            decoded = message(vector["frame"])
            self.assertEqual(decoded.events, [("time_request", TimeRequest())])
            self.assertEqual(decoded.answer_at(NOW), vector["frame"].replace(b",TIME)", b",20260102030405)"))

    def test_dynamic_password(self) -> None:
        """`ELOCK,3` gives an event without the password, which only the message keeps."""
        for vector in self.kind("ELOCK3"):
            decoded = message(vector["frame"])
            clear = vector["frame"][-7:-1]
            self.assertEqual(decoded.events, [("password", Password())])
            self.assertEqual(decoded.secret, clear.decode())
            self.assertEqual(decoded.raw, vector["frame"].replace(clear, b"******").decode())
            self.assertNotIn(clear, published(decoded))
            self.assertNotIn(clear.decode(), repr(decoded).replace(repr(decoded.wire), ""))
            self.assertIsNone(decoded.answer_at(NOW))
            self.assertEqual(message(vector["frame"], Decoder(secrets=True)).raw, vector["frame"].decode())

    def test_other_sentences(self) -> None:
        """Other sentences are replies by their word and arguments."""
        for kind in ("ALARM4", "WLNET18"):
            for vector in self.kind(kind):
                words = vector["frame"].decode()[1:-1].split(",")
                decoded = message(vector["frame"])
                self.assertEqual(decoded.events, [("reply", Reply(words[3], tuple(words[4:])))])
                self.assertEqual((decoded.serial, decoded.raw_masked), (int(words[2]), False))


class RealTests(SynchronousTestCase):
    """Frames that real locks sent."""

    def real(self, dialect: str) -> list[dict[str, Any]]:
        chosen = [vector for vector in load("real.jsonl") if vector["dialect"] == dialect]
        self.assertTrue(chosen)
        return chosen

    def test_location(self) -> None:
        """A lock in Paraguay reads as expected, with its ten-byte cell item."""
        (vector,) = self.real("jt709")
        decoded = message(vector["frame"])
        expect = vector["expect"]
        location, event = decoded.events[0][1], decoded.events[1][1]
        assert isinstance(location, Location)
        self.assertEqual((decoded.device, decoded.serial), (expect["device"], expect["serial"]))
        self.assertEqual(location.time, vendor_time(expect["time"]))
        self.assertEqual(location.odometer_km, expect["odometer"])
        self.assertEqual(location.lock_state, "locked" if expect["locked"] else "unlocked")
        for name in (
            "latitude", "longitude", "altitude_m", "speed_kmh", "course_deg", "satellites", "gsm_signal",
            "battery_percent", "battery_volts", "protocol_version", "network_generation", "wake_source",
            "motor_open", "rope_open", "back_cover_open",
        ):  # fmt: skip
            self.assertEqual(getattr(location, name), expect[name], name)
        self.assertEqual(vars(location.cell), expect["cell"])
        assert isinstance(location, ExtendedLocation)
        self.assertEqual((location.items, location.hardware_version), ({}, "J"))
        self.assertIs(location.lock_event, event)
        self.assertEqual(
            {
                name: getattr(event, name)
                for name in ("code", "method", "action", "card", "result", "fence_id")
            },
            {"code": 0x22, "method": "card", "action": "unlocked", "card": "0006437449", "result": 101}
            | {"fence_id": None},
        )

    def test_jt705(self) -> None:
        """The older dialect is masked, and answered when it asks for it."""
        readable = 0
        for vector in self.real("jt705"):
            expect = vector["expect"]
            decoded = decode(vector["frame"])
            if expect["device"] == "858012030003":
                # As recorded, its check byte is wrong.
                assert isinstance(decoded, Malformed)
                self.assertEqual(decoded.reason, "check")
                continue
            readable += 1
            assert isinstance(decoded, Message)
            self.assertEqual((decoded.dialect, decoded.device), ("jt705", expect["device"]))
            self.assertEqual((decoded.serial, decoded.events[0][0]), (expect["serial"], "location"))
            self.assertEqual(decoded.stored, expect["message_id"] == "5502")
            self.assertEqual(decoded.answer is not None, expect["answer_wanted"])
            if decoded.answer:
                (answer,) = frames_of(decoded.answer)
                assert isinstance(answer, BinaryFrame)
                self.assertEqual(answer.payload[11:].hex(), expect["message_id"] + "00")
            events = [bytes.fromhex(value) for item, value in expect["items"] if item == 0x0B]
            password = next((value[1:7] for value in events if len(value) == 8), None)
            self.assertEqual(decoded.raw_masked, password is not None)
            clear = vector["frame"]
            if password:
                clear = clear.replace(password, b"******")[:-2] + b"*\x7e"
            self.assertEqual(decoded.raw, clear.hex())
        self.assertEqual(readable, 6)

    def test_sentences(self) -> None:
        """A dynamic password and a question for the time, as captured."""
        password, time = self.real("sentence")
        decoded = message(password["frame"])
        self.assertEqual(decoded.device, password["expect"]["device"])
        self.assertEqual((decoded.secret, decoded.serial), ("529439", 1))
        self.assertEqual(decoded.raw, "(740190311185,1,001,ELOCK,3,******)")
        self.assertNotIn(b"529439", published(decoded))
        asked = message(time["frame"])
        self.assertEqual(asked.device, time["expect"]["device"])
        expected = time["expect"]["answer"].replace("<yyyyMMddHHmmss UTC>", "20260102030405")
        self.assertEqual(asked.answer_at(NOW), expected.encode())

    def test_jt701(self) -> None:
        """The masters' frames are each cut out whole and carried with the master's id."""
        for vector in self.real("jt701"):
            decoded = message(vector["frame"])
            self.assertEqual(decoded.wire, vector["frame"])
            if device := vector["expect"].get("device"):
                self.assertEqual(decoded.device, device)
            self.assertTrue(published(decoded))


class ShortWayTests(SynchronousTestCase):
    def test_plain_locations(self) -> None:
        """What comes of a plain 0x0200 is the same by the short way as by the one that all others go."""
        taken = 0
        for vector in load("jt709.jsonl") + load("real.jsonl"):
            for frame in frames_of(vector["frame"]):
                if isinstance(frame, BinaryFrame) and (short := decoder._plain_location(frame)) is not None:
                    self.assertEqual(short, Decoder()._any_binary(frame, 0.0))
                    taken += 1
        self.assertGreater(taken, 10)

    def test_everything_else(self) -> None:
        """Any other header, a body that is too short, and a lock event go the long way."""
        for raw in (
            binary(0x0201, b"\x00\x01" + location()),
            binary(0x0200, location()[:-1]),
            binary(0x0200, location(b"\x0b\x01\x22")),
            binary(0x0200, location(), wire=b"\x01" + bytes(9) + b"\x07"),
            part(0x0200, location(), 1, 2, 1),
        ):
            (frame,) = frames_of(raw)
            assert isinstance(frame, BinaryFrame)
            self.assertIsNone(decoder._plain_location(frame))
