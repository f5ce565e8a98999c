"""0x5501 and 0x5502: the older binary dialect."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt705, jt709, jt808
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import Location, LockEvent, Unknown, to_json
from jt709c_gateway.protocol.framing import BinaryFrame, Malformed
from jt709c_gateway.protocol.message import Message
from tests.vectors import DEVICE, decode, fact, frames_of, load, message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
#: Published with an id that the check byte doesn't fit, so on the wire it is malformed.
CHANGED_ID = "858012030003"
ANSWER_WANTED = 0x8000


def body(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "time": NOW,
        "latitude": -25.281482,
        "longitude": -57.546568,
        "fix": True,
        "speed_kmh": 18.52,
        "course_deg": 304,
        "gsm_signal": 30,
        "satellites": 4,
        "odometer_km": 2,
        "battery": 55,
        "cell_id": 180554764,
        "lac": 10342,
        "status": 0,
        "alarm_bits": 0,
        "items": {},
    }
    return jt705.encode(**(fields | changes))


def frame(data: bytes, message_id: int = 0x5501, attributes: int = 0, serial: int = 7) -> bytes:
    head = message_id.to_bytes(2, "big") + (attributes | len(data)).to_bytes(2, "big")
    return jt808.pack(head + DEVICE + bytes([serial]) + data)


def location(**changes: Any) -> Location:
    return jt705.decode(body(**changes))[0]


def body_of(vector: dict[str, Any]) -> bytes:
    data = jt808.unescape(vector["frame"][1:-1])
    return data[jt808.ONE_BYTE_SERIAL_HEADER : -1]


class VectorTests(SynchronousTestCase):
    """Frames that real locks sent."""

    def check(self, found: Location, expect: dict[str, Any]) -> None:
        same = (
            "latitude", "longitude", "speed_kmh", "course_deg", "gsm_signal", "satellites", "odometer_km",
        )  # fmt: skip
        self.assertEqual({n: getattr(found, n) for n in same}, {n: expect[n] for n in same})
        self.assertEqual(found.time, datetime.fromisoformat(expect["time"]))
        self.assertEqual(found.fix, "gnss" if expect["fix"] else "none")
        assert found.cell is not None
        self.assertEqual((found.cell.cell_id, found.cell.lac), (expect["cell_id"], expect["lac"]))
        self.assertEqual((found.status_bits, found.alarm_bits), (expect["status"], expect["alarm"]))
        charging = expect["battery_byte"] == 170
        self.assertEqual(found.charging, charging)
        self.assertEqual(found.battery_percent, None if charging else expect["battery_byte"])
        items = {item: bytes.fromhex(value) for item, value in expect["items"]}
        self.check_items(found, items)
        self.assertEqual(found.motor_open, bool(expect["status"] & 16) if expect["product"] == 3 else None)

    def check_items(self, found: Location, items: dict[int, bytes]) -> None:
        def number(item: int) -> int | None:
            return int.from_bytes(items[item], "big", signed=True) if item in items else None

        self.assertEqual((found.altitude_m, found.wake_source), (number(0x02), number(0x10)))
        self.assertEqual(found.network_generation, number(0xF4))
        self.assertEqual(found.items, {"00": "010005"} if 0x00 in items else {})
        assert found.cell is not None
        mcc, mnc = items.get(0x0A, b"")[:2], items.get(0x0A, b"")[2:]
        self.assertEqual(found.cell.mcc, int.from_bytes(mcc, "big") if mcc else None)
        self.assertEqual(found.cell.mnc, int.from_bytes(mnc, "big") if mcc else None)
        tilt: Any = UNSET
        if value := items.get(0x0C):
            tilt = tuple(int.from_bytes(value[at : at + 2], "big", signed=True) for at in (0, 2, 4))
        self.assertEqual(found.tilt, tilt)

    def test_bodies(self) -> None:
        """Every recorded body reads as expected, also that of the frame whose id was changed."""
        vectors = [vector for vector in load("real.jsonl") if vector["dialect"] == "jt705"]
        self.assertEqual(len(vectors), 7)
        for vector in vectors:
            self.check(jt705.decode(body_of(vector))[0], vector["expect"])

    def test_frames(self) -> None:
        """On the wire too; 0x5502 is stored, and 0x4401 answers those that ask."""
        seen = 0
        for vector in load("real.jsonl"):
            expect = vector["expect"]
            if vector["dialect"] != "jt705":
                continue
            decoded = decode(vector["frame"])
            if expect["device"] == CHANGED_ID:
                assert isinstance(decoded, Malformed)
                self.assertEqual(decoded.reason, "check")
                continue
            assert isinstance(decoded, Message)
            seen += 1
            self.assertEqual((decoded.dialect, decoded.device), ("jt705", expect["device"]))
            self.assertEqual((decoded.serial, decoded.report), (expect["serial"], True))
            self.assertEqual(f"{decoded.message_id:04x}", expect["message_id"])
            self.assertEqual(decoded.stored, expect["message_id"] == "5502")
            self.check(decoded.events[0][1], expect)  # type: ignore[arg-type]
            if not expect["answer_wanted"]:
                self.assertIsNone(decoded.answer_at(NOW))
                continue
            (answer,) = frames_of(decoded.answer_at(NOW) or b"")
            assert isinstance(answer, BinaryFrame)
            device = vector["frame"][5:11].hex()
            self.assertEqual(answer.payload.hex(), "44010003" + device + "01" + expect["message_id"] + "00")
        self.assertEqual(seen, 6)

    def test_lock_event(self) -> None:
        """A recorded unlocking by password: the event without it, and the same event in the location."""
        vector = next(v for v in load("real.jsonl") if v["expect"].get("device") == "856009001017")
        decoded = message(vector["frame"])
        found, event = decoded.events[0][1], decoded.events[1][1]
        assert isinstance(found, Location) and isinstance(event, LockEvent)
        self.assertIs(found.lock_event, event)
        self.assertEqual((event.code, event.method, event.action), (3, "password", "unlocked"))
        self.assertEqual((event.result, event.fence_id, event.card), (101, None, None))
        self.assertEqual((event.time, event.latitude), (found.time, found.latitude))
        self.assertEqual((found.lock_state, found.motor_open, found.rope_open), ("unlocked", True, None))
        self.assertTrue(decoded.raw_masked)
        for line in wrap_all(decoded, Origin(), NOW):
            self.assertNotIn(b"689607", to_json(line))
            self.assertNotIn(b"689607".hex().encode(), to_json(line))


class BodyTests(SynchronousTestCase):
    """What the fields mean."""

    def test_product(self) -> None:
        """Status bits are a lock's only for product 3; others have no lock state."""
        lock = location(status=jt705.STATUS_COVER | jt705.STATUS_MOTOR)
        self.assertEqual((lock.lock_state, lock.motor_open, lock.back_cover_open), ("unlocked", True, True))
        closed = location(status=0)
        self.assertEqual((closed.lock_state, closed.back_cover_open), ("locked", False))
        for product in (0, 1, 2, 4, 255):
            other = location(product=product, status=0xFFFF)
            self.assertEqual((other.lock_state, other.motor_open, other.back_cover_open), (None, None, None))
            self.assertEqual((other.status_bits, other.alarms), (0xFFFF, ()))

    def test_alarms(self) -> None:
        """Alarm names depend on the product; a bit that nobody names has its number."""
        self.assertEqual(
            location(alarm_bits=0xFFFF).alarms[:9],
            (
                "overspeed", "low_battery", "vibration", "deep_sleep", "bit_4",
                "fence_entered", "fence_left", "wrong_password", "bit_8",
            ),
        )  # fmt: skip
        for product in (1, 2):
            self.assertEqual(location(product=product, alarm_bits=3).alarms, ("low_battery", "bit_1"))
        self.assertEqual(location(product=9, alarm_bits=3).alarms, ("bit_0", "bit_1"))

    def test_low_battery(self) -> None:
        """A low battery is an alarm whether the status says so or the alarms do, and only once."""
        for status, alarm_bits in ((2, 0), (0, 2), (2, 2)):
            self.assertEqual(location(status=status, alarm_bits=alarm_bits).alarms, ("low_battery",))

    def test_battery(self) -> None:
        """Percent, or charging; what is neither is not known."""
        for byte, percent, charging in (
            (0, 0, False), (100, 100, False), (0xAA, None, True), (0xAB, None, True), (101, None, None),
        ):  # fmt: skip
            found = location(battery=byte)
            self.assertEqual((found.battery_percent, found.charging), (percent, charging))

    def test_wake_reasons(self) -> None:
        """Wake-up sources have this dialect's names, or none."""
        for source, reason in ((1, "timer"), (7, "unlock_button"), (11, "rfid"), (4, None), (200, None)):
            found = location(items={0x10: bytes([source])})
            self.assertEqual((found.wake_source, found.wake_reason), (source, reason))
        self.assertIsNone(location().wake_source)

    def test_items(self) -> None:
        """MNC has one byte or two; items that are not understood are kept."""
        for value, mnc in ((b"\x02\xe8\x04", 4), (b"\x02\xe8\x01\x04", 260)):
            found = location(items={0x0A: value, 0xFC: b"\x07", 0x02: b"\xff\xfe"})
            assert found.cell is not None
            self.assertEqual((found.cell.mcc, found.cell.mnc), (744, mnc))
            self.assertEqual((found.fence_id, found.altitude_m), (7, -2))
        self.assertIsNone(location(items={0x02: (8000).to_bytes(2, "big")}).altitude_m)
        odd = {0x0A: b"\x01", 0x02: b"", 0x0C: b"12345", 0x10: b"12", 0xF4: b"", 0xFC: b"12", 0x77: b"xyz"}
        found = location(items=odd)
        self.assertEqual(found.items, {f"{item:02x}": value.hex() for item, value in odd.items()})

    def test_card(self) -> None:
        """A card's event, and one that was refused."""
        _, events = jt705.decode(
            body(items={0x0B: b"\x22\x00\x62\x3a\x49\x05"})
            + b"\x0b\x05\x23\x00\x62\x3a\x49"
        )  # fmt: skip
        self.assertEqual(
            [(event.card, event.action, event.fence_id) for event in events],
            [("0006437449", "unlocked", 5), ("0006437449", "refused", None)],
        )

    def test_impossible(self) -> None:
        """A date that never was and a place on no globe are None; the report counts."""
        raw = body()
        for bad in (b"\x00" * 17, b"\xff" * 17, bytes.fromhex("310224250000 91000000 181000000f 00 00")):
            found, _ = jt705.decode(bad + raw[17:])
            self.assertIsNone(found.time)
            self.assertEqual(found.satellites, 4)
        self.assertEqual((found.latitude, found.longitude), (None, None))
        self.assertTrue(message(frame(b"\x00" * 17 + raw[17:])).impossible_date)

    def test_cut_off(self) -> None:
        """Items that run past the end stop the reading; a body too short is carried and answered if asked."""
        whole = body(items={0x02: b"\x00\x0a", 0x10: b"\x01"})
        self.assertEqual(jt705.decode(whole[:-1])[0].altitude_m, 10)
        self.assertIsNone(jt705.decode(whole[:-1])[0].wake_source)
        self.assertRaises(jt709.BodyError, jt705.decode, whole[:34])
        for attributes in (0, ANSWER_WANTED):
            short = message(frame(whole[:34], attributes=attributes))
            self.assertIsInstance(short.events[0][1], Unknown)
            self.assertEqual((short.answer is not None, short.report), (attributes > 0, True))

    def test_attribute_bits(self) -> None:
        """Bits 10-14 are neither encryption nor split here."""
        for bits in (0x0400, 0x1C00, 0x2000, 0x4000):
            self.assertIsInstance(fact(frame(body(), attributes=bits)), Location)


degrees = st.tuples(st.integers(0, 89), st.integers(0, 599_999), st.sampled_from([1, -1])).map(
    lambda parts: round(parts[0] + parts[1] / 600_000, 6) * parts[2] or 0.0
)
moments = st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 31, 23, 59, 59), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
places = {
    "time": moments,
    "latitude": degrees,
    "longitude": degrees.map(lambda value: value * 2 if value == int(value) else value),
    "fix": st.booleans(),
    "speed_kmh": st.integers(0, 255).map(lambda knots: round(knots * 1.852, 3)),
    "course_deg": st.integers(0, 179).map(lambda half: half * 2),
}


class RoundTripTests(SynchronousTestCase):
    @given(
        st.fixed_dictionaries(
            places
            | {name: st.integers(0, 255) for name in ("gsm_signal", "satellites", "battery", "product")}
            | {name: st.integers(0, 2**32 - 1) for name in ("odometer_km", "cell_id")}
            | {name: st.integers(0, 65535) for name in ("lac", "status", "alarm_bits")}
            | {"items": st.dictionaries(st.integers(0, 255), st.binary(max_size=12), max_size=8)}
        )
    )
    def test_body(self, fields: dict[str, Any]) -> None:
        """What was written is read again, and written from that it is the same bytes."""
        fields["items"].pop(0x0B, None)
        raw = jt705.encode(**fields)
        found, events = jt705.decode(raw)
        if not fields["latitude"] and not fields["longitude"] and not fields["fix"]:
            self.assertEqual((found.latitude, found.longitude), (None, None))
            return
        # 255 says that it is not known.
        unknown = {name for name in ("satellites", "gsm_signal") if fields[name] == 255}
        for name in ("time", "latitude", "longitude", "speed_kmh", "course_deg", "gsm_signal", "satellites"):
            self.assertEqual(getattr(found, name), None if name in unknown else fields[name], name)
        assert found.cell is not None and found.latitude is not None and found.longitude is not None
        self.assertEqual((found.odometer_km, found.cell.cell_id), (fields["odometer_km"], fields["cell_id"]))
        self.assertEqual((found.status_bits, found.alarm_bits), (fields["status"], fields["alarm_bits"]))
        self.assertEqual((found.fix == "gnss", events), (fields["fix"], []))
        again = fields | {"latitude": found.latitude, "longitude": found.longitude, "time": found.time}
        self.assertEqual(jt705.encode(**again), raw)
        self.assertEqual(message(frame(raw)).events, [("location", found)])

    @given(st.binary(min_size=1, max_size=120))
    def test_any_body(self, data: bytes) -> None:
        """Any bytes are read, or carried; what is said can be published."""
        decoded = message(frame(data))
        for event in wrap_all(decoded, Origin(), NOW):
            self.assertNotIn(b"NaN", to_json(event))
