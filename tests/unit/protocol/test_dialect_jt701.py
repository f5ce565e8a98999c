"""`$` frames of JT701 masters."""

from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt701
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import (
    Cell,
    Location,
    Unknown,
    to_json,
)
from jt709c_gateway.protocol.framing import DollarFrame, Framer
from jt709c_gateway.protocol.message import Message
from tests.unit.protocol.test_dialect_jt705 import places
from tests.vectors import fact, load, message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LENGTHS = (30, 35, 36, 39, 52)
CLOSED = jt701.STATUS_MOTOR_LOCKED | jt701.STATUS_ROPE_INSERTED | jt701.STATUS_COVER_CLOSED


def record(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "time": NOW,
        "latitude": 22.580517,
        "longitude": 113.917572,
        "fix": True,
        "speed_kmh": 33.336,
        "course_deg": 304,
        "odometer_km": 45,
        "satellites": 6,
        "status": CLOSED,
        "battery": 40,
        "cell": Cell(460, 1, 0x10922, 0x8661),
        "gsm_signal": 31,
        "fence_id": 3,
        "wake_source": 6,
        "serial": 0x56,
    }
    return jt701.encode_record(**(fields | changes))


def frame(*records: bytes, version: int = 0x19, data_type: int = 1) -> bytes:
    return jt701.encode_frame("8000620011", version, data_type, records)


def location(**changes: Any) -> Location:
    found = fact(frame(record(**changes)))
    assert isinstance(found, Location)
    return found


def published(decoded: Message) -> bytes:
    return b"\n".join(to_json(event) for event in wrap_all(decoded, Origin(), NOW))


def dollars() -> list[dict[str, Any]]:
    return [vector for vector in load("real.jsonl") if vector["frame"][:1] == b"$"]


class VectorTests(SynchronousTestCase):
    """`$` frames that real masters sent."""

    def test_frames(self) -> None:
        """Each reads as expected and is answered as expected."""
        self.assertEqual(len(dollars()), 4)
        for vector in dollars():
            expect = vector["expect"]
            decoded = message(vector["frame"])
            found = decoded.events[0][1]
            assert isinstance(found, Location)
            self.assertEqual((decoded.device, decoded.dialect), (expect["device"], "jt701"))
            self.assertEqual((decoded.serial, decoded.report), (expect["serial"], True))
            self.assertEqual(str(found.protocol_version), expect["version"])
            self.assertEqual(jt701.parse_head(vector["frame"]).data_type, expect["data_type"])
            self.assertEqual(found.time, datetime.fromisoformat(expect["time"]))
            self.assertEqual(found.fix, "gnss" if expect["fix"] else "none")
            for name in ("latitude", "longitude", "speed_kmh", "course_deg", "odometer_km", "satellites"):
                self.assertEqual(getattr(found, name), expect[name], name)
            self.assertEqual(found.status_bits, int(expect["status"], 16))
            charging = expect["battery_byte"] == 255
            self.assertEqual(found.battery_percent, None if charging else expect["battery_byte"])
            self.assertEqual(found.charging, charging)
            self.assertEqual(found.motor_open, not expect["motor_locked"])
            self.assertEqual(found.rope_open, not expect["rope_inserted"])
            self.assertEqual(found.back_cover_open, not expect["back_cover_closed"])
            self.assertEqual((found.lock_state, found.alarms), ("locked", ()))
            answer = expect["answer"]
            self.assertEqual(decoded.answer_at(NOW), answer.encode() if answer else None)

    def test_cells(self) -> None:
        """Both halves of cell id and MNC are put together; older units say neither country nor network."""
        found = [fact(vector["frame"]) for vector in dollars()]
        self.assertEqual(
            [one.cell for one in found],
            [
                Cell(460, 1, 0x1092, 0x2866),
                Cell(234, 15, 0x07F1F91E, 0xA067),
                Cell(234, 10, 0x02D6965D, 0x54DE),
                Cell(None, None, 0xB885, 0x5219),
            ],
        )
        self.assertEqual([one.wake_source for one in found], [1, 2, 0, None])
        self.assertEqual([one.wake_reason for one in found], ["timer", "vibration", "restart", None])

    def test_older_units(self) -> None:
        """Frames of 35 bytes: a question answered with P35, a base station, alarms."""
        first = message(
            bytes.fromhex(
                "2475605035891613002328091601152806086750106533350c00000000000a000000000000e1ff4f97007f1607"
            )
        )
        found = first.events[0][1]
        assert isinstance(found, Location)
        self.assertEqual((first.answer_at(NOW), first.stored, first.serial), (b"(P35)", True, 7))
        self.assertEqual((found.fix, found.latitude, found.longitude), ("lbs", -6.144583, 106.888917))
        self.assertEqual((found.charging, found.gsm_signal, found.fence_id), (True, 0x16, None))
        self.assertEqual((found.cell, found.wake_source), (Cell(None, None, 0x4F97, 0x7F), None))
        second = message(
            bytes.fromhex(
                "2475201509261611002313101503464722331560113555309F00000000002D0500CB206800F064109326381A03"
            )
        )
        found = second.events[0][1]
        assert isinstance(found, Location)
        self.assertEqual((found.alarms, found.alarm_bits), (("vibration",), 0x10))
        self.assertEqual((found.vehicle_id, found.battery_percent), (0x00CB2068, 100))


class RecordTests(SynchronousTestCase):
    """What the fields of a record mean, and how records are told apart."""

    def test_lengths(self) -> None:
        """Each length of the table is read; what it lacks is None, and its serial is the last byte."""
        for length in LENGTHS:
            raw = frame(record(length=length))
            self.assertEqual(len(raw), 10 + length)
            decoded = message(raw)
            found = decoded.events[0][1]
            assert isinstance(found, Location)
            self.assertEqual((decoded.serial, found.satellites, found.battery_percent), (0x56, 6, 40))
            self.assertEqual(found.gsm_signal, 31 if length >= 35 else None)
            self.assertEqual(found.fence_id, 3 if length >= 36 else None)
            self.assertEqual(found.wake_reason, "rfid" if length >= 39 else None)
            cells = {30: None, 52: Cell(460, 1, 0x10922, 0x8661)}
            self.assertEqual(found.cell, cells.get(length, Cell(None, None, 0x0922, 0x8661)))

    def test_length_in_between(self) -> None:
        """A record a little longer or shorter than any in the table is read as far as it goes."""
        for length in range(30, 52):
            whole = record()
            found = message(frame(whole[: length - 1] + b"\x09"))
            self.assertEqual(found.serial, 9)
            self.assertIsInstance(found.events[0][1], Location)
        self.assertEqual(message(frame(record()[:-1] + b"\x01\x02\x03")).serial, 3)

    def test_several(self) -> None:
        """Several records in one frame: each its own location, serial and answer."""
        asked = CLOSED | jt701.STATUS_ANSWER_WANTED
        for length in LENGTHS:
            for count in (2, 3, 5):
                records = [record(length=length, serial=n, status=asked, odometer_km=n) for n in range(count)]
                decoded = message(frame(*records))
                self.assertEqual([kind for kind, _ in decoded.events], ["location"] * count)
                self.assertEqual([one.odometer_km for _, one in decoded.events], [*range(count)])  # type: ignore[union-attr]
                self.assertEqual(decoded.serial, count - 1)
                expected = b"".join(b"(P69,0,%d)" % n for n in range(count))
                self.assertEqual(decoded.answer_at(NOW), expected)
                self.assertEqual(message(frame(*records, version=0x18)).answer_at(NOW), b"(P35)")

    def test_one_asks(self) -> None:
        """Only the records that ask are answered."""
        asked = CLOSED | jt701.STATUS_ANSWER_WANTED
        decoded = message(frame(record(serial=1), record(serial=2, status=asked), record(serial=3)))
        self.assertEqual(decoded.answer_at(NOW), b"(P69,0,2)")

    def test_one_serial_for_all(self) -> None:
        """Records that share the serial at the frame's end are read too, and answered once."""
        asked = CLOSED | jt701.STATUS_ANSWER_WANTED
        for length in LENGTHS:
            for count in (2, 3, 4):
                records = [record(length=length, status=asked, odometer_km=n)[:-1] for n in range(count)]
                decoded = message(frame(*records, b"\x07"))
                self.assertEqual([one.odometer_km for _, one in decoded.events], [*range(count)])  # type: ignore[union-attr]
                self.assertEqual((decoded.serial, decoded.answer_at(NOW)), (7, b"(P69,0,7)"))

    def test_status(self) -> None:
        """1 means locked, inserted, closed; events say what is open."""
        for status, rope, motor, cover, state in (
            (CLOSED, False, False, False, "locked"),
            (CLOSED & ~jt701.STATUS_ROPE_INSERTED, True, False, False, "unlocked"),
            (CLOSED & ~jt701.STATUS_MOTOR_LOCKED, False, True, False, "unlocked"),
            (CLOSED & ~jt701.STATUS_COVER_CLOSED, False, False, True, "locked"),
            (0, True, True, True, "unlocked"),
        ):
            found = location(status=status)
            self.assertEqual((found.rope_open, found.motor_open), (rope, motor))
            self.assertEqual((found.back_cover_open, found.lock_state), (cover, state))

    def test_alarms(self) -> None:
        """Alarm bits have names; states and the wish for an answer are none."""
        self.assertEqual(
            location(status=0xFFFF).alarms,
            (
                "fence_entered", "fence_left", "rope_cut", "vibration", "open_too_long", "wrong_password",
                "illegal_card", "low_battery", "back_cover_opened", "motor_stuck", "bit_15",
            ),
        )  # fmt: skip
        found = location(status=CLOSED | jt701.STATUS_ANSWER_WANTED | 1)
        self.assertEqual((found.alarms, found.alarm_bits), ((), 0))

    def test_nothing_known(self) -> None:
        """99 is no signal, fence 0 none, 0F no wake-up source; a battery above 100 % but FF says nothing."""
        found = location(gsm_signal=None, fence_id=None, wake_source=None, battery=200)
        self.assertEqual((found.gsm_signal, found.fence_id, found.wake_source), (None, None, None))
        self.assertEqual((found.battery_percent, found.charging), (None, None))
        self.assertEqual(
            (location(battery=255).battery_percent, location(battery=255).charging), (None, True)
        )

    def test_extended_status(self) -> None:
        """Its lowest bit says that the unit is being charged, unless the whole is 0F; battery FF does too."""
        for battery, extended, expected in (
            (85, 0x01, (85, True)), (85, 0x00, (85, False)), (85, 0x0F, (85, False)), (85, 0x21, (85, True)),
            (255, 0x0F, (None, True)), (255, 0x00, (None, True)), (200, 0x01, (None, True)),
            (200, 0x0F, (None, None)),
        ):  # fmt: skip
            found = location(battery=battery, extended=extended)
            self.assertEqual((found.battery_percent, found.charging), expected)
        shorter = fact(frame(record(extended=1, length=36)))
        self.assertFalse(shorter.charging)

    def test_imei(self) -> None:
        """Fifteen digits and F are the IMEI; anything else is none."""
        raw = record(imei="868822040248195")
        self.assertEqual(message(frame(raw)).imei, "868822040248195")
        self.assertEqual(message(frame(record(), raw)).imei, "868822040248195")
        for other in (b"\x0f" * 8, bytes(8), b"\xff" * 8, bytes.fromhex("8688220402481950")):
            self.assertIsNone(message(frame(raw[:38] + other + raw[46:])).imei)

    def test_clock_never_set(self) -> None:
        """The date 010100, or zeros, is no moment; 0,0 with it is no place, with or without a fix."""
        for day in ("010100", "000000"):
            for flags in "89":
                raw = bytes.fromhex(day + "000301" + "00000000" + "00000000 0" + flags) + record()[15:]
                decoded = message(frame(raw))
                found = decoded.events[0][1]
                assert isinstance(found, Location)
                self.assertEqual((found.time, found.latitude, found.longitude), (None, None, None))
                self.assertEqual(found.fix, "none")
                self.assertTrue(decoded.impossible_date)

    def test_no_value(self) -> None:
        """255 satellites and a course above 360 degrees are none."""
        found = fact(frame(record(satellites=255)[:16] + b"\xb5" + record(satellites=255)[17:]))
        self.assertEqual((found.satellites, found.course_deg), (None, None))

    def test_no_place(self) -> None:
        """0,0 without a fix is no place, whatever the unit says of a base station."""
        for status in (0, 1):
            found = location(latitude=0.0, longitude=0.0, fix=False, status=status)
            self.assertEqual((found.latitude, found.longitude, found.fix), (None, None, "none"))

    def test_fix(self) -> None:
        """A GNSS fix, else a base station, else none."""
        self.assertEqual(location(status=1).fix, "gnss")
        self.assertEqual(location(status=1, fix=False).fix, "lbs")
        self.assertEqual(location(status=0, fix=False).fix, "none")

    def test_stored(self) -> None:
        """Data type 3 is from memory; live, alarm and second newest are not."""
        for data_type in (1, 2, 3, 4):
            self.assertEqual(message(frame(record(), data_type=data_type)).stored, data_type == 3)

    def test_network_codes(self) -> None:
        """A MNC above 255 has its high half in a byte of its own."""
        self.assertEqual(location(cell=Cell(310, 410, 0xFFFFFFFF, 1)).cell, Cell(310, 410, 0xFFFFFFFF, 1))

    def test_unreadable(self) -> None:
        """Data that are no records are carried and answered if they ask, by the serial at their end."""
        asked = record(status=CLOSED | jt701.STATUS_ANSWER_WANTED)
        no_place = asked[:6] + b"\xff" * 9 + asked[15:]
        for data, answer in (
            (b"abc", None),
            (record()[:29], None),
            (asked + b"x" * 40, b"(P69,0,120)"),
            (no_place, b"(P69,0,86)"),
            (no_place * 2, b"(P69,0,86)"),
            (no_place.replace(bytes([asked[27]]), b"\x00"), None),
        ):
            decoded = message(frame(data))
            self.assertIsInstance(decoded.events[0][1], Unknown)
            self.assertEqual((decoded.answer_at(NOW), decoded.report), (answer, True))
            self.assertEqual(decoded.raw, frame(data).hex())

    def test_impossible(self) -> None:
        """A date that never was and degrees on no globe are None; the report counts."""
        raw = record()
        decoded = message(frame(bytes(6) + raw[6:]))
        self.assertIsNone(fact(frame(bytes(6) + raw[6:])).time)
        self.assertTrue(decoded.impossible_date)
        found = fact(frame(raw[:6] + bytes.fromhex("91000000 22600000 0f") + raw[15:]))
        self.assertEqual((found.latitude, found.longitude), (None, None))


fields = st.fixed_dictionaries(
    places
    | {name: st.integers(0, 255) for name in ("satellites", "battery", "serial")}
    | {name: st.integers(0, 2**32 - 1) for name in ("odometer_km", "vehicle_id")}
    | {
        "status": st.integers(0, 65535),
        "cell": st.builds(
            Cell, st.integers(0, 999), st.integers(0, 999), st.integers(0, 2**32 - 1), st.integers(0, 65535)
        ),
        "gsm_signal": st.none() | st.integers(0, 98),
        "fence_id": st.none() | st.integers(1, 255),
        "wake_source": st.none() | st.integers(0, 14),
    }
)


def read_back(written: dict[str, Any]) -> dict[str, Any]:
    """What is read of these values: None for what a unit sends when it doesn't know."""
    known = dict(written)
    never_set = written["time"].date() == date(2000, 1, 1)
    if not written["latitude"] and not written["longitude"] and (never_set or not written["fix"]):
        known["latitude"] = known["longitude"] = None
    known["time"] = None if never_set else written["time"]
    known["satellites"] = None if written["satellites"] == 255 else written["satellites"]
    return known


class RoundTripTests(SynchronousTestCase):
    def check(self, found: Location, written: dict[str, Any]) -> None:
        for name in written.keys() - {"fix", "status", "battery", "serial"}:
            self.assertEqual(getattr(found, name), read_back(written)[name], name)
        self.assertEqual((found.status_bits, found.fix == "gnss"), (written["status"], written["fix"]))

    @given(fields, st.sampled_from(["0000000001", "8000620011"]), st.integers(0, 255), st.integers(0, 15))
    def test_frame(self, written: dict[str, Any], device: str, version: int, data_type: int) -> None:
        """What was written is read again, through the framer too."""
        raw = jt701.encode_frame(device, version, data_type, [jt701.encode_record(**written)])
        self.assertEqual(Framer().feed_datagram(raw), [DollarFrame(raw)])
        self.assertEqual(jt701.parse_head(raw), jt701.Head(device, version, data_type))
        (read,) = jt701.decode(raw)
        self.check(read.location, written)
        self.assertEqual((read.serial, read.answer_wanted), (written["serial"], bool(written["status"] & 32)))

    @given(st.lists(fields, min_size=2, max_size=6), st.sampled_from(LENGTHS), st.booleans())
    def test_several(self, written: list[dict[str, Any]], length: int, shared: bool) -> None:
        """Several records of one length, with a serial each or one for all, are told apart."""
        records = [jt701.encode_record(**one, length=length) for one in written]
        if shared:
            records = [one[:-1] for one in records] + [b"\x07"]
        read = jt701.decode(jt701.encode_frame("1", 0x19, 1, records))
        self.assertEqual(
            [(one.location.time, one.location.latitude, one.location.odometer_km) for one in read],
            [(one["time"], one["latitude"], one["odometer_km"]) for one in map(read_back, written)],
        )
        expected = [7] * len(written) if shared else [one["serial"] for one in written]
        self.assertEqual([one.serial for one in read], expected)

    @given(st.binary(min_size=1, max_size=300), st.integers(0, 255))
    def test_any_data(self, data: bytes, version: int) -> None:
        """Any bytes are read, or carried; what is said can be published."""
        decoded = message(frame(data, version=version))
        decoded.answer_at(NOW)
        self.assertNotIn(b"NaN", published(decoded))
