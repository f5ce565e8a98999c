"""The location body: status, items, lock events."""

import json
from datetime import timedelta
from typing import Any

from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import alarms, events, jt709, lock_event_item
from jt709c_gateway.protocol.events import Battery, Cell, LockEvent, RopeStatus
from tests.vectors import MOMENT, binary, location, message

IMEI = b"\xf2\x0f868822040248195"


def read(items: str = "", **changes: object) -> Any:
    return jt709.decode(location(bytes.fromhex(items), **changes))[0]


def event(value: str) -> LockEvent:
    found = lock_event_item.decode(bytes.fromhex(value), MOMENT, 1.5, 2.5)
    assert found is not None
    return found


class FixedTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What a virtual lock writes is read back."""
        found = read()
        self.assertEqual((found.latitude, found.longitude), (-25.269608, -57.602956))
        self.assertEqual((found.altitude_m, found.speed_kmh, found.course_deg), (92, 1.8, 0))
        self.assertEqual((found.time, found.fix, found.items), (MOMENT, "gnss", {}))

    def test_signs(self) -> None:
        """South and west are status bits, and an altitude may be below the sea."""
        for south in (1, -1):
            for west in (1, -1):
                found = read(latitude=1.5 * south, longitude=2.5 * west, altitude_m=-100)
                self.assertEqual((found.latitude, found.longitude), (1.5 * south, 2.5 * west))
                self.assertEqual(found.altitude_m, -100)
                assert found.status_bits is not None
                self.assertEqual(bool(found.status_bits & 4), south < 0)
                self.assertEqual(bool(found.status_bits & 8), west < 0)

    def test_off_the_globe(self) -> None:
        """Coordinates that are on no globe are None, each by itself; the poles are on it."""
        self.assertEqual((read(latitude=90.0).latitude, read(longitude=-180.0).longitude), (90.0, -180.0))
        found = read(latitude=90.000001)
        self.assertEqual((found.latitude, found.longitude), (None, -57.602956))
        found = read(longitude=4294.967295)
        self.assertEqual((found.latitude, found.longitude), (-25.269608, None))

    def test_impossible_date(self) -> None:
        """A date that never was is None, and the rest counts."""
        body = bytearray(location())
        body[22:28] = bytes.fromhex("251318112611")
        found, _ = jt709.decode(bytes(body))
        self.assertEqual((found.time, found.altitude_m), (None, 92))

    def test_too_short(self) -> None:
        """Under 28 bytes there is no location."""
        self.assertRaises(jt709.BodyError, jt709.decode, location()[:-1])

    def test_status_matrix(self) -> None:
        """Fix, ropes, motor, cover and lock state of every combination of their bits."""
        bits = {1: "fix", 18: "gnss", 6: "lbs", 20: "rope", 21: "motor", 7: "cover"}
        for combination in range(1 << len(bits)):
            chosen = {name: bool(combination >> place & 1) for place, name in enumerate(bits.values())}
            found = read(status=sum(1 << bit for bit, name in bits.items() if chosen[name]))
            fix = "gnss" if chosen["fix"] or chosen["gnss"] else "lbs" if chosen["lbs"] else "none"
            self.assertEqual(found.fix, fix)
            self.assertEqual(found.lock_state, "unlocked" if chosen["rope"] or chosen["motor"] else "locked")
            self.assertEqual((found.rope_open, found.motor_open), (chosen["rope"], chosen["motor"]))
            self.assertEqual(found.back_cover_open, chosen["cover"])

    def test_wake_source(self) -> None:
        """Four bits name the wake-up source; only the agreed ones have a name."""
        agreed = {0: "restart", 1: "timer", 2: "vibration", 3: "back_cover_opened", 5: "charging"}
        for source in range(16):
            found = read(status=source << 24 | 0xF0000000)
            self.assertEqual((found.wake_source, found.wake_reason), (source, agreed.get(source)))

    def test_alarms(self) -> None:
        """Every alarm that is set is named, lowest bit first; one that nobody names is a number."""
        found = read(alarm_bits=0x8007_0083)
        self.assertEqual(
            found.alarms,
            (
                "bit_0",
                "overspeed",
                "low_battery",
                "back_cover_opened",
                "fence_entered",
                "fence_left",
                "bit_31",
            ),
        )
        self.assertEqual(found.alarm_bits, 0x80070083)
        self.assertEqual(alarms.name_bits(0, {}), ())


class ItemTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Every item of the table is read, whatever its place."""
        items = {
            0x30: "1d", 0x31: "0c", 0xD4: "64", 0xD5: "01a2", 0xF9: "0007", 0xFC: "09", 0xF4: "04",
            0xFE: "00000090", 0xFD: "02e8000400044a150fe6", 0xDB: "0102",
        }  # fmt: skip
        forward = [f"{item:02x}{len(value) // 2:02x}{value}" for item, value in items.items()]
        for command in (forward, forward[::-1]):
            found = read("".join(command))
            self.assertEqual((found.gsm_signal, found.satellites, found.battery_percent), (29, 12, 100))
            self.assertEqual((found.battery_volts, found.protocol_version), (4.18, 7))
            self.assertEqual((found.fence_id, found.network_generation, found.odometer_km), (9, 4, 144))
            self.assertEqual(found.cell, Cell(744, 4, 281109, 4070))
            self.assertEqual((found.reports_sent, found.items), (0x0102, {}))

    def test_cell_of_nine(self) -> None:
        """The older cell item has a network code of one byte."""
        self.assertEqual(read("fd0902e8040004 4a150fe6").cell, Cell(744, 4, 281109, 4070))

    def test_extras(self) -> None:
        """What only a JT707 sends; temperatures that are none stay away."""
        self.assertEqual(read("da03000539").rope, RopeStatus(5, True, False, False, 7))
        for item, celsius in (
            ("0f0200fd", 25.3),
            ("0f0210fd", -25.3),
            ("f80202f1", 25.3),
            ("f8020000", -50.0),
        ):
            self.assertEqual(read(item).temperature_c, celsius)
        for item in ("0f02ffff", "f802ffff", ""):
            self.assertNotIn("temperature_c", json.loads(events.to_json(read(item))))

    def test_items_of_a_jt709x(self) -> None:
        """Battery record, light, acceleration and hardware version, by the offsets of their document."""
        found = read("33170000000189ffff516402cb266400000001fffc00003a98" + "f5020002fa06fffc0001ffffef014a")
        self.assertEqual(
            (found.battery, found.items), (Battery(0, 3.93, -44700, 21.5, 38, 100, 0, 15000), {})
        )
        self.assertEqual((found.illuminance, found.acceleration), (2, (-4, 1, -1)))
        self.assertEqual(found.hardware_version, "J")
        unread = read("ef02ff00")
        self.assertEqual(unread.items, {"ef": "ff00"})

    def test_imei(self) -> None:
        """Item F2 is the IMEI of the event; what are no fifteen digits is kept as hex."""
        for wire in (binary(0x0200, location(IMEI)), binary(0x0200, location(IMEI + b"\x0b\x01\x0d"))):
            decoded = message(wire)
            self.assertEqual((decoded.imei, decoded.device), ("868822040248195", "794308010679"))
        other = IMEI.replace(b"5", b"x")
        self.assertIsNone(message(binary(0x0200, location(other))).imei)
        self.assertEqual(jt709.decode(location(other))[0].items, {"f2": other[2:].hex()})
        self.assertIsNone(message(binary(0x0200, location(b"\xef\x11" + IMEI))).imei)

    def test_power(self) -> None:
        """A percentage above 100 is none: FF is charging, AA power from outside."""
        for value, charging, external in (("ff", True, UNSET), ("aa", None, True), ("65", None, UNSET)):
            found = read("d401" + value)
            self.assertEqual((found.battery_percent, found.charging), (None, charging))
            self.assertEqual(getattr(found, "external_power", UNSET), external)
        self.assertEqual(read("d40164").battery_percent, 100)

    def test_charging_by_status(self) -> None:
        """Two bits of a JT709X say that it is being charged; that they are clear says nothing."""
        for status, charging in ((1, True), (16, True), (17, True), (2, None)):
            self.assertEqual(jt709.decode(location(status=status))[0].charging, charging)

    def test_no_value(self) -> None:
        """What a unit sends for none is none."""
        found = read("3101ff3001ff", altitude_m=8000, speed_kmh=6553.5, course_deg=361)
        self.assertEqual((found.altitude_m, found.speed_kmh, found.course_deg), (None, None, None))
        self.assertEqual((found.satellites, found.gsm_signal), (None, None))
        found = read("", altitude_m=7999, speed_kmh=6553.4, course_deg=360)
        self.assertEqual((found.altitude_m, found.speed_kmh, found.course_deg), (7999, 6553.4, 360))

    def test_no_place(self) -> None:
        """0,0 without a fix is no place, whatever else is said of it; the cell is kept."""
        cell = "fd0a02e8000400044a150fe6"
        for status, fix in ((0, "none"), (64, "none"), (2, "gnss"), (1 << 18, "gnss")):
            found = read(cell, status=status, latitude=0.0, longitude=0.0)
            place = (0.0, 0.0) if fix == "gnss" else (None, None)
            self.assertEqual((found.fix, found.latitude, found.longitude), (fix, *place))
            self.assertIsNotNone(found.cell)
        found = read("", status=0, latitude=0.0, longitude=1.0)
        self.assertEqual((found.latitude, found.longitude), (0.0, 1.0))

    def test_either_cover_bit(self) -> None:
        """The back cover is open when either of its two bits is set."""
        for status, open_ in ((1 << 7, True), (1 << 13, True), (1 << 7 | 1 << 13, True), (1 << 15, False)):
            self.assertEqual(jt709.decode(location(status=status))[0].back_cover_open, open_)

    def test_unknown_network(self) -> None:
        """Network generation 0 means unknown."""
        self.assertIsNone(read("f40100").network_generation)

    def test_odd_lengths(self) -> None:
        """An item of another length than its own is kept as hex, and the others are read."""
        for odd, name, value in (
            ("d4020064", "d4", "0064"), ("3000", "30", ""), ("ef00", "ef", ""), ("0b00", "0b", ""),
            ("fd0802e80400044a150f", "fd", "02e80400044a150f"), ("fe03000090", "fe", "000090"),
            ("da020005", "da", "0005"), ("330101", "33", "01"), ("e703000001", "e7", "000001"),
            ("3200", "32", ""),
            ("f50101", "f5", "01"), ("fa0400010002", "fa", "00010002"), ("f20131", "f2", "31"),
        ):  # fmt: skip
            found = read(odd + "31010c")
            self.assertEqual((found.items, found.satellites), ({name: value}, 12))
            self.assertEqual((found.battery_percent, found.cell), (None, None))

    def test_truncated(self) -> None:
        """An item that runs past the end stops the reading; what came before is kept."""
        whole = bytes.fromhex("31010cd40164fe0400000090")
        for cut in range(len(whole)):
            found, _ = jt709.decode(location(whole[:cut]))
            self.assertEqual(found.satellites, 12 if cut >= 3 else None)
            self.assertEqual(found.battery_percent, 100 if cut >= 6 else None)
            self.assertEqual((found.odometer_km, found.items), (None, {}))
        self.assertEqual(read("ef09010203").items, {})

    def test_repeated(self) -> None:
        """Of an item that comes twice the last one counts, and of lock events all do."""
        found, happened = jt709.decode(location(bytes.fromhex("d40164d401320b0522000000010b0523000000 02")))
        self.assertEqual(found.battery_percent, 50)
        self.assertEqual([one.card for one in happened], ["0000000001", "0000000002"])
        self.assertIs(found.lock_event, happened[1])

    def test_many_layouts(self) -> None:
        """However many sequences of items are sent, few are remembered, and each is read right."""
        for number in range(3000):
            filler = bytes([0xE0, number % 250]) + bytes(number % 250)
            found, _ = jt709.decode(location(filler + bytes([0xD4, 1, number % 101])))
            self.assertEqual(found.battery_percent, number % 101)
        for number in range(100):
            read(f"{number:02x}0100d40101")
        self.assertLessEqual(max(len(known) for known in jt709._layouts.values()), jt709._PER_LENGTH)
        self.assertLessEqual(max(jt709._layouts), jt709._LONGEST_KEPT)


class LockEventTests(SynchronousTestCase):
    """The table of codes, row by row."""

    def check(self, value: str, method: str, action: str, **rest: object) -> None:
        found = event(value)
        self.assertEqual(
            (found.method, found.action, found.code), (method, action, int(value[:2], 16)), value
        )
        for name in ("card", "fence_id", "result"):
            self.assertEqual(getattr(found, name), rest.get(name), (value, name))
        self.assertEqual((found.time, found.latitude, found.longitude), (MOMENT, 1.5, 2.5))

    def test_password_with_result(self) -> None:
        """FF is refused, anything else unlocked, and 1 to 99 is the fence."""
        for code in ("01", "02", "03", "05", "1e", "1f"):
            value = code + b"123456".hex()
            self.check(value + "ff", "password", "refused", result=255)
            self.check(value + "00", "password", "unlocked", result=0)
            self.check(value + "01", "password", "unlocked", result=1, fence_id=1)
            self.check(value + "63", "password", "unlocked", result=99, fence_id=99)
            self.check(value + "64", "password", "unlocked", result=100)
            self.check(value, "password", "unknown")

    def test_password_refused(self) -> None:
        """These codes are refusals by themselves."""
        for code in ("06", "07", "08", "10", "11", "18", "19", "20", "28", "29"):
            self.check(code + b"123456".hex(), "password", "refused")
            self.check(code, "password", "refused")

    def test_card(self) -> None:
        """A card of ten digits, none for 0, and a result that may be missing."""
        self.check("2200623a4900", "card", "unlocked", card="0006437449", result=0)
        self.check("2200623a49", "card", "unlocked", card="0006437449")
        self.check("220000000005", "card", "unlocked", result=5, fence_id=5)
        self.check("22fffffffffF".lower(), "card", "refused", card="4294967295", result=255)
        self.check("220062", "card", "unknown")

    def test_card_refused(self) -> None:
        """These codes are refusals by themselves."""
        for code in ("23", "2a", "2b"):
            self.check(code + "00623a49", "card", "refused", card="0006437449")
            self.check(code + "00000000", "card", "refused")

    def test_whatever_the_method(self) -> None:
        """These codes say that it was opened or locked, and not how; bytes behind them are kept."""
        for code, action in (("0d", "locked"), ("0c", "unlocked"), ("12", "unlocked"), ("1c", "unlocked")):
            self.check(code, "unknown", action)
            self.assertIs(event(code).value, UNSET)
            self.check(code + "01", "unknown", action)
            self.assertEqual(event(code + "01").value, "01")

    def test_own_time(self) -> None:
        """Item E7 is when it happened, if that is at most ten minutes before the report; else it is hex."""
        reported = int(MOMENT.timestamp())
        for age, counts in ((0, True), (2, True), (600, True), (601, False), (-1, False)):
            item = bytes([0xE7, 4]) + (reported - age).to_bytes(4, "big")
            for items in (item + b"\x0b\x01\x0d", b"\x0b\x01\x0d" + item):
                found, (happened,) = jt709.decode(location(items))
                self.assertEqual(happened.time, MOMENT - timedelta(seconds=age) if counts else MOMENT)
                self.assertEqual(
                    (found.time, found.items), (MOMENT, {} if counts else {"e7": item[2:].hex()})
                )
                self.assertIs(found.lock_event, happened)
        self.assertEqual(read("e70400000001").items, {"e7": "00000001"})

    def test_detail(self) -> None:
        """Item 32 belongs to the lock event; without one it is kept as hex."""
        _, (happened,) = jt709.decode(location(bytes.fromhex("0b010d32020d00")))
        self.assertEqual(happened.detail, "0d00")
        self.assertEqual(read("32020d00").items, {"32": "0d00"})

    def test_unknown_codes(self) -> None:
        """A code that nobody names keeps its bytes."""
        known = (
            lock_event_item.WITH_PASSWORD | lock_event_item.CARD_REFUSED | {lock_event_item.CARD_WITH_RESULT}
        )
        known |= lock_event_item.OPENED | lock_event_item.LOCKED
        self.assertEqual(len(known), 24)
        for code in set(range(256)) - known:
            self.check(f"{code:02x}0102", "unknown", "unknown")
            self.assertEqual(event(f"{code:02x}0102").value, "0102")

    def test_no_password_anywhere(self) -> None:
        """An event says nothing of the password, at any length, read or kept as hex."""
        for code in lock_event_item.WITH_PASSWORD:
            value = bytes([code]) + b"s3cr3t" + b"\x01\x02\x03"
            for length in range(2, len(value) + 1):
                item = bytes([0x0B, length]) + value[:length]
                found, happened = jt709.decode(location(item))
                shown = repr(found) + repr(happened)
                self.assertNotIn("s3", shown)
                self.assertNotIn(b"s3".hex(), shown)
                self.assertEqual(len(happened), 1 if length <= 8 else 0)
        self.assertEqual(lock_event_item.decode(b"", None, None, None), None)
        self.assertEqual(lock_event_item.decode(bytes(9), None, None, None), None)
